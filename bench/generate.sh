#!/bin/sh
# `make bench-generate`: hone beside transformers' generate. Arguments go to compare_generate.py (--help). Both read the Hugging Face
# folder that hone makes of the model's GGUF file.
set -eu
cd "$(dirname "$0")/.."
. bench/environment.sh
tools/fetch-smollm2.sh
model=models-cache/smollm2
[ -e "$model/model.safetensors" ] || build/release/hone import models-cache/smollm2-gguf/*.gguf "$model"
exec python3 bench/compare_generate.py --python "$python" "$@"
