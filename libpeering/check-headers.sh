#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check-headers.sh INCLUDE-DIR HEADER...: each public header compiles alone, with warnings as errors, as C99 and,
# where there is a compiler for it, as C++11.
set -eu
dir=$1
shift
for header in "$@"; do
    printf '#include <%s>\n#include <%s>\n' "$header" "$header" |
        cc -x c -std=c99 -pedantic -Wall -Wextra -Werror -I"$dir" -fsyntax-only -
    if command -v c++ >/dev/null; then
        printf '#include <%s>\n' "$header" |
            c++ -x c++ -std=c++11 -pedantic -Wall -Wextra -Werror -I"$dir" -fsyntax-only -
    fi
    echo "ok $header"
done
