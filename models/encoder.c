/* Forward of an encoder with the norm behind each sum (BERT, Devlin et al. 2018; RoBERTa, Liu et al. 2019;
 * DistilBERT, Sanh et al. 2019):
 *
 *     x = dropout(norm(token + position + type))
 *     a layer:  m = norm(x + dropout(attention(x)))      y = norm(m + dropout(W2 act(W1 m)))
 *
 * The head reads one row a sequence, the first token's. So the last layer computes K and V for all rows, and
 * everything else only for those n rows: with 40 tokens a pair that is most of a layer saved, forward and
 * backward. The values are the same as if all rows were computed, dropout included (pass.c). A head that predicts
 * hidden tokens reads them all, and then the last layer is as the others.
 *
 * Layers that keep nothing for backward write their sums where the norm's output goes (activations.c). */
#include "core/philox.h"
#include "models/internal.h"

static hn_tensor embed(const hnp_pass *pass, const hn_tensor *out)
{
    hn_model *model = pass->model;
    hnp_encoder_activations *act = &model->enc;
    const hnp_embeddings *e = &model->embeddings;
    const hn_batch *batch = pass->batch;
    bool keeps = hnp_pass_keeps(pass, 0);
    /* A model with one segment was trained with all its tokens in it, whatever the batch says. */
    const int32_t *types = model->config.types > 1 ? batch->type : model->act.zeros;
    hn_tensor y = hn_tensor_rows(out, 0, batch->tokens);
    hn_tensor sum = keeps ? hn_tensor_rows(&act->embedding_sum, 0, batch->tokens) : y;
    pass->ops->embedding_forward(pass->ctx, &sum, &e->token.value, &e->position.value,
                                 model->config.types ? &e->type.value : NULL, batch->token, batch->position,
                                 types, model->config.position_offset);
    hn_norm_forward(pass->ops, pass->ctx, &y, keeps ? &sum : NULL, act->embedding_mean, act->embedding_rstd,
                    &sum, NULL, &e->norm, model->config.norm_epsilon, NULL);
    hn_dropout dropout = hnp_pass_dropout(pass, 0, model->config.embedding_dropout,
                                          HN_SITE(0, HN_SITE_EMBEDDING, 0), &pass->tokens);
    if (dropout.probability > 0) pass->ops->dropout(pass->ctx, &y, &y, &dropout);
    return y;
}

/* Attention of all rows: x [T, C] to o [T, C]. */
static void attend(const hnp_pass *pass, int l, const hn_tensor *o, const hn_tensor *x)
{
    hnp_layer_state *state = &pass->model->enc.layers[l];
    int64_t width = pass->model->config.hidden;
    hn_tensor qkv = hn_tensor_rows(&state->qkv, 0, pass->batch->tokens);
    hn_linear_forward(pass->ops, pass->ctx, &qkv, NULL, x, &pass->model->layers[l].qkv, HN_ACT_NONE,
                      hnp_pass_random(pass, l + 1, &pass->tokens));
    hn_tensor q = hn_tensor_columns(&qkv, 0, width);
    hn_tensor k = hn_tensor_columns(&qkv, width, width);
    hn_tensor v = hn_tensor_columns(&qkv, 2 * width, width);
    hn_attention attention = hnp_pass_attention(pass, l);
    pass->ops->attention_forward(pass->ctx, o, hnp_pass_keeps(pass, l + 1) ? state->lse : NULL, &q, &k, &v,
                                 &attention);
}

/* Attention of the first tokens to all: x [T, C] to o [n, C]; the rows of x that they are go to last_x. */
static void attend_from_first(const hnp_pass *pass, int l, const hn_tensor *o, const hn_tensor *x)
{
    hnp_encoder_activations *act = &pass->model->enc;
    hnp_layer_state *state = &act->layers[l];
    int64_t width = pass->model->config.hidden;
    hn_linear to_q = hn_linear_rows(&pass->model->layers[l].qkv, 0, width);
    hn_linear to_kv = hn_linear_rows(&pass->model->layers[l].qkv, width, 2 * width);
    hn_tensor rows = hn_tensor_rows(&act->last_x, 0, pass->batch->n);
    hn_tensor q = hn_tensor_rows(&act->last_q, 0, pass->batch->n);
    hn_tensor kv = hn_tensor_rows(&state->qkv, 0, pass->batch->tokens);
    pass->ops->gather_rows(pass->ctx, &rows, x, pass->batch->cu_seqlens);
    hn_linear_forward(pass->ops, pass->ctx, &q, NULL, &rows, &to_q, HN_ACT_NONE,
                      hnp_pass_random(pass, l + 1, &pass->examples));
    hn_linear_forward(pass->ops, pass->ctx, &kv, NULL, x, &to_kv, HN_ACT_NONE,
                      hnp_pass_random(pass, l + 1, &pass->tokens));
    hn_tensor k = hn_tensor_columns(&kv, 0, width);
    hn_tensor v = hn_tensor_columns(&kv, width, width);
    hn_attention attention = hnp_pass_attention(pass, l);
    pass->ops->attention_forward(pass->ctx, o, hnp_pass_keeps(pass, l + 1) ? state->lse : NULL, &q, &k, &v,
                                 &attention);
}

