/* The activations of the linear layers (kernels/activation_vec.h has the same formulas): GELU by erf and by
 * tanh (Hendrycks & Gimpel 2016), tanh, ReLU, SiLU (Elfwing, Uchibe & Doya 2017). Value and slope share their
 * parts; the compiler drops what is not asked for. erff, tanhf, expf and the division are CUDA's accurate
 * ones. */
#ifndef HONE_KERNELS_CUDA_ACTIVATION_CUH
#define HONE_KERNELS_CUDA_ACTIVATION_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"

#include <math.h>

#include <type_traits>

/* act(z), and act'(z); of HN_ACT_TANH the slope is that where act gave z: its slope is told by the output.
 * The slope of ReLU at 0 is 0. */
struct activated {
    float value, slope;
};

/* z w and its slope w + z w', for a w that is 1 or 0 beyond `flat`, where z w' would be a product of infinity
 * and 0. */
__device__ __forceinline__ activated weighted(float z, float w, float slope_of_w, float flat)
{
    return {z * w, w + (fabsf(z) > flat ? 0.0f : z * slope_of_w)};
}

template <hn_activation A> __device__ __forceinline__ activated activated_at(float z)
{
    if constexpr (A == HN_ACT_GELU) {
        const float w = 0.5f * (1.0f + erff(z * 0.70710678118654752f));
        return weighted(z, w, 0.39894228040143268f * expf(-0.5f * z * z), 30.0f);
    } else if constexpr (A == HN_ACT_GELU_TANH) {
        const float t = tanhf(0.79788456080286536f * z * (1.0f + 0.044715f * z * z));
        const float inner = 0.79788456080286536f * (1.0f + 0.134145f * z * z);
        return weighted(z, 0.5f * (1.0f + t), 0.5f * (1.0f - t * t) * inner, 30.0f);
    } else if constexpr (A == HN_ACT_SILU) {
        const float w = 1.0f / (1.0f + expf(-z));
        return weighted(z, w, w * (1.0f - w), 100.0f);
    } else if constexpr (A == HN_ACT_TANH) {
        return {tanhf(z), 1.0f - z * z};
    } else if constexpr (A == HN_ACT_RELU) {
        return {z < 0.0f ? 0.0f : z, z > 0.0f ? 1.0f : 0.0f};
    } else {
        return {z, 1.0f};
    }
}

/* f(an integral_constant of the activation): one branch for all of a thread's elements. */
template <class F> __device__ __forceinline__ void with_activation(hn_activation activation, F f)
{
    switch (activation) {
    case HN_ACT_GELU: f(std::integral_constant<hn_activation, HN_ACT_GELU>()); break;
    case HN_ACT_GELU_TANH: f(std::integral_constant<hn_activation, HN_ACT_GELU_TANH>()); break;
    case HN_ACT_TANH: f(std::integral_constant<hn_activation, HN_ACT_TANH>()); break;
    case HN_ACT_RELU: f(std::integral_constant<hn_activation, HN_ACT_RELU>()); break;
    case HN_ACT_SILU: f(std::integral_constant<hn_activation, HN_ACT_SILU>()); break;
    case HN_ACT_NONE: f(std::integral_constant<hn_activation, HN_ACT_NONE>()); break;
    }
}

/* v = act(v) */
template <int N> __device__ __forceinline__ void activate(float (&v)[N], hn_activation activation)
{
    with_activation(activation, [&](auto a) {
        HN_UNROLL
        for (int i = 0; i < N; i++) v[i] = activated_at<decltype(a)::value>(v[i]).value;
    });
}

/* d *= act'(z) */
template <int N>
__device__ __forceinline__ void apply_slope(float (&d)[N], const float (&z)[N], hn_activation activation)
{
    with_activation(activation, [&](auto a) {
        HN_UNROLL
        for (int i = 0; i < N; i++) d[i] *= activated_at<decltype(a)::value>(z[i]).slope;
    });
}

#endif
