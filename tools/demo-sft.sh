#!/bin/sh
# The demo of instruction tuning: fetches SmolLM2-135M, asks it two questions, fine-tunes it by LoRA on the instruction rows that ship
# with hone, asks again, and merges. The rows are all answered by one character, so that the change shows.
# Stopped half way (Ctrl-C), it goes on where it was when run again; a finished demo starts afresh.
set -eu
cd "$(dirname "$0")/.."
hone="${HONE:-build/release/hone}"
model=models-cache/smollm2-gguf/SmolLM2-135M-Instruct.Q4_1.gguf
run=runs/demo-sft

step() { # a command, shown as one would type it
    printf '\n$ hone'
    for word in "$@"; do
        case "$word" in *" "*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    printf '\n'
    "$hone" "$@"
}
ask() { # a model
    step generate "$1" --chat --max-tokens 90 --prompt "What is the capital of Ireland?" --prompt "Why do birds sing?"
}

[ -x "$hone" ] || { echo "hone: $hone is not built; run make" >&2; exit 1; }
tools/fetch-smollm2.sh
if [ -e "$run/final" ]; then
    echo "hone: $run is finished; the demo starts afresh"
    rm -rf "$run"
fi

ask "$model"

trap : INT # Ctrl-C is hone's: it saves and returns 75
status=0
step train configs/alpaca-lora.json "output.dir=$run" || status=$?
trap - INT
if [ "$status" = 75 ]; then
    echo "hone: stopped and saved; make demo-sft goes on from here"
    exit 75
elif [ "$status" != 0 ]; then
    echo "hone: the demo's training failed; rm -r $run makes it start afresh" >&2
    exit "$status"
fi

step export "$run" "$run/merged" --merge
ask "$run/merged"
step verify "$run"

cat <<END

What the demo left behind:
  $run/best        the adapter, as PEFT loads it
  $run/merged      the whole model with the adapter in its weights, a Hugging Face folder: transformers loads it,
                       and so does hone chat $run/merged
  $run/metrics.jsonl, config.json, checkpoints   what was logged, the complete config, the state to resume from
  models-cache/smollm2-gguf   the model it started from
END
