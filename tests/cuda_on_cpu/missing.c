/* Operations that have no .cu yet: whoever calls one stops here. */
#include <stdlib.h>

#define MISSING(name) \
    __attribute__((weak)) void hnp_##name##_cuda(void) \
    { abort(); }
MISSING(embedding_forward)
MISSING(embedding_backward)
MISSING(linear_forward)
MISSING(linear_backward_input)
MISSING(linear_backward_weight)
MISSING(low_rank_project)
MISSING(low_rank_backward_weight)
MISSING(activation_backward)
MISSING(rmsnorm_forward)
MISSING(rmsnorm_backward)
MISSING(rope)
MISSING(gated_forward)
MISSING(gated_backward)
MISSING(dropout)
MISSING(gather_rows)
MISSING(scatter_add_rows)
MISSING(scatter_rows)
MISSING(sum_rows)
MISSING(expand_rows)
MISSING(cross_entropy)
MISSING(linear_cross_entropy)
MISSING(mean_squared_error)
MISSING(sum_squares)
MISSING(adamw)
MISSING(cast)
MISSING(zero)
MISSING(scale)
