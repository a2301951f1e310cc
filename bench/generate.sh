#!/bin/sh
# `make bench-generate`: hone beside transformers' generate. Arguments go to compare_generate.py (--help).
set -eu
cd "$(dirname "$0")/.."
. bench/smollm2.sh
exec python3 bench/compare_generate.py --python "$python" "$@"
