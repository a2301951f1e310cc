/* Rows that a head reads: y[r] = x[index[r]], and its backward x[index[r]] += y[r] for distinct indices; scatter_rows writes
 * instead. y [n, C], x [T, C]. gather_rows and scatter_rows want one type, whichever it is; scatter_add_rows takes each of its own. Indices are the model's and in range. */
#ifndef HONE_KERNELS_ROWS_H
#define HONE_KERNELS_ROWS_H

#include "kernels/isa.h"
#include "kernels/ops.h"

void HN_ISA_NAME(hnp_gather_rows)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x, const int32_t *index);
void HN_ISA_NAME(hnp_scatter_add_rows)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *y,
                                       const int32_t *index);
void HN_ISA_NAME(hnp_scatter_rows)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *y, const int32_t *index);
/* x[r] = sum of y[index[e]] over e in [cu[r], cu[r+1]): the backward of gather_rows when an index may come more than once. One type. */
void HN_ISA_NAME(hnp_sum_rows)(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *y, const int32_t *cu, const int32_t *index);
/* row[r] = value[s] for the rows [cu[s], cu[s+1]) of each sequence s < n. */
void HN_ISA_NAME(hnp_expand_rows)(hn_ops_context *ctx, uint32_t *row, const uint32_t *value, const int32_t *cu, int32_t n);

#endif
