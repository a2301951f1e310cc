/* The runtime's C interface on the CPU: one GPU, its memory and its streams.
 *
 * A stream is a list of what was enqueued, and nothing of it runs before somebody waits (cudaStreamSynchronize,
 * cudaEventSynchronize) or until it is full. That is the latest that CUDA allows: a host that reads a result too early sees the old bytes, and one
 * that writes into a buffer whose copy is under way spoils the copy, here every time and not now and then. What runs, runs in the order in
 * which it was enqueued, whatever its stream.
 *
 * The GPU's memory is poisoned while nothing runs on the GPU, so that AddressSanitizer stops a host that touches it.
 *
 * A graph is a list of its own: what is enqueued between cudaStreamBeginCapture and cudaStreamEndCapture goes there, and a launch enqueues
 * all of it as one piece. While that lasts, what CUDA refuses is refused here and spoils the graph: waiting, memory, events that are waited
 * for; and copies from or to the host too, which CUDA lets pass when they are pinned: a graph of hone's must read nothing that the host
 * takes turns with.
 *
 * Faults for tests: emu_fail_after() makes the n-th call from now on fail; an error of a kernel is sticky, as CUDA's are. A program that
 * knows nothing of tests is told by its environment, which the first look for a GPU reads: HONE_EMU_ABSENT=1, HONE_EMU_MEMORY=bytes,
 * HONE_EMU_FAIL=calls:error; HONE_EMU_NAME, what the GPU is called; HONE_EMU_GRAPHS=refused, or a number: which launch of a graph fails as a
 * kernel does. HONE_EMU_REPORT=1 tells at the end how many graphs there were. */
#include "runtime.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "emulator.h"

void __asan_poison_memory_region(const volatile void *memory, size_t size) __attribute__((weak));
void __asan_unpoison_memory_region(const volatile void *memory, size_t size) __attribute__((weak));

enum { MEMORY_MIB = 4096, QUEUE_MOST = 4096 };

typedef struct allocation {
    struct allocation *next;
    void *memory;
    size_t size;
} allocation;

typedef struct work {
    struct work *next;
    bool (*run)(void *context);
    void (*release)(void *context);
    void *context;
} work;

/* Both of CUDA's kinds of graph; `users`: handles of either kind, and launches under way. */
typedef struct graph {
    size_t users;
    work *first, **last;
} graph;

struct CUevent_st {
    double reached; /* seconds; 0: not recorded, or not reached yet */
    size_t queued;  /* records of it that the stream has not come to */
};

static struct {
    allocation *allocations;
    size_t used, limit;
    work *first, **last;
    size_t queued, most_queued;
    cudaError_t sticky;
    cudaError_t fail_with;
    int64_t fail_after; /* calls that still succeed; -1: all */
    bool absent;
    graph *captured; /* what is enqueued goes there; NULL: nothing is captured */
    bool spoilt;     /* that graph will not be given out */
    bool no_graphs;
    int64_t failing_replay, graphs, replays; /* counted from 1 */
    FILE *trace;
} gpu = {.limit = (size_t)MEMORY_MIB << 20, .fail_after = -1};

void emu_fail_after(int64_t calls, int error)
{
    gpu.fail_after = calls;
    gpu.fail_with = (cudaError_t)error;
}

void emu_trace(FILE *to)
{
    gpu.trace = to;
}

void emu_trace_launch(const void *kernel, unsigned x, unsigned y, unsigned z, unsigned threads, size_t shared)
{
    extern const char __executable_start[];
    if (gpu.trace)
        fprintf(gpu.trace, "launch %#zx grid %u %u %u threads %u shared %zu\n", (size_t)((const char *)kernel - __executable_start), x, y,
                z, threads, shared);
}

void emu_memory_limit(size_t bytes)
{
    gpu.limit = bytes;
}

void emu_absent(bool absent)
{
    gpu.absent = absent;
}

