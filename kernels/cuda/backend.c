/* The CUDA backend over the runtime's C interface. Everything is enqueued on one stream, in order, and nothing waits but alloc,
 * free, synchronize and event_wait. An error of the runtime is kept (the first one) and given out by the last two; after an error that
 * CUDA calls sticky every later call fails too, and the message still names the first.
 *
 * Kernels tell of an index outside its table through one word of host memory (hn_cuda_fault), because a GPU cannot stop a step:
 * they then leave the row alone and go on. */
#include "kernels/cuda/backend.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "kernels/cuda/range.h"

typedef struct backend_state {
    hn_cuda_device device; /* first: hn_cuda_device_of */
    cudaError_t failure;   /* of a call that could not return it */
    const char *failed;    /* which call */
} backend_state;

static backend_state *state_of(hn_backend *backend)
{
    return backend->state;
}

static void keep(backend_state *state, const char *call, cudaError_t status)
{
    if (status == cudaSuccess || state->failure != cudaSuccess) return;
    state->failure = status;
    state->failed = call;
}

static hn_status failed(hn_error *error, const char *call, cudaError_t status)
{
    return hn_fail(error, HN_ERR_DEVICE, "CUDA: %s: %s", call, cudaGetErrorString(status));
}

static void *cuda_alloc(hn_backend *backend, size_t size, bool streamed, hn_error *error)
{
    (void)streamed;
    backend_state *state = state_of(backend);
    void *memory = NULL;
    size_t available = 0, total = 0;
    cudaError_t status = cudaMalloc(&memory, size ? size : 1);
    if (status == cudaSuccess) status = cudaMemsetAsync(memory, 0, size, state->device.stream);
    if (status == cudaSuccess) status = cudaStreamSynchronize(state->device.stream);
    if (status == cudaSuccess) return memory;
    (void)cudaGetLastError();
    if (status == cudaErrorMemoryAllocation && cudaMemGetInfo(&available, &total) == cudaSuccess)
        hn_fail(error, HN_ERR_MEMORY, "%s: out of memory: %zu MiB were asked for, %zu of %zu MiB are free", state->device.name,
                size >> 20, available >> 20, total >> 20);
    else
        failed(error, "allocating memory", status);
    return NULL;
}

static void cuda_free(hn_backend *backend, void *memory)
{
    keep(state_of(backend), "freeing memory", cudaFree(memory));
}

static void *cuda_pinned_alloc(hn_backend *backend, size_t size, hn_error *error)
{
    (void)backend;
    void *memory = NULL;
    cudaError_t status = cudaHostAlloc(&memory, size ? size : 1, cudaHostAllocDefault);
    if (status == cudaSuccess) return memset(memory, 0, size);
    (void)cudaGetLastError();
    hn_fail(error, HN_ERR_MEMORY, "CUDA: %zu bytes of pinned host memory: %s", size, cudaGetErrorString(status));
    return NULL;
}

static void cuda_pinned_free(hn_backend *backend, void *memory)
{
    if (memory) keep(state_of(backend), "freeing pinned memory", cudaFreeHost(memory));
}

static void cuda_copy_in(hn_backend *backend, void *device, const void *host, size_t size)
{
    backend_state *state = state_of(backend);
    if (size)
        keep(state, "copying to the GPU",
             cudaMemcpyAsync(device, host, size, cudaMemcpyHostToDevice, state->device.stream));
}

static void cuda_copy_out(hn_backend *backend, void *host, const void *device, size_t size)
{
    backend_state *state = state_of(backend);
    if (size)
        keep(state, "copying from the GPU",
             cudaMemcpyAsync(host, device, size, cudaMemcpyDeviceToHost, state->device.stream));
}

