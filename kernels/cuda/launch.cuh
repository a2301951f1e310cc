/* From an entry of the operation table to a kernel on a stream. Included by every .cu, which is compiled with HN_ISA=cuda and
 * defines the functions of its contract header. hone's C headers are C11 and say neither extern "C" nor anything about C++:
 * they are included here and in the .cu inside extern "C". */
#ifndef HONE_KERNELS_CUDA_LAUNCH_CUH
#define HONE_KERNELS_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <initializer_list>
#include <utility>

#define _Noreturn [[noreturn]]
extern "C" {
#include "core/philox.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/sizes.h"
#include "kernels/isa.h"
#include "kernels/ops.h"
}
#undef _Noreturn

static inline bool launch_failed(hn_ops_context *ctx, const char *operation, cudaError_t status)
{
    if (status == cudaSuccess) return false;
    hn_fail(ctx->error, HN_ERR_DEVICE, "%s: %s", operation, cudaGetErrorString(status));
    (void)cudaGetLastError(); /* a refused launch is not sticky */
    return true;
}

/* Lets a kernel ask for more than 48 KiB of shared memory. What was allowed stays so: a graph may hold launches with more. */
template <class F> cudaError_t allow_shared(F *kernel, size_t shared)
{
    cudaFuncAttributes now;
    if (shared <= 48 * 1024) return cudaSuccess;
    cudaError_t status = cudaFuncGetAttributes(&now, kernel);
    if (status != cudaSuccess || now.maxDynamicSharedSizeBytes >= (int)shared) return status;
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
}

/* kernel<<<grid, threads, shared, the context's stream>>>(arguments...), unless a step's first failure is
 * recorded already. */
template <class... P, class... A>
void launch(hn_ops_context *ctx, const char *operation, void (*kernel)(P...), dim3 grid, int threads,
            size_t shared, A &&...arguments)
{
    if (ctx->error && ctx->error->status != HN_OK) return;
    const hn_cuda_device *device = hn_cuda_device_of(ctx->backend);
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = shared;
    config.stream = (cudaStream_t)device->stream;
    if (launch_failed(ctx, operation, allow_shared(kernel, shared))) return;
    if (launch_failed(ctx, operation, cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...)))
        return;
    if (device->synchronous) launch_failed(ctx, operation, cudaStreamSynchronize(config.stream));
}

/* The context's scratch, or NULL with the failure recorded. */
static inline void *scratch_take(hn_ops_context *ctx, const char *operation, size_t size)
{
    if (size <= ctx->workspace_size) return ctx->workspace;
    hn_fail(ctx->error, HN_ERR_MEMORY, "%s: needs %zu bytes of workspace, has %zu", operation, size,
            ctx->workspace_size);
    return NULL;
}

/* An optional tensor may be NULL or empty-handed. */
static inline bool present(const hn_tensor *tensor)
{
    return tensor && tensor->data;
}

static inline bool rows_aligned(const hn_tensor *tensor)
{
    return (uintptr_t)tensor->data % 16 == 0 &&
           (size_t)tensor->stride * hn_dtype_size(tensor->dtype) % 16 == 0;
}

static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

#endif
