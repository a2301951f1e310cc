/* Linear layers: three matrix products and what is fused around them.
 *
 * forward:          z = x W^T + b;  y = act(z)      x [M, K], w [N, K], bias [N] or NULL, y and z [M, N]; z NULL: not kept;
 *                                                   y may not alias x
 * backward_input:   dx = (dy W) act'(z)             dx, z [M, K], dy [M, N]; z is of the layer below, whose activation made x
 *                                                   (its output for tanh; NULL with HN_ACT_NONE); with `add`, dx += dy W
 * backward_weight:  dw += dy^T x, dbias += column sums of dy     both fp32, either may be NULL
 *
 * Every tensor may be a strided view and be fp32 or bf16 on its own. Products accumulate in fp32. If any operand is bf16 the
 * product runs in bf16 where the hardware's bf16 dot product is the faster one (hnp_products_bf16) and in fp32 on widened panels
 * elsewhere; which one is a fixed rule on the hardware, never a timing. On a GPU it runs in bf16 then, and also when only the result is
 * bf16; a bias that joins a large bf16 result is rounded to bf16 first.
 *
 * `low` joins a low-rank branch to the result before bias, activation or slope (hn_low_rank in ops.h has the formulas); it may be
 * NULL.
 *
 * A row of y or dx depends on its own row of x or dy alone: not on M, nor on where it stands. With ctx->few_rows a forward of at
 * most 256 rows is computed another way, that of at most 16 rows yet another (linear_few.h), with other last bits: what is said of
 * rows holds among forwards that are computed alike. On a GPU it holds among calls that get one plan (cuda/product.h): other counts of
 * rows may give other last bits; the same call gives the same bits always. */
#ifndef HONE_KERNELS_LINEAR_H
#define HONE_KERNELS_LINEAR_H

#include "kernels/isa.h"
#include "kernels/ops.h"

void HN_ISA_NAME(hnp_linear_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *z, const hn_tensor *x,
                                     const hn_tensor *w, const hn_tensor *bias, hn_activation activation,
                                     const hn_low_rank *low);
void HN_ISA_NAME(hnp_linear_backward_input)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *dy,
                                            const hn_tensor *w, const hn_tensor *z, hn_activation activation,
                                            bool add, const hn_low_rank *low);
void HN_ISA_NAME(hnp_linear_backward_weight)(hn_ops_context *ctx, const hn_tensor *dw, const hn_tensor *dbias,
                                             const hn_tensor *dy, const hn_tensor *x);
/* Scratch for products up to [any, widest] x [widest, widest] on `threads` threads. */
size_t HN_ISA_NAME(hnp_linear_workspace)(int64_t widest, int threads);
#endif
