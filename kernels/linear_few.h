/* A linear layer's forward over few rows, as generation asks for it (ctx->few_rows, kernels/linear.h). */
#ifndef HONE_KERNELS_LINEAR_FEW_H
#define HONE_KERNELS_LINEAR_FEW_H

#include "kernels/epilogue.h"
#include "kernels/isa.h"

enum { HNP_FEW_ROWS = 256 }; /* at most */

/* y = epilogue(x w^T + the branch); low may be NULL. */
void HN_ISA_NAME(hnp_linear_few)(hn_ops_context *ctx, const hnp_epilogue *e, const hn_tensor *x, const hn_tensor *w,
                                 const hn_low_rank *low);
size_t HN_ISA_NAME(hnp_linear_few_workspace)(int64_t widest, int threads);
/* What a low-rank branch of `width` columns takes on top. */
size_t HN_ISA_NAME(hnp_linear_few_low_rank_workspace)(int64_t width, int threads);

#endif
