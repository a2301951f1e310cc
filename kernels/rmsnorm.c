/* RMS normalisation: the passes of norm.h with a mean of 0 and without beta. */
#include "kernels/rmsnorm.h"

#include "kernels/norm.h"

void HN_ISA_NAME(hnp_rmsnorm_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *rstd,
                                      const hn_tensor *x, const hn_tensor *residual, const hn_tensor *gamma,
                                      int groups, float epsilon, const hn_dropout *dropout)
{
    (void)ctx;
    hnp_norm n = {.y = y, .h = h, .x = x, .residual = residual, .gamma = gamma, .rstd = rstd, .groups = groups,
                  .epsilon = epsilon, .dropout = dropout};
    hnp_norm_forward_run(&n, false);
}

void HN_ISA_NAME(hnp_rmsnorm_backward)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual,
                                       float *dgamma, const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h,
                                       const float *rstd, const hn_tensor *gamma, int groups,
                                       const hn_dropout *dropout)
{
    hnp_norm_backward b = {.dx = dx, .d_residual = d_residual, .dy = dy, .dh_in = dh_in, .h = h, .gamma = gamma,
                           .rstd = rstd, .groups = groups, .dropout = dropout};
    hnp_norm_backward_run(ctx, &b, dgamma, NULL, false);
}
