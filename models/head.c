/* The head of a model on whole sequences, on the first token's row x of each:
 *
 *     d = act(W1 dropout(x) + b1)         logits = W2 dropout(d) + b2
 *
 * BERT's pooler (tanh) and classifier, RoBERTa's classification head (dropout on x, tanh) and DistilBERT's
 * pre_classifier (ReLU) are this with other settings. Logits and loss are fp32; their gradient goes back in
 * the model's precision. */
#include "core/philox.h"
#include "models/internal.h"

static hn_dropout dropout_at(const hnp_pass *pass, float probability, uint32_t which)
{
    return hnp_pass_dropout(pass, pass->model->config.layers + 1, probability,
                            HN_SITE(0, HN_SITE_HEAD, which), &pass->examples);
}

static hn_dropout input_dropout(const hnp_pass *pass)
{
    return dropout_at(pass, pass->model->config.head_input_dropout, 1);
}

static hn_dropout hidden_dropout(const hnp_pass *pass)
{
    return dropout_at(pass, pass->model->config.head_dropout, 0);
}

static const hn_random *keys_of(const hnp_pass *pass)
{
    return hnp_pass_random(pass, pass->model->config.layers + 1, &pass->examples);
}

/* dropout(x) in `out` when the site is active, x itself when not. */
static hn_tensor dropped(const hnp_pass *pass, const hn_tensor *out, const hn_tensor *x,
                         const hn_dropout *dropout)
{
    if (dropout->probability == 0) return *x;
    hn_tensor y = hn_tensor_rows(out, 0, x->shape[0]);
    pass->ops->dropout(pass->ctx, &y, x, dropout);
    return y;
}

hn_tensor hnp_head_forward(const hnp_pass *pass, const hn_tensor *rows)
{
    hn_model *model = pass->model;
    hnp_encoder_activations *act = &model->enc;
    hn_dropout before = input_dropout(pass), between = hidden_dropout(pass);
    hn_tensor dense = hn_tensor_rows(&act->dense, 0, pass->batch->n);
    hn_tensor logits = hn_tensor_rows(&model->act.logits, 0, pass->batch->n);
    act->head_rows = dropped(pass, &act->head_input, rows, &before);
    hn_linear_forward(pass->ops, pass->ctx, &dense, NULL, &act->head_rows, &model->head.dense,
                      model->config.head_activation, keys_of(pass));
    hn_tensor hidden = dropped(pass, &act->dropped, &dense, &between);
    hn_linear_forward(pass->ops, pass->ctx, &logits, NULL, &hidden, &model->head.out, HN_ACT_NONE, keys_of(pass));
    return logits;
}

void hnp_head_loss(hn_model *model, hn_ops_context *ctx, const hn_target_loss *out, const hn_batch *batch, float smoothing,
                   const float *scale, bool training)
{
    if (hn_head_reads_tokens(model->config.head)) {
        hnp_token_head_loss(model, ctx, out, batch, smoothing, scale, training);
        return;
    }
    hn_tensor logits = hn_tensor_rows(&model->act.logits, 0, batch->n), d_logits = {0};
    if (training) d_logits = hn_tensor_rows(&model->enc.d_logits, 0, batch->n);
    const hn_tensor *gradient = training ? &d_logits : NULL;
    if (model->config.head == HN_HEAD_REGRESS)
        model->ops->mean_squared_error(ctx, out->loss, out->count, gradient, &logits, batch->value, scale);
    else
        model->ops->cross_entropy(ctx, out->loss, out->count, gradient, &logits, batch->label, smoothing, scale);
}

void hnp_head_backward(const hnp_pass *pass, const hn_tensor *dx)
{
    hn_model *model = pass->model;
    hnp_encoder_activations *act = &model->enc;
    const hn_ops *ops = pass->ops;
    hn_dropout before = input_dropout(pass), between = hidden_dropout(pass);
    hn_tensor d_logits = hn_tensor_rows(&act->d_logits, 0, pass->batch->n);
    hn_tensor d = hn_tensor_rows(&act->d_head, 0, pass->batch->n);
    hn_tensor dense = hn_tensor_rows(&act->dense, 0, pass->batch->n);
    hn_tensor hidden = between.probability > 0 ? hn_tensor_rows(&act->dropped, 0, pass->batch->n) : dense;
    hn_linear_backward_weight(ops, pass->ctx, &model->head.out, &d_logits, &hidden, &pass->examples);
    hn_linear_backward_input(ops, pass->ctx, &d, &d_logits, &model->head.out, NULL, HN_ACT_NONE, false, &pass->examples);
    if (between.probability > 0) ops->dropout(pass->ctx, &d, &d, &between);
    /* The output serves as z for ReLU too: both are positive at the same places. */
    ops->activation_backward(pass->ctx, &d, &d, &dense, model->config.head_activation);
    hn_linear_backward_weight(ops, pass->ctx, &model->head.dense, &d, &act->head_rows, &pass->examples);
    if (!dx) return;
    hn_linear_backward_input(ops, pass->ctx, dx, &d, &model->head.dense, NULL, HN_ACT_NONE, false, &pass->examples);
    if (before.probability > 0) ops->dropout(pass->ctx, dx, dx, &before);
}
