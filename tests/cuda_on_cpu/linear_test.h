/* What the tests of linear layers share: activations in double, and a GPU of either kind. */
#ifndef HONE_TESTS_LINEAR_TEST_H
#define HONE_TESTS_LINEAR_TEST_H

#include "tests/cuda_on_cpu/device.h"

enum { ACTIVATIONS = HN_ACT_SILU + 1 };

static inline double act(double z, hn_activation activation)
{
    switch (activation) {
    case HN_ACT_GELU: return 0.5 * z * (1 + erf(z / sqrt(2)));
    case HN_ACT_GELU_TANH: return 0.5 * z * (1 + tanh(0.7978845608028654 * (z + 0.044715 * z * z * z)));
    case HN_ACT_TANH: return tanh(z);
    case HN_ACT_RELU: return z < 0 ? 0 : z;
    case HN_ACT_SILU: return z / (1 + exp(-z));
    case HN_ACT_NONE: break;
    }
    return z;
}

/* By a difference; tanh's is told by its output, and ReLU's is 0 at 0. */
static inline double slope(double z, hn_activation activation)
{
    const double h = 1e-5;
    if (activation == HN_ACT_TANH) return 1 - z * z;
    if (activation == HN_ACT_RELU) return z > 0;
    return (act(z + h, activation) - act(z - h, activation)) / (2 * h);
}

/* capability 80: everything by passes of ours; 90: what cuBLASLt fuses there is fused. */
static inline void linear_open(device *d, int capability)
{
    device_open(d, hnp_cuda_linear_workspace());
    hn_cuda_device_of(&d->backend)->capability = capability;
}

/* A vector of `n` elements. */
static inline hn_tensor vector_random(hn_dtype type, int64_t n)
{
    hn_tensor t = matrix_random(type, 1, n, n, 1);
    t.rank = 1;
    t.shape[0] = n;
    t.stride = 1;
    return t;
}

#endif
