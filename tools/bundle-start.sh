#!/bin/sh
# bin/start of a bundle (tools/bundle.sh): start PROGRAM ARGUMENTS... runs a program of bin/ on this machine's C library, or on the
# bundle's own where that is newer (HONE_BUNDLE_LIBC=own or host chooses); start test-gpu or bench-gpu [FOLDER] runs those scripts.
here=$(dirname "$(dirname "$(readlink -f "$0")")")
program=$1
shift

# cuBLASLt comes with CUDA's toolkit, which hone finds by itself; PyTorch's packages bring it too.
if [ -z "${HONE_CUBLASLT:-}" ] && [ -e /dev/nvidiactl ] && command -v python3 >/dev/null &&
    ! ldconfig -p 2>/dev/null | grep -q libcublasLt.so.13 && ! ls /usr/local/cuda*/lib64/libcublasLt.so.13 >/dev/null 2>&1; then
    HONE_CUBLASLT=$(python3 -c 'import glob, sys
print(next((f for d in sys.path for f in glob.glob(d + "/nvidia/*/lib/libcublasLt.so.13")), ""))')
    [ -n "$HONE_CUBLASLT" ] && export HONE_CUBLASLT || unset HONE_CUBLASLT
fi

libc=${HONE_BUNDLE_LIBC:-}
if [ -z "$libc" ]; then
    host=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed -n 's/^glibc //p')
    newest=$(printf '%s\n%s\n' "$(cat "$here/libc/VERSION")" "${host:-0}" | sort -V | tail -n 1)
    libc=own
    [ "$newest" != "$host" ] || libc=host
fi

case $program in
test-gpu | bench-gpu)
    out=${1:-results/$program}
    [ $# = 0 ] || shift
    case $out in /*) ;; *) out=$PWD/$out ;; esac
    through=start- # or the program itself, which tools that watch it like better
    [ "$libc" != host ] || through=
    export HONE="$here/hone" HONE_GPU_TESTS="$here/bin/${through}gpu_tests" HONE_BENCH_GPU="$here/bin/${through}bench_gpu"
    script=$here/share/tools/test-gpu.sh
    [ "$program" = test-gpu ] || script=$here/share/bench/gpu/bench-gpu.sh
    exec "$script" "$out" "$@"
    ;;
esac

[ "$libc" != host ] || exec "$here/bin/$program" "$@"
exec "$here/libc/ld-linux-x86-64.so.2" --library-path "$here/libc:$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" --argv0 "$program" \
    "$here/bin/$program" "$@"
