#!/bin/sh
# tools/build.sh PRESET [TARGET]: configures and builds, one line said; the compiler's words are shown when something fails.
set -eu
cd "$(dirname "$0")/.."
preset=$1
target=${2:-all}
log=build/$preset.log
mkdir -p build
case $preset in
cuda | bundle)
    if [ -z "${CUDACXX:-}" ] && ! command -v nvcc >/dev/null && [ ! -x /usr/local/cuda/bin/nvcc ]; then
        echo "hone: the $preset build needs CUDA's nvcc (13.0), in PATH, in /usr/local/cuda/bin or named by CUDACXX" >&2
        exit 1
    fi
    ;;
esac
echo "hone: building $preset ($target); the compiler's output is in $log"
if ! { cmake --preset "$preset" && cmake --build "build/$preset" --target "$target" -j "${JOBS:-$(nproc)}"; } >"$log" 2>&1; then
    grep -nE 'error|FAILED|CMake Error' "$log" >&2 || tail -n 30 "$log" >&2
    echo "hone: the $preset build failed; all of it is in $log" >&2
    exit 1
fi
