#!/bin/sh
# make bench-gpu: what hone takes on a real GPU, beside the GPU's own ceilings and beside PyTorch where python3 has it.
#
#     bench/gpu/bench-gpu.sh [FOLDER; runs/bench-gpu] [PART...]
#
#   kernels   every operation (bench_gpu)                      torch-kernels   PyTorch's for the same
#   steps     hone train at the shapes of shapes.py            torch-steps     transformers at the same, with and without compile
#
# Without a PART all of them. Each ends within 8 minutes and leaves its JSON in FOLDER, so that they may run on different loans of one
# machine; report.py makes one table of what is there. HONE and HONE_BENCH_GPU: the programs, if not those of build/cuda.
# HONE_BENCH_REHEARSE=1: tiny sizes, PyTorch on the CPU. Exit code 77: there is no GPU.
set -u
cd "$(dirname "$0")/../.."
hone="${HONE:-build/cuda/hone}"
program="${HONE_BENCH_GPU:-build/cuda/bench_gpu}"
out="${1:-runs/bench-gpu}"
[ $# = 0 ] || shift
parts="${*:-kernels steps torch-kernels torch-steps}"
rehearse=${HONE_BENCH_REHEARSE:+--rehearse}
[ -x "$hone" ] && [ -x "$program" ] || { echo "bench-gpu: $hone and $program are not built; run make cuda" >&2; exit 1; }
mkdir -p "$out"
failed=0

python=$(command -v python3 || true)
has_torch() {
    [ -n "$python" ] && "$python" -c 'import torch, transformers' >/dev/null 2>&1
}
run() { # name, seconds, command... : its output is FOLDER/name.json
    name=$1 limit=$2
    shift 2
    timeout -k 5 "$limit" "$@" >"$out/$name.part" 2>"$out/$name.log"
    status=$?
    if [ $status = 0 ]; then
        mv "$out/$name.part" "$out/$name.json"
    else
        echo "bench-gpu: $name ended with $status: $(tail -n 1 "$out/$name.log")" >&2
        rm -f "$out/$name.part"
        failed=1
    fi
}

for part in $parts; do
    echo "bench-gpu: $part"
    case $part in
    kernels)
        # shellcheck disable=SC2086  # nothing, or one flag
        timeout -k 5 470 "$program" --json "$out/kernels.json" $rehearse | tee "$out/kernels.txt"
        grep -q '^ceiling' "$out/kernels.txt" || { rm -f "$out/kernels.json"; echo "bench-gpu: no GPU"; exit 77; }
        ;;
    steps)
        [ -n "$python" ] || { echo "bench-gpu: steps need python3"; continue; }
        # shellcheck disable=SC2086
        run hone_steps 470 "$python" bench/gpu/hone_steps.py "$hone" "$out/work" --device "${HONE_BENCH_DEVICE:-cuda}" $rehearse
        ;;
    torch-kernels | torch-steps)
        has_torch || { echo "bench-gpu: python3 has no torch and transformers: $part is left out"; continue; }
        # shellcheck disable=SC2086
        run "$(echo "$part" | tr - _)" 475 "$python" "bench/gpu/$(echo "$part" | tr - _).py" $rehearse
        ;;
    *)
        echo "bench-gpu: expected kernels, steps, torch-kernels or torch-steps, got $part" >&2
        exit 2
        ;;
    esac
done
[ -z "$python" ] || "$python" bench/gpu/report.py "$out"
exit $failed
