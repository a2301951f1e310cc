/* Vectors of the width of the instruction set at hand, on GCC's vector extensions (clang has them too), and loads and stores
 * that read fp32 or bf16 and never touch a byte beyond the n elements they are given. Arithmetic is fp32 everywhere. */
#ifndef HONE_KERNELS_VEC_H
#define HONE_KERNELS_VEC_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/tensor.h"
#include "kernels/isa.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#define HN_LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define HN_LANES 8
#else
#include <emmintrin.h>
#define HN_LANES 4
#endif

typedef float vf __attribute__((vector_size(HN_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(HN_LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(HN_LANES * 4)));
typedef uint16_t vh __attribute__((vector_size(HN_LANES * 2)));

HN_BODY vf vf_all(float value)
{
    return value - (vf){0};
}

HN_BODY vf vf_select(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

/* A mask of the first n lanes. */
HN_BODY vi vf_first_lanes(int64_t n)
{
    vi lane;
    for (int i = 0; i < HN_LANES; i++) lane[i] = i;
    return lane < (int32_t)(n < HN_LANES ? n : HN_LANES);
}

/* The second argument where either is NaN. */
HN_BODY vf vf_max(vf a, vf b)
{
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return (vf)_mm_max_ps((__m128)a, (__m128)b);
#endif
}

HN_BODY vf vf_min(vf a, vf b)
{
#if defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return (vf)_mm_min_ps((__m128)a, (__m128)b);
#endif
}

HN_BODY vf vf_sqrt(vf a)
{
#if defined(__AVX512F__)
    return (vf)_mm512_sqrt_ps((__m512)a);
#elif defined(__AVX2__)
    return (vf)_mm256_sqrt_ps((__m256)a);
#else
    return (vf)_mm_sqrt_ps((__m128)a);
#endif
}

HN_BODY vf vf_abs(vf a)
{
    return (vf)((vi)a & 0x7fffffff);
}

/* Lane lists for __builtin_shufflevector: HN_LANE_LIST(f, s) is f(0, s), f(1, s), ... */
#define HN_LANES_4(lane, i, s) lane(i, s), lane((i) + 1, s), lane((i) + 2, s), lane((i) + 3, s)
#if HN_LANES == 16
#define HN_LANE_LIST(lane, s)                                                                                          \
    HN_LANES_4(lane, 0, s), HN_LANES_4(lane, 4, s), HN_LANES_4(lane, 8, s), HN_LANES_4(lane, 12, s)
#elif HN_LANES == 8
#define HN_LANE_LIST(lane, s) HN_LANES_4(lane, 0, s), HN_LANES_4(lane, 4, s)
#else
#define HN_LANE_LIST(lane, s) HN_LANES_4(lane, 0, s)
#endif
#define HN_LANE_SWAP(i, s) ((i) ^ (s))
#define HN_SWAP(a, s) __builtin_shufflevector(a, a, HN_LANE_LIST(HN_LANE_SWAP, s))

/* The lanes, added pairwise. */
HN_BODY float vf_sum(vf a)
{
#if HN_LANES >= 16
    a += HN_SWAP(a, 8);
#endif
#if HN_LANES >= 8
    a += HN_SWAP(a, 4);
#endif
    a += HN_SWAP(a, 2);
    a += HN_SWAP(a, 1);
    return a[0];
}

#define HN_LANE_OWN(i, s) ((i) & (s) ? HN_LANES + (i) : (i))
#define HN_LANE_NEXT(i, s) ((i) & (s) ? HN_LANES + (i) - (s) : (i) + (s))

/* row[i], i < s: the lanes of row[i] and row[i + s], half of each, with their neighbours s lanes away added. */
#define HN_HALVE(row, s)                                                                                               \
    for (int i_ = 0; i_ < (s); i_++)                                                                                   \
        (row)[i_] = __builtin_shufflevector((row)[i_], (row)[i_ + (s)], HN_LANE_LIST(HN_LANE_OWN, s)) +                \
                    __builtin_shufflevector((row)[i_], (row)[i_ + (s)], HN_LANE_LIST(HN_LANE_NEXT, s));

/* Lane i is vf_sum(row[i]), to the bit; the rows are lost. */
HN_BODY vf vf_sums(vf row[HN_LANES])
{
#if HN_LANES >= 16
    HN_HALVE(row, 8)
#endif
#if HN_LANES >= 8
    HN_HALVE(row, 4)
#endif
    HN_HALVE(row, 2)
    HN_HALVE(row, 1)
    return row[0];
}

/* The highest lane; a NaN among them may be overlooked. */
HN_BODY float vf_highest(vf a)
{
#if HN_LANES >= 16
    a = vf_max(a, HN_SWAP(a, 8));
#endif
#if HN_LANES >= 8
    a = vf_max(a, HN_SWAP(a, 4));
#endif
    a = vf_max(a, HN_SWAP(a, 2));
    a = vf_max(a, HN_SWAP(a, 1));
    return a[0];
}

HN_BODY vf vf_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

HN_BODY void vf_store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

/* The first n lanes, n < HN_LANES; the others are 0. */
HN_BODY vf vf_load_part(const float *p, int64_t n)
{
#if defined(__AVX512F__)
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
    float lane[HN_LANES] = {0};
    for (int i = 0; i < HN_LANES - 1; i++)
        if (i < n) lane[i] = p[i];
    return vf_load(lane);
#endif
}

HN_BODY void vf_store_part(float *p, vf v, int64_t n)
{
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#else
    float lane[HN_LANES];
    vf_store(lane, v);
    for (int i = 0; i < HN_LANES - 1; i++)
        if (i < n) p[i] = lane[i];
#endif
}

HN_BODY vf vf_widen(vh bits)
{
#if defined(__AVX512F__) /* what the compilers make of the conversion is half as wide */
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)bits), 16);
#elif defined(__AVX2__)
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)bits), 16);
#else
    return (vf)(__builtin_convertvector(bits, vu) << 16);
