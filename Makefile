# The front door: `make`, `make demo`, `make test`, `make bench-*`. CMake does the work.
.PHONY: all packages demo demo-sft test torture cuda test-gpu bundle bench-generate bench-gpu bench-mnli bench-save bench-sft bench-tokenizer \
	keys format clean

all: packages
	@tools/build.sh release hone

packages:
	@tools/install-packages.sh

demo: all
	@tools/demo.sh

demo-sft: all
	@tools/demo-sft.sh

test: packages
	@tools/build.sh release
	@tools/build.sh debug
	@tools/build.sh fuzz
	@tools/test.sh

torture: packages # docs/reliability.md; under an hour
	@tools/build.sh release hone
	@tools/build.sh debug
	@tools/build.sh fuzz
	@python3 tools/torture.py $(ARGS)

cuda: packages # hone with CUDA: build/cuda/hone
	@tools/build.sh cuda

test-gpu: packages # docs/gpu.md
	@tools/build.sh cuda
	@tools/test-gpu.sh $(ARGS)

bench-gpu: packages
	@tools/build.sh cuda
	@bench/gpu/bench-gpu.sh $(ARGS)

bundle: packages # build/bundle/hone-bundle.tar.gz
	@tools/build.sh bundle bundle_programs
	@tools/bundle.sh

bench-generate: packages
	@tools/build.sh release
	@bench/generate.sh $(ARGS)

bench-mnli: packages
	@tools/build.sh release
	@bench/mnli.sh $(ARGS)

bench-save: packages
	@tools/build.sh release
	@bench/save.sh $(ARGS)

bench-sft: packages
	@tools/build.sh release
	@bench/sft.sh $(ARGS)

bench-tokenizer: packages
	@tools/build.sh release bench_tokenizer
	@bench/tokenizer.sh $(ARGS)

keys: all # the generated reference
	@build/release/hone keys --markdown >configs/KEYS.md

format:
	clang-format-14 -i $$(git ls-files '*.c' '*.h' '*.cu' '*.cuh')

clean:
	rm -rf build
