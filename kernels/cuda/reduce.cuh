/* Sums and maxima over lanes in a fixed order: a butterfly, so that every lane ends with the same bits. */
#ifndef HONE_KERNELS_CUDA_REDUCE_CUH
#define HONE_KERNELS_CUDA_REDUCE_CUH

#include "kernels/cuda/ptx.cuh"

/* Over groups of LANES neighbouring lanes (a power of two). All lanes of the warp must come. */
template <int LANES> __device__ __forceinline__ float lanes_sum(float v)
{
    HN_UNROLL
    for (int step = LANES / 2; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

template <int LANES, class V> __device__ __forceinline__ V lanes_max(V v)
{
    HN_UNROLL
    for (int step = LANES / 2; step > 0; step /= 2) v = max(v, __shfl_xor_sync(0xffffffffu, v, step));
    return v;
}

/* Each of v over groups of THREADS: lanes (a power of two; all lanes of the warp must come), or a whole block of so
 * many threads (all of them must come, and it ends with a barrier between it and the next such sum). */
template <int THREADS, int K> __device__ __forceinline__ void group_sums(float (&v)[K])
{
    HN_UNROLL
    for (int k = 0; k < K; k++) v[k] = lanes_sum < THREADS<32 ? THREADS : 32>(v[k]);
    if constexpr (THREADS > 32) {
        HN_SHARED(float, sums, [K][THREADS / 32]);
        HN_UNROLL
        for (int k = 0; k < K; k++)
            if (threadIdx.x % 32 == 0) sums[k][threadIdx.x / 32] = v[k];
        __syncthreads();
        HN_UNROLL
        for (int k = 0; k < K; k++)
            v[k] = lanes_sum<32>(threadIdx.x % 32 < THREADS / 32 ? sums[k][threadIdx.x % 32] : 0.0f);
        __syncthreads();
    }
}

template <int THREADS> __device__ __forceinline__ float group_sum(float v)
{
    float sum[1] = {v};
    group_sums<THREADS>(sum);
    return sum[0];
}

template <int THREADS, class V> __device__ __forceinline__ V group_max(V v)
{
    v = lanes_max<32>(v);
    if constexpr (THREADS > 32) {
        HN_SHARED(V, most, [THREADS / 32]);
        if (threadIdx.x % 32 == 0) most[threadIdx.x / 32] = v;
        __syncthreads();
        v = lanes_max<32>(most[threadIdx.x % (THREADS / 32)]);
        __syncthreads();
    }
    return v;
}

#endif
