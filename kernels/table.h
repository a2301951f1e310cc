/* The operation tables of the instruction sets and of the GPU, for the choosers and for tests; and what stands behind a table's
 * door beside the operations, for each of them. */
#ifndef HONE_KERNELS_TABLE_H
#define HONE_KERNELS_TABLE_H

#include "kernels/isa.h"
#include "kernels/ops.h"
#include "kernels/profile.h"

extern const hn_ops hnp_ops_base, hnp_ops_avx2, hnp_ops_avx512, hnp_ops_cuda;

/* NULL when this machine lacks the instruction set ("base", "avx2", "avx512"). */
const hn_ops *hnp_ops_cpu_named(const char *isa);

#ifdef HN_ISA
/* Around every operation that runs; `begun` is what the first returned. */
double HN_ISA_NAME(hnp_operation_begin)(hn_ops_context *ctx, hn_operation operation);
void HN_ISA_NAME(hnp_operation_end)(hn_ops_context *ctx, hn_operation operation, double begun, double flop);
/* Multiply-adds of so many products over queries and keys; 0 where lengths are not known to the host. */
double HN_ISA_NAME(hnp_attention_flop)(const hn_attention *attention, int products);
/* As in hn_ops. */
size_t HN_ISA_NAME(hnp_table_workspace)(int64_t rows, int64_t widest, int64_t longest, int heads, hn_dtype dtype);
size_t HN_ISA_NAME(hnp_table_low_rank_workspace)(int64_t widest, int64_t width);
size_t HN_ISA_NAME(hnp_table_linear_cross_entropy_workspace)(int64_t rows, int64_t width, int64_t vocabulary);
size_t HN_ISA_NAME(hnp_table_choose_tokens_workspace)(int64_t vocabulary);
const char *HN_ISA_NAME(hnp_table_products)(const hn_ops_context *ctx);
const hn_tuning *HN_ISA_NAME(hnp_table_tuning)(void);
hn_status HN_ISA_NAME(hnp_table_open)(hn_ops_context *ctx, hn_error *error);
void HN_ISA_NAME(hnp_table_close)(hn_ops_context *ctx);
#endif

#endif
