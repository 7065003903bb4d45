#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# nghttp2's own client and load generator against h2_plain: h2_tools.sh H2_PLAIN. 77 when they are not installed.
set -eu
command -v h2load >/dev/null && command -v nghttp >/dev/null || exit 77
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkfifo "$dir/in" "$dir/out"
"$1" <"$dir/in" >"$dir/out" &
pid=$!
exec 3>"$dir/in" 4<"$dir/out"
read -r port <&4

# 50 streams at a time on each of 10 connections
h2load -n 20000 -c 10 -m 50 "http://127.0.0.1:$port/" >"$dir/load"
grep -q "20000 succeeded, 0 failed, 0 errored, 0 timeout" "$dir/load" || { cat "$dir/load"; exit 1; }

# 3 MB echoed, through the tool's 64 KiB windows
head -c 3000000 /dev/urandom >"$dir/body"
nghttp -d "$dir/body" "http://127.0.0.1:$port/" >"$dir/echo"
cmp "$dir/body" "$dir/echo"

# it ends by itself, with nothing leaked, when its input does
exec 3>&-
wait "$pid"
