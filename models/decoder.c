/* Forward of a decoder with the norm before each branch (GPT-2, Radford et al. 2019; Llama, Touvron et al. 2023; Qwen2; Qwen3):
 *
 *     h = dropout(token + position)
 *     a layer:  h = h + dropout(attention(norm(h)))      h = h + dropout(W2 act(W1 norm(h)))
 *     the head: norm(h) (lm_head.c goes on)
 *
 * Each sum is fused with the norm that reads it, which belongs to what comes next: a layer leaves its last branch pending and
 * the next layer, or the head, adds it. So the stream as a layer finds it (what a cache of the trunk holds) is written by that
 * layer's first norm. */
#include "core/philox.h"
#include "models/internal.h"

/* The residual stream: h, and whether `branch` is still to be added, behind a dropout. */
typedef struct stream {
    hn_tensor h;
    bool pending;
    hn_dropout dropout;
} stream;

/* Adds what is pending, with the sum at `at`, and gives its norm. */
static hn_tensor join(const hnp_pass *pass, stream *s, const hn_tensor *at, const hn_norm *norm, float *mean, float *rstd)
{
    hnp_decoder_activations *dec = &pass->model->dec;
    float epsilon = pass->model->config.norm_epsilon;
    hn_tensor y = hn_tensor_rows(&dec->norm, 0, pass->batch->tokens);
    hn_tensor sum = hn_tensor_rows(at, 0, pass->batch->tokens);
    hn_tensor branch = hn_tensor_rows(&dec->branch, 0, pass->batch->tokens);
    if (!s->pending) {
        hn_norm_forward(pass->ops, pass->ctx, &y, NULL, mean, rstd, &s->h, NULL, norm, epsilon, NULL);
        return y;
    }
    hn_norm_forward(pass->ops, pass->ctx, &y, &sum, mean, rstd, &branch, &s->h, norm, epsilon, &s->dropout);
    s->h = sum;
    s->pending = false;
    return y;
}

static hn_tensor embed(const hnp_pass *pass, const hn_tensor *at)
{
    const hnp_embeddings *e = &pass->model->embeddings;
    const hn_batch *batch = pass->batch;
    hn_tensor h = hn_tensor_rows(at, 0, batch->tokens);
    hn_dropout dropout = hnp_pass_dropout(pass, 0, pass->model->config.embedding_dropout,
                                          HN_SITE(0, HN_SITE_EMBEDDING, 0), &pass->tokens);
    pass->ops->embedding_forward(pass->ctx, &h, &e->token.value, e->position.value.data ? &e->position.value : NULL,
                                 NULL, batch->token, batch->position, NULL, 0);
    if (dropout.probability > 0) pass->ops->dropout(pass->ctx, &h, &h, &dropout);
    return h;
}

/* W1 x, and where it is not gated its activation. */
static void widen(const hnp_pass *pass, int l, const hn_tensor *x)
{
    const hn_model_config *c = &pass->model->config;
    const hnp_block_state *state = &pass->model->dec.layers[l];
    const hn_linear *up = &pass->model->layers[l].up;
    const hn_random *keys = hnp_pass_random(pass, l + 1, &pass->tokens);
    hn_tensor a = hn_tensor_rows(&state->a, 0, pass->batch->tokens), z = hn_tensor_rows(&state->z, 0, pass->batch->tokens);
    if (c->gated) hn_linear_forward(pass->ops, pass->ctx, &z, NULL, x, up, HN_ACT_NONE, keys);
    else hn_linear_forward(pass->ops, pass->ctx, &a, &z, x, up, c->activation, keys);
}

/* W2 act(W1 x) to the branch. */
static void run_mlp(const hnp_pass *pass, int l, stream *s, const hn_tensor *x)
{
    const hn_model_config *c = &pass->model->config;
    hnp_decoder_activations *dec = &pass->model->dec;
    int64_t rows = pass->batch->tokens;
    hn_tensor a = hn_tensor_rows(&dec->layers[l].a, 0, rows), branch = hn_tensor_rows(&dec->branch, 0, rows);
    hn_tensor z = hn_tensor_rows(&dec->layers[l].z, 0, rows);
    widen(pass, l, x);
    if (c->gated) {
        hn_tensor gate = hn_tensor_columns(&z, 0, c->intermediate);
        hn_tensor up = hn_tensor_columns(&z, c->intermediate, c->intermediate);
        pass->ops->gated_forward(pass->ctx, &a, &gate, &up, c->activation);
    }
    hn_linear_forward(pass->ops, pass->ctx, &branch, NULL, &a, &pass->model->layers[l].down, HN_ACT_NONE,
                      hnp_pass_random(pass, l + 1, &pass->tokens));
    s->pending = true;
    s->dropout = hnp_pass_dropout(pass, l + 1, c->hidden_dropout, HN_SITE(l, HN_SITE_MLP_OUT, 0), &pass->tokens);
}

