/* See seam.h. */
#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *gpu_malloc(size_t size);
void *gpu_calloc(size_t count, size_t size);
void *gpu_aligned_alloc(size_t alignment, size_t size);
void gpu_free(void *memory);
void gpu_run(const char *name, void (*test)(void), int *ran, const int *failures);
_Noreturn void gpu_skip(const char *what);

static jmp_buf leave;

void gpu_run(const char *name, void (*test)(void), int *ran, const int *failures)
{
    const int before = *failures;
    if (setjmp(leave)) {
        printf("skipped %s\n", name);
        return;
    }
    test();
    ++*ran;
    if (*failures != before) fprintf(stderr, "FAILED %s\n", name);
}

_Noreturn void gpu_skip(const char *what)
{
    printf("%s: only the emulator does that\n", what);
    longjmp(leave, 1);
}

/* Pages, so aligned to whatever a test asks for. */
void *gpu_malloc(size_t size)
{
    void *memory = NULL;
    cudaError_t status = cudaHostAlloc(&memory, size ? size : 1, cudaHostAllocMapped | cudaHostAllocPortable);
    if (status == cudaSuccess) return memory;
    fprintf(stderr, "gpu_tests: %zu bytes of pinned memory: %s\n", size, cudaGetErrorString(status));
    exit(1);
}

void *gpu_calloc(size_t count, size_t size)
{
    return memset(gpu_malloc(count * size), 0, count * size);
}

void *gpu_aligned_alloc(size_t alignment, size_t size)
{
    (void)alignment;
    return gpu_malloc(size);
}

/* What was allocated elsewhere (strdup, a reader's line) goes back where it came from. */
void gpu_free(void *memory)
{
    if (!memory) return;
    struct cudaPointerAttributes attributes;
    cudaError_t status = cudaPointerGetAttributes(&attributes, memory);
    if (status == cudaSuccess && attributes.type == cudaMemoryTypeHost) {
        cudaFreeHost(memory);
        return;
    }
    free(memory);
}
