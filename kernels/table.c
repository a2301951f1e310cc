/* The operation table of one instruction set, or of the GPU (HN_ISA is "cuda" then, and the functions behind the door are those of
 * the .cu files). Every entry goes through one door: nothing runs after a recorded failure, and the time is taken when somebody
 * asked for it. What the door needs and the CPU does differently stands in table_cpu.c and cuda/table_cuda.c. */
#include "kernels/table.h"

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/choose_tokens.h"
#include "kernels/dropout.h"
#include "kernels/embedding.h"
#include "kernels/gated.h"
#include "kernels/layernorm.h"
#include "kernels/linear.h"
#include "kernels/linear_cross_entropy.h"
#include "kernels/loss.h"
#include "kernels/low_rank.h"
#include "kernels/optimizer.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/rows.h"

/* RUN(HN_OP_X, flop, call): the call, unless an earlier operation failed. */
#define RUN(operation, flop, call)                                                                                     \
    do {                                                                                                               \
        if (ctx->error && ctx->error->status) return;                                                                  \
        double begun_ = HN_ISA_NAME(hnp_operation_begin)(ctx, operation);                                              \
        call;                                                                                                          \
        HN_ISA_NAME(hnp_operation_end)(ctx, operation, begun_, flop);                                                  \
    } while (0)

static double product_flop(const hn_tensor *a, int64_t other)
{
    return 2.0 * (double)a->shape[0] * (double)a->shape[1] * (double)other;
}

static void embedding_forward(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *token_table,
                              const hn_tensor *position_table, const hn_tensor *type_table, const int32_t *ids,
                              const int32_t *positions, const int32_t *types, int32_t position_offset)
{
    RUN(HN_OP_EMBEDDING_FORWARD, 0,
        HN_ISA_NAME(hnp_embedding_forward)(ctx, y, token_table, position_table, type_table, ids, positions, types,
                                           position_offset));
}

static void embedding_backward(hn_ops_context *ctx, const hn_tensor *d_token, const hn_tensor *d_position,
                               const hn_tensor *d_type, const hn_tensor *dy, const int32_t *ids,
                               const int32_t *positions, const int32_t *types, int32_t position_offset)
{
    RUN(HN_OP_EMBEDDING_BACKWARD, 0,
        HN_ISA_NAME(hnp_embedding_backward)(ctx, d_token, d_position, d_type, dy, ids, positions, types,
                                            position_offset));
}

static void linear_forward(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *z, const hn_tensor *x,
                           const hn_tensor *w, const hn_tensor *bias, hn_activation activation)
{
    RUN(HN_OP_LINEAR_FORWARD, product_flop(x, w->shape[0]),
        HN_ISA_NAME(hnp_linear_forward)(ctx, y, z, x, w, bias, activation, NULL));
}

static void linear_backward_input(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *dy, const hn_tensor *w,
                                  const hn_tensor *z, hn_activation activation, bool add)
{
    RUN(HN_OP_LINEAR_BACKWARD_INPUT, product_flop(dy, w->shape[1]),
        HN_ISA_NAME(hnp_linear_backward_input)(ctx, dx, dy, w, z, activation, add, NULL));
}

static void linear_backward_weight(hn_ops_context *ctx, const hn_tensor *dw, const hn_tensor *dbias,
                                   const hn_tensor *dy, const hn_tensor *x)
{
    RUN(HN_OP_LINEAR_BACKWARD_WEIGHT, dw && dw->data ? product_flop(dy, x->shape[1]) : 0,
        HN_ISA_NAME(hnp_linear_backward_weight)(ctx, dw, dbias, dy, x));
}

/* Multiply-adds of a branch joined to a product. */
static double branch_flop(const hn_low_rank *low)
{
    return product_flop(low->weight, low->low->shape[0]);
}

static void linear_forward_low_rank(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *z, const hn_tensor *x,
                                    const hn_tensor *w, const hn_tensor *bias, hn_activation activation,
                                    const hn_low_rank *low)
{
    RUN(HN_OP_LINEAR_FORWARD, product_flop(x, w->shape[0]) + branch_flop(low),
        HN_ISA_NAME(hnp_linear_forward)(ctx, y, z, x, w, bias, activation, low));
}

