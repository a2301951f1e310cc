/* Backward of encoder.c, from the head down to the lowest trainable group and no further: there the products
 * that would give the gradient of its input are left out.
 *
 * Three tensors of [T, C] do for all layers: d[0] is the gradient that comes down, the others pass through a
 * layer:
 *
 *     mlp norm        d[0] -> d[1] (branch)  d[2] (residual)
 *     down            d[1] -> dz, in the place of a, which only dW needed
 *     up              d[2] += dz W1                                   d[2]: gradient of m
 *     attention norm  d[2] -> d[1] (branch)  d[0] (residual)
 *     attention out   d[1] -> d[2]
 *     attention       d[2] -> d_qkv
 *     qkv             d[0] += d_qkv W                                 d[0]: gradient of x
 *
 * In a last layer below a head that reads first tokens all of that has n rows; K and V had all T, so their gradient
 * fills a [T, C] of its own
 * (d[1]) and d[0] is added to it at the first tokens' rows. */
#include "core/philox.h"
#include "models/internal.h"

/* dz W of a linear layer, to the gradient of its input. */
static void backward_input(const hnp_pass *pass, const hn_tensor *dx, const hn_tensor *dy,
                           const hn_linear *linear, bool add, const hn_random *random)
{
    hn_linear_backward_input(pass->ops, pass->ctx, dx, dy, linear, NULL, HN_ACT_NONE, add, random);
}

/* d[0] of y to d[2] of m. */
static void mlp_backward(const hnp_pass *pass, int l, const hn_tensor d[3])
{
    const hn_model_config *c = &pass->model->config;
    const hnp_layer *layer = &pass->model->layers[l];
    hnp_layer_state *state = &pass->model->enc.layers[l];
    int64_t rows = d[0].shape[0];
    const hn_random *random = hnp_encoder_few(pass->model, l) ? &pass->examples : &pass->tokens;
    hn_dropout dropout =
        hnp_pass_dropout(pass, l + 1, c->hidden_dropout, HN_SITE(l, HN_SITE_MLP_OUT, 0), random);
    hn_tensor sum = hn_tensor_rows(&state->mlp_sum, 0, rows),
              middle = hn_tensor_rows(&state->middle, 0, rows);
    hn_tensor z = hn_tensor_rows(&state->z, 0, rows), a = hn_tensor_rows(&state->a, 0, rows);
    hn_norm_backward(pass->ops, pass->ctx, &d[1], &d[2], &layer->mlp_norm, &d[0], NULL, &sum, state->mlp_mean,
                     state->mlp_rstd, &dropout);
    hn_linear_backward_weight(pass->ops, pass->ctx, &layer->down, &d[1], &a, random);
    hn_linear_backward_input(pass->ops, pass->ctx, &a, &d[1], &layer->down, &z, c->activation, false, random);
    hn_linear_backward_weight(pass->ops, pass->ctx, &layer->up, &a, &middle, random);
    backward_input(pass, &d[2], &a, &layer->up, true, random);
}

/* d[2] of m to d[2] of attention's output, and d[0] of the residual (when something below trains). */
static void attention_out_backward(const hnp_pass *pass, int l, const hn_tensor d[3], bool below)
{
    const hn_model_config *c = &pass->model->config;
    const hnp_layer *layer = &pass->model->layers[l];
    hnp_layer_state *state = &pass->model->enc.layers[l];
    int64_t rows = d[0].shape[0];
    const hn_random *random = hnp_encoder_few(pass->model, l) ? &pass->examples : &pass->tokens;
    hn_dropout dropout =
        hnp_pass_dropout(pass, l + 1, c->attention_out_dropout, HN_SITE(l, HN_SITE_ATTENTION_OUT, 0), random);
    hn_tensor sum = hn_tensor_rows(&state->attention_sum, 0, rows),
              o = hn_tensor_rows(&state->attention, 0, rows);
    hn_norm_backward(pass->ops, pass->ctx, &d[1], below ? &d[0] : NULL, &layer->attention_norm, &d[2], NULL, &sum,
                     state->attention_mean, state->attention_rstd, &dropout);
    hn_linear_backward_weight(pass->ops, pass->ctx, &layer->attention_out, &d[1], &o, random);
    backward_input(pass, &d[2], &d[1], &layer->attention_out, false, random);
}

static void attend_backward(const hnp_pass *pass, int l, const hn_tensor d[3], bool below)
{
    hnp_encoder_activations *act = &pass->model->enc;
    hnp_layer_state *state = &act->layers[l];
    const hn_linear *linear = &pass->model->layers[l].qkv;
    int64_t rows = pass->batch->tokens, width = pass->model->config.hidden;
    hn_tensor qkv = hn_tensor_rows(&state->qkv, 0, rows), d_qkv = hn_tensor_rows(&act->d_qkv, 0, rows);
    hn_tensor o = hn_tensor_rows(&state->attention, 0, rows), part[3], d_part[3];
    for (int i = 0; i < 3; i++) {
        part[i] = hn_tensor_columns(&qkv, i * width, width);
        d_part[i] = hn_tensor_columns(&d_qkv, i * width, width);
    }
    hn_attention attention = hnp_pass_attention(pass, l);
    pass->ops->attention_backward(pass->ctx, &d_part[0], &d_part[1], &d_part[2], &d[2], &o, state->lse,
                                  &part[0], &part[1], &part[2], &attention);
    hn_linear_backward_weight(pass->ops, pass->ctx, linear, &d_qkv, &state->input, &pass->tokens);
    if (below) backward_input(pass, &d[0], &d_qkv, linear, true, &pass->tokens);
}

