# The front door: `make demo`, `make test`, `make bench-mnli`. CMake does the work.
.PHONY: all release debug fuzz packages demo test bench-mnli format clean
JOBS ?= $(shell nproc)

all: release

packages:
	@tools/install-packages.sh

release debug fuzz: packages
	@cmake --preset $@ >build-$@.log.tmp 2>&1 || { cat build-$@.log.tmp; rm -f build-$@.log.tmp; exit 1; }
	@rm -f build-$@.log.tmp
	@cmake --build build/$@ -j $(JOBS)

demo: release
	@tools/demo.sh

test: release debug fuzz
	@tools/test.sh

bench-mnli: release
	@bench/mnli.sh $(ARGS)

format:
	clang-format-14 -i $$(git ls-files '*.c' '*.h' '*.cu' '*.cuh')

clean:
	rm -rf build
