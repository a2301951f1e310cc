/* Layer normalisation fused with dropout and residual add (Ba, Kiros, Hinton 2016; backward as in Apex: two row means).
 *
 *     h = residual + dropout(x)        y = (h - mean) * rstd * gamma + beta        rstd = 1 / sqrt(variance + epsilon)
 *
 * All matrices [T, C], fp32 or bf16, of one type; gamma and beta [C] of either type; mean and rstd fp32 [T]. The variance is
 * the mean of (h - mean)^2. Statistics are those of h as stored. residual NULL: h = dropout(x). h NULL: not kept. h and y may
 * alias x or residual. */
#ifndef HONE_KERNELS_LAYERNORM_H
#define HONE_KERNELS_LAYERNORM_H

#include "kernels/isa.h"
#include "kernels/ops.h"

void HN_ISA_NAME(hnp_layernorm_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *mean,
                                        float *rstd, const hn_tensor *x, const hn_tensor *residual,
                                        const hn_tensor *gamma, const hn_tensor *beta, float epsilon,
                                        const hn_dropout *dropout);

/* With n = (h - mean) rstd and g = dy gamma:
 *
 *     dh = rstd (g - mean(g) - n mean(g n)) [+ dh_in]      d_residual = dh      dx = dropout(dh)
 *     dgamma += sum over rows of dy n                      dbeta += sum over rows of dy
 *
 * dx or d_residual may be NULL; either may alias dy or dh_in. dgamma and dbeta fp32 [C] may be NULL. */
void HN_ISA_NAME(hnp_layernorm_backward)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual,
                                         float *dgamma, float *dbeta, const hn_tensor *dy, const hn_tensor *dh_in,
                                         const hn_tensor *h, const float *mean, const float *rstd,
                                         const hn_tensor *gamma, const hn_dropout *dropout);

#endif
