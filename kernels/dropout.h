/* Dropout (Srivastava et al. 2014) with a mask that is a function of (seed, step, example, site, element), so that backward
 * draws it again instead of reading it (core/philox.h has the layout). An element is dropped when its word is below
 * probability * 2^32; kept ones are scaled by 1 / (1 - probability). */
#ifndef HONE_KERNELS_DROPOUT_H
#define HONE_KERNELS_DROPOUT_H

#include "kernels/isa.h"
#include "kernels/ops.h"

/* y = dropout(x) row by row, elements numbered position * C + c. Its own backward. y may alias x. */
void HN_ISA_NAME(hnp_dropout)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x, const hn_dropout *dropout);

#endif