static void linear_backward_input_low_rank(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *dy, const hn_tensor *w,
                                           const hn_tensor *z, hn_activation activation, bool add, const hn_low_rank *low)
{
    RUN(HN_OP_LINEAR_BACKWARD_INPUT, product_flop(dy, w->shape[1]) + branch_flop(low),
        HN_ISA_NAME(hnp_linear_backward_input)(ctx, dx, dy, w, z, activation, add, low));
}

static void low_rank_project(hn_ops_context *ctx, const hn_tensor *low, const hn_tensor *x, const hn_tensor *w,
                             bool transposed, float factor, const hn_dropout *drop)
{
    RUN(HN_OP_LOW_RANK_PROJECT, product_flop(x, low->shape[1]),
        HN_ISA_NAME(hnp_low_rank_project)(ctx, low, x, w, transposed, factor, drop));
}

static void low_rank_backward_weight(hn_ops_context *ctx, const hn_tensor *dw, const hn_tensor *dy, const hn_tensor *x,
                                     const hn_dropout *drop)
{
    RUN(HN_OP_LOW_RANK_BACKWARD_WEIGHT, product_flop(dy, x->shape[1]),
        HN_ISA_NAME(hnp_low_rank_backward_weight)(ctx, dw, dy, x, drop));
}

static void activation_backward(hn_ops_context *ctx, const hn_tensor *dz, const hn_tensor *dy, const hn_tensor *z,
                                hn_activation activation)
{
    RUN(HN_OP_ACTIVATION_BACKWARD, 0, HN_ISA_NAME(hnp_activation_backward)(ctx, dz, dy, z, activation));
}

static void layernorm_forward(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *mean, float *rstd,
                              const hn_tensor *x, const hn_tensor *residual, const hn_tensor *gamma,
                              const hn_tensor *beta, float epsilon, const hn_dropout *drop)
{
    RUN(HN_OP_LAYERNORM_FORWARD, 0,
        HN_ISA_NAME(hnp_layernorm_forward)(ctx, y, h, mean, rstd, x, residual, gamma, beta, epsilon, drop));
}

static void layernorm_backward(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual, float *dgamma,
                               float *dbeta, const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h,
                               const float *mean, const float *rstd, const hn_tensor *gamma, const hn_dropout *drop)
{
    RUN(HN_OP_LAYERNORM_BACKWARD, 0,
        HN_ISA_NAME(hnp_layernorm_backward)(ctx, dx, d_residual, dgamma, dbeta, dy, dh_in, h, mean, rstd, gamma, drop));
}

static void rmsnorm_forward(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h, float *rstd,
                            const hn_tensor *x, const hn_tensor *residual, const hn_tensor *gamma, int groups,
                            float epsilon, const hn_dropout *drop)
{
    RUN(HN_OP_RMSNORM_FORWARD, 0,
        HN_ISA_NAME(hnp_rmsnorm_forward)(ctx, y, h, rstd, x, residual, gamma, groups, epsilon, drop));
}

static void rmsnorm_backward(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *d_residual, float *dgamma,
                             const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h, const float *rstd,
                             const hn_tensor *gamma, int groups, const hn_dropout *drop)
{
    RUN(HN_OP_RMSNORM_BACKWARD, 0,
        HN_ISA_NAME(hnp_rmsnorm_backward)(ctx, dx, d_residual, dgamma, dy, dh_in, h, rstd, gamma, groups, drop));
}

static void rope(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *table, const int32_t *position, bool backward)
{
    RUN(HN_OP_ROPE, 0, HN_ISA_NAME(hnp_rope)(ctx, x, table, position, backward));
}

static void gated_forward(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *gate, const hn_tensor *up,
                          hn_activation activation)
{
    RUN(HN_OP_GATED_FORWARD, 0, HN_ISA_NAME(hnp_gated_forward)(ctx, y, gate, up, activation));
}

static void gated_backward(hn_ops_context *ctx, const hn_tensor *dgate, const hn_tensor *dup, const hn_tensor *dy,
                           const hn_tensor *gate, const hn_tensor *up, hn_activation activation)
{
    RUN(HN_OP_GATED_BACKWARD, 0, HN_ISA_NAME(hnp_gated_backward)(ctx, dgate, dup, dy, gate, up, activation));
}

static void dropout(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x, const hn_dropout *drop)
{
    RUN(HN_OP_DROPOUT, 0, HN_ISA_NAME(hnp_dropout)(ctx, y, x, drop));
}

