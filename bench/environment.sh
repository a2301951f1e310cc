# Sourced by the scripts of this folder, from the source root: sets `python` to an interpreter that has what the peers need.
# The first use makes a pinned environment in bench/env (4 GB, most of it libraries that torch does not start without);
# HONE_BENCH_PYTHON names an interpreter to use instead.
env=bench/env
if [ -n "${HONE_BENCH_PYTHON:-}" ]; then
    python=$HONE_BENCH_PYTHON
else
    python=$env/bin/python
    if ! cmp -s bench/requirements.txt "$env/requirements.txt"; then
        echo "hone: making the peers' environment in $env"
        rm -rf "$env"
        python3 -m venv --without-pip "$env"
        pip3 --python "$python" install --quiet --no-deps -r bench/requirements.txt || {
            echo "hone: pip could not install bench/requirements.txt; is there a network?" >&2
            exit 1
        }
        cp bench/requirements.txt "$env/requirements.txt"
    fi
fi
"$python" -c 'import transformers, torch, trl' || {
    echo "hone: $python cannot import transformers, torch and trl" >&2
    exit 1
}
