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
 * Layers that keep nothing for backward write their sums where the norm's output goes, and their output over their input
 * (activations.c).
 *
 * What backward wants again (hn_recompute) is made by the same calls, from sums that were kept: a layer's input is the norm of the
 * sum of the layer below. So a layer is made again without its last product, and its input costs no place of its own. */
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

/* Q, K and V of all rows of x [T, C]. */
static hn_tensor project(const hnp_pass *pass, int l, const hn_tensor *x)
{
    hn_tensor qkv = hn_tensor_rows(&pass->model->enc.layers[l].qkv, 0, pass->batch->tokens);
    hn_linear_forward(pass->ops, pass->ctx, &qkv, NULL, x, &pass->model->layers[l].qkv, HN_ACT_NONE,
                      hnp_pass_random(pass, l + 1, &pass->tokens));
    return qkv;
}

/* Attention of all rows: x [T, C] to o [T, C]. */
static void attend(const hnp_pass *pass, int l, const hn_tensor *o, const hn_tensor *x)
{
    hnp_layer_state *state = &pass->model->enc.layers[l];
    int64_t width = pass->model->config.hidden;
    hn_tensor qkv = project(pass, l, x);
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

/* The keys of a layer's rows. */
static const hn_random *keys_of(const hnp_pass *pass, int l)
{
    return hnp_encoder_few(pass->model, l) ? &pass->examples : &pass->tokens;
}

/* Attention and its norm: x [T, C] to m [R, C]. */
static hn_tensor run_attention(const hnp_pass *pass, int l, const hn_tensor *x)
{
    const hn_model_config *c = &pass->model->config;
    const hnp_layer *layer = &pass->model->layers[l];
    hnp_layer_state *state = &pass->model->enc.layers[l];
    bool few = hnp_encoder_few(pass->model, l), keeps = hnp_pass_keeps(pass, l + 1);
    int64_t rows = few ? pass->batch->n : pass->batch->tokens;
    hn_tensor o = hn_tensor_rows(&state->attention, 0, rows), middle = hn_tensor_rows(&state->middle, 0, rows);
    hn_tensor sum = keeps ? hn_tensor_rows(&state->attention_sum, 0, rows) : middle;
    hn_dropout dropout =
        hnp_pass_dropout(pass, l + 1, c->attention_out_dropout, HN_SITE(l, HN_SITE_ATTENTION_OUT, 0), keys_of(pass, l));
    (few ? attend_from_first : attend)(pass, l, &o, x);
    hn_tensor residual = few ? hn_tensor_rows(&pass->model->enc.last_x, 0, rows) : *x;
    hn_linear_forward(pass->ops, pass->ctx, &sum, NULL, &o, &layer->attention_out, HN_ACT_NONE,
                      hnp_pass_random(pass, l + 1, keys_of(pass, l)));
    hn_norm_forward(pass->ops, pass->ctx, &middle, keeps ? &sum : NULL, state->attention_mean, state->attention_rstd, &sum,
                    &residual, &layer->attention_norm, c->norm_epsilon, &dropout);
    return middle;
}

/* act(W1 m), [R, I]. */
static hn_tensor widen(const hnp_pass *pass, int l, const hn_tensor *middle)
{
    hnp_layer_state *state = &pass->model->enc.layers[l];
    hn_tensor a = hn_tensor_rows(&state->a, 0, middle->shape[0]), z = {0};
    bool keeps = hnp_pass_keeps(pass, l + 1);
    if (keeps) z = hn_tensor_rows(&state->z, 0, middle->shape[0]);
    hn_linear_forward(pass->ops, pass->ctx, &a, keeps ? &z : NULL, middle, &pass->model->layers[l].up,
                      pass->model->config.activation, hnp_pass_random(pass, l + 1, keys_of(pass, l)));
    return a;
}

/* One layer: x [T, C] to out [R, C]. */
static hn_tensor run_layer(const hnp_pass *pass, int l, const hn_tensor *x, const hn_tensor *out)
{
    const hn_model_config *c = &pass->model->config;
    const hnp_layer *layer = &pass->model->layers[l];
    hnp_layer_state *state = &pass->model->enc.layers[l];
    bool keeps = hnp_pass_keeps(pass, l + 1);
    state->input = *x;
    hn_tensor middle = run_attention(pass, l, x), a = widen(pass, l, &middle);
    hn_tensor y = hn_tensor_rows(out, 0, middle.shape[0]);
    hn_tensor sum = keeps ? hn_tensor_rows(&state->mlp_sum, 0, middle.shape[0]) : y;
    hn_dropout dropout =
        hnp_pass_dropout(pass, l + 1, c->hidden_dropout, HN_SITE(l, HN_SITE_MLP_OUT, 0), keys_of(pass, l));
    hn_linear_forward(pass->ops, pass->ctx, &sum, NULL, &a, &layer->down, HN_ACT_NONE,
                      hnp_pass_random(pass, l + 1, keys_of(pass, l)));
    hn_norm_forward(pass->ops, pass->ctx, &y, keeps ? &sum : NULL, state->mlp_mean, state->mlp_rstd, &sum, &middle,
                    &layer->mlp_norm, c->norm_epsilon, &dropout);
    return y;
}

/* A norm's output again, from the sum that it read, [T, C]. */
static hn_tensor norm_again(const hnp_pass *pass, const hn_tensor *at, const hn_tensor *sum, const hn_norm *norm, float *mean,
                            float *rstd)
{
    hn_tensor y = hn_tensor_rows(at, 0, pass->batch->tokens), h = hn_tensor_rows(sum, 0, pass->batch->tokens);
    hn_norm_forward(pass->ops, pass->ctx, &y, NULL, mean, rstd, &h, NULL, norm, pass->model->config.norm_epsilon, NULL);
    return y;
}

void hnp_encoder_again(const hnp_pass *pass, int l)
{
    hn_model *model = pass->model;
    hnp_encoder_activations *act = &model->enc;
    hnp_layer_state *state = &act->layers[l];
    if (l > 0 && hnp_pass_keeps(pass, l)) {
        hnp_layer_state *below = &act->layers[l - 1];
        state->input = norm_again(pass, &act->y, &below->mlp_sum, &model->layers[l - 1].mlp_norm, below->mlp_mean, below->mlp_rstd);
    }
    if (l == model->config.layers - 1) return; /* forward left the rest of this one, the last that it ran */
    hn_tensor middle;
    if (model->act.recompute == HN_RECOMPUTE_FULL) {
        middle = run_attention(pass, l, &state->input);
    } else {
        project(pass, l, &state->input);
        middle = norm_again(pass, &state->middle, &state->attention_sum, &model->layers[l].attention_norm, state->attention_mean,
                            state->attention_rstd);
    }
    widen(pass, l, &middle);
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
        bool own = group && (hnp_pass_keeps(pass, group) || hnp_encoder_few(pass->model, group - 1));
        hn_tensor out = own ? act->layers[group - 1].y : act->embedding;
        if (forward->trunk_keep && group == pass->first - 1) out = hnp_pass_trunk(pass, forward->trunk_keep);
        hnp_pass_before(pass, group);
        x = group ? run_layer(pass, group - 1, &x, &out) : embed(pass, &out);
    }
    hnp_pass_before_head(pass);
    return (hn_head_reads_tokens(pass->model->config.head) ? hnp_token_head_forward : hnp_head_forward)(pass, &x);
}
