#!/bin/sh
# `make bench-mnli`: hone beside the transformers Trainer on the same rows. Arguments go to compare_mnli.py (--help).
set -eu
cd "$(dirname "$0")/.."
. bench/environment.sh
tools/fetch-minilm.sh
exec python3 bench/compare_mnli.py --python "$python" "$@"
