/* See activation.h. */
#include "kernels/activation.h"

#include "core/error.h"
#include "kernels/activation_vec.h"

HN_BODY void rows(const hn_tensor *dz, const hn_tensor *dy, const hn_tensor *z, hn_activation activation)
{
    int64_t count = dy->shape[0], columns = dy->shape[1];
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < count; r++)
        for (int64_t c = 0; c < columns; c += HN_LANES) {
            int64_t left = columns - c;
            vf slope = hnp_slope(vf_get(hnp_row(z, r), z->dtype, c, left), activation);
            vf_put(hnp_row(dz, r), dz->dtype, c, left, vf_get(hnp_row(dy, r), dy->dtype, c, left) * slope);
        }
}

void HN_ISA_NAME(hnp_activation_backward)(hn_ops_context *ctx, const hn_tensor *dz, const hn_tensor *dy,
                                          const hn_tensor *z, hn_activation activation)
{
    (void)ctx;
    HN_ASSERT(dz->shape[0] == dy->shape[0] && dz->shape[1] == dy->shape[1]);
    HN_ASSERT(z->shape[0] == dy->shape[0] && z->shape[1] == dy->shape[1]);
    switch (activation) {
    case HN_ACT_GELU: rows(dz, dy, z, HN_ACT_GELU); break;
    case HN_ACT_GELU_TANH: rows(dz, dy, z, HN_ACT_GELU_TANH); break;
    case HN_ACT_TANH: rows(dz, dy, z, HN_ACT_TANH); break;
    case HN_ACT_RELU: rows(dz, dy, z, HN_ACT_RELU); break;
    case HN_ACT_SILU: rows(dz, dy, z, HN_ACT_SILU); break;
    case HN_ACT_NONE: rows(dz, dy, z, HN_ACT_NONE); break;
    }
}