/* The last layer's: d has n rows, and the gradient of x goes to `dx` [T, C]. */
static void attend_from_first_backward(const hnp_pass *pass, int l, const hn_tensor d[3], const hn_tensor *dx,
                                       bool below)
{
    hnp_encoder_activations *act = &pass->model->enc;
    hnp_layer_state *state = &act->layers[l];
    int64_t rows = pass->batch->tokens, n = pass->batch->n, width = pass->model->config.hidden;
    hn_linear to_q = hn_linear_rows(&pass->model->layers[l].qkv, 0, width);
    hn_linear to_kv = hn_linear_rows(&pass->model->layers[l].qkv, width, 2 * width);
    hn_tensor kv = hn_tensor_rows(&state->qkv, 0, rows), q = hn_tensor_rows(&act->last_q, 0, n);
    hn_tensor d_kv = hn_tensor_2d(act->d_qkv.data, act->d_qkv.dtype, rows, 2 * width);
    hn_tensor d_q = hn_tensor_rows(&act->d_q, 0, n), x = hn_tensor_rows(&act->last_x, 0, n);
    hn_tensor k = hn_tensor_columns(&kv, 0, width), v = hn_tensor_columns(&kv, width, width);
    hn_tensor d_k = hn_tensor_columns(&d_kv, 0, width), d_v = hn_tensor_columns(&d_kv, width, width);
    hn_tensor o = hn_tensor_rows(&state->attention, 0, n);
    hn_attention attention = hnp_pass_attention(pass, l);
    pass->ops->attention_backward(pass->ctx, &d_q, &d_k, &d_v, &d[2], &o, state->lse, &q, &k, &v, &attention);
    hn_linear_backward_weight(pass->ops, pass->ctx, &to_q, &d_q, &x, &pass->examples);
    hn_linear_backward_weight(pass->ops, pass->ctx, &to_kv, &d_kv, &state->input, &pass->tokens);
    if (!below) return;
    backward_input(pass, &d[0], &d_q, &to_q, true, &pass->examples);
    backward_input(pass, dx, &d_kv, &to_kv, false, &pass->tokens);
    pass->ops->scatter_add_rows(pass->ctx, dx, &d[0], pass->batch->cu_seqlens);
}

static void embed_backward(const hnp_pass *pass, const hn_tensor *dy)
{
    hn_model *model = pass->model;
    hnp_encoder_activations *act = &model->enc;
    const hnp_embeddings *e = &model->embeddings;
    const hn_batch *batch = pass->batch;
    hn_tensor sum = hn_tensor_rows(&act->embedding_sum, 0, batch->tokens);
    hn_dropout dropout = hnp_pass_dropout(pass, 0, model->config.embedding_dropout,
                                          HN_SITE(0, HN_SITE_EMBEDDING, 0), &pass->tokens);
    if (dropout.probability > 0) pass->ops->dropout(pass->ctx, dy, dy, &dropout);
    hn_norm_backward(pass->ops, pass->ctx, dy, NULL, &e->norm, dy, NULL, &sum, act->embedding_mean,
                     act->embedding_rstd, NULL);
    pass->ops->embedding_backward(pass->ctx, &e->token.gradient, &e->position.gradient,
                                  model->config.types ? &e->type.gradient : NULL, dy, batch->token,
                                  batch->position, model->config.types > 1 ? batch->type : model->act.zeros,
                                  model->config.position_offset);
}

void hnp_encoder_backward(const hnp_pass *pass)
{
    const hnp_encoder_activations *act = &pass->model->enc;
    int layers = pass->model->config.layers;
    bool tokens = hn_head_reads_tokens(pass->model->config.head);
    void (*head_backward)(const hnp_pass *, const hn_tensor *) = tokens ? hnp_token_head_backward : hnp_head_backward;
    if (pass->first > layers) {
        head_backward(pass, NULL);
        hnp_pass_after(pass, layers + 1);
        return;
    }
    hn_tensor d[3], few[3];
    for (int i = 0; i < 3; i++) {
        d[i] = hn_tensor_rows(&act->d_rows[i], 0, pass->batch->tokens);
        few[i] = hn_tensor_rows(&act->d_rows[i], 0, pass->batch->n);
    }
    head_backward(pass, tokens ? &d[0] : &few[0]);
    hnp_pass_after(pass, layers + 1);
    for (int l = layers - 1; l >= 0 && l + 1 >= pass->first; l--) {
        bool is_few = hnp_encoder_few(pass->model, l), below = l + 1 > pass->first;
        const hn_tensor *rows = is_few ? few : d;
        if (pass->model->act.recompute) hnp_encoder_again(pass, l);
        mlp_backward(pass, l, rows);
        attention_out_backward(pass, l, rows, below);
        if (is_few) {
            attend_from_first_backward(pass, l, few, &d[1], below);
            hn_tensor down = d[1];
            d[1] = d[0];
            d[0] = down;
        } else {
            attend_backward(pass, l, d, below);
        }
        hnp_pass_after(pass, l + 1);
    }
    if (pass->first > 0) return;
    embed_backward(pass, &d[0]);
    hnp_pass_after(pass, 0);
}
