/* Activations of the linear layers on vectors: GELU by erf and by tanh (Hendrycks & Gimpel 2016), tanh, ReLU, SiLU. */
#ifndef HONE_KERNELS_ACTIVATION_VEC_H
#define HONE_KERNELS_ACTIVATION_VEC_H

#include "kernels/ops.h"
#include "kernels/vecmath.h"

HN_BODY vf hnp_activate(vf z, hn_activation activation)
{
    switch (activation) {
    case HN_ACT_GELU: return vf_gelu(z);
    case HN_ACT_GELU_TANH: return vf_gelu_tanh(z);
    case HN_ACT_TANH: return vf_tanh(z);
    case HN_ACT_RELU: return vf_select(z < 0.0f, vf_all(0.0f), z);
    case HN_ACT_SILU: return vf_silu(z);
    case HN_ACT_NONE: break;
    }
    return z;
}

/* d act(z) / d z; for HN_ACT_TANH z is the activation's output. The slope of ReLU at 0 is 0. */
HN_BODY vf hnp_slope(vf z, hn_activation activation)
{
    switch (activation) {
    case HN_ACT_GELU: return vf_gelu_slope(z);
    case HN_ACT_GELU_TANH: return vf_gelu_tanh_slope(z);
    case HN_ACT_TANH: return 1.0f - z * z;
    case HN_ACT_RELU: return vf_select(z > 0.0f, vf_all(1.0f), vf_all(0.0f));
    case HN_ACT_SILU: return vf_silu_slope(z);
    case HN_ACT_NONE: break;
    }
    return vf_all(1.0f);
}

#endif