static void attention_forward(hn_ops_context *ctx, const hn_tensor *o, float *lse, const hn_tensor *q,
                              const hn_tensor *k, const hn_tensor *v, const hn_attention *attention)
{
    RUN(HN_OP_ATTENTION_FORWARD, HN_ISA_NAME(hnp_attention_flop)(attention, 2),
        HN_ISA_NAME(hnp_attention_forward)(ctx, o, lse, q, k, v, attention));
}

static void attention_backward(hn_ops_context *ctx, const hn_tensor *dq, const hn_tensor *dk, const hn_tensor *dv,
                               const hn_tensor *d_o, const hn_tensor *o, const float *lse, const hn_tensor *q,
                               const hn_tensor *k, const hn_tensor *v, const hn_attention *attention)
{
    RUN(HN_OP_ATTENTION_BACKWARD, HN_ISA_NAME(hnp_attention_flop)(attention, 5),
        HN_ISA_NAME(hnp_attention_backward)(ctx, dq, dk, dv, d_o, o, lse, q, k, v, attention));
}

static void gather_rows(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x, const int32_t *index)
{
    RUN(HN_OP_GATHER_ROWS, 0, HN_ISA_NAME(hnp_gather_rows)(ctx, y, x, index));
}

static void scatter_add_rows(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *y, const int32_t *index)
{
    RUN(HN_OP_SCATTER_ADD_ROWS, 0, HN_ISA_NAME(hnp_scatter_add_rows)(ctx, x, y, index));
}

static void scatter_rows(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *y, const int32_t *index)
{
    RUN(HN_OP_SCATTER_ROWS, 0, HN_ISA_NAME(hnp_scatter_rows)(ctx, x, y, index));
}

static void sum_rows(hn_ops_context *ctx, const hn_tensor *x, const hn_tensor *y, const int32_t *cu, const int32_t *index)
{
    RUN(HN_OP_SUM_ROWS, 0, HN_ISA_NAME(hnp_sum_rows)(ctx, x, y, cu, index));
}

static void expand_rows(hn_ops_context *ctx, uint32_t *row, const uint32_t *value, const int32_t *cu, int32_t n)
{
    RUN(HN_OP_EXPAND_ROWS, 0, HN_ISA_NAME(hnp_expand_rows)(ctx, row, value, cu, n));
}

static void cross_entropy(hn_ops_context *ctx, double *loss, int64_t *count, const hn_tensor *dlogits,
                          const hn_tensor *logits, const int32_t *label, float smoothing, const float *factor)
{
    RUN(HN_OP_CROSS_ENTROPY, 0,
        HN_ISA_NAME(hnp_cross_entropy)(ctx, loss, count, dlogits, logits, label, smoothing, factor));
}

/* Rows without a label are counted as if they had one. */
static void linear_cross_entropy(hn_ops_context *ctx, const hn_target_loss *out, const hn_tensor *dx, const hn_tensor *dw,
                                 const hn_tensor *dbias, const hn_tensor *x, const hn_tensor *w, const hn_tensor *bias,
                                 const int32_t *label, float smoothing, const float *factor)
{
    int products = 1 + (dx && dx->data) + (dw && dw->data);
    RUN(HN_OP_LINEAR_CROSS_ENTROPY, products * product_flop(x, w->shape[0]),
        HN_ISA_NAME(hnp_linear_cross_entropy)(ctx, out, dx, dw, dbias, x, w, bias, label, smoothing, factor));
}

static void mean_squared_error(hn_ops_context *ctx, double *loss, int64_t *count, const hn_tensor *dlogits,
                               const hn_tensor *logits, const float *value, const float *factor)
{
    RUN(HN_OP_MEAN_SQUARED_ERROR, 0,
        HN_ISA_NAME(hnp_mean_squared_error)(ctx, loss, count, dlogits, logits, value, factor));
}

static void choose_tokens(hn_ops_context *ctx, int32_t *id, const hn_tensor *logits, const hn_next_tokens *next,
                          const hn_sampling *sampling)
{
    RUN(HN_OP_CHOOSE_TOKENS, 0, HN_ISA_NAME(hnp_choose_tokens)(ctx, id, logits, next, sampling));
}

static void sum_squares(hn_ops_context *ctx, double *sum, const float *x, int64_t count)
{
    RUN(HN_OP_SUM_SQUARES, 0, HN_ISA_NAME(hnp_sum_squares)(ctx, sum, x, count));
}

