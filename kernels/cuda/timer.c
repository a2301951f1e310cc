/* See timer.h. A ring of PAIRS pairs; `oldest` pairs on, `count` of them are under way. When all are, the older half is waited for: the
 * younger half keeps the GPU busy meanwhile. A time that cannot be read (the GPU has failed) is left out: whoever waits for the step learns
 * of the failure. */
#include "kernels/cuda/timer.h"

#include <cuda_runtime_api.h>

#include "core/mem.h"

enum { PAIRS = 1024 };

struct hnp_cuda_timer {
    hn_cuda_device *device;
    int oldest, count;
    struct {
        cudaEvent_t begin, end;
        hn_profile *profile;
        hn_operation operation;
        double flop;
    } pair[PAIRS];
};

static void resolve_all(void *timer)
{
    hnp_cuda_timer_resolve(timer);
}

hn_status hnp_cuda_timer_open(hnp_cuda_timer **out, hn_cuda_device *device, hn_error *error)
{
    hnp_cuda_timer *timer = hn_calloc(1, sizeof *timer);
    if (!timer) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the times of operations");
    timer->device = device;
    cudaError_t status = cudaSuccess;
    for (int i = 0; i < PAIRS && status == cudaSuccess; i++) {
        status = cudaEventCreateWithFlags(&timer->pair[i].begin, cudaEventDefault);
        if (status == cudaSuccess) status = cudaEventCreateWithFlags(&timer->pair[i].end, cudaEventDefault);
    }
    if (status != cudaSuccess) {
        hnp_cuda_timer_free(timer);
        return hn_fail(error, HN_ERR_DEVICE, "CUDA: making events for the times of operations: %s", cudaGetErrorString(status));
    }
    device->waited = resolve_all;
    device->waited_context = timer;
    *out = timer;
    return HN_OK;
}

void hnp_cuda_timer_free(hnp_cuda_timer *timer)
{
    if (!timer) return;
    for (int i = 0; i < PAIRS; i++) {
        if (timer->pair[i].begin) cudaEventDestroy(timer->pair[i].begin);
        if (timer->pair[i].end) cudaEventDestroy(timer->pair[i].end);
    }
    timer->device->waited = NULL;
    hn_free(timer);
}

/* Waits until at most `left` pairs are under way. */
static void resolve(hnp_cuda_timer *timer, int left)
{
    int done = timer->count - left;
    if (done <= 0) return;
    bool reached = cudaEventSynchronize(timer->pair[(timer->oldest + done - 1) % PAIRS].end) == cudaSuccess;
    for (; done > 0; done--, timer->count--, timer->oldest = (timer->oldest + 1) % PAIRS) {
        float milliseconds;
        int i = timer->oldest;
        if (reached && cudaEventElapsedTime(&milliseconds, timer->pair[i].begin, timer->pair[i].end) == cudaSuccess)
            hn_profile_add(timer->pair[i].profile, timer->pair[i].operation, 1e-3 * (double)milliseconds, timer->pair[i].flop);
    }
}

void hnp_cuda_timer_resolve(hnp_cuda_timer *timer)
{
    resolve(timer, 0);
}

void hnp_cuda_timer_begin(hnp_cuda_timer *timer)
{
    if (timer->count == PAIRS) resolve(timer, PAIRS / 2);
    (void)cudaEventRecord(timer->pair[(timer->oldest + timer->count) % PAIRS].begin, timer->device->stream);
}

void hnp_cuda_timer_end(hnp_cuda_timer *timer, hn_profile *profile, hn_operation operation, double flop)
{
    int i = (timer->oldest + timer->count++) % PAIRS;
    timer->pair[i].profile = profile;
    timer->pair[i].operation = operation;
    timer->pair[i].flop = flop;
    (void)cudaEventRecord(timer->pair[i].end, timer->device->stream);
}
