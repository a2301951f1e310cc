/* Elements as they lie in memory, and as floats: arithmetic is fp32 whatever the type. */
#ifndef HONE_KERNELS_CUDA_VECTOR_CUH
#define HONE_KERNELS_CUDA_VECTOR_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"

static constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;

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

/* N elements in registers as they lay in memory: words of 32 bits, where they fill any. A kernel that fetches all it needs
 * before it unpacks any of it has it all under way at once. */
template <class T, int N, bool WORDS = sizeof(T) * N % 4 == 0>
struct alignas(sizeof(T) * N > 16 ? 16 : sizeof(T) * N) held {
    uint32_t word[sizeof(T) * N / 4];
};
template <class T, int N> struct held<T, N, false> {
    T element[N];
};

template <int N, class T> __device__ __forceinline__ held<T, N> fetch(const T *from)
{
    return *reinterpret_cast<const held<T, N> *>(from);
}

template <int N> __device__ __forceinline__ void unpack(float (&out)[N], const held<float, N> &from)
{
    HN_UNROLL
    for (int i = 0; i < N; i++) out[i] = __uint_as_float(from.word[i]);
}
template <int N> __device__ __forceinline__ void unpack(float (&out)[N], const held<bf16, N> &from)
{
    if constexpr (N % 2 == 0) {
        HN_UNROLL
        for (int i = 0; i < N; i++)
            out[i] = __uint_as_float(i % 2 ? from.word[i / 2] & 0xffff0000u : from.word[i / 2] << 16);
    } else {
        HN_UNROLL
        for (int i = 0; i < N; i++) out[i] = to_float(from.element[i]);
    }
}

template <int N, class T> __device__ __forceinline__ void load(float (&out)[N], const T *from)
{
    unpack(out, fetch<N>(from));
}

template <int N, class T> __device__ __forceinline__ void store(T *to, const float (&in)[N])
{
    if constexpr (sizeof(T) == 2 && N % 2 == 0) {
        held<T, N> p;
        HN_UNROLL
        for (int i = 0; i < N; i += 2) p.word[i / 2] = ptx_pack_bf16(in[i], in[i + 1]);
        *reinterpret_cast<held<T, N> *>(to) = p;
    } else {
        pack<T, N> p;
        HN_UNROLL
        for (int i = 0; i < N; i++) p.element[i] = from_float<T>(in[i]);
        *reinterpret_cast<pack<T, N> *>(to) = p;
    }
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

/* N of its elements as they lie in memory: loading does not wait for what is loaded, as a conversion behind a
 * branch on the type would. */
template <int N> struct any_vector {
    uint32_t word[N]; /* bf16: two of them in a word, in the first half */
};

template <int N>
__device__ __forceinline__ void load_any(any_vector<N> &v, const any_matrix &m, int64_t row, int64_t column)
{
    const int64_t at = row * m.stride + column;
    if (!m.is_bf16) {
        const pack<uint32_t, N> p = *reinterpret_cast<const pack<uint32_t, N> *>((const float *)m.data + at);
        HN_UNROLL
        for (int i = 0; i < N; i++) v.word[i] = p.element[i];
    } else if constexpr (N == 1) {
        v.word[0] = ((const uint16_t *)m.data)[at];
    } else {
        const pack<uint32_t, N / 2> p =
            *reinterpret_cast<const pack<uint32_t, N / 2> *>((const bf16 *)m.data + at);
        HN_UNROLL
        for (int i = 0; i < N; i++) v.word[i] = i < N / 2 ? p.element[i % (N / 2)] : 0;
    }
}

template <int N>
__device__ __forceinline__ float any_element(const any_vector<N> &v, const any_matrix &m, int i)
{
    if (!m.is_bf16) return __uint_as_float(v.word[i]);
    return __uint_as_float(i % 2 ? v.word[i / 2] & 0xffff0000u : v.word[i / 2] << 16);
}

/* At once, for what comes alone or out of the cache. */
template <int N>
__device__ __forceinline__ void load_any(float (&out)[N], const any_matrix &m, int64_t row, int64_t column)
{
    any_vector<N> v;
    load_any(v, m, row, column);
    HN_UNROLL
    for (int i = 0; i < N; i++) out[i] = any_element(v, m, i);
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
