#!/bin/sh
# `make bench-tokenizer`: hone's tokenizers beside Hugging Face's. Arguments go to compare_tokenizers.py (--help).
set -eu
cd "$(dirname "$0")/.."
. bench/environment.sh
exec "$python" bench/compare_tokenizers.py "$@"
