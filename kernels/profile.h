/* Time by operation. A caller that wants it puts a zeroed hn_profile into ctx->profile; the table then adds the time of every call to its
 * operation: on the CPU at once, on a GPU when the backend's synchronize is called. Without one nothing is timed. */
#ifndef HONE_KERNELS_PROFILE_H
#define HONE_KERNELS_PROFILE_H

#include <stddef.h>
#include <stdint.h>

typedef enum hn_operation {
    HN_OP_EMBEDDING_FORWARD,
    HN_OP_EMBEDDING_BACKWARD,
    HN_OP_LINEAR_FORWARD,
    HN_OP_LINEAR_BACKWARD_INPUT,
    HN_OP_LINEAR_BACKWARD_WEIGHT,
    HN_OP_LOW_RANK_PROJECT,
    HN_OP_LOW_RANK_BACKWARD_WEIGHT,
    HN_OP_ACTIVATION_BACKWARD,
    HN_OP_LAYERNORM_FORWARD,
    HN_OP_LAYERNORM_BACKWARD,
    HN_OP_RMSNORM_FORWARD,
    HN_OP_RMSNORM_BACKWARD,
    HN_OP_ROPE,
    HN_OP_GATED_FORWARD,
    HN_OP_GATED_BACKWARD,
    HN_OP_DROPOUT,
    HN_OP_ATTENTION_FORWARD,
    HN_OP_ATTENTION_BACKWARD,
    HN_OP_GATHER_ROWS,
    HN_OP_SCATTER_ADD_ROWS,
    HN_OP_SCATTER_ROWS,
    HN_OP_SUM_ROWS,
    HN_OP_EXPAND_ROWS,
    HN_OP_CROSS_ENTROPY,
    HN_OP_LINEAR_CROSS_ENTROPY,
    HN_OP_MEAN_SQUARED_ERROR,
    HN_OP_CHOOSE_TOKENS,
    HN_OP_SUM_SQUARES,
    HN_OP_ADAMW_DECIDE,
    HN_OP_ADAMW,
    HN_OP_CAST,
    HN_OP_ZERO,
    HN_OP_SCALE,
    HN_OP_ADD,
    HN_OP_ADD_SUMS,
    HN_OP_COPY,
    HN_OPERATIONS
} hn_operation;

typedef struct hn_profile {
    struct {
        double seconds;
        int64_t calls;
        double flop; /* of matrix products; 0 elsewhere */
    } operation[HN_OPERATIONS];
} hn_profile;

/* "linear_forward", ... as in hn_ops. */
const char *hn_operation_name(hn_operation operation);
/* Adds one call. */
void hn_profile_add(hn_profile *profile, hn_operation operation, double seconds, double flop);
/* Operations by falling time, those without a call left out; returns how many. */
int hn_profile_order(const hn_profile *profile, hn_operation order[HN_OPERATIONS]);
/* Seconds on a steady clock. */
double hn_profile_now(void);

#endif
