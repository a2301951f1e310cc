/* Softmax cross-entropy of a vocabulary product, whose logits [n, V] are never there at once.
 *
 *     z = x w^T + bias        *loss += sum over rows of - sum_k q_k log softmax(z)_k        dz = (softmax(z) - q) * *scale
 *     dx = dz w               dw += dz^T x               dbias += column sums of dz
 *
 * with q the label smoothed as in loss.h. x [n, C] holds the rows that may have a target (gathered), w [V, C]; each fp32 or bf16 on
 * its own and maybe a view; bias [V] of either type or NULL. dx [n, C] fp32 or bf16 is overwritten; dw fp32 [V, C] and dbias fp32
 * [V] are added to; each may be NULL, and with all three NULL scale may be too. dx may not alias x.
 *
 * A row labelled HN_NO_TARGET takes no part in any product: its dx and its entries of `out` are 0. Any other label outside
 * [0, V) is an error, and nothing is written. Bits depend neither on threads nor, but for dw and dbias, on the other rows.
 *
 * hn_target_loss (ops.h): loss and count are added to; correct, when not NULL, counts the rows whose largest logit is the label's
 * (of equal ones the first is the prediction); row_loss and row_correct [n], when not NULL, are overwritten. A NaN in a row makes
 * its loss NaN and is not correct. `rows`: what lies beyond that many labels may be left out. */
#ifndef HONE_KERNELS_LINEAR_CROSS_ENTROPY_H
#define HONE_KERNELS_LINEAR_CROSS_ENTROPY_H

#include "kernels/isa.h"
#include "kernels/ops.h"

void HN_ISA_NAME(hnp_linear_cross_entropy)(hn_ops_context *ctx, const hn_target_loss *out, const hn_tensor *dx,
                                           const hn_tensor *dw, const hn_tensor *dbias, const hn_tensor *x,
                                           const hn_tensor *w, const hn_tensor *bias, const int32_t *label,
                                           float smoothing, const float *scale);
/* Scratch for up to `rows` rows on `threads` threads. */
size_t HN_ISA_NAME(hnp_linear_cross_entropy_workspace)(int64_t rows, int64_t width, int64_t vocabulary, int threads);

#endif