/* One layer: x [T, C] to out [R, C]. */
static hn_tensor run_layer(const hnp_pass *pass, int l, const hn_tensor *x, const hn_tensor *out)
{
    const hn_model_config *c = &pass->model->config;
    const hnp_layer *layer = &pass->model->layers[l];
    hnp_layer_state *state = &pass->model->enc.layers[l];
    const hn_ops *ops = pass->ops;
    hn_ops_context *ctx = pass->ctx;
    bool few = hnp_encoder_few(pass->model, l), keeps = hnp_pass_keeps(pass, l + 1);
    int64_t rows = few ? pass->batch->n : pass->batch->tokens;
    const hn_random *random = few ? &pass->examples : &pass->tokens, *keys = hnp_pass_random(pass, l + 1, random);
    hn_tensor o = hn_tensor_rows(&state->attention, 0, rows),
              middle = hn_tensor_rows(&state->middle, 0, rows);
    hn_tensor a = hn_tensor_rows(&state->a, 0, rows), y = hn_tensor_rows(out, 0, rows);
    hn_tensor sum1 = keeps ? hn_tensor_rows(&state->attention_sum, 0, rows) : middle;
    hn_tensor sum2 = keeps ? hn_tensor_rows(&state->mlp_sum, 0, rows) : y;
    hn_tensor z = keeps ? hn_tensor_rows(&state->z, 0, rows) : a;
    hn_dropout dropout1 =
        hnp_pass_dropout(pass, l + 1, c->attention_out_dropout, HN_SITE(l, HN_SITE_ATTENTION_OUT, 0), random);
    hn_dropout dropout2 =
        hnp_pass_dropout(pass, l + 1, c->hidden_dropout, HN_SITE(l, HN_SITE_MLP_OUT, 0), random);

    state->input = *x;
    (few ? attend_from_first : attend)(pass, l, &o, x);
    hn_tensor residual = few ? hn_tensor_rows(&pass->model->enc.last_x, 0, rows) : *x;
    hn_linear_forward(ops, ctx, &sum1, NULL, &o, &layer->attention_out, HN_ACT_NONE, keys);
    hn_norm_forward(ops, ctx, &middle, keeps ? &sum1 : NULL, state->attention_mean, state->attention_rstd,
                    &sum1, &residual, &layer->attention_norm, c->norm_epsilon, &dropout1);
    hn_linear_forward(ops, ctx, &a, keeps ? &z : NULL, &middle, &layer->up, c->activation, keys);
    hn_linear_forward(ops, ctx, &sum2, NULL, &a, &layer->down, HN_ACT_NONE, keys);
    hn_norm_forward(ops, ctx, &y, keeps ? &sum2 : NULL, state->mlp_mean, state->mlp_rstd, &sum2, &middle,
                    &layer->mlp_norm, c->norm_epsilon, &dropout2);
    return y;
}

hn_tensor hnp_encoder_forward(const hnp_pass *pass)
{
    const hn_forward *forward = pass->forward;
    hnp_encoder_activations *act = &pass->model->enc;
    hn_tensor x;
    int group = 0;
    if (forward->trunk_output) {
        x = hnp_pass_trunk(pass, forward->trunk_output);
        group = pass->first;
    }
    for (; group <= pass->model->config.layers; group++) {
        hn_tensor out = group ? act->layers[group - 1].y : act->embedding;
        if (forward->trunk_keep && group == pass->first - 1) out = hnp_pass_trunk(pass, forward->trunk_keep);
        x = group ? run_layer(pass, group - 1, &x, &out) : embed(pass, &out);
    }
    return (hn_head_reads_tokens(pass->model->config.head) ? hnp_token_head_forward : hnp_head_forward)(pass, &x);
}
