/* Backward of decoder.c, from the head down to the lowest trainable group and no further. The gradient of the stream comes down
 * in d_stream; at each norm the gradient of a branch's input joins it:
 *
 *     last norm       d_norm -> d_stream
 *     a layer:        d_branch = dropout(d_stream), the same tensor where nothing is dropped
 *       down          d_branch -> da, in the place of a, which only dW needed
 *       activation    da -> dz, in the place of z (gated) or of a
 *       up            dz -> d_norm
 *       mlp norm      d_stream += backward of the norm
 *       attention out d_branch -> d_attention
 *       attention     d_attention -> d_qkv
 *       qkv           d_qkv -> d_norm
 *       its norm      d_stream += backward of the norm
 *
 * What the products read (the norms' outputs, a gated a) is made again on the way, by the same operations, so it has the same bits;
 * what else a layer did not keep (hn_recompute), before its own backward begins (decoder.c). */
#include "core/philox.h"
#include "models/internal.h"

static hn_tensor rows_of(const hnp_pass *pass, const hn_tensor *tensor)
{
    return hn_tensor_rows(tensor, 0, pass->batch->tokens);
}

/* The output of a norm again, from what it read. */
static hn_tensor norm_again(const hnp_pass *pass, const hn_norm *norm, const hn_tensor *h, float *mean, float *rstd)
{
    hn_tensor y = rows_of(pass, &pass->model->dec.norm);
    hn_norm_forward(pass->ops, pass->ctx, &y, NULL, mean, rstd, h, NULL, norm, pass->model->config.norm_epsilon, NULL);
    return y;
}

/* d_stream += backward of a norm of d_norm, and d_branch from it, behind the dropout of the branch below. `first`: nothing has
 * come down yet. `below`: somebody wants the gradient. */
static void join_backward(const hnp_pass *pass, const hn_norm *norm, const hn_tensor *dy, const hn_tensor *h,
                          const float *mean, const float *rstd, const hn_dropout *dropout, bool first, bool below)
{
    hn_tensor d_stream = {0}, d_branch = {0};
    if (below) {
        d_stream = rows_of(pass, &pass->model->dec.d_stream);
        d_branch = rows_of(pass, &pass->model->dec.d_branch);
    }
    bool drops = below && d_branch.data != d_stream.data;
    hn_norm_backward(pass->ops, pass->ctx, drops ? &d_branch : NULL, below ? &d_stream : NULL, norm, dy,
                     first || !below ? NULL : &d_stream, h, mean, rstd, dropout);
}

static hn_dropout branch_dropout(const hnp_pass *pass, int l, bool mlp)
{
    const hn_model_config *c = &pass->model->config;
    return hnp_pass_dropout(pass, l + 1, mlp ? c->hidden_dropout : c->attention_out_dropout,
                            HN_SITE(l, mlp ? HN_SITE_MLP_OUT : HN_SITE_ATTENTION_OUT, 0), &pass->tokens);
}

/* The gradient of W2's output, d_branch, to that of W1's output, and W2's own. */
static hn_tensor gated_backward(const hnp_pass *pass, int l, const hn_tensor *d_branch)
{
    const hn_model_config *c = &pass->model->config;
    const hn_linear *down = &pass->model->layers[l].down;
    const hn_ops *ops = pass->ops;
    hn_tensor a = rows_of(pass, &pass->model->dec.layers[l].a), z = rows_of(pass, &pass->model->dec.layers[l].z);
    hn_tensor gate = hn_tensor_columns(&z, 0, c->intermediate);
    hn_tensor up = hn_tensor_columns(&z, c->intermediate, c->intermediate);
    if (hn_linear_wants_input(down)) {
        ops->gated_forward(pass->ctx, &a, &gate, &up, c->activation);
        hn_linear_backward_weight(ops, pass->ctx, down, d_branch, &a, &pass->tokens);
    }
    hn_linear_backward_input(ops, pass->ctx, &a, d_branch, down, NULL, HN_ACT_NONE, false, &pass->tokens);
    ops->gated_backward(pass->ctx, &gate, &up, &a, &gate, &up, c->activation);
    return z;
}

static hn_tensor plain_backward(const hnp_pass *pass, int l, const hn_tensor *d_branch)
{
    const hn_linear *down = &pass->model->layers[l].down;
    hn_tensor a = rows_of(pass, &pass->model->dec.layers[l].a), z = rows_of(pass, &pass->model->dec.layers[l].z);
    hn_linear_backward_weight(pass->ops, pass->ctx, down, d_branch, &a, &pass->tokens);
    hn_linear_backward_input(pass->ops, pass->ctx, &a, d_branch, down, &z, pass->model->config.activation, false,
                             &pass->tokens);
    return a;
}

