/* The sum of a token's, a position's and a segment's row (Devlin et al. 2018, section 3).
 *
 *     y[r] = token[ids[r]] + position[positions[r] + offset] + type[types[r]]        y [T, C]
 *
 * Tables [rows, C], fp32 or bf16 each; position and type may be NULL. An index outside its table is an error and nothing
 * is written. */
#ifndef HONE_KERNELS_EMBEDDING_H
#define HONE_KERNELS_EMBEDDING_H

#include "kernels/isa.h"
#include "kernels/ops.h"

void HN_ISA_NAME(hnp_embedding_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *token_table,
                                        const hn_tensor *position_table, const hn_tensor *type_table,
                                        const int32_t *ids, const int32_t *positions, const int32_t *types,
                                        int32_t position_offset);

/* d_token[ids[r]] += dy[r], and so on; gradients fp32, each may be NULL. Every column belongs to one thread, which takes the
 * rows in order: no atomics, and no dependence on the number of threads. */
void HN_ISA_NAME(hnp_embedding_backward)(hn_ops_context *ctx, const hn_tensor *d_token, const hn_tensor *d_position,
                                         const hn_tensor *d_type, const hn_tensor *dy, const int32_t *ids,
                                         const int32_t *positions, const int32_t *types, int32_t position_offset);

#endif