/* What kernels wrote into the fault word, if anything; it is cleared. */
static hn_status report_fault(hn_cuda_device *device, hn_error *error)
{
    static const char *const what[HN_FAULT_KINDS] = {
        [HN_FAULT_TOKEN] = "embedding: row %lld asks for token %lld, the table has 0 to %lld",
        [HN_FAULT_POSITION] = "embedding: row %lld asks for position %lld, the table has 0 to %lld",
        [HN_FAULT_TYPE] = "embedding: row %lld asks for type %lld, the table has 0 to %lld",
        [HN_FAULT_ROPE] = "rope: row %lld is at position %lld, the table has 0 to %lld",
        [HN_FAULT_LABEL] = "cross entropy: row %lld has the label %lld, expected 0 to %lld",
        [HN_FAULT_ROW] = "rows: entry %lld asks for row %lld, there are 0 to %lld",
    };
    hn_cuda_fault fault = *device->fault_host;
    uint64_t kind = fault.word >> 56;
    if (!fault.word) return HN_OK;
    *device->fault_host = (hn_cuda_fault){0};
    HN_ASSERT(kind < HN_FAULT_KINDS && what[kind]);
    return hn_fail(error, HN_ERR_MISMATCH, what[kind], (long long)(fault.word >> 32 & 0xffffff),
                   (long long)(int32_t)(uint32_t)fault.word, (long long)fault.limit - 1);
}

/* What went wrong since the last report, when somebody has waited. */
static hn_status report(backend_state *state, hn_error *error)
{
    hn_cuda_device *device = &state->device;
    if (state->failure == cudaSuccess) return report_fault(device, error);
    hn_status status =
        hn_fail(error, HN_ERR_DEVICE, "%s: %s: %s (the last operation started was %s; HN_CUDA_SYNC=1 finds the one that failed)",
                device->name, state->failed, cudaGetErrorString(state->failure),
                device->operation ? device->operation : "none");
    state->failure = cudaSuccess;
    return status;
}

static hn_status cuda_synchronize(hn_backend *backend, hn_error *error)
{
    backend_state *state = state_of(backend);
    keep(state, "waiting for the GPU", cudaStreamSynchronize(state->device.stream));
    if (state->device.waited) state->device.waited(state->device.waited_context);
    return report(state, error);
}

static void *cuda_event_new(hn_backend *backend, hn_error *error)
{
    (void)backend;
    cudaEvent_t event = NULL;
    cudaError_t status = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    if (status == cudaSuccess) return event;
    failed(error, "making an event", status);
    return NULL;
}

static void cuda_event_free(hn_backend *backend, void *event)
{
    if (event) keep(state_of(backend), "freeing an event", cudaEventDestroy(event));
}

static void cuda_event_record(hn_backend *backend, void *event)
{
    backend_state *state = state_of(backend);
    keep(state, "recording an event", cudaEventRecord(event, state->device.stream));
}

static hn_status cuda_event_wait(hn_backend *backend, void *event, hn_error *error)
{
    backend_state *state = state_of(backend);
    keep(state, "waiting for the GPU", cudaEventSynchronize(event));
    return report(state, error);
}

/* Thread-local: what other threads ask of CUDA spoils no graph. */
static hn_status cuda_graph_begin(hn_backend *backend, hn_error *error)
{
    const hn_cuda_device *device = hn_cuda_device_of(backend);
    if (device->synchronous) return hn_fail(error, HN_ERR_UNSUPPORTED, "HN_CUDA_SYNC=1 waits for every operation");
    cudaError_t status = cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal);
    if (status == cudaSuccess) return HN_OK;
    (void)cudaGetLastError();
    return failed(error, "beginning a graph", status);
}

static void *cuda_graph_end(hn_backend *backend, hn_error *error)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t launched = NULL;
    cudaError_t status = cudaStreamEndCapture(hn_cuda_device_of(backend)->stream, &graph);
    if (status == cudaSuccess) status = cudaGraphInstantiate(&launched, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (status == cudaSuccess) return launched;
    (void)cudaGetLastError();
    failed(error, "making a graph", status);
    return NULL;
}

static void cuda_graph_launch(hn_backend *backend, void *graph)
{
    backend_state *state = state_of(backend);
    state->device.operation = "a graph";
    keep(state, "launching a graph", cudaGraphLaunch(graph, state->device.stream));
}

