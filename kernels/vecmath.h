/* exp, erf, tanh and log of vectors, to a few units in the last place (0.98, 4.2, 1.8, 0.7), and Philox for many counters at once.
 *
 * exp and log follow Cephes (Moshier, expf.c and logf.c): range reduction by ln 2 in two parts, a polynomial. erf is a
 * rational function; tanh is a polynomial near zero (after N. Juffa) and goes through exp elsewhere. Infinities, NaN and
 * subnormal results come out as libm gives them; tests/kernels/test_vecmath.c measures all of it. */
#ifndef HONE_KERNELS_VECMATH_H
#define HONE_KERNELS_VECMATH_H

#include "core/philox.h"
#include "kernels/vec.h"

/* v * 2^n for whole n in [-300, 300] */
HN_BODY vf vf_scale2(vf v, vf n)
{
#if defined(__AVX512F__)
    return (vf)_mm512_scalef_ps((__m512)v, (__m512)n);
#else
    vi whole = __builtin_convertvector(n, vi), half = whole >> 1, rest = whole - half;
    return v * (vf)((half + 127) << 23) * (vf)((rest + 127) << 23);
#endif
}

/* a / b for b of ordinary size, to a unit in the last place or two */
HN_BODY vf vf_divide(vf a, vf b)
{
#if defined(__AVX512F__) /* half the time of the division: an estimate to 14 bits and Newton's step */
    vf r = (vf)_mm512_rcp14_ps((__m512)b);
    r = r * (2.0f - b * r);
    vf quotient = a * r;
    return quotient + (a - quotient * b) * r;
#else
    return a / b;
#endif
}

/* to the nearest whole number, |v| < 2^22 */
HN_BODY vf vf_round(vf v)
{
    return (v + 12582912.0f) - 12582912.0f;
}

HN_BODY vf vf_exp(vf x)
{
    x = vf_min(vf_all(89.0f), vf_max(vf_all(-105.0f), x)); /* NaN stays: it is the second argument */
    vf n = vf_round(x * 1.44269504088896341f);
    vf r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    vf p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return vf_scale2(p, n);
}

/* A rational minimax up to where fp32's erf is 1, and exactly 1 from there on, so that GELU of a large negative number is 0 (the coefficients of XLA's float erf): a third of the work of two polynomials
 * and an exp. */
HN_BODY vf vf_erf(vf x)
{
    const float limit = 3.8325069f;
    vf t = vf_min(vf_all(limit), vf_max(vf_all(-limit), x)), s = t * t;
    vf p = 0.00022905065861350646f * s + 0.0034082910107109506f;
    p = p * s + 0.050955695062380861f;
    p = p * s + 0.18520832239976145f;
    p = p * s + 1.128379143519084f;
    vf q = -1.1791602954361697e-7f * s + 0.000023547966471313185f;
    q = q * s + 0.0010179625278914885f;
    q = q * s + 0.014070470171167667f;
    q = q * s + 0.11098505178285362f;
    q = q * s + 0.49746925110067538f;
    q = q * s + 1.0f;
    vf one = (vf)(((vi)x & (int32_t)0x80000000) | 0x3f800000);
    return vf_select(vf_abs(x) >= limit, one, vf_divide(t * p, q));
}

HN_BODY vf vf_tanh(vf x)
{
    vf t = vf_abs(x), s = x * x;
    vf far = 1.0f - 2.0f / (vf_exp(2.0f * t) + 1.0f);
    far = (vf)((vi)far | ((vi)x & (int32_t)0x80000000));
    vf near = 1.57394409e-2f * s + -5.23025990e-2f;
    near = near * s + 1.33152470e-1f;
    near = near * s + -3.33327681e-1f;
    near = near * s * x + x;
    return vf_select(t >= 0.55f, far, near);
}

/* log of positive normal numbers; 0 gives -inf, a negative number or NaN gives NaN, +inf gives +inf */
HN_BODY vf vf_log(vf x)
{
    vi bits = (vi)x;
    vf e = __builtin_convertvector((bits >> 23) - 126, vf);
    vf m = (vf)((bits & 0x007fffff) | 0x3f000000); /* [0.5, 1) */
    vi low = m < 0.707106781186547524f;
    e = e - vf_select(low, vf_all(1.0f), vf_all(0.0f));
    m = m + vf_select(low, m, vf_all(0.0f)) - 1.0f;
    vf z = m * m;
    vf p = 7.0376836292e-2f * m + -1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m + -1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m + -1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m + -2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    p = p * m * z + e * -2.12194440e-4f - 0.5f * z;
    vf y = m + p + e * 0.693359375f;
    y = vf_select(x == vf_all(0.0f), vf_all(-__builtin_inff()), y);
    y = vf_select(x == vf_all(__builtin_inff()), x, y);
    return vf_select(x >= 0.0f, y, vf_all(__builtin_nanf("")));
}

/* 0.5 x (1 + erf(x / sqrt 2)) and its slope Phi(x) + x phi(x) (Hendrycks & Gimpel 2016) */
HN_BODY vf vf_gelu(vf x)
{
    return 0.5f * x * (1.0f + vf_erf(x * 0.70710678118654752f));
}

