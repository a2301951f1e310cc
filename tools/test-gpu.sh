#!/bin/sh
# make test-gpu: what the emulator ran is run on a real GPU. tools/test-gpu.sh [FOLDER for results; runs/test-gpu]
#
#   tests       every tests/cuda_on_cpu/test_*.c by itself (gpu_tests NAME)
#   sanitizer   the same under compute-sanitizer, where it is installed: memcheck, racecheck, synccheck, on fewer cases (HONE_TEST_SMALL)
#   same bits   a tiny decoder trained twice with train.device=cuda: the final weights are equal, byte for byte; and its losses beside the CPU's
#
# Ends within 8 minutes: what has not run by then is listed as such, and is no pass. summary.txt and summary.json say what was seen;
# every test's output lies beside them. Exit code 0: all passed, 1: something failed, 77: there is no GPU.
# HONE, HONE_GPU_TESTS: the programs, if not those of build/cuda. JOBS: tests at a time (4). SECONDS_TESTS, SECONDS_SANITIZER: the time of each
# part; SECONDS_TRAINING: of each training.
set -u
cd "$(dirname "$0")/.."
hone="${HONE:-build/cuda/hone}"
programs="${HONE_GPU_TESTS:-build/cuda/gpu_tests}"
out="${1:-runs/test-gpu}"
jobs="${JOBS:-4}"
[ -x "$hone" ] && [ -x "$programs" ] || { echo "test-gpu: $hone and $programs are not built; run make cuda" >&2; exit 1; }
rm -rf "$out"
mkdir -p "$out/logs"
names=$("$programs") || exit 1

description=$("$programs" --gpu)
if [ $? != 0 ]; then
    printf 'no GPU: %s\nnothing was tested\n' "$description" | tee "$out/summary.txt"
    printf '{"gpu": null, "passed": 0, "failed": 0, "result": "no GPU"}\n' >"$out/summary.json"
    exit 77
fi
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer /usr/local/cuda/compute-sanitizer/compute-sanitizer 2>/dev/null | head -n 1)
commit=$(git rev-parse HEAD 2>/dev/null || cat COMMIT 2>/dev/null || echo unknown)
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)

# One test under one tool ("plain": none). Writes logs/NAME.TOOL.log and .result: passed, failed, skipped or unfinished, and seconds.
cat >"$out/one.sh" <<'END'
set -u
name=${1%.*} tool=${1##*.}
log="$OUT/logs/$1"
begun=$(date +%s)
left=$((DEADLINE - begun))
if [ "$left" -le 1 ]; then
    echo "unfinished 0" >"$log.result"
    exit 0
fi
set --
if [ "$tool" != plain ]; then
    set -- "$SANITIZER" --tool "$tool" --report-api-errors no --target-processes all --error-exitcode 9 --print-limit 20
    HONE_TEST_SMALL=8
    export HONE_TEST_SMALL
fi
timeout -k 5 "$left" "$@" "$PROGRAMS" "$name" >"$log.log" 2>&1
case $? in
0) result=passed ;;
77) result=skipped ;;
124 | 137) result=unfinished ;;
*) result=failed ;;
esac
echo "$result $(($(date +%s) - begun))" >"$log.result"
END
run_all() { # seconds, tools...
    DEADLINE=$(($(date +%s) + $1)) OUT=$out PROGRAMS=$programs SANITIZER=$sanitizer
    export DEADLINE OUT PROGRAMS SANITIZER
    shift
    for tool in "$@"; do for name in $names; do echo "$name.$tool"; done; done | xargs -P "$jobs" -I '{}' sh "$out/one.sh" '{}'
}
table() { # tools... : a line a test and tool
    for tool in "$@"; do for name in $names; do
        read -r result seconds <"$out/logs/$name.$tool.result" && printf '%-10s %-10s %-28s %4s s\n' "$result" "$tool" "$name" "$seconds"
    done; done
}

