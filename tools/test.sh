#!/bin/sh
# Runs every suite: the whole of it under ASan and UBSan, the speed-bound parts in the release build, the fuzzers in clang's.
# Ends with the plain count that tells a run which tested nothing from one that passed.
set -u
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
passed=0 failed=0 skipped=0
suite() { # name, ctest arguments...
    name=$1
    shift
    log=build/test-$name.log
    echo "== $name"
    ctest --test-dir "build/$name" --output-on-failure -j "$(nproc)" "$@" >"$log" 2>&1
    grep -E '^ *[0-9]+/[0-9]+ Test|\*\*\*|^[A-Za-z0-9_./]+:[0-9]+:|error|ERROR|SKIP' "$log" | head -200
    passed=$((passed + $(grep -cE 'Test +#[0-9]+: .* Passed ' "$log")))
    skipped=$((skipped + $(grep -cE 'Test +#[0-9]+: .*\*\*\*Skipped ' "$log")))
    failed=$((failed + $(grep -cE 'Test +#[0-9]+: .*\*\*\*(Failed|Timeout|Exception|Not Run)' "$log")))
}
suite release
suite debug -LE slow
suite fuzz -L fuzz
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