void emu_reset(void)
{
    gpu.sticky = cudaSuccess;
    gpu.fail_after = -1;
    gpu.absent = false;
    emu_graphs(false, 0);
    gpu.limit = (size_t)MEMORY_MIB << 20;
}

int64_t emu_replays(void)
{
    return gpu.replays;
}

void emu_graphs(bool refused, int64_t failing_replay)
{
    gpu.no_graphs = refused;
    gpu.failing_replay = failing_replay ? gpu.replays + failing_replay : 0;
}

size_t emu_memory_used(void)
{
    return gpu.used;
}

/* Every call that may fail passes here. */
static cudaError_t enter(void)
{
    if (gpu.sticky != cudaSuccess) return gpu.sticky;
    if (gpu.fail_after < 0) return cudaSuccess;
    if (gpu.fail_after-- > 0) return cudaSuccess;
    if (gpu.fail_with != cudaErrorMemoryAllocation) gpu.sticky = gpu.fail_with;
    return gpu.fail_with;
}

/* A call that waits, or takes or gives back memory. */
static cudaError_t enter_uncaptured(void)
{
    cudaError_t status = enter();
    if (status != cudaSuccess || !gpu.captured) return status;
    gpu.spoilt = true;
    return cudaErrorStreamCaptureUnsupported;
}

static void set_poison(bool poisoned)
{
    if (!__asan_poison_memory_region) return;
    for (allocation *a = gpu.allocations; a; a = a->next) {
        if (poisoned) __asan_poison_memory_region(a->memory, a->size);
        else __asan_unpoison_memory_region(a->memory, a->size);
    }
}

/* Runs what was enqueued, until the stream has come to `event`; NULL: all of it. */
static cudaError_t drain_until(cudaEvent_t event)
{
    if (gpu.first) set_poison(false);
    while (gpu.first && (!event || event->queued)) {
        work *w = gpu.first;
        gpu.first = w->next;
        gpu.queued--;
        if (gpu.sticky == cudaSuccess && !w->run(w->context)) gpu.sticky = cudaErrorLaunchFailure;
        w->release(w->context);
        free(w);
    }
    set_poison(true);
    if (!gpu.first) gpu.last = &gpu.first;
    return gpu.sticky;
}

static cudaError_t drain(void)
{
    return drain_until(NULL);
}

bool emu_enqueue(bool (*run)(void *context), void (*release)(void *context), void *context)
{
    cudaError_t status = enter();
    work *w = status == cudaSuccess && !gpu.trace ? malloc(sizeof *w) : NULL;
    if (!w) {
        release(context);
        return gpu.trace != NULL;
    }
    *w = (work){NULL, run, release, context};
    if (gpu.captured) {
        *gpu.captured->last = w;
        gpu.captured->last = &w->next;
        return true;
    }
    if (!gpu.last) gpu.last = &gpu.first;
    *gpu.last = w;
    gpu.last = &w->next;
    if (++gpu.queued > QUEUE_MOST) (void)drain();
    return true;
}

static void report(void)
{
    fprintf(stderr, "emulated GPU: %lld graphs, launched %lld times\n", (long long)gpu.graphs, (long long)gpu.replays);
}

static void read_environment(void)
{
    const char *absent = getenv("HONE_EMU_ABSENT"), *memory = getenv("HONE_EMU_MEMORY"), *fail = getenv("HONE_EMU_FAIL");
    const char *graphs = getenv("HONE_EMU_GRAPHS");
    long long calls;
    int error;
    if (absent) gpu.absent = true;
    if (memory) gpu.limit = (size_t)strtoull(memory, NULL, 10);
    if (fail && sscanf(fail, "%lld:%d", &calls, &error) == 2) emu_fail_after(calls, error);
    if (graphs) emu_graphs(!strcmp(graphs, "refused"), strtoll(graphs, NULL, 10));
    if (getenv("HONE_EMU_REPORT")) atexit(report);
}

