/* See linear.h. Nothing but the operation table is called here; what this file adds is which gradients are
 * wanted, and the low-rank branch of a linear layer. */
#include "models/linear.h"

#include "core/error.h"

static hn_weight weight_rows(const hn_weight *weight, int64_t first, int64_t count)
{
    hn_weight part = *weight;
    part.value = hn_tensor_rows(&weight->value, first, count);
    part.gradient = hn_tensor_rows(&weight->gradient, first, count);
    return part;
}

/* The parts of the branch that are among these outputs: a part is in or out as a whole. */
static hn_lora lora_rows(const hn_lora *lora, int64_t first, int64_t count)
{
    hn_lora out = *lora;
    int64_t before = 0, rows = 0, rank = lora->b.value.shape[1];
    int begin = 0;
    out.parts = 0;
    for (int p = 0; p < lora->parts; p++) {
        if (lora->part[p].row < first) {
            begin = p + 1;
            before += lora->part[p].rows;
        } else if (lora->part[p].row < first + count) {
            out.part[out.parts].row = lora->part[p].row - first;
            out.part[out.parts++].rows = lora->part[p].rows;
            rows += lora->part[p].rows;
        }
    }
    out.a = weight_rows(&lora->a, begin * rank, out.parts * rank);
    out.b = weight_rows(&lora->b, before, rows);
    out.low = hn_tensor_columns(&lora->low, begin * rank, out.parts * rank);
    out.d_low = hn_tensor_columns(&lora->d_low, begin * rank, out.parts * rank);
    return out;
}

hn_linear hn_linear_rows(const hn_linear *linear, int64_t first, int64_t count)
{
    hn_linear part = {.weight = weight_rows(&linear->weight, first, count)};
    if (linear->bias.value.data) part.bias = weight_rows(&linear->bias, first, count);
    if (linear->lora.parts) part.lora = lora_rows(&linear->lora, first, count);
    return part;
}

static hn_dropout lora_dropout(const hn_lora *lora, const hn_random *random)
{
    return (hn_dropout){.probability = lora->dropout, .site = lora->site, .random = random};
}

static hn_low_rank low_rank(const hn_lora *lora, const hn_tensor *low, const hn_weight *weight)
{
    hn_low_rank out = {.low = low, .weight = &weight->value, .parts = lora->parts};
    for (int p = 0; p < lora->parts; p++) {
        out.part[p].row = lora->part[p].row;
        out.part[p].rows = lora->part[p].rows;
    }
    return out;
}

void hn_linear_forward(const hn_ops *ops, hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *z,
                       const hn_tensor *x, const hn_linear *linear, hn_activation activation, const hn_random *random)
{
    const hn_tensor *bias = linear->bias.value.data ? &linear->bias.value : NULL;
    const hn_lora *lora = &linear->lora;
    if (!lora->parts) {
        ops->linear_forward(ctx, y, z, x, &linear->weight.value, bias, activation);
        return;
    }
    hn_dropout dropout = lora_dropout(lora, random);
    hn_tensor low = hn_tensor_rows(&lora->low, 0, x->shape[0]);
    hn_low_rank branch = low_rank(lora, &low, &lora->b);
    ops->low_rank_project(ctx, &low, x, &lora->a.value, true, lora->scale, &dropout);
    ops->linear_forward_low_rank(ctx, y, z, x, &linear->weight.value, bias, activation, &branch);
}

bool hn_linear_wants_input(const hn_linear *linear)
{
    return linear->weight.trainable || (linear->lora.parts && linear->lora.a.trainable);
}