HN_BODY vf vf_gelu_slope(vf x)
{
    vf density = 0.39894228040143268f * vf_exp(-0.5f * x * x);
    /* x * 0 at x = inf would be NaN */
    vf product = vf_select(vf_abs(x) > 30.0f, vf_all(0.0f), x * density);
    return 0.5f * (1.0f + vf_erf(x * 0.70710678118654752f)) + product;
}

/* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) and its slope */
HN_BODY vf vf_gelu_tanh(vf x)
{
    return 0.5f * x * (1.0f + vf_tanh(0.79788456080286536f * x * (1.0f + 0.044715f * x * x)));
}

HN_BODY vf vf_gelu_tanh_slope(vf x)
{
    vf t = vf_tanh(0.79788456080286536f * x * (1.0f + 0.044715f * x * x));
    vf inner = 0.79788456080286536f * (1.0f + 0.134145f * x * x);
    vf product = vf_select(vf_abs(x) > 30.0f, vf_all(0.0f), 0.5f * x * (1.0f - t * t) * inner);
    return 0.5f * (1.0f + t) + product;
}

/* x sigmoid(x) and its slope (Elfwing, Uchibe & Doya 2017). The division is a whole one: its divisor may be infinite. */
HN_BODY vf vf_silu(vf x)
{
    return x / (1.0f + vf_exp(-x));
}

HN_BODY vf vf_silu_slope(vf x)
{
    vf s = 1.0f / (1.0f + vf_exp(-x));
    /* x (1 - s) at x = inf would be NaN */
    vf product = vf_select(vf_abs(x) > 100.0f, vf_all(0.0f), x * s * (1.0f - s));
    return s + product;
}

/* Philox over HN_LANES / 2 blocks at a time: a counter word lies in the low half of a 64-bit lane, where the multiplier reads
 * it, and nobody minds what stands in the high half. Words leave in element order. */
typedef uint64_t vq __attribute__((vector_size(HN_LANES * 4)));

HN_BODY vq vq_multiply(vq a, uint32_t b)
{
    vq v = (vq){0} + (uint64_t)b;
#if defined(__AVX512F__)
    return (vq)_mm512_mul_epu32((__m512i)a, (__m512i)v);
#elif defined(__AVX2__)
    return (vq)_mm256_mul_epu32((__m256i)a, (__m256i)v);
#else
    return (vq)_mm_mul_epu32((__m128i)a, (__m128i)v);
#endif
}

HN_BODY vq vq_lanes(void)
{
#if HN_LANES == 16
    return (vq){0, 1, 2, 3, 4, 5, 6, 7};
#elif HN_LANES == 8
    return (vq){0, 1, 2, 3};
#else
    return (vq){0, 1};
#endif
}

/* (a0, b0, a1, b1, ...), first and second half */
HN_BODY void vq_interleave(vq a, vq b, vq *first, vq *second)
{
#if HN_LANES == 16
    *first = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    *second = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#elif HN_LANES == 8
    *first = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    *second = __builtin_shufflevector(a, b, 2, 6, 3, 7);
#else
    *first = __builtin_shufflevector(a, b, 0, 2);
    *second = __builtin_shufflevector(a, b, 1, 3);
#endif
}

typedef struct hnp_stream { /* what Philox words are keyed by, but for the block */
    uint64_t seed;
    uint32_t site, example, step;
} hnp_stream;

/* The words of the 2 * HN_LANES elements from 4 * block on. */
HN_BODY void vu_philox(uint32_t *words, const hnp_stream *stream, uint32_t block)
{
    vq c0 = vq_lanes() + (uint64_t)block, zero = {0};
    vq c1 = zero + (uint64_t)stream->site, c2 = zero + (uint64_t)stream->example, c3 = zero + (uint64_t)stream->step;
    uint32_t k0 = (uint32_t)stream->seed, k1 = (uint32_t)(stream->seed >> 32);
    for (int round = 0; round < 10; round++) {
        vq p0 = vq_multiply(c0, 0xD2511F53u), p1 = vq_multiply(c2, 0xCD9E8D57u);
        c0 = (p1 >> 32) ^ c1 ^ (zero + (uint64_t)k0);
        c1 = p1;
        c2 = (p0 >> 32) ^ c3 ^ (zero + (uint64_t)k1);
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    vq even = (c0 & 0xffffffffu) | (c1 << 32), odd = (c2 & 0xffffffffu) | (c3 << 32), first, second;
    vq_interleave(even, odd, &first, &second);
    memcpy(words, &first, sizeof first);
    memcpy(words + HN_LANES, &second, sizeof second);
}

/* Words of `count` elements from element `first` on are left at words[first % 4 ...]; `words` has room for
 * count + 4 + 2 * HN_LANES. */
HN_BODY void hnp_philox_fill(uint32_t *words, const hnp_stream *stream, uint64_t first, int64_t count)
{
    int64_t needed = count + (int64_t)(first % 4);
    for (int64_t i = 0; i < needed; i += 2 * HN_LANES) vu_philox(words + i, stream, (uint32_t)(first / 4 + (uint64_t)i / 4));
}

#endif
