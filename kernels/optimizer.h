/* What the optimizer step asks for: the global norm, AdamW over everything that trains, and passes over plain memory. */
#ifndef HONE_KERNELS_OPTIMIZER_H
#define HONE_KERNELS_OPTIMIZER_H

#include "kernels/isa.h"
#include "kernels/ops.h"

/* *sum += sum of x^2, fp64, in blocks of fixed length added in order. NaN and Inf reach *sum. */
void HN_ISA_NAME(hnp_sum_squares)(hn_ops_context *ctx, double *sum, const float *x, int64_t count);

/* With norm = sqrt(*norm_squared), infinite beyond HN_ADAMW_LARGEST_NORM when nothing is clipped:
 *
 *     skip            when norm or *loss is not finite, or norm > most_norm > 0, or *loss > most_loss * *count and most_loss > 0
 *     applied[g]      += 1 for the groups that train, unless skipped
 *     correction[g]   = 1 - beta^applied[g]
 *     gradient_scale  = clip / (norm + 1e-6) when norm > clip > 0, else 1
 *
 * in fp64, rounded once. *outcome gets norm, *loss and *count as they are. Everything but *groups itself is in the backend's memory. */
void HN_ISA_NAME(hnp_adamw_decide)(hn_ops_context *ctx, hn_adamw_step *step, hn_adamw_outcome *outcome,
                                   const hn_adamw_groups *groups, const double *norm_squared, const double *loss,
                                   const int64_t *count, const hn_adamw_control *control);

/* AdamW (Loshchilov & Hutter 2019, algorithm 2), every segment in one parallel region. With g = gradient * gradient_scale and
 * lr = step->lr * segment->lr_scale * group_lr[group]:
 *
 *     m = m + (1 - beta1) (g - m)        v = v + (1 - beta2) (g^2 - v)
 *     master = master (1 - lr weight_decay) - lr / correction1 * m / (sqrt(v / correction2) + epsilon)
 *     copy = bf16(master)
 *
 * Moments are stored as fp32, or as bf16 rounded at random: up with the probability of what is cut off, so that the mean is exact
 * and small changes are not lost. An element's number is keyed by (seed, step, parameter, element of the parameter). The step itself uses the moments before
 * they are rounded.
 *
 * A step with `skip` changes nothing. group_lr NULL: 1 everywhere. `segments` lies in the backend's memory; segments with fewer
 * elements than a vector, of any alignment, and none at all are fine. */
void HN_ISA_NAME(hnp_adamw)(hn_ops_context *ctx, const hn_adamw_segment *segments, int64_t segment_count, int64_t chunks,
                            const hn_adamw_step *step);

/* y = x between fp32 and bf16; dense, the same number of elements; no aliasing but with one type. */
void HN_ISA_NAME(hnp_cast)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x);
void HN_ISA_NAME(hnp_zero)(hn_ops_context *ctx, void *memory, size_t size);
/* x *= *factor, fp32 */
void HN_ISA_NAME(hnp_scale)(hn_ops_context *ctx, float *x, int64_t count, const float *factor);
/* y += x, fp32; y and x do not overlap. An element's bits depend on its two numbers alone, wherever they lie. */
void HN_ISA_NAME(hnp_add)(hn_ops_context *ctx, float *y, const float *x, int64_t count);
/* *to += from[0], then from[1], ...: one sum after the other, whatever `count`; `to` is none of them. */
void HN_ISA_NAME(hnp_add_sums)(hn_ops_context *ctx, hn_sums *to, const hn_sums *from, int64_t count);
/* `size` bytes, any number of any alignment; `to` and `from` do not overlap. */
void HN_ISA_NAME(hnp_copy)(hn_ops_context *ctx, void *to, const void *from, size_t size);

#endif
