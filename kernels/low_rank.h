/* Low-rank branches of linear layers (LoRA, Hu et al. 2021): products that have a few columns or rows, R, on one side.
 *
 * project:          low = scale dropout(x) w^T, w [R, K], or without `transposed` scale dropout(x) w, w [K, R];  x [M, K], low [M, R]
 * backward_weight:  dw += dy^T dropout(x)          dw fp32 [N, K], dy [M, N], x [M, K]; either N or K is small
 *
 * Tensors may be strided and fp32 or bf16; products run in fp32, on a GPU as linear.h says. dropout may be NULL. A row of low depends on
 * its row of x alone (on a GPU as linear.h says). */
#ifndef HONE_KERNELS_LOW_RANK_H
#define HONE_KERNELS_LOW_RANK_H

#include "kernels/isa.h"
#include "kernels/ops.h"

void HN_ISA_NAME(hnp_low_rank_project)(hn_ops_context *ctx, const hn_tensor *low, const hn_tensor *x, const hn_tensor *w,
                                       bool transposed, float scale, const hn_dropout *dropout);
void HN_ISA_NAME(hnp_low_rank_backward_weight)(hn_ops_context *ctx, const hn_tensor *dw, const hn_tensor *dy,
                                               const hn_tensor *x, const hn_dropout *dropout);

/* Scratch of all of this for branches of up to `width` columns of layers up to [widest, widest], on top of
 * hnp_linear_workspace. */
size_t HN_ISA_NAME(hnp_low_rank_workspace)(int64_t widest, int64_t width, int threads);

#endif
