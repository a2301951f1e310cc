/* Where everything of an encoder's batch stands.
 *
 *     kept by group `first` and above      shared by all groups below (in evaluation: by all)
 *     embedding_sum, embedding             embedding
 *     qkv, attention, lse                  qkv, attention
 *     attention_sum, middle                middle
 *     z, a                                 a
 *     mlp_sum                              -
 *     y                                    y, written over the layer's input
 *
 * The last layer may have n rows where others have T (encoder.c says why). What backward needs beside it is three
 * gradients of [T, C] and one of [T, 3C]; the gradient of z takes the place of a. */
#include "models/internal.h"

/* The tensors of a layer for R rows; with `keeps` those of backward too. y is the caller's. */
static void place_layer(const hnp_layout *l, hnp_layer_state *state, int64_t rows, int64_t qkv_columns,
                        bool keeps)
{
    const hn_model_config *c = &l->model->config;
    *state = (hnp_layer_state){0};
    state->qkv = hnp_take(l, l->tokens, qkv_columns);
    state->attention = hnp_take(l, rows, c->hidden);
    state->middle = hnp_take(l, rows, c->hidden);
    state->a = hnp_take(l, rows, c->intermediate);
    state->attention_mean = hnp_take_floats(l, rows, 1);
    state->attention_rstd = hnp_take_floats(l, rows, 1);
    state->mlp_mean = hnp_take_floats(l, rows, 1);
    state->mlp_rstd = hnp_take_floats(l, rows, 1);
    if (!keeps) return;
    state->lse = hnp_take_floats(l, c->heads, rows);
    state->attention_sum = hnp_take(l, rows, c->hidden);
    state->z = hnp_take(l, rows, c->intermediate);
    state->mlp_sum = hnp_take(l, rows, c->hidden);
}

/* A layer of the trunk: the shared set, cut to its rows. */
static hnp_layer_state shared_layer(const hnp_layout *l, const hnp_layer_state *shared, bool few)
{
    hnp_layer_state state = *shared;
    if (few) {
        state.qkv =
            hn_tensor_2d(state.qkv.data, state.qkv.dtype, l->tokens, 2 * (int64_t)l->model->config.hidden);
        state.attention = hn_tensor_rows(&state.attention, 0, l->examples);
        state.middle = hn_tensor_rows(&state.middle, 0, l->examples);
        state.a = hn_tensor_rows(&state.a, 0, l->examples);
    }
    return state;
}

static void place_layers(const hnp_layout *l)
{
    hnp_encoder_activations *enc = &l->model->enc;
    const hnp_activations *act = &l->model->act;
    int layers = l->model->config.layers, width = l->model->config.hidden;
    hnp_layer_state shared = {0};
    for (int i = 0; i < layers; i++) {
        bool few = hnp_encoder_few(l->model, i), keeps = act->training && i + 1 >= act->first;
        if (keeps) {
            place_layer(l, &enc->layers[i], few ? l->examples : l->tokens, few ? 2 * width : 3 * width,
                        true);
        } else {
            if (i == 0) place_layer(l, &shared, l->tokens, 3 * width, false);
            enc->layers[i] = shared_layer(l, &shared, few);
        }
        enc->layers[i].y = few     ? hnp_take(l, l->examples, width)
                           : keeps ? hnp_take(l, l->tokens, width)
                                   : enc->embedding;
    }
}

static void place_head(const hnp_layout *l)
{
    hnp_encoder_activations *enc = &l->model->enc;
    hnp_activations *act = &l->model->act;
    const hn_model_config *c = &l->model->config;
    enc->last_x = hnp_take(l, l->examples, c->hidden);
    enc->last_q = hnp_take(l, l->examples, c->hidden);
    enc->dense = hnp_take(l, l->examples, c->hidden);
    act->logits = hn_arena_tensor(l->arena, HN_F32, l->examples, c->labels);
    if (!act->training) return;
    enc->head_input = hnp_take(l, l->examples, c->hidden);
    enc->dropped = hnp_take(l, l->examples, c->hidden);
    enc->d_logits = hnp_take(l, l->examples, c->labels);
    enc->d_head = hnp_take(l, l->examples, c->hidden);
}

void hnp_encoder_place(const hnp_layout *l)
{
    hn_model *model = l->model;
    hnp_encoder_activations *enc = &model->enc;
    int64_t width = model->config.hidden;
    int first = model->act.first;
    bool training = model->act.training;
    *enc = (hnp_encoder_activations){.layers = enc->layers};
    enc->iota = hnp_take_series(l, l->examples + 1, 1);
    enc->embedding = hnp_take(l, l->tokens, width);
    enc->embedding_sum = training && first == 0 ? hnp_take(l, l->tokens, width) : enc->embedding;
    enc->embedding_mean = hnp_take_floats(l, l->tokens, 1);
    enc->embedding_rstd = hnp_take_floats(l, l->tokens, 1);
    place_layers(l);
    (hn_head_reads_tokens(model->config.head) ? hnp_token_head_place : place_head)(l);
    if (!training || first > model->config.layers) return;
    for (int i = 0; i < 3; i++) enc->d_rows[i] = hnp_take(l, l->tokens, width);
    enc->d_qkv = hnp_take(l, l->tokens, 3 * width);
    enc->d_q = hnp_take(l, l->examples, width);
}

int64_t hnp_encoder_widest(const hn_model_config *c)
{
    int64_t widest = 3 * (int64_t)c->hidden;
    if (c->intermediate > widest) widest = c->intermediate;
    return c->head != HN_HEAD_MASKED && c->labels > widest ? c->labels : widest;
}