cudaError_t cudaGetDeviceCount(int *count)
{
    read_environment();
    *count = gpu.absent ? 0 : 1;
    return gpu.absent ? cudaErrorNoDevice : enter();
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? enter() : cudaErrorInvalidValue;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    if (device != 0) return cudaErrorInvalidValue;
    memset(properties, 0, sizeof *properties);
    const char *name = getenv("HONE_EMU_NAME");
    snprintf(properties->name, sizeof properties->name, "%s", name ? name : "emulated GPU");
    properties->major = 8;
    properties->multiProcessorCount = 2;
    properties->sharedMemPerBlockOptin = EMU_SHARED_LIMIT;
    return enter();
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *total = gpu.limit;
    *available = gpu.limit > gpu.used ? gpu.limit - gpu.used : 0;
    return enter();
}

cudaError_t cudaMalloc(void **memory, size_t size)
{
    cudaError_t status = enter_uncaptured();
    if (status != cudaSuccess) return status;
    if (size > gpu.limit - gpu.used) return cudaErrorMemoryAllocation;
    allocation *a = malloc(sizeof *a);
    void *block = a ? aligned_alloc(256, (size + 255) / 256 * 256) : NULL;
    if (!block) {
        free(a);
        return cudaErrorMemoryAllocation;
    }
    if (!gpu.trace) memset(block, 0xFF, size);
    *a = (allocation){gpu.allocations, block, (size + 255) / 256 * 256};
    gpu.allocations = a;
    gpu.used += a->size;
    if (__asan_poison_memory_region) __asan_poison_memory_region(block, a->size);
    *memory = block;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    if (!memory) return cudaSuccess;
    cudaError_t status = gpu.captured ? enter_uncaptured() : drain();
    if (gpu.captured) return status;
    for (allocation **at = &gpu.allocations; *at; at = &(*at)->next) {
        allocation *a = *at;
        if (a->memory != memory) continue;
        *at = a->next;
        gpu.used -= a->size;
        if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(a->memory, a->size);
        free(a->memory);
        free(a);
        return status;
    }
    return cudaErrorInvalidValue;
}

cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned flags)
{
    (void)flags;
    cudaError_t status = enter_uncaptured();
    if (status != cudaSuccess) return status;
    *memory = malloc(size);
    return *memory ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags)
{
    (void)flags;
    *device = host;
    return enter();
}

cudaError_t cudaFreeHost(void *memory)
{
    cudaError_t status = gpu.captured ? enter_uncaptured() : drain();
    if (gpu.captured) return status;
    free(memory);
    return status;
}

cudaError_t cudaHostRegister(void *memory, size_t size, unsigned flags)
{
    (void)flags;
    return memory && size ? enter() : cudaErrorInvalidValue;
}

/* All of the host's memory passes for pinned. */
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *memory)
{
    attributes->type = cudaMemoryTypeHost;
    for (allocation *a = gpu.allocations; a; a = a->next)
        if (memory >= a->memory && memory < (void *)((char *)a->memory + a->size)) attributes->type = cudaMemoryTypeDevice;
    return enter();
}

/* --- enqueued --- */

typedef struct transfer {
    void *to;
    const void *from; /* NULL: fill */
    size_t size;
    int value;
} transfer;

static bool run_transfer(void *context)
{
    transfer *t = context;
    if (t->from) memcpy(t->to, t->from, t->size);
    else memset(t->to, t->value, t->size);
    return true;
}

