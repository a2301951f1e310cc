/* Where everything of a batch stands.
 *
 *     kept by group `first` and above      shared by all groups below (in evaluation: by all)
 *     embedding_sum, embedding             embedding
 *     qkv, attention, lse                  qkv, attention
 *     attention_sum, middle                middle
 *     z, a                                 a
 *     mlp_sum                              -
 *     y                                    y, written over the layer's input
 *
 * The last layer has n rows where others have T (encoder.c says why). What backward needs beside it is three
 * gradients of [T, C] and one of [T, 3C]; the gradient of z takes the place of a. */
#include "core/mem.h"
#include "models/internal.h"

/* Sizes of one placing. */
typedef struct layout {
    hn_model *model;
    hn_arena *arena;
    int64_t tokens, examples;
} layout;

static hn_tensor take(const layout *l, int64_t rows, int64_t columns)
{
    return hn_arena_tensor(l->arena, l->model->precision, rows, columns);
}

static float *take_floats(const layout *l, int64_t rows, int64_t columns)
{
    return hn_arena_tensor(l->arena, HN_F32, rows, columns).data;
}

/* Integers 0, step, 2 step, ... in the backend's memory. A device that fails here fails at the next call too, which
 * says so. */
static int32_t *take_series(const layout *l, int64_t count, int32_t step)
{
    int32_t piece[256];
    hn_backend *backend = l->model->backend;
    int32_t *series = hn_arena_tensor(l->arena, HN_I32, count, 1).data;
    for (int64_t done = 0; series && done < count; done += 256) {
        int64_t some = count - done < 256 ? count - done : 256;
        for (int64_t i = 0; i < some; i++) piece[i] = (int32_t)(done + i) * step;
        backend->copy_in(backend, series + done, piece, (size_t)some * sizeof *piece);
        backend->synchronize(backend, NULL);
    }
    return series;
}

/* The tensors of a layer for R rows; with `keeps` those of backward too. y is the caller's. */
static void place_layer(const layout *l, hnp_layer_state *state, int64_t rows, int64_t qkv_columns,
                        bool keeps)
{
    const hn_model_config *c = &l->model->config;
    *state = (hnp_layer_state){0};
    state->qkv = take(l, l->tokens, qkv_columns);
    state->attention = take(l, rows, c->hidden);
    state->middle = take(l, rows, c->hidden);
    state->a = take(l, rows, c->intermediate);
    state->attention_mean = take_floats(l, rows, 1);
    state->attention_rstd = take_floats(l, rows, 1);
    state->mlp_mean = take_floats(l, rows, 1);
    state->mlp_rstd = take_floats(l, rows, 1);
    if (!keeps) return;
    state->lse = take_floats(l, c->heads, rows);
    state->attention_sum = take(l, rows, c->hidden);
    state->z = take(l, rows, c->intermediate);
    state->mlp_sum = take(l, rows, c->hidden);
}

/* A layer of the trunk: the shared set, cut to its rows. */
static hnp_layer_state shared_layer(const layout *l, const hnp_layer_state *shared, bool last)
{
    hnp_layer_state state = *shared;
    if (last) {
        state.qkv =
            hn_tensor_2d(state.qkv.data, state.qkv.dtype, l->tokens, 2 * (int64_t)l->model->config.hidden);
        state.attention = hn_tensor_rows(&state.attention, 0, l->examples);
        state.middle = hn_tensor_rows(&state.middle, 0, l->examples);
        state.a = hn_tensor_rows(&state.a, 0, l->examples);
    }
    return state;
}

static void place_layers(const layout *l)
{
    hnp_activations *act = &l->model->act;
    int layers = l->model->config.layers, width = l->model->config.hidden;
    hnp_layer_state shared = {0};
    for (int i = 0; i < layers; i++) {
        bool last = i == layers - 1, keeps = act->training && i + 1 >= act->first;
        if (keeps) {
            place_layer(l, &act->layers[i], last ? l->examples : l->tokens, last ? 2 * width : 3 * width,
                        true);
        } else {
            if (i == 0) place_layer(l, &shared, l->tokens, 3 * width, false);
            act->layers[i] = shared_layer(l, &shared, last);
        }
        act->layers[i].y = last    ? take(l, l->examples, width)
                           : keeps ? take(l, l->tokens, width)
                                   : act->embedding;
    }
}

static void place_head(const layout *l)
{
    hnp_activations *act = &l->model->act;
    const hn_model_config *c = &l->model->config;
    act->last_x = take(l, l->examples, c->hidden);
    act->last_q = take(l, l->examples, c->hidden);
    act->dense = take(l, l->examples, c->hidden);
    act->logits = hn_arena_tensor(l->arena, HN_F32, l->examples, c->labels);
    if (!act->training) return;
    act->head_input = take(l, l->examples, c->hidden);
    act->dropped = take(l, l->examples, c->hidden);
    act->d_logits = take(l, l->examples, c->labels);
    act->d_head = take(l, l->examples, c->hidden);
}

void hn_model_place_activations(hn_model *model, hn_arena *arena, hn_bounds bounds, bool training, int first)
{
    if (bounds.examples > bounds.tokens) bounds.examples = bounds.tokens; /* a sequence has a token */
    layout l = {model, arena, bounds.tokens, bounds.examples};
    hnp_activations *act = &model->act;
    hnp_layer_state *layers = act->layers;
    int64_t width = model->config.hidden;
    *act = (hnp_activations){.bounds = bounds, .training = training, .first = first, .layers = layers};
    act->row_example = hn_arena_tensor(arena, HN_I32, l.tokens, 1).data;
    act->zeros = take_series(&l, l.tokens > l.examples ? l.tokens : l.examples, 0);
    act->iota = take_series(&l, l.examples + 1, 1);
    act->embedding = take(&l, l.tokens, width);
    act->embedding_sum = training && first == 0 ? take(&l, l.tokens, width) : act->embedding;
    act->embedding_mean = take_floats(&l, l.tokens, 1);
    act->embedding_rstd = take_floats(&l, l.tokens, 1);
    place_layers(&l);
    place_head(&l);
    if (!training || first > model->config.layers) return;
    for (int i = 0; i < 3; i++) act->d_rows[i] = take(&l, l.tokens, width);
    act->d_qkv = take(&l, l.tokens, 3 * width);
    act->d_q = take(&l, l.examples, width);
}

size_t hn_model_workspace(const hn_model *model, hn_bounds bounds)
{
    const hn_model_config *c = &model->config;
    int64_t widest = 3 * (int64_t)c->hidden;
    if (c->intermediate > widest) widest = c->intermediate;
    if (c->labels > widest) widest = c->labels;
    return model->ops->workspace(bounds.tokens, widest, bounds.longest, c->heads, model->precision);
}
