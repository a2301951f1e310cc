/* RMS normalisation fused with dropout and residual add (Zhang & Sennrich 2019, section 4).
 *
 *     h = residual + dropout(x)        y = h * rstd * gamma        rstd = 1 / sqrt(mean(h^2) + epsilon)
 *
 * All matrices [T, C], fp32 or bf16, of one type. A row is `groups` >= 1 rows of W = C / groups columns laid end to end, each
 * normalised by itself with the one gamma [W] of either type: groups = 1 is the norm of a layer, groups = heads that of
 * queries or keys (Qwen3), on a view of their columns. rstd fp32 [T, groups] is that of h as stored; NULL: not kept. residual
 * NULL: h = dropout(x). h NULL: not kept. h and y may alias x or residual, y not a kept h. With groups > 1 there is no dropout. */
#ifndef HONE_KERNELS_RMSNORM_H
#define HONE_KERNELS_RMSNORM_H

#include "kernels/isa.h"
#include "kernels/ops.h"

void HN_ISA_NAME(hnp_rmsnorm_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *rstd,
                                      const hn_tensor *x, const hn_tensor *residual, const hn_tensor *gamma,
                                      int groups, float epsilon, const hn_dropout *dropout);

/* With n = h rstd and g = dy gamma, means over a group:
 *
 *     dh = rstd (g - n mean(g n)) [+ dh_in]      d_residual = dh      dx = dropout(dh)
 *     dgamma += sum over rows and groups of dy n
 *
 * dx or d_residual may be NULL; either may alias dy or dh_in, and each other without dropout. dgamma fp32 [W] may be NULL. */
void HN_ISA_NAME(hnp_rmsnorm_backward)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual,
                                       float *dgamma, const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h,
                                       const float *rstd, const hn_tensor *gamma, int groups,
                                       const hn_dropout *dropout);

#endif
