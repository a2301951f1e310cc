/* Where everything of a decoder's batch stands.
 *
 *     kept by group `first` and above      shared by all groups below (in evaluation: by all)
 *     stream (before the first norm)       stream, where every sum is written over the last
 *     qkv; z; a, when it is not gated      qkv; z; a                         one set for all with SELECTIVE, FULL
 *     qk, when Q and K have norms          -                                 the same
 *     attention, lse                       attention                         one set for all with FULL
 *     middle (before the second norm)      -                                 the same
 *
 * The outputs of norms and of a gated activation are not kept: backward makes them again from stream, middle and z, which
 * costs a pass over memory and saves 2 C + I values a token and layer. With I = 4 C and as many keys as queries a plain layer keeps
 * 14 C values a token, 3 C with SELECTIVE and C with FULL. */
#include "models/internal.h"

/* Cosines and sines of the positions of the longest sequence. */
static hn_tensor take_rope_table(const hnp_layout *l)
{
    enum { PIECE = 4096 };
    const hn_model_config *c = &l->model->config;
    hn_backend *backend = l->model->backend;
    float piece[PIECE];
    int64_t rows = l->model->act.bounds.longest, at_once = PIECE / c->head_size;
    hn_tensor table = hn_arena_tensor(l->arena, HN_F32, rows, c->head_size);
    for (int64_t done = 0; table.data && done < rows; done += at_once) {
        int64_t count = rows - done < at_once ? rows - done : at_once;
        hn_rope_table_fill(piece, &c->rope, done, count, c->head_size);
        hn_tensor to = hn_tensor_rows(&table, done, count);
        backend->copy_in(backend, to.data, piece, hn_tensor_bytes(&to));
        backend->synchronize(backend, NULL); /* what fails here fails at the next call too */
    }
    return table;
}

/* What is made again by every setting but NONE. */
static void place_inner(const hnp_layout *l, hnp_block_state *state, bool keeps)
{
    const hn_model_config *c = &l->model->config;
    int64_t queries = (int64_t)c->heads * c->head_size, keys = (int64_t)c->kv_heads * c->head_size;
    bool own = keeps && !c->gated && !l->model->act.recompute;
    state->qkv = hnp_take(l, l->tokens, queries + 2 * keys);
    state->z = hnp_take(l, l->tokens, (c->gated ? 2 : 1) * (int64_t)c->intermediate);
    state->a = own ? hnp_take(l, l->tokens, c->intermediate) : l->model->dec.a;
    state->mean = hnp_take_floats(l, l->tokens, 1);
    state->rstd = hnp_take_floats(l, l->tokens, 1);
    state->middle_mean = hnp_take_floats(l, l->tokens, 1);
    state->middle_rstd = hnp_take_floats(l, l->tokens, 1);
    state->q_rstd = hnp_take_floats(l, l->tokens, c->qk_norm ? c->heads : 0);
    state->k_rstd = hnp_take_floats(l, l->tokens, c->qk_norm ? c->kv_heads : 0);
    if (keeps && c->qk_norm) state->qk = hnp_take(l, l->tokens, queries + keys);
}

/* What is made again by FULL alone. */
static void place_attention(const hnp_layout *l, hnp_block_state *state, bool keeps)
{
    const hn_model_config *c = &l->model->config;
    state->attention = hnp_take(l, l->tokens, (int64_t)c->heads * c->head_size);
    if (!keeps) return;
    state->lse = hnp_take_floats(l, c->heads, l->tokens);
    state->middle = hnp_take(l, l->tokens, c->hidden);
}

static void place_blocks(const hnp_layout *l)
{
    hnp_decoder_activations *dec = &l->model->dec;
    const hnp_activations *act = &l->model->act;
    bool trunk = !act->training || act->first > 1, full = act->recompute == HN_RECOMPUTE_FULL;
    hnp_block_state shared = {0};
    if (trunk || act->recompute) place_inner(l, &shared, act->recompute);
    if (trunk || full) place_attention(l, &shared, full);
    for (int i = 0; i < l->model->config.layers; i++) {
        bool keeps = act->training && i + 1 >= act->first;
        hnp_block_state *state = &dec->layers[i];
        *state = shared;
        if (keeps && !act->recompute) place_inner(l, state, true);
        if (keeps && !full) place_attention(l, state, true);
        if (keeps) state->stream = hnp_take(l, l->tokens, l->model->config.hidden);
        else state->stream = state->middle = dec->stream;
    }
}

static void place_gradients(const hnp_layout *l)
{
    const hn_model_config *c = &l->model->config;
    hnp_decoder_activations *dec = &l->model->dec;
    int64_t queries = (int64_t)c->heads * c->head_size, keys = (int64_t)c->kv_heads * c->head_size;
    bool drops = c->hidden_dropout > 0 || c->attention_out_dropout > 0;
    dec->d_norm = hnp_take(l, l->tokens, c->hidden);
    if (l->model->act.first > c->layers) return;
    dec->d_stream = hnp_take(l, l->tokens, c->hidden);
    dec->d_branch = drops ? hnp_take(l, l->tokens, c->hidden) : dec->d_stream;
    dec->d_attention = hnp_take(l, l->tokens, queries);
    dec->d_qkv = hnp_take(l, l->tokens, queries + 2 * keys);
    dec->d_kv = hnp_take(l, l->model->act.bounds.keys, 2 * keys);
}

void hnp_decoder_place(const hnp_layout *l)
{
    hnp_activations *act = &l->model->act;
    hnp_decoder_activations *dec = &l->model->dec;
    const hn_model_config *c = &l->model->config;
    *dec = (hnp_decoder_activations){.layers = dec->layers};
    if (c->gated) dec->rope_table = take_rope_table(l);
    dec->stream = hnp_take(l, l->tokens, c->hidden);
    dec->norm = hnp_take(l, l->tokens, c->hidden);
    dec->branch = hnp_take(l, l->tokens, c->hidden);
    dec->a = hnp_take(l, l->tokens, c->intermediate);
    dec->kv = hnp_take(l, act->bounds.keys, 2 * (int64_t)c->kv_heads * c->head_size);
    place_blocks(l);
    dec->last = act->training ? hnp_take(l, l->tokens, c->hidden) : dec->stream;
    dec->last_mean = hnp_take_floats(l, l->tokens, 1);
    dec->last_rstd = hnp_take_floats(l, l->tokens, 1);
    if (act->training) {
        place_gradients(l);
        return;
    }
    dec->rows = hnp_take(l, l->examples, c->hidden);
    act->logits = hn_arena_tensor(l->arena, HN_F32, l->examples, c->vocabulary);
}

int64_t hnp_decoder_widest(const hn_model_config *c)
{
    int64_t sizes[] = {c->hidden, (c->gated ? 2 : 1) * (int64_t)c->intermediate,
                       ((int64_t)c->heads + 2 * (int64_t)c->kv_heads) * c->head_size, HNP_LOGITS_CHUNK};
    int64_t widest = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) widest = sizes[i] > widest ? sizes[i] : widest;
    return widest;
}