/* d_low, dB and dA. */
static void lora_backward_weight(const hn_ops *ops, hn_ops_context *ctx, const hn_lora *lora, const hn_tensor *dy,
                                 const hn_tensor *x, const hn_random *random)
{
    int64_t rows = dy->shape[0], rank = lora->b.value.shape[1], first = 0;
    hn_tensor low = hn_tensor_rows(&lora->low, 0, rows), d_low = hn_tensor_rows(&lora->d_low, 0, rows);
    hn_dropout dropout = lora_dropout(lora, random);
    if (lora->again && lora->b.trainable) ops->low_rank_project(ctx, &low, x, &lora->a.value, true, lora->scale, &dropout);
    for (int p = 0; p < lora->parts; p++) {
        hn_tensor d = hn_tensor_columns(dy, lora->part[p].row, lora->part[p].rows);
        hn_tensor to = hn_tensor_columns(&d_low, p * rank, rank), from = hn_tensor_columns(&low, p * rank, rank);
        hn_weight b = weight_rows(&lora->b, first, lora->part[p].rows);
        ops->low_rank_project(ctx, &to, &d, &b.value, false, lora->scale, NULL);
        if (b.trainable) ops->low_rank_backward_weight(ctx, &b.gradient, &d, &from, NULL);
        first += lora->part[p].rows;
    }
    if (lora->a.trainable) ops->low_rank_backward_weight(ctx, &lora->a.gradient, &d_low, x, &dropout);
}

void hn_linear_backward_weight(const hn_ops *ops, hn_ops_context *ctx, const hn_linear *linear,
                               const hn_tensor *dy, const hn_tensor *x, const hn_random *random)
{
    if (linear->lora.parts) lora_backward_weight(ops, ctx, &linear->lora, dy, x, random);
    if (!linear->weight.trainable) return;
    bool biased = linear->bias.value.data;
    HN_ASSERT(linear->weight.gradient.data && (!biased || linear->bias.gradient.data));
    ops->linear_backward_weight(ctx, &linear->weight.gradient, biased ? &linear->bias.gradient : NULL, dy, x);
}

void hn_linear_backward_input(const hn_ops *ops, hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *dy,
                              const hn_linear *linear, const hn_tensor *z, hn_activation activation, bool add,
                              const hn_random *random)
{
    const hn_lora *lora = &linear->lora;
    if (!lora->parts) {
        ops->linear_backward_input(ctx, dx, dy, &linear->weight.value, z, activation, add);
        return;
    }
    hn_dropout dropout = lora_dropout(lora, random);
    hn_tensor d_low = hn_tensor_rows(&lora->d_low, 0, dy->shape[0]);
    hn_low_rank branch = low_rank(lora, &d_low, &lora->a);
    branch.dropout = &dropout;
    ops->linear_backward_input_low_rank(ctx, dx, dy, &linear->weight.value, z, activation, add, &branch);
}

void hn_norm_forward(const hn_ops *ops, hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *h,
                     float *mean, float *rstd, const hn_tensor *x, const hn_tensor *residual,
                     const hn_norm *norm, float epsilon, const hn_dropout *dropout)
{
    if (norm->beta.value.data)
        ops->layernorm_forward(ctx, y, h, mean, rstd, x, residual, &norm->gamma.value, &norm->beta.value, epsilon,
                               dropout);
    else
        ops->rmsnorm_forward(ctx, y, h, rstd, x, residual, &norm->gamma.value, 1, epsilon, dropout);
}

void hn_norm_backward(const hn_ops *ops, hn_ops_context *ctx, const hn_tensor *dx,
                      const hn_tensor *d_residual, const hn_norm *norm, const hn_tensor *dy,
                      const hn_tensor *dh_in, const hn_tensor *h, const float *mean, const float *rstd, const hn_dropout *dropout)
{
    bool trainable = norm->gamma.trainable, centred = norm->beta.value.data;
    float *dgamma = trainable ? norm->gamma.gradient.data : NULL, *dbeta = trainable ? norm->beta.gradient.data : NULL;
    HN_ASSERT(!trainable || (dgamma && (!centred || dbeta)));
    if (centred)
        ops->layernorm_backward(ctx, dx, d_residual, dgamma, dbeta, dy, dh_in, h, mean, rstd, &norm->gamma.value,
                                dropout);
    else
        ops->rmsnorm_backward(ctx, dx, d_residual, dgamma, dy, dh_in, h, rstd, &norm->gamma.value, 1, dropout);
}
