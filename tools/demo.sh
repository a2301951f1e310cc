#!/bin/sh
# The demo: fetches a small pretrained encoder, fine-tunes it on the sample that ships with hone, and shows what came of it.
# Stopped half way (Ctrl-C), it goes on where it was when run again; a finished demo starts afresh.
set -eu
cd "$(dirname "$0")/.."
hone="${HONE:-build/release/hone}"
run=runs/demo

step() { # a command, shown as one would type it
    printf '\n$ hone %s\n' "$*"
    "$hone" "$@"
}

[ -x "$hone" ] || { echo "hone: $hone is not built; run make" >&2; exit 1; }
tools/fetch-minilm.sh
if [ -e "$run/final" ]; then
    echo "hone: $run is finished; the demo starts afresh"
    rm -rf "$run"
fi

trap : INT # Ctrl-C is hone's: it saves and returns 75
status=0
step train configs/demo.json || status=$?
trap - INT
if [ "$status" = 75 ]; then
    echo "hone: stopped and saved; make demo goes on from here"
    exit 75
elif [ "$status" != 0 ]; then
    echo "hone: the demo's training failed; rm -r $run makes it start afresh" >&2
    exit "$status"
fi

step eval "$run" data.dev=data/samples/nli_dev.jsonl

pairs='{"premise": "She sold her car and bought a bicycle.", "hypothesis": "She owns a bicycle."}
{"premise": "Two men are playing chess in the park.", "hypothesis": "The men are brothers."}
{"premise": "The shop opens at nine and closes at noon.", "hypothesis": "The shop is open all day."}'
printf '\n%s\n' "$pairs"
echo "$pairs" | step predict "$run" data.predict=-

step verify "$run"

cat <<END

What the demo left behind:
  $run/best            the best checkpoint, a Hugging Face folder: hone and transformers load it
  $run/final           the weights the run ended with
  $run/metrics.jsonl   what was logged, one JSON object a line
  $run/config.json     the complete config of the run
  $run/checkpoints     the state to resume from
  models-cache/minilm       the encoder it started from
END