#endif
}

/* To nearest, ties to even; NaN stays NaN (core/tensor.h). */
HN_BODY vh vf_narrow(vf value)
{
    vu bits = (vu)value;
    vu rounded = (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
    vu quiet = (bits >> 16) | 0x40u;
    vu is_nan = (vu)(value != value);
    vu out = (is_nan & quiet) | (~is_nan & rounded);
#if defined(__AVX512F__)
    return (vh)_mm512_cvtepi32_epi16((__m512i)out);
#else
    return __builtin_convertvector(out, vh);
#endif
}

/* Up to HN_LANES elements from element i of an array of `type` (fp32 or bf16), n of which are there. */
HN_BODY vf vf_get(const void *data, hn_dtype type, int64_t i, int64_t n)
{
    if (type == HN_F32) {
        const float *p = (const float *)data + i;
        return n >= HN_LANES ? vf_load(p) : vf_load_part(p, n);
    }
    const uint16_t *p = (const uint16_t *)data + i;
    vh bits = {0};
    if (n >= HN_LANES) {
        memcpy(&bits, p, sizeof bits);
    } else {
#if defined(__AVX512F__)
        bits = (vh)_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p);
#else
        uint16_t lane[HN_LANES] = {0};
        for (int j = 0; j < HN_LANES - 1; j++)
            if (j < n) lane[j] = p[j];
        memcpy(&bits, lane, sizeof bits);
#endif
    }
    return vf_widen(bits);
}

HN_BODY void vf_put(void *data, hn_dtype type, int64_t i, int64_t n, vf v)
{
    if (type == HN_F32) {
        float *p = (float *)data + i;
        if (n >= HN_LANES) vf_store(p, v);
        else vf_store_part(p, v, n);
        return;
    }
    uint16_t *p = (uint16_t *)data + i;
    vh bits = vf_narrow(v);
    if (n >= HN_LANES) {
        memcpy(p, &bits, sizeof bits);
    } else {
#if defined(__AVX512F__)
        _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), (__m256i)bits);
#else
        uint16_t lane[HN_LANES];
        memcpy(lane, &bits, sizeof lane);
        for (int j = 0; j < HN_LANES - 1; j++)
            if (j < n) p[j] = lane[j];
#endif
    }
}

/* An optional operand: NULL, or without data, is not there. */
static inline const hn_tensor *hnp_present(const hn_tensor *tensor)
{
    return tensor && tensor->data ? tensor : NULL;
}

/* Row r of a matrix. */
HN_BODY void *hnp_row(const hn_tensor *tensor, int64_t r)
{
    return (char *)tensor->data + (size_t)(r * tensor->stride) * (tensor->dtype == HN_F32 ? 4 : 2);
}

#endif
