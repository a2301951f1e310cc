#!/bin/sh
# make bundle: build/bundle/hone-bundle and its .tar.gz, one folder that runs on another x86-64 Linux. tools/build.sh bundle has built
# the programs; this gathers them with the libraries they need:
#
#   hone test-gpu bench-gpu    what is typed; small scripts that start bin/... (tools/bundle-start.sh)
#   bin/                       the programs, stripped; they look for libraries in ../lib
#   lib/                       libraries but the C library's
#   libc/                      the C library and its loader, used where the machine's own is older
#   share/                     scripts, configs and sample data, laid out as in the source tree
#
# CUDA's driver and cuBLASLt are the machine's. What comes out is started once, with no variable set, and refused above 96 MiB.
set -eu
cd "$(dirname "$0")/.."
build=build/bundle
bundle=$build/hone-bundle
limit=96
programs="hone gpu_tests bench_gpu"
rm -rf "$bundle"
mkdir -p "$bundle/bin" "$bundle/lib" "$bundle/libc" "$bundle/share"

for program in $programs; do strip -o "$bundle/bin/$program" "$build/$program"; done

# Every library that a program or a library needs, where the loader of this machine finds it.
# shellcheck disable=SC2046  # one argument a program
ldd $(printf "$bundle/bin/%s " $programs) | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p' | sort -u |
    while read -r file; do
        case $(basename "$file") in
        ld-linux* | libc.so* | libm.so* | libdl.so* | libpthread.so* | librt.so*) cp -L "$file" "$bundle/libc/" ;;
        *) cp -L "$file" "$bundle/lib/" ;;
        esac
    done
# What the driver and cuBLASLt ask of the C library, though hone does not.
libc=$(dirname "$(ldd "$bundle/bin/hone" | sed -n 's/.*libc.so.6 => \(\/[^ ]*\).*/\1/p')")
for name in libdl.so.2 libpthread.so.0 librt.so.1 libutil.so.1; do cp -L "$libc/$name" "$bundle/libc/"; done

mkdir -p "$bundle/share/tools" "$bundle/share/configs" "$bundle/share/data" "$bundle/share/bench"
cp tools/test-gpu.sh "$bundle/share/tools/"
cp -r bench/gpu "$bundle/share/bench/"
cp -r configs/*.json configs/tiny-llama "$bundle/share/configs/"
cp -r data/samples "$bundle/share/data/"
cp LICENSE docs/gpu.md "$bundle/share/"
rm -rf "$bundle/share/bench/gpu/__pycache__"
{ git rev-parse HEAD 2>/dev/null || echo unknown; } >"$bundle/share/COMMIT"
getconf GNU_LIBC_VERSION | sed 's/.* //' >"$bundle/libc/VERSION"
cp tools/bundle-start.sh "$bundle/bin/start"
launcher() { # file, what it starts, by which script
    printf '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/%s" %s "$@"\n' "$3" "$2" >"$bundle/$1"
    chmod +x "$bundle/$1"
}
for name in hone test-gpu bench-gpu; do launcher "$name" "$name" bin/start; done
for name in gpu_tests bench_gpu; do launcher "bin/start-$name" "$name" start; done
chmod +x "$bundle/bin/start"
cp tools/bundle-readme.txt "$bundle/README.txt"

started=$(cd / && env -i "$OLDPWD/$bundle/hone" --version) || { echo "bundle: hone does not start from it" >&2; exit 1; }
tar -C "$build" --owner=0 --group=0 --sort=name -czf "$bundle.tar.gz" hone-bundle
size=$(du -sm --apparent-size "$bundle" | cut -f1) packed=$(du -m --apparent-size "$bundle.tar.gz" | cut -f1)
echo "hone: $bundle ($started): $size MiB, $bundle.tar.gz: $packed MiB"
[ "$size" -le "$limit" ] || { echo "bundle: expected at most $limit MiB" >&2; exit 1; }
