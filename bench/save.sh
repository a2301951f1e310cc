#!/bin/sh
# `make bench-save`: what a checkpoint costs, beside the disk's own bandwidth and the transformers Trainer. Arguments go to compare_save.py (--help).
set -eu
cd "$(dirname "$0")/.."
. bench/smollm2.sh
tools/fetch-minilm.sh
exec python3 bench/compare_save.py --python "$python" "$@"
