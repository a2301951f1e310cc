/* Gated linear units (Shazeer 2020): what stands between the products of a gated MLP.
 *
 *     forward:    y = act(gate) * up
 *     backward:   dgate = dy * up * act'(gate)        dup = dy * act(gate)
 *
 * SwiGLU with HN_ACT_SILU, GeGLU with either GELU, ReGLU with HN_ACT_RELU; HN_ACT_TANH is not taken. All [T, I] of one type, fp32 or
 * bf16, each may be a view: gate and up are usually the halves of one [T, 2 I] that a single product made, dgate and dup
 * those of its gradient. y may alias gate or up; dgate and dup may alias any input, but not each other. */
#ifndef HONE_KERNELS_GATED_H
#define HONE_KERNELS_GATED_H

#include "kernels/isa.h"
#include "kernels/ops.h"

void HN_ISA_NAME(hnp_gated_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *gate, const hn_tensor *up,
                                    hn_activation activation);
void HN_ISA_NAME(hnp_gated_backward)(hn_ops_context *ctx, const hn_tensor *dgate, const hn_tensor *dup,
                                     const hn_tensor *dy, const hn_tensor *gate, const hn_tensor *up,
                                     hn_activation activation);

#endif
