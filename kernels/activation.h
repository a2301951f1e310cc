/* What an activation does to a gradient: dz = dy * act'(z) elementwise, dz, dy and z [T, C] each of its own type; dz may alias dy.
 * For HN_ACT_TANH z is the activation's output. */
#ifndef HONE_KERNELS_ACTIVATION_H
#define HONE_KERNELS_ACTIVATION_H

#include "kernels/isa.h"
#include "kernels/ops.h"

void HN_ISA_NAME(hnp_activation_backward)(hn_ops_context *ctx, const hn_tensor *dz, const hn_tensor *dy,
                                          const hn_tensor *z, hn_activation activation);

#endif
