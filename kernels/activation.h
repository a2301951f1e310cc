/* Activations of the linear layers: GELU by erf and by tanh (Hendrycks & Gimpel 2016), tanh, ReLU, SiLU. */
#ifndef HONE_KERNELS_ACTIVATION_H
#define HONE_KERNELS_ACTIVATION_H

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

/* dz = dy * act'(z) elementwise, [T, C] each of its own type; dz may alias dy. */
void HN_ISA_NAME(hnp_activation_backward)(hn_ops_context *ctx, const hn_tensor *dz, const hn_tensor *dy,
                                          const hn_tensor *z, hn_activation activation);

#endif
