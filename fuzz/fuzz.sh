#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the libFuzzer targets of a clang build, one after the other, from their seeds. Behind ./run fuzz.
#   fuzz.sh BUILD_DIR SECONDS [TARGET]
# New inputs are kept in BUILD_DIR/fuzz-corpus/TARGET and used next time; what kills a target in BUILD_DIR/fuzz-crash/.
set -euo pipefail
build=$(cd "$1" && pwd)
seconds=$2
only=${3:-}
cd "$(dirname "$0")"

if ! [[ $seconds =~ ^[0-9]+$ ]] || [ "$seconds" = 0 ]; then
    echo "fuzz: not a number of seconds: $seconds" >&2
    exit 2
fi
targets=()
for source in fuzz_*.c; do
    name=${source#fuzz_}
    name=${name%.c}
    [ -n "$only" ] && [ "$only" != "$name" ] || targets+=("$name")
done
if [ ${#targets[@]} -eq 0 ]; then
    echo "fuzz: no target '$only'; there are:" fuzz_*.c | sed 's/fuzz_\([a-z0-9_]*\)\.c/\1/g' >&2
    exit 2
fi

mkdir -p "$build/fuzz-crash"
bad=()
for name in "${targets[@]}"; do
    mkdir -p "$build/fuzz-corpus/$name"
    log=$build/fuzz-crash/$name.log
    if "$build/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 \
        -artifact_prefix="$build/fuzz-crash/$name-" "$build/fuzz-corpus/$name" "corpus/$name" >"$log" 2>&1; then
        echo "fuzz: $name: ok, $(sed -n 's/^Done \([0-9]*\) runs.*/\1 runs/p' "$log")"
        rm -f "$log"
    else
        bad+=("$name")
        grep -E '^BUG:|^SUMMARY:|runtime error:|Test unit written to' "$log" | sed "s/^/fuzz: $name: /" >&2 || tail -n 20 "$log" >&2
        echo "fuzz: $name: FAILED; the whole report is in $log" >&2
    fi
done
if [ ${#bad[@]} -gt 0 ]; then
    echo "fuzz: failed: ${bad[*]}. Again: $build/fuzz/fuzz_NAME INPUT, or replay_NAME INPUT of any build." >&2
    exit 1
fi
