/* See profile.h. */
#include "kernels/profile.h"

#include <time.h>

#include "core/error.h"

static const char *const names[HN_OPERATIONS] = {
    [HN_OP_EMBEDDING_FORWARD] = "embedding_forward",
    [HN_OP_EMBEDDING_BACKWARD] = "embedding_backward",
    [HN_OP_LINEAR_FORWARD] = "linear_forward",
    [HN_OP_LINEAR_BACKWARD_INPUT] = "linear_backward_input",
    [HN_OP_LINEAR_BACKWARD_WEIGHT] = "linear_backward_weight",
    [HN_OP_LOW_RANK_PROJECT] = "low_rank_project",
    [HN_OP_LOW_RANK_BACKWARD_WEIGHT] = "low_rank_backward_weight",
    [HN_OP_ACTIVATION_BACKWARD] = "activation_backward",
    [HN_OP_LAYERNORM_FORWARD] = "layernorm_forward",
    [HN_OP_LAYERNORM_BACKWARD] = "layernorm_backward",
    [HN_OP_RMSNORM_FORWARD] = "rmsnorm_forward",
    [HN_OP_RMSNORM_BACKWARD] = "rmsnorm_backward",
    [HN_OP_ROPE] = "rope",
    [HN_OP_GATED_FORWARD] = "gated_forward",
    [HN_OP_GATED_BACKWARD] = "gated_backward",
    [HN_OP_DROPOUT] = "dropout",
    [HN_OP_ATTENTION_FORWARD] = "attention_forward",
    [HN_OP_ATTENTION_BACKWARD] = "attention_backward",
    [HN_OP_GATHER_ROWS] = "gather_rows",
    [HN_OP_SCATTER_ADD_ROWS] = "scatter_add_rows",
    [HN_OP_SCATTER_ROWS] = "scatter_rows",
    [HN_OP_SUM_ROWS] = "sum_rows",
    [HN_OP_EXPAND_ROWS] = "expand_rows",
    [HN_OP_CROSS_ENTROPY] = "cross_entropy",
    [HN_OP_LINEAR_CROSS_ENTROPY] = "linear_cross_entropy",
    [HN_OP_MEAN_SQUARED_ERROR] = "mean_squared_error",
    [HN_OP_CHOOSE_TOKENS] = "choose_tokens",
    [HN_OP_SUM_SQUARES] = "sum_squares",
    [HN_OP_ADAMW_DECIDE] = "adamw_decide",
    [HN_OP_ADAMW] = "adamw",
    [HN_OP_CAST] = "cast",
    [HN_OP_ZERO] = "zero",
    [HN_OP_SCALE] = "scale",
    [HN_OP_ADD] = "add",
    [HN_OP_ADD_SUMS] = "add_sums",
    [HN_OP_COPY] = "copy",
};

const char *hn_operation_name(hn_operation operation)
{
    HN_ASSERT((unsigned)operation < HN_OPERATIONS);
    return names[operation];
}

void hn_profile_add(hn_profile *profile, hn_operation operation, double seconds, double flop)
{
    profile->operation[operation].seconds += seconds;
    profile->operation[operation].calls++;
    profile->operation[operation].flop += flop;
}

int hn_profile_order(const hn_profile *profile, hn_operation order[HN_OPERATIONS])
{
    int count = 0;
    for (int i = 0; i < HN_OPERATIONS; i++) {
        if (!profile->operation[i].calls) continue;
        int at = count++;
        for (; at > 0 && profile->operation[order[at - 1]].seconds < profile->operation[i].seconds; at--)
            order[at] = order[at - 1];
        order[at] = (hn_operation)i;
    }
    return count;
}

double hn_profile_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
