#!/bin/sh
# tools/build.sh PRESET [TARGET]: configures and builds, one line said; the compiler's words are shown when something fails.
set -eu
cd "$(dirname "$0")/.."
preset=$1
target=${2:-all}
log=build/$preset.log
mkdir -p build
echo "hone: building $preset ($target); the compiler's output is in $log"
if ! { cmake --preset "$preset" && cmake --build "build/$preset" --target "$target" -j "${JOBS:-$(nproc)}"; } >"$log" 2>&1; then
    grep -nE 'error|FAILED|CMake Error' "$log" >&2 || tail -n 30 "$log" >&2
    echo "hone: the $preset build failed; all of it is in $log" >&2
    exit 1
fi
