/* gpu_tests: the tests of the folder above on a real GPU, all in one program (each would carry all kernels).
 *
 *     gpu_tests          their names, one a line
 *     gpu_tests --gpu    what GPU there is, in one line
 *     gpu_tests NAME     runs one: 0 passed, 1 failed, 77 there is no GPU
 *
 * Kernels under test are given anything that a test can point at: heap (seam.h), its stack, its static arrays. So the test runs in a
 * thread whose stack is pinned memory, and the program's data segments are registered with CUDA. Read-only ones are made writable
 * and touched first: a page of a file is not pinned, a private copy of it is. */
#include <cuda_runtime_api.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GPU_TEST(name) int gpu_test_##name(void);
#include "gpu_tests.inc"
#undef GPU_TEST

enum { STACK_BYTES = 16 << 20, SKIPPED = 77 };

static const struct {
    const char *name;
    int (*run)(void);
} tests[] = {
#define GPU_TEST(name) {#name, gpu_test_##name},
#include "gpu_tests.inc"
#undef GPU_TEST
};

static bool failed(const char *what, cudaError_t status)
{
    if (status == cudaSuccess) return false;
    fprintf(stderr, "gpu_tests: %s: %s\n", what, cudaGetErrorString(status));
    return true;
}

/* One data segment of the program, whole pages; the touching is nobody's variable. */
__attribute__((no_sanitize_address)) static cudaError_t register_segment(uintptr_t first, uintptr_t end)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    first = first / page * page;
    end = (end + page - 1) / page * page;
    if (mprotect((void *)first, end - first, PROT_READ | PROT_WRITE)) return cudaErrorInvalidValue;
    for (uintptr_t at = first; at < end; at += page) {
        volatile char *byte = (volatile char *)at;
        *byte = *byte;
    }
    return cudaHostRegister((void *)first, end - first, cudaHostRegisterMapped | cudaHostRegisterPortable);
}

/* The first object is the program itself. */
static int register_program(struct dl_phdr_info *info, size_t size, void *status)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t first = info->dlpi_addr + segment->p_vaddr;
        if (segment->p_type != PT_LOAD || segment->p_flags & PF_X) continue;
        cudaError_t *first_failure = status;
        if (*first_failure == cudaSuccess) *first_failure = register_segment(first, first + segment->p_memsz);
    }
    return 1;
}

/* "NVIDIA H200, sm_90, ..."; SKIPPED with the reason where there is none. */
static int describe(void)
{
    struct cudaDeviceProp properties;
    size_t available = 0, total = 0;
    int devices = 0, driver = 0, runtime = 0;
    cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess || !devices) {
        printf("%s\n", status == cudaSuccess ? "CUDA sees none" : cudaGetErrorString(status));
        return SKIPPED;
    }
    if (failed("reading the GPU's properties", cudaGetDeviceProperties(&properties, 0)) ||
        failed("asking for its memory", cudaMemGetInfo(&available, &total)) ||
        failed("asking for versions", cudaDriverGetVersion(&driver)) || failed("asking for versions", cudaRuntimeGetVersion(&runtime)))
        return 1;
    printf("%s, sm_%d%d, %d multiprocessors, %zu MiB, CUDA %d.%d (driver up to %d.%d)\n", properties.name, properties.major,
           properties.minor, properties.multiProcessorCount, total >> 20, runtime / 1000, runtime % 1000 / 10, driver / 1000,
           driver % 1000 / 10);
    return 0;
}

static void *run(void *test)
{
    int (*const *function)(void) = test;
    return (void *)(intptr_t)(*function)();
}

static int run_on_pinned_stack(int (*test)(void))
{
    void *stack = NULL, *result = (void *)1;
    pthread_attr_t attributes;
    pthread_t thread;
    if (failed("a pinned stack", cudaHostAlloc(&stack, STACK_BYTES, cudaHostAllocMapped | cudaHostAllocPortable))) return 1;
    pthread_attr_init(&attributes);
    if (pthread_attr_setstack(&attributes, stack, STACK_BYTES) || pthread_create(&thread, &attributes, run, &test)) {
        fprintf(stderr, "gpu_tests: cannot start a thread on a pinned stack\n");
        return 1;
    }
    pthread_join(thread, &result);
    pthread_attr_destroy(&attributes);
    return (int)(intptr_t)result;
}

int main(int argc, char **argv)
{
    const size_t count = sizeof tests / sizeof *tests;
    cudaError_t status = cudaSuccess;
    int devices = 0;
    size_t which = 0;
    if (argc == 1) {
        for (size_t i = 0; i < count; i++) puts(tests[i].name);
        return 0;
    }
    if (argc == 2 && !strcmp(argv[1], "--gpu")) return describe();
    while (which < count && strcmp(argv[1], tests[which].name)) which++;
    if (argc > 2 || which == count) {
        fprintf(stderr, "gpu_tests: expected one of the names that gpu_tests prints, got %s\n", argv[1]);
        return 2;
    }
    if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) {
        printf("SKIP: no GPU: ");
        return describe();
    }
    if (setenv("HONE_TEST_DEVICE", "cuda", 1)) return 1; /* of the tests of whole models */
    dl_iterate_phdr(register_program, &status);
    if (failed("registering static data", status)) return 1;
    return run_on_pinned_stack(tests[which].run);
}
