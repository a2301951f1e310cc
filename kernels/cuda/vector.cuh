/* Elements as they lie in memory, and as floats: arithmetic is fp32 whatever the type. */
#ifndef HONE_KERNELS_CUDA_VECTOR_CUH
#define HONE_KERNELS_CUDA_VECTOR_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"

struct bf16 {
    uint16_t bits;
};

__device__ __forceinline__ float to_float(float v)
{
    return v;
}
__device__ __forceinline__ float to_float(bf16 v)
{
    return __uint_as_float((uint32_t)v.bits << 16);
}

template <class T> __device__ T from_float(float v);
template <> __device__ __forceinline__ float from_float<float>(float v)
{
    return v;
}
template <> __device__ __forceinline__ bf16 from_float<bf16>(float v)
{
    return bf16{(uint16_t)(ptx_pack_bf16(v, 0.0f) & 0xffffu)};
}

/* N elements that move as one load or store (or as several of 16 bytes). */
template <class T, int N> struct alignas(sizeof(T) * N > 16 ? 16 : sizeof(T) * N) pack {
    T element[N];
};

template <int N, class T> __device__ __forceinline__ void load(float (&out)[N], const T *from)
{
    const pack<T, N> p = *reinterpret_cast<const pack<T, N> *>(from);
    HN_UNROLL
    for (int i = 0; i < N; i++) out[i] = to_float(p.element[i]);
}

template <int N, class T> __device__ __forceinline__ void store(T *to, const float (&in)[N])
{
    pack<T, N> p;
    HN_UNROLL
    for (int i = 0; i < N; i++) p.element[i] = from_float<T>(in[i]);
    *reinterpret_cast<pack<T, N> *>(to) = p;
}

/* A tensor as a kernel takes it. */
template <class T> struct matrix {
    T *data; /* NULL: absent */
    int64_t stride;

    __device__ T *row(int64_t r) const { return data + r * stride; }
};

template <class T> matrix<T> matrix_of(const hn_tensor *tensor)
{
    if (!present(tensor)) return {nullptr, 0};
    return {(T *)tensor->data, tensor->stride};
}

/* One whose type is asked at run time: the same for all threads, so a branch that costs little. */
struct any_matrix {
    void *data; /* NULL: absent */
    int64_t stride;
    bool is_bf16;
};

static inline any_matrix any_matrix_of(const hn_tensor *tensor)
{
    if (!present(tensor)) return {nullptr, 0, false};
    return {tensor->data, tensor->stride, tensor->dtype == HN_BF16};
}

template <int N>
__device__ __forceinline__ void load_any(float (&out)[N], const any_matrix &m, int64_t row, int64_t column)
{
    const int64_t at = row * m.stride + column;
    if (m.is_bf16)
        load(out, (const bf16 *)m.data + at);
    else
        load(out, (const float *)m.data + at);
}

template <int N>
__device__ __forceinline__ void store_any(const any_matrix &m, int64_t row, int64_t column, const float (&in)[N])
{
    const int64_t at = row * m.stride + column;
    if (m.is_bf16)
        store((bf16 *)m.data + at, in);
    else
        store((float *)m.data + at, in);
}

#endif
