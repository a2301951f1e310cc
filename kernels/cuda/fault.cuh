/* How a kernel tells of an index outside its table (hn_cuda_fault in backend.h). */
#ifndef HONE_KERNELS_CUDA_FAULT_CUH
#define HONE_KERNELS_CUDA_FAULT_CUH

#include "kernels/cuda/launch.cuh"

/* As kernels take it. */
static inline volatile hn_cuda_fault *fault_of(hn_ops_context *ctx)
{
    return hn_cuda_device_of(ctx->backend)->fault;
}

/* Whether `value` of `row` lies in [0, limit); if not, it is written down, unless something is already. Threads that come at once may
 * overwrite one another, each with 8 bytes that belong together; the limit is the same for all of a kernel's kind. */
__device__ __forceinline__ bool in_table(volatile hn_cuda_fault *fault, hn_cuda_fault_kind kind, int64_t row, int64_t value,
                                         int64_t limit)
{
    if (value >= 0 && value < limit) return true;
    if (fault->word) return false;
    fault->limit = (uint64_t)limit;
    fault->word = (uint64_t)kind << 56 | ((uint64_t)row & 0xffffff) << 32 | (uint32_t)value;
    return false;
}

#endif
