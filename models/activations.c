/* Where everything of an encoder's batch stands.
 *
 *     kept by group `first` and above      shared by all groups below (in evaluation: by all)
 *     embedding_sum, embedding             embedding
 *     qkv, middle; z, a                    qkv, middle; a                    one set for all with SELECTIVE, FULL
 *     attention, lse, attention_sum        attention                         one set for all with FULL
 *     mlp_sum                              -
 *     y                                    y, written over the layer's input  one for all with SELECTIVE, FULL
 *
 * The last layer may have n rows where others have T (encoder.c says why). What backward needs beside it is three
 * gradients of [T, C] and one of [T, 3C]; the gradient of z takes the place of a.
 *
 * With I = 4 C a layer keeps 16 C values a token, 3 C with SELECTIVE and C with FULL. */
#include "models/internal.h"

/* What is made again by every setting but NONE: R rows, of Q, K and V all. */
static void place_inner(const hnp_layout *l, hnp_layer_state *state, int64_t rows, int64_t qkv_columns, bool keeps)
{
    const hn_model_config *c = &l->model->config;
    state->qkv = hnp_take(l, l->tokens, qkv_columns);
    state->middle = hnp_take(l, rows, c->hidden);
    state->a = hnp_take(l, rows, c->intermediate);
    if (keeps) state->z = hnp_take(l, rows, c->intermediate);
}

/* What is made again by FULL alone. */
static void place_attention(const hnp_layout *l, hnp_layer_state *state, int64_t rows, bool keeps)
{
    const hn_model_config *c = &l->model->config;
    state->attention = hnp_take(l, rows, c->hidden);
    state->attention_mean = hnp_take_floats(l, rows, 1);
    state->attention_rstd = hnp_take_floats(l, rows, 1);
    if (!keeps) return;
    state->lse = hnp_take_floats(l, c->heads, rows);
    state->attention_sum = hnp_take(l, rows, c->hidden);
}

/* What no setting makes again. */
static void place_output(const hnp_layout *l, hnp_layer_state *state, int64_t rows, bool keeps)
{
    state->mlp_mean = hnp_take_floats(l, rows, 1);
    state->mlp_rstd = hnp_take_floats(l, rows, 1);
    if (keeps) state->mlp_sum = hnp_take(l, rows, l->model->config.hidden);
}

/* The shared set cut to the rows of a last layer. */
static void cut_to_few(const hnp_layout *l, hnp_layer_state *state)
{
    hn_tensor *tensors[] = {&state->attention, &state->attention_sum, &state->middle, &state->z, &state->a};
    state->qkv = hn_tensor_2d(state->qkv.data, state->qkv.dtype, l->tokens, 2 * (int64_t)l->model->config.hidden);
    for (int i = 0; i < 5; i++)
        if (tensors[i]->rank) *tensors[i] = hn_tensor_rows(tensors[i], 0, l->examples);
}

static void place_layers(const hnp_layout *l)
{
    hnp_encoder_activations *enc = &l->model->enc;
    const hnp_activations *act = &l->model->act;
    int layers = l->model->config.layers, width = l->model->config.hidden;
    bool trunk = !act->training || act->first > 1, full = act->recompute == HN_RECOMPUTE_FULL;
    hnp_layer_state shared = {0};
    if (trunk || act->recompute) place_inner(l, &shared, l->tokens, 3 * width, act->recompute);
    if (trunk || full) place_attention(l, &shared, l->tokens, full);
    if (trunk) place_output(l, &shared, l->tokens, false);
    if (act->recompute) enc->y = hnp_take(l, l->tokens, width);
    for (int i = 0; i < layers; i++) {
        bool few = hnp_encoder_few(l->model, i), keeps = act->training && i + 1 >= act->first;
        int64_t rows = few ? l->examples : l->tokens;
        hnp_layer_state *state = &enc->layers[i];
        *state = shared;
        if (few) cut_to_few(l, state);
        if (keeps && !act->recompute) place_inner(l, state, rows, few ? 2 * width : 3 * width, true);
        if (keeps && !full) place_attention(l, state, rows, true);
        if (keeps) place_output(l, state, rows, true);
        if (few || (keeps && !act->recompute)) state->y = hnp_take(l, rows, width);
        else state->y = keeps ? enc->y : enc->embedding;
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