static cudaError_t enqueue_transfer(transfer values)
{
    transfer *t = malloc(sizeof *t);
    if (!t) return cudaErrorMemoryAllocation;
    *t = values;
    return emu_enqueue(run_transfer, free, t) ? cudaSuccess : gpu.sticky != cudaSuccess ? gpu.sticky : gpu.fail_with;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t size, cudaStream_t stream)
{
    (void)stream;
    return size ? enqueue_transfer((transfer){memory, NULL, size, value}) : enter();
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t stream)
{
    (void)stream;
    if (gpu.captured && kind != cudaMemcpyDeviceToDevice) return enter_uncaptured();
    return size ? enqueue_transfer((transfer){to, from, size, 0}) : enter();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    (void)flags;
    *stream = (cudaStream_t)&gpu;
    return enter();
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    (void)stream;
    return drain();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    cudaError_t status = enter_uncaptured();
    return status == cudaSuccess ? drain() : status;
}

/* --- graphs --- */

static void release_graph(void *context)
{
    graph *g = context;
    if (--g->users) return;
    while (g->first) {
        work *w = g->first;
        g->first = w->next;
        w->release(w->context);
        free(w);
    }
    free(g);
}

static bool run_graph(void *context)
{
    for (work *w = ((graph *)context)->first; w; w = w->next)
        if (!w->run(w->context)) return false;
    return true;
}

static bool fail_graph(void *context)
{
    (void)context;
    return false;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    (void)stream;
    cudaError_t status = enter_uncaptured();
    if (status != cudaSuccess) return status;
    if (mode != cudaStreamCaptureModeThreadLocal) return cudaErrorInvalidValue;
    gpu.spoilt = false;
    gpu.captured = malloc(sizeof *gpu.captured);
    if (!gpu.captured) return cudaErrorMemoryAllocation;
    *gpu.captured = (graph){.users = 1, .last = &gpu.captured->first};
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    (void)stream;
    graph *g = gpu.captured;
    *out = NULL;
    if (!g) return cudaErrorInvalidValue;
    gpu.captured = NULL;
    cudaError_t status = gpu.spoilt ? cudaErrorStreamCaptureInvalidated : enter();
    if (status == cudaSuccess) *out = (cudaGraph_t)g;
    else release_graph(g);
    return status;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t from, unsigned long long flags)
{
    cudaError_t status = flags ? cudaErrorInvalidValue : gpu.no_graphs ? cudaErrorMemoryAllocation : enter();
    if (status != cudaSuccess) return status;
    ((graph *)from)->users++;
    gpu.graphs++;
    *exec = (cudaGraphExec_t)from;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    (void)stream;
    graph *g = (graph *)exec;
    bool fails = ++gpu.replays == gpu.failing_replay;
    g->users++;
    return emu_enqueue(fails ? fail_graph : run_graph, release_graph, g) ? cudaSuccess : gpu.sticky != cudaSuccess ? gpu.sticky : gpu.fail_with;
}

cudaError_t cudaGraphDestroy(cudaGraph_t from)
{
    release_graph(from);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    release_graph(exec);
    return cudaSuccess;
}

/* --- events --- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    cudaError_t status = enter();
    if (status != cudaSuccess) return status;
    *event = calloc(1, sizeof **event);
    return *event ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaError_t status = drain();
    free(event);
    return status;
}

static bool reach(void *context)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    ((cudaEvent_t)context)->reached = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    return true;
}

static void passed(void *context)
{
    ((cudaEvent_t)context)->queued--;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    (void)stream;
    if (gpu.captured) return enter_uncaptured();
    event->reached = 0;
    if (gpu.trace) (void)reach(event);
    event->queued++;
    return emu_enqueue(reach, passed, event) ? cudaSuccess : gpu.sticky != cudaSuccess ? gpu.sticky : gpu.fail_with;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    cudaError_t status = enter_uncaptured();
    return status == cudaSuccess ? drain_until(event) : status;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    if (start->reached == 0 || end->reached == 0) return cudaErrorNotReady;
    *milliseconds = (float)((end->reached - start->reached) * 1e3);
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    return gpu.sticky;
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    case cudaErrorLaunchFailure: return *emu_message() ? emu_message() : "unspecified launch failure";
    case cudaErrorInvalidValue: break;
    }
    return "invalid argument";
}
