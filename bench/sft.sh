#!/bin/sh
# `make bench-sft`: hone beside TRL's SFTTrainer on the same instruction rows. Arguments go to compare_sft.py (--help). TRL reads the
# model as the Hugging Face folder that hone makes of its GGUF file, and so does hone.
set -eu
cd "$(dirname "$0")/.."
. bench/environment.sh
tools/fetch-smollm2.sh
model=models-cache/smollm2
[ -e "$model/model.safetensors" ] || build/release/hone import models-cache/smollm2-gguf/*.gguf "$model"
exec python3 bench/compare_sft.py --python "$python" "$@"
