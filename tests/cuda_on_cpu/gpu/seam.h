/* Stands before everything else (-include) in a test_*.c of the folder above that is built for a real GPU. The tests themselves do
 * not change: what they take from malloc they hand to kernels, so here malloc gives pinned host memory, which a GPU reads and
 * writes at the same address. Each buffer is an allocation of its own, so that compute-sanitizer stands at its end. */
#ifndef HONE_TESTS_GPU_SEAM_H
#define HONE_TESTS_GPU_SEAM_H

#include <stdlib.h>
#include <string.h>

#include "tests/test.h"

void *gpu_malloc(size_t size);
void *gpu_calloc(size_t count, size_t size);
void *gpu_aligned_alloc(size_t alignment, size_t size);
void gpu_free(void *memory);
#define malloc gpu_malloc
#define calloc gpu_calloc
#define aligned_alloc gpu_aligned_alloc
#define free gpu_free

/* Runs one test. One that asks the emulator for what a GPU does not do (a call that fails, a GPU that is absent) leaves by gpu_skip. */
void gpu_run(const char *name, void (*test)(void), int *ran, const int *failures);
_Noreturn void gpu_skip(const char *what);
#undef RUN
#define RUN(name) gpu_run(#name, test_##name, &test_ran, &test_failures)

#endif