static void feed_forward_backward(const hnp_pass *pass, int l)
{
    hnp_decoder_activations *dec = &pass->model->dec;
    const hnp_layer *layer = &pass->model->layers[l];
    hnp_block_state *state = &dec->layers[l];
    hn_tensor d_branch = rows_of(pass, &dec->d_branch), d_norm = rows_of(pass, &dec->d_norm);
    hn_tensor middle = rows_of(pass, &state->middle);
    hn_tensor dz = (pass->model->config.gated ? gated_backward : plain_backward)(pass, l, &d_branch);
    if (hn_linear_wants_input(&layer->up)) {
        hn_tensor x = norm_again(pass, &layer->mlp_norm, &middle, state->middle_mean, state->middle_rstd);
        hn_linear_backward_weight(pass->ops, pass->ctx, &layer->up, &dz, &x, &pass->tokens);
    }
    hn_linear_backward_input(pass->ops, pass->ctx, &d_norm, &dz, &layer->up, NULL, HN_ACT_NONE, false, &pass->tokens);
    hn_dropout dropout = branch_dropout(pass, l, false);
    join_backward(pass, &layer->mlp_norm, &d_norm, &middle, state->middle_mean, state->middle_rstd, &dropout, false, true);
}

static void attention_backward(const hnp_pass *pass, int l, bool below)
{
    hnp_decoder_activations *dec = &pass->model->dec;
    const hnp_layer *layer = &pass->model->layers[l];
    hnp_block_state *state = &dec->layers[l];
    const hn_ops *ops = pass->ops;
    hn_tensor d_branch = rows_of(pass, &dec->d_branch), d_norm = rows_of(pass, &dec->d_norm);
    hn_tensor o = rows_of(pass, &state->attention), d_o = rows_of(pass, &dec->d_attention);
    hn_tensor d_qkv = rows_of(pass, &dec->d_qkv);
    hn_dropout dropout = l > 0 ? branch_dropout(pass, l - 1, true) : (hn_dropout){0};
    hn_linear_backward_weight(ops, pass->ctx, &layer->attention_out, &d_branch, &o, &pass->tokens);
    hn_linear_backward_input(ops, pass->ctx, &d_o, &d_branch, &layer->attention_out, NULL, HN_ACT_NONE, false, &pass->tokens);
    hnp_attend_backward(pass, l, &d_qkv, &d_o);
    if (hn_linear_wants_input(&layer->qkv)) {
        hn_tensor x = norm_again(pass, &layer->attention_norm, &state->input, state->mean, state->rstd);
        hn_linear_backward_weight(ops, pass->ctx, &layer->qkv, &d_qkv, &x, &pass->tokens);
    }
    hn_linear_backward_input(ops, pass->ctx, &d_norm, &d_qkv, &layer->qkv, NULL, HN_ACT_NONE, false, &pass->tokens);
    join_backward(pass, &layer->attention_norm, &d_norm, &state->input, state->mean, state->rstd, &dropout, false, below);
}

static void embed_backward(const hnp_pass *pass)
{
    const hnp_embeddings *e = &pass->model->embeddings;
    const hn_batch *batch = pass->batch;
    hn_tensor d = rows_of(pass, &pass->model->dec.d_stream);
    hn_dropout dropout = hnp_pass_dropout(pass, 0, pass->model->config.embedding_dropout,
                                          HN_SITE(0, HN_SITE_EMBEDDING, 0), &pass->tokens);
    if (dropout.probability > 0) pass->ops->dropout(pass->ctx, &d, &d, &dropout);
    pass->ops->embedding_backward(pass->ctx, &e->token.gradient, e->position.gradient.data ? &e->position.gradient : NULL,
                                  NULL, &d, batch->token, batch->position, NULL, 0);
}

void hnp_decoder_backward(const hnp_pass *pass)
{
    hnp_decoder_activations *dec = &pass->model->dec;
    int layers = pass->model->config.layers;
    hn_tensor d_norm = rows_of(pass, &dec->d_norm); /* as hn_model_loss left it */
    hn_dropout dropout = branch_dropout(pass, layers - 1, true);
    join_backward(pass, &pass->model->head.norm, &d_norm, &dec->last_input, dec->last_mean, dec->last_rstd, &dropout, true,
                  pass->first <= layers);
    hnp_pass_after(pass, layers + 1);
    for (int l = layers - 1; l >= 0 && l + 1 >= pass->first; l--) {
        if (pass->model->act.recompute && l < layers - 1) hnp_decoder_again(pass, l); /* of the last, forward left everything */
        feed_forward_backward(pass, l);
        attention_backward(pass, l, l + 1 > pass->first);
        hnp_pass_after(pass, l + 1);
    }
    if (pass->first > 0) return;
    embed_backward(pass);
    hnp_pass_after(pass, 0);
}