static void adamw_decide(hn_ops_context *ctx, hn_adamw_step *step, hn_adamw_outcome *outcome, const hn_adamw_groups *groups,
                         const double *norm_squared, const double *loss, const int64_t *count, const hn_adamw_control *control)
{
    RUN(HN_OP_ADAMW_DECIDE, 0, HN_ISA_NAME(hnp_adamw_decide)(ctx, step, outcome, groups, norm_squared, loss, count, control));
}

static void adamw(hn_ops_context *ctx, const hn_adamw_segment *segments, int64_t segment_count, int64_t chunks,
                  const hn_adamw_step *step)
{
    RUN(HN_OP_ADAMW, 0, HN_ISA_NAME(hnp_adamw)(ctx, segments, segment_count, chunks, step));
}

static void cast(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x)
{
    RUN(HN_OP_CAST, 0, HN_ISA_NAME(hnp_cast)(ctx, y, x));
}

static void zero(hn_ops_context *ctx, void *memory, size_t size)
{
    RUN(HN_OP_ZERO, 0, HN_ISA_NAME(hnp_zero)(ctx, memory, size));
}

static void scale(hn_ops_context *ctx, float *x, int64_t count, const float *factor)
{
    RUN(HN_OP_SCALE, 0, HN_ISA_NAME(hnp_scale)(ctx, x, count, factor));
}

static void add(hn_ops_context *ctx, float *y, const float *x, int64_t count)
{
    RUN(HN_OP_ADD, 0, HN_ISA_NAME(hnp_add)(ctx, y, x, count));
}

static void add_sums(hn_ops_context *ctx, hn_sums *to, const hn_sums *from, int64_t count)
{
    RUN(HN_OP_ADD_SUMS, 0, HN_ISA_NAME(hnp_add_sums)(ctx, to, from, count));
}

static void copy(hn_ops_context *ctx, void *to, const void *from, size_t size)
{
    RUN(HN_OP_COPY, 0, HN_ISA_NAME(hnp_copy)(ctx, to, from, size));
}

#define HN_TEXT_(text) #text
#define HN_TEXT(text) HN_TEXT_(text)

const hn_ops HN_ISA_NAME(hnp_ops) = {
    .name = HN_TEXT(HN_ISA),
    .embedding_forward = embedding_forward,
    .embedding_backward = embedding_backward,
    .linear_forward = linear_forward,
    .linear_backward_input = linear_backward_input,
    .linear_backward_weight = linear_backward_weight,
    .linear_forward_low_rank = linear_forward_low_rank,
    .linear_backward_input_low_rank = linear_backward_input_low_rank,
    .low_rank_project = low_rank_project,
    .low_rank_backward_weight = low_rank_backward_weight,
    .activation_backward = activation_backward,
    .layernorm_forward = layernorm_forward,
    .layernorm_backward = layernorm_backward,
    .rmsnorm_forward = rmsnorm_forward,
    .rmsnorm_backward = rmsnorm_backward,
    .rope = rope,
    .gated_forward = gated_forward,
    .gated_backward = gated_backward,
    .dropout = dropout,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .gather_rows = gather_rows,
    .scatter_add_rows = scatter_add_rows,
    .scatter_rows = scatter_rows,
    .sum_rows = sum_rows,
    .expand_rows = expand_rows,
    .cross_entropy = cross_entropy,
    .linear_cross_entropy = linear_cross_entropy,
    .mean_squared_error = mean_squared_error,
    .choose_tokens = choose_tokens,
    .sum_squares = sum_squares,
    .adamw_decide = adamw_decide,
    .adamw = adamw,
    .cast = cast,
    .zero = zero,
    .scale = scale,
    .add = add,
    .add_sums = add_sums,
    .copy = copy,
    .workspace = HN_ISA_NAME(hnp_table_workspace),
    .low_rank_workspace = HN_ISA_NAME(hnp_table_low_rank_workspace),
    .linear_cross_entropy_workspace = HN_ISA_NAME(hnp_table_linear_cross_entropy_workspace),
    .choose_tokens_workspace = HN_ISA_NAME(hnp_table_choose_tokens_workspace),
    .products = HN_ISA_NAME(hnp_table_products),
    .tuning = HN_ISA_NAME(hnp_table_tuning),
    .open = HN_ISA_NAME(hnp_table_open),
    .close = HN_ISA_NAME(hnp_table_close),
};