echo "test-gpu: $description"
run_all "${SECONDS_TESTS:-140}" plain
table plain | tee "$out/table.txt"
if [ -n "$sanitizer" ]; then
    run_all "${SECONDS_SANITIZER:-220}" memcheck racecheck synccheck
    table memcheck racecheck synccheck | tee -a "$out/table.txt"
else
    echo "test-gpu: compute-sanitizer is not installed: memcheck, racecheck and synccheck did not run"
fi

# Twice on the GPU, once on the CPU: 20 steps of configs/pretrain.json.
train() { # folder, device, precision
    timeout -k 5 "${SECONDS_TRAINING:-20}" "$hone" train configs/pretrain.json train.max_steps=20 train.log_every=1 train.device="$2" train.precision="$3" \
        "output.dir=$out/$1" >"$out/logs/$1.log" 2>&1
}
losses() { # a run's losses, one a line
    sed -n '/"event": "step"/s/.*"loss": \([-0-9.e+]*\).*/\1/p' "$out/$1/metrics.jsonl"
}
bits() { # precision, tolerance
    if ! train "first-$1" cuda "$1" || ! train "second-$1" cuda "$1" || ! train "cpu-$1" cpu "$1"; then
        echo "failed     training   $1: see logs/*-$1.log"
        return
    fi
    if cmp -s "$out/first-$1/final/model.safetensors" "$out/second-$1/final/model.safetensors"; then
        echo "passed     same bits  $1: two runs of 20 steps ended with the same weights"
    else
        echo "failed     same bits  $1: two runs of 20 steps ended with different weights"
    fi
    losses "first-$1" >"$out/logs/losses-$1.gpu"
    losses "cpu-$1" >"$out/logs/losses-$1.cpu"
    paste "$out/logs/losses-$1.gpu" "$out/logs/losses-$1.cpu" | awk -v limit="$2" -v precision="$1" '
        NF == 2 { apart = $1 - $2; if (apart < 0) apart = -apart; apart /= $2; if (apart > most) most = apart; n++ }
        NF != 2 { n = -1000 }
        END { result = "failed"; if (n > 0 && most <= limit) result = "passed"
              printf "%-10s losses     %s: %d losses, at most %.2g from the CPU (relative)\n", result, precision, n, most }'
}
{
    bits fp32 1e-4
    bits bf16 2e-2
} | tee -a "$out/table.txt"

count() {
    grep -c "^$1 " "$out/table.txt"
}
passed=$(count passed) failed=$(count failed) unfinished=$(count unfinished)
result=passed
[ "$unfinished" = 0 ] || result=unfinished
[ "$failed" = 0 ] || result=failed
{
    echo "$description; driver ${driver:-unknown}"
    echo "hone at commit $commit; $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo "compute-sanitizer: ${sanitizer:-not installed}"
    cat "$out/table.txt"
    echo "$result: $passed passed, $failed failed, $unfinished unfinished"
} >"$out/summary.txt"
{
    printf '{"gpu": "%s", "driver": "%s", "commit": "%s", "sanitizer": %s,\n' "$description" "${driver:-unknown}" "$commit" \
        "$([ -n "$sanitizer" ] && echo true || echo false)"
    printf ' "passed": %s, "failed": %s, "unfinished": %s, "result": "%s",\n "cases": [' "$passed" "$failed" "$unfinished" "$result"
    awk 'BEGIN { separator = "" } { line = $0; gsub(/"/, "\\\"", line); gsub(/ +/, " ", line); printf "%s\n  \"%s\"", separator, line; separator = "," } END { print "]}" }' "$out/table.txt"
} >"$out/summary.json"
for log in "$out"/logs/*.result; do # what failed is shown
    grep -q '^failed' "$log" && { echo "== ${log%.result}.log"; tail -n 30 "${log%.result}.log"; }
done
rm -f "$out/one.sh"
tail -n 1 "$out/summary.txt"
[ "$failed" = 0 ] && [ "$unfinished" = 0 ]
