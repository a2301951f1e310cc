/* The heads of an encoder on every token, of the last layer's output x. Tags: logits = W dropout(x) + b. Hidden tokens (BERT's
 * masked language model, Devlin et al. 2018, section 3.1; RoBERTa's and DistilBERT's are the same with other settings):
 *
 *     h = norm(act(W1 x + b1))         logits = E h + b          E the table of tokens
 *
 * The last product is fused with the loss (lm_head.c), so that a token without a target costs nothing there. */
#include "core/philox.h"
#include "models/internal.h"

void hnp_token_head_place(const hnp_layout *l)
{
    hnp_encoder_activations *enc = &l->model->enc;
    const hn_model_config *c = &l->model->config;
    int64_t width = c->hidden;
    enc->masked = hnp_take(l, l->tokens, width);
    if (l->model->act.training) enc->d_masked = hnp_take(l, l->tokens, width);
    if (c->head == HN_HEAD_TAGS) {
        if (!l->model->act.training) l->model->act.logits = hn_arena_tensor(l->arena, HN_F32, l->tokens, c->labels);
        return;
    }
    enc->masked_z = hnp_take(l, l->tokens, width);
    enc->masked_a = hnp_take(l, l->tokens, width);
    enc->masked_mean = hnp_take_floats(l, l->tokens, 1);
    enc->masked_rstd = hnp_take_floats(l, l->tokens, 1);
}

/* Keys of the rows, for adapters. */
static const hn_random *keys_of(const hnp_pass *pass)
{
    return hnp_pass_random(pass, pass->model->config.layers + 1, &pass->tokens);
}

static hn_dropout tags_dropout(const hnp_pass *pass)
{
    return hnp_pass_dropout(pass, pass->model->config.layers + 1, pass->model->config.head_dropout, HN_SITE(0, HN_SITE_HEAD, 0),
                            &pass->tokens);
}

/* What the product reads; in evaluation the logits, which are as few as there are tags. */
static hn_tensor tags_forward(const hnp_pass *pass, const hn_tensor *x)
{
    hn_model *model = pass->model;
    hn_tensor h = hn_tensor_rows(&model->enc.masked, 0, pass->batch->tokens), logits;
    hn_dropout dropout = tags_dropout(pass);
    pass->ops->dropout(pass->ctx, &h, x, &dropout);
    if (pass->training) return h;
    logits = hn_tensor_rows(&model->act.logits, 0, pass->batch->tokens);
    hn_linear_forward(pass->ops, pass->ctx, &logits, NULL, &h, &model->head.out, HN_ACT_NONE, keys_of(pass));
    return logits;
}

hn_tensor hnp_token_head_forward(const hnp_pass *pass, const hn_tensor *x)
{
    hn_model *model = pass->model;
    if (model->config.head == HN_HEAD_TAGS) return tags_forward(pass, x);
    hnp_encoder_activations *enc = &model->enc;
    int64_t rows = pass->batch->tokens;
    hn_tensor z = hn_tensor_rows(&enc->masked_z, 0, rows), a = hn_tensor_rows(&enc->masked_a, 0, rows);
    hn_tensor h = hn_tensor_rows(&enc->masked, 0, rows);
    enc->head_rows = *x;
    hn_linear_forward(pass->ops, pass->ctx, &a, &z, x, &model->head.dense, model->config.head_activation,
                      keys_of(pass));
    hn_norm_forward(pass->ops, pass->ctx, &h, NULL, enc->masked_mean, enc->masked_rstd, &a, NULL, &model->head.norm,
                    model->config.norm_epsilon, NULL);
    return h;
}

void hnp_token_head_loss(hn_model *model, hn_ops_context *ctx, const hn_target_loss *out, const hn_batch *batch, float smoothing,
                     const float *scale, bool training)
{
    hn_tensor h = hn_tensor_rows(&model->enc.masked, 0, batch->tokens), dh = {0};
    if (training) dh = hn_tensor_rows(&model->enc.d_masked, 0, batch->tokens);
    hnp_vocabulary_loss(model, ctx, out, training ? &dh : NULL, &h, &model->head.out.bias, batch, smoothing, scale);
}

void hnp_token_head_backward(const hnp_pass *pass, const hn_tensor *dx)
{
    hn_model *model = pass->model;
    hnp_encoder_activations *enc = &model->enc;
    int64_t rows = pass->batch->tokens;
    hn_tensor d = hn_tensor_rows(&enc->d_masked, 0, rows);
    if (model->config.head == HN_HEAD_TAGS) {
        hn_dropout dropout = tags_dropout(pass);
        if (dx) pass->ops->dropout(pass->ctx, dx, &d, &dropout);
        return;
    }
    hn_tensor a = hn_tensor_rows(&enc->masked_a, 0, rows), z = hn_tensor_rows(&enc->masked_z, 0, rows);
    hn_norm_backward(pass->ops, pass->ctx, &d, NULL, &model->head.norm, &d, NULL, &a, enc->masked_mean, enc->masked_rstd, NULL);
    pass->ops->activation_backward(pass->ctx, &d, &d, &z, model->config.head_activation);
    hn_linear_backward_weight(pass->ops, pass->ctx, &model->head.dense, &d, &enc->head_rows, &pass->tokens);
    if (dx)
        hn_linear_backward_input(pass->ops, pass->ctx, dx, &d, &model->head.dense, NULL, HN_ACT_NONE, false, &pass->tokens);
}
