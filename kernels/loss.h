/* Losses, summed in fp64 over the rows that have a target; the caller divides once by the targets of the whole step.
 *
 * cross_entropy: with q = (1 - s) on the label + s / K everywhere (Szegedy et al. 2016, section 7)
 *
 *     *loss += - sum over k of q_k log softmax(logits)_k        dlogits = (softmax - q) * *scale
 *
 * A label of HN_NO_TARGET has no target: its row of dlogits is 0. Any other label outside [0, K) is an error.
 *
 * mean_squared_error: *loss += (logit - value)^2, dlogits = 2 (logit - value) * *scale; a NaN value has no target.
 *
 * logits [n, K], fp32 or bf16, and dlogits the same shape in a type of its own, which may alias logits when the types agree;
 * dlogits NULL: not wanted. *count += rows with a target. NaN logits make the loss NaN. */
#ifndef HONE_KERNELS_LOSS_H
#define HONE_KERNELS_LOSS_H

#include "kernels/isa.h"
#include "kernels/ops.h"

void HN_ISA_NAME(hnp_cross_entropy)(hn_ops_context *ctx, double *loss, int64_t *count, const hn_tensor *dlogits,
                                    const hn_tensor *logits, const int32_t *label, float smoothing,
                                    const float *scale);
void HN_ISA_NAME(hnp_mean_squared_error)(hn_ops_context *ctx, double *loss, int64_t *count, const hn_tensor *dlogits,
                                         const hn_tensor *logits, const float *value, const float *scale);

#endif