/* Attention of x to the branch. */
static void run_attention(const hnp_pass *pass, int l, stream *s, const hn_tensor *x)
{
    hn_tensor o = hn_tensor_rows(&pass->model->dec.layers[l].attention, 0, pass->batch->tokens);
    hn_tensor branch = hn_tensor_rows(&pass->model->dec.branch, 0, pass->batch->tokens);
    hnp_attend(pass, l, &o, x);
    hn_linear_forward(pass->ops, pass->ctx, &branch, NULL, &o, &pass->model->layers[l].attention_out, HN_ACT_NONE,
                      hnp_pass_random(pass, l + 1, &pass->tokens));
    s->pending = true;
    s->dropout = hnp_pass_dropout(pass, l + 1, pass->model->config.attention_out_dropout, HN_SITE(l, HN_SITE_ATTENTION_OUT, 0),
                                  &pass->tokens);
}

static void run_layer(const hnp_pass *pass, int l, stream *s, const hn_tensor *at)
{
    const hnp_layer *layer = &pass->model->layers[l];
    hnp_block_state *state = &pass->model->dec.layers[l];
    hn_tensor x = join(pass, s, at, &layer->attention_norm, state->mean, state->rstd);
    state->input = s->h;
    run_attention(pass, l, s, &x);
    x = join(pass, s, &state->middle, &layer->mlp_norm, state->middle_mean, state->middle_rstd);
    run_mlp(pass, l, s, &x);
}

void hnp_decoder_again(const hnp_pass *pass, int l)
{
    const hnp_layer *layer = &pass->model->layers[l];
    hnp_block_state *state = &pass->model->dec.layers[l];
    stream s = {.h = state->input};
    hn_tensor x = join(pass, &s, &state->stream, &layer->attention_norm, state->mean, state->rstd);
    if (pass->model->act.recompute == HN_RECOMPUTE_FULL) {
        run_attention(pass, l, &s, &x);
    } else {
        hnp_attend_project(pass, l, &x);
        s.h = hn_tensor_rows(&state->middle, 0, pass->batch->tokens);
    }
    x = join(pass, &s, &state->middle, &layer->mlp_norm, state->middle_mean, state->middle_rstd);
    widen(pass, l, &x);
}

/* Where the stream below a group is written: the place of the layer that it enters, or the trunk's. */
static hn_tensor place_below(const hnp_pass *pass, int group)
{
    const hnp_decoder_activations *dec = &pass->model->dec;
    if (pass->forward->trunk_keep && group == pass->first) return hnp_pass_trunk(pass, pass->forward->trunk_keep);
    return group > pass->model->config.layers ? dec->last : dec->layers[group - 1].stream;
}

hn_tensor hnp_decoder_forward(const hnp_pass *pass)
{
    hn_model *model = pass->model;
    hnp_decoder_activations *dec = &model->dec;
    stream s = {0};
    int group = 1;
    hn_tensor at = place_below(pass, group);
    if (pass->forward->trunk_output) {
        s.h = hnp_pass_trunk(pass, pass->forward->trunk_output);
        group = pass->first;
    } else {
        hnp_pass_before(pass, 0);
        s.h = embed(pass, &at);
    }
    for (; group <= model->config.layers; group++) {
        at = place_below(pass, group);
        hnp_pass_before(pass, group);
        run_layer(pass, group - 1, &s, &at);
    }
    hnp_pass_before_head(pass);
    at = place_below(pass, group);
    hn_tensor norm = join(pass, &s, &at, &model->head.norm, dec->last_mean, dec->last_rstd);
    dec->last_input = s.h;
    return norm;
}
