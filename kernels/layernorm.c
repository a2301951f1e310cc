/* Layer normalisation; the passes over a row, and the sums over rows, are those of norm.h. */
#include "kernels/layernorm.h"

#include "kernels/norm.h"

void HN_ISA_NAME(hnp_layernorm_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *mean,
                                        float *rstd, const hn_tensor *x, const hn_tensor *residual,
                                        const hn_tensor *gamma, const hn_tensor *beta, float epsilon,
                                        const hn_dropout *dropout)
{
    (void)ctx;
    HN_ASSERT(beta->shape[0] == x->shape[1]);
    hnp_norm n = {.y = y, .h = h, .x = x, .residual = residual, .gamma = gamma, .beta = beta, .mean = mean, .rstd = rstd,
                  .groups = 1, .epsilon = epsilon, .dropout = dropout};
    hnp_norm_forward_run(&n, true);
}

void HN_ISA_NAME(hnp_layernorm_backward)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual,
                                         float *dgamma, float *dbeta, const hn_tensor *dy, const hn_tensor *dh_in,
                                         const hn_tensor *h, const float *mean, const float *rstd,
                                         const hn_tensor *gamma, const hn_dropout *dropout)
{
    hnp_norm_backward b = {.dx = dx, .d_residual = d_residual, .dy = dy, .dh_in = dh_in, .h = h, .gamma = gamma,
                           .mean = mean, .rstd = rstd, .groups = 1, .dropout = dropout};
    hnp_norm_backward_run(ctx, &b, dgamma, dbeta, true);
}
