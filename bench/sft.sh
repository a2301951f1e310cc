#!/bin/sh
# `make bench-sft`: hone beside TRL's SFTTrainer on the same instruction rows. Arguments go to compare_sft.py (--help).
set -eu
cd "$(dirname "$0")/.."
. bench/smollm2.sh
exec python3 bench/compare_sft.py --python "$python" "$@"
