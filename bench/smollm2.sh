# Sourced by the scripts of this folder, from the source root: environment.sh, and SmolLM2-135M as the Hugging Face folder that hone
# makes of its GGUF file, which both sides read.
. bench/environment.sh
tools/fetch-smollm2.sh
smollm2=models-cache/smollm2
[ -e "$smollm2/model.safetensors" ] || build/release/hone import models-cache/smollm2-gguf/*.gguf "$smollm2"
