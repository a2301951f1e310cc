/* See bench.h. */
#include "bench/gpu/bench.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/backend.h"

enum { PATTERN = 1 << 22, ROUNDS = 9, SKIPPED = 77 };

static void stop(const bench *b, const char *what)
{
    fprintf(stderr, "bench_gpu: %s: %s\n", what, b->error.message);
    exit(1);
}

static void require(bench *b, const char *what, cudaError_t status)
{
    if (status == cudaSuccess) return;
    hn_fail(&b->error, HN_ERR_DEVICE, "%s", cudaGetErrorString(status));
    stop(b, what);
}

static void wait(bench *b, const char *what)
{
    if (b->backend.synchronize(&b->backend, &b->error) != HN_OK || b->error.status != HN_OK) stop(b, what);
}

static cudaStream_t stream_of(const bench *b)
{
    return (cudaStream_t)hn_cuda_device_of(&b->backend)->stream;
}

void bench_open(bench *b)
{
    if (hn_backend_cuda_init(&b->backend, &b->error) != HN_OK) {
        printf("%s\n", b->error.message);
        exit(SKIPPED);
    }
    b->ops = hn_ops_cuda();
    b->ctx = (hn_ops_context){.backend = &b->backend, .error = &b->error};
    if (b->ops->open(&b->ctx, &b->error) != HN_OK) stop(b, "opening the table of operations");
    cudaEvent_t start, end;
    require(b, "an event", cudaEventCreateWithFlags(&start, 0));
    require(b, "an event", cudaEventCreateWithFlags(&end, 0));
    b->start = start, b->end = end;
}

void bench_close(bench *b)
{
    bench_release(b);
    b->backend.free(&b->backend, b->ctx.workspace);
    cudaEventDestroy((cudaEvent_t)b->start);
    cudaEventDestroy((cudaEvent_t)b->end);
    b->ops->close(&b->ctx);
    b->backend.close(&b->backend);
}

void bench_workspace(bench *b, const bench_model *model, int64_t rows)
{
    int64_t widest = model->inner > model->width ? 2 * model->inner : 2 * model->width;
    size_t size = b->ops->workspace(rows, widest, model->longest, (int)model->heads, HN_F32);
    size += b->ops->low_rank_workspace(widest, 16);
    size_t head = model->vocabulary ? b->ops->linear_cross_entropy_workspace(rows, model->width, model->vocabulary) : 0;
    if (head > size) size = head;
    b->backend.free(&b->backend, b->ctx.workspace);
    b->ctx.workspace = b->backend.alloc(&b->backend, size, false, &b->error);
    b->ctx.workspace_size = size;
    if (!b->ctx.workspace) stop(b, "the workspace");
}

void *bench_memory(bench *b, size_t size)
{
    HN_ASSERT(b->blocks < BENCH_BLOCKS);
    void *memory = b->backend.alloc(&b->backend, size, false, &b->error);
    if (!memory) stop(b, "memory of the GPU");
    b->block[b->blocks++] = memory;
    return memory;
}

void *bench_upload(bench *b, const void *host, size_t size)
{
    void *memory = bench_memory(b, size);
    b->backend.copy_in(&b->backend, memory, host, size);
    wait(b, "copying to the GPU");
    return memory;
}

/* Zeros draw less power than numbers, and the clock follows: a pattern of 4 Mi random numbers, repeated. */
hn_tensor bench_tensor(bench *b, hn_dtype dtype, int64_t rows, int64_t columns)
{
    static union {
        float f32[PATTERN];
        uint16_t bf16[PATTERN];
    } pattern;
    size_t element = hn_dtype_size(dtype), size = (size_t)(rows * columns) * element, step = PATTERN * element;
    hn_tensor tensor = hn_tensor_2d(bench_memory(b, size), dtype, rows, columns);
    uint32_t random = 1;
    for (size_t i = 0; i < PATTERN && i * element < size; i++) {
        random = random * 1664525u + 1013904223u;
        float value = (float)(random >> 8) * 0x1p-23f - 1.0f;
        if (dtype == HN_F32) pattern.f32[i] = value;
        else pattern.bf16[i] = hn_bf16_from_float(value);
    }
    for (size_t at = 0; at < size; at += step)
        b->backend.copy_in(&b->backend, (char *)tensor.data + at, &pattern, size - at < step ? size - at : step);
    wait(b, "copying to the GPU");
    return tensor;
}

void bench_release(bench *b)
{
    while (b->blocks) b->backend.free(&b->backend, b->block[--b->blocks]);
}

bool bench_wanted(const bench *b, const char *operation)
{
    return !b->only || strstr(operation, b->only);
}

/* Seconds of `runs` runs between two events. */
static double timed(bench *b, void (*run)(void *context), void *context, int runs)
{
    float milliseconds = 0;
    require(b, "an event", cudaEventRecord((cudaEvent_t)b->start, stream_of(b)));
    for (int i = 0; i < runs; i++) run(context);
    require(b, "an event", cudaEventRecord((cudaEvent_t)b->end, stream_of(b)));
    require(b, "waiting", cudaEventSynchronize((cudaEvent_t)b->end));
    wait(b, "a timed operation");
    require(b, "an event's time", cudaEventElapsedTime(&milliseconds, (cudaEvent_t)b->start, (cudaEvent_t)b->end));
    return milliseconds * 1e-3;
}

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_time(bench *b, void (*run)(void *context), void *context)
{
    double round[ROUNDS], once;
    if (b->rehearse) return timed(b, run, context, 1);
    (void)timed(b, run, context, 2); /* plans are made, clocks rise */
    once = timed(b, run, context, 3) / 3;
    int runs = once > 0 ? (int)(5e-3 / once) + 1 : 1000;
    for (int i = 0; i < ROUNDS; i++) round[i] = timed(b, run, context, runs > 1000 ? 1000 : runs) / (runs > 1000 ? 1000 : runs);
    qsort(round, ROUNDS, sizeof *round, rising);
    return round[ROUNDS / 2];
}

void bench_row(bench *b, const char *operation, const char *shape, double bytes, double flop, void (*run)(void *context),
               void *context)
{
    if (!bench_wanted(b, operation)) return;
    double seconds = bench_time(b, run, context);
    double by_bytes = b->copy_rate > 0 ? bytes / b->copy_rate : 0, by_flop = b->product_rate > 0 ? flop / b->product_rate : 0;
    double ideal = by_bytes > by_flop ? by_bytes : by_flop;
    printf("%-30s %-26s %10.1f us %8.0f GB/s %8.1f TFLOP/s %6.1f %%\n", operation, shape, seconds * 1e6, bytes / seconds * 1e-9,
           flop / seconds * 1e-12, 100 * ideal / seconds);
    fflush(stdout);
    if (b->json)
        fprintf(b->json,
                "%s\n  {\"operation\": \"%s\", \"shape\": \"%s\", \"microseconds\": %.3f, \"bytes\": %.0f, \"flop\": %.0f, \"of_ceiling\": %.4f}",
                b->rows ? "," : "", operation, shape, seconds * 1e6, bytes, flop, ideal / seconds);
    b->rows++;
}
