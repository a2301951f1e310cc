/* What the GPU's entries of the operation table take of ctx->workspace; their contracts stand in kernels/<operation>.h. Each is
 * bounded by table_cuda.c, which the plan asks. */
#ifndef HONE_KERNELS_CUDA_SIZES_H
#define HONE_KERNELS_CUDA_SIZES_H

#include <stddef.h>
#include <stdint.h>

/* layernorm_backward and rmsnorm_backward, for any number of rows; `columns` of a group */
size_t hnp_cuda_norm_workspace(int64_t columns);
/* embedding_backward */
size_t hnp_cuda_embedding_workspace(int64_t rows, int64_t columns);
/* attention_backward */
size_t hnp_cuda_attention_workspace(int64_t query_rows, int heads);
/* sum_squares, for any number of elements */
size_t hnp_cuda_sum_squares_workspace(void);
/* cross_entropy */
size_t hnp_cuda_loss_workspace(int64_t rows);
/* linear_cross_entropy, for up to `rows` rows */
size_t hnp_cuda_linear_cross_entropy_workspace(int64_t rows, int64_t width, int64_t vocabulary);
/* linear_forward and its backward, low_rank_project and low_rank_backward_weight, for any sizes */
size_t hnp_cuda_linear_workspace(void);

#endif