static void cuda_graph_free(hn_backend *backend, void *graph)
{
    if (graph) keep(state_of(backend), "freeing a graph", cudaGraphExecDestroy(graph));
}

static void cuda_range(hn_backend *backend, const char *name)
{
    (void)backend;
    if (name) hnp_cuda_range_begin(name);
    else hnp_cuda_range_end();
}

static size_t cuda_memory_available(hn_backend *backend)
{
    (void)backend;
    size_t available = 0, total = 0;
    return cudaMemGetInfo(&available, &total) == cudaSuccess ? available : 0;
}

static void cuda_close(hn_backend *backend)
{
    backend_state *state = state_of(backend);
    if (!state) return;
    if (state->device.stream) cudaStreamDestroy(state->device.stream);
    if (state->device.fault_host) cudaFreeHost(state->device.fault_host);
    hn_free(state);
    backend->state = NULL;
}

/* Reads what launchers need to know about the GPU. */
static cudaError_t describe(hn_cuda_device *device)
{
    struct cudaDeviceProp properties;
    cudaError_t status = cudaGetDeviceProperties(&properties, 0);
    if (status != cudaSuccess) return status;
    device->capability = properties.major * 10 + properties.minor;
    device->multiprocessors = properties.multiProcessorCount;
    device->shared_limit = properties.sharedMemPerBlockOptin;
    snprintf(device->name, sizeof device->name, "%s", properties.name);
    return cudaSuccess;
}

static cudaError_t open_device(hn_cuda_device *device)
{
    void *fault = NULL, *seen = NULL;
    cudaError_t status = cudaSetDevice(0);
    if (status == cudaSuccess) status = describe(device);
    if (status == cudaSuccess) status = cudaStreamCreateWithFlags((cudaStream_t *)&device->stream, cudaStreamNonBlocking);
    if (status == cudaSuccess) status = cudaHostAlloc(&fault, sizeof *device->fault, cudaHostAllocMapped);
    device->fault_host = fault;
    if (status == cudaSuccess) memset(fault, 0, sizeof *device->fault);
    if (status == cudaSuccess) status = cudaHostGetDevicePointer(&seen, fault, 0);
    device->fault = seen;
    return status;
}

hn_status hn_backend_cuda_init(hn_backend *backend, hn_error *error)
{
    int count = 0;
    const char *synchronous = getenv("HN_CUDA_SYNC");
    cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver || (status == cudaSuccess && !count)) {
        (void)cudaGetLastError();
        return hn_fail(error, HN_ERR_DEVICE, "no usable GPU: %s", count ? cudaGetErrorString(status) : "none is visible to CUDA, or its driver is missing or too old");
    }
    if (status != cudaSuccess) return failed(error, "looking for a GPU", status);
    backend_state *state = hn_calloc(1, sizeof *state);
    if (!state) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the CUDA backend");
    *backend = (hn_backend){.name = "cuda",
                            .state = state,
                            .graphs = true,
                            .alloc = cuda_alloc,
                            .free = cuda_free,
                            .pinned_alloc = cuda_pinned_alloc,
                            .pinned_free = cuda_pinned_free,
                            .copy_in = cuda_copy_in,
                            .copy_out = cuda_copy_out,
                            .synchronize = cuda_synchronize,
                            .event_new = cuda_event_new,
                            .event_free = cuda_event_free,
                            .event_record = cuda_event_record,
                            .event_wait = cuda_event_wait,
                            .graph_begin = cuda_graph_begin,
                            .graph_end = cuda_graph_end,
                            .graph_launch = cuda_graph_launch,
                            .graph_free = cuda_graph_free,
                            .range = cuda_range,
                            .memory_available = cuda_memory_available,
                            .close = cuda_close};
    state->device.synchronous = synchronous && !strcmp(synchronous, "1");
    status = open_device(&state->device);
    if (status == cudaSuccess) return HN_OK;
    cuda_close(backend);
    (void)cudaGetLastError();
    return failed(error, "opening the GPU", status);
}
