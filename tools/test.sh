#!/bin/sh
# Runs the suites: everything under ASan and UBSan; what is optimised or timing-dependent in the release build as well; the fuzzers
# in clang's build. Ends with the plain count that tells a run which tested nothing from one that passed.
set -u
cd "$(dirname "$0")/.."
passed=0 failed=0 skipped=0
count() { # extended regular expression
    grep -cE "$1" "$log"
}
suite() { # preset, ctest arguments...
    name=$1
    shift
    log=build/test-$name.log
    echo "== $name (the whole output is in $log)"
    ctest --test-dir "build/$name" --output-on-failure -j "$(nproc)" "$@" >"$log" 2>&1
    grep -E '^ *[0-9]+/[0-9]+ Test' "$log"
    passed=$((passed + $(count 'Test +#[0-9]+: .* Passed ')))
    skipped=$((skipped + $(count 'Test +#[0-9]+: .*\*\*\*Skipped ')))
    wrong=$(count 'Test +#[0-9]+: .*\*\*\*(Failed|Timeout|Exception|Not Run)')
    failed=$((failed + wrong))
    [ "$wrong" = 0 ] || grep -vE '^ +Start|Passed' "$log" | tail -n 150
}
suite debug -LE 'fuzz|torture'
suite release -L 'kernels|models|train|cli|cuda_on_cpu|torture'
suite fuzz -L fuzz
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
