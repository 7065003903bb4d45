#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check-exports.sh LIBRARY MAP HEADER...: the library exports exactly what the map lists, and the map lists exactly
# what the public headers declare.
set -eu
library=$1
map=$2
shift 2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u >"$dir/library"
sed -n 's/^    \([a-z0-9_]*\);$/\1/p' "$map" | sort -u >"$dir/map"
cat "$@" | tr '\n' ' ' | sed 's/PEERING_API/\n&/g' |
    sed -n 's/^PEERING_API [^;(]*[ *]\(peering_[a-z0-9_]*\)(.*/\1/p' | sort -u >"$dir/headers"
test -s "$dir/map"
status=0
diff -u "$dir/map" "$dir/library" || { echo "the library does not export what $map lists"; status=1; }
diff -u "$dir/map" "$dir/headers" || { echo "$map does not list what the headers declare"; status=1; }
soname=$(objdump -p "$library" | awk '$1 == "SONAME" { print $2 }')
test "$soname" = libpeering.so.0 || { echo "SONAME is $soname"; status=1; }
exit $status
