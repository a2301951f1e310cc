#!/bin/sh
# `make bench-mnli`: hone beside the transformers Trainer on the same rows. Arguments go to compare_mnli.py (--help).
# The first run makes a pinned Python environment in bench/env (4 GB, most of it libraries that torch does not start without);
# HONE_BENCH_PYTHON names an interpreter to use instead.
set -eu
cd "$(dirname "$0")/.."
env=bench/env

if [ -n "${HONE_BENCH_PYTHON:-}" ]; then
    python=$HONE_BENCH_PYTHON
else
    python=$env/bin/python
    if ! cmp -s bench/requirements.txt "$env/requirements.txt"; then
        echo "hone: making the Trainer's environment in $env"
        rm -rf "$env"
        python3 -m venv --without-pip "$env"
        pip3 --python "$python" install --quiet --no-deps -r bench/requirements.txt || {
            echo "hone: pip could not install bench/requirements.txt; is there a network?" >&2
            exit 1
        }
        cp bench/requirements.txt "$env/requirements.txt"
    fi
fi
"$python" -c 'import transformers, torch' || {
    echo "hone: $python cannot import transformers and torch" >&2
    exit 1
}
tools/fetch-minilm.sh
exec python3 bench/compare_mnli.py --python "$python" "$@"
