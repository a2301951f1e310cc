/* Attention of a decoder's layer: Q, K and V by one product, the norms of the heads of Q and K (Qwen3), the turning of their
 * pairs by position (RoPE, Su et al. 2021), and causal attention over the sequence, or over what a cache holds of it.
 *
 *     qkv [T, (H + 2 K) D] = | Q | K | V |      Q and K are normed and turned in place; of norms `qk` keeps what they were
 *
 * Where sequences of the batch share rows, attention reads K and V of each sequence's tokens laid end to end, in a buffer of
 * their own (kv), and the gradient of a shared row is the sum over its places there. */
#include "models/internal.h"

/* The columns of Q, K and V in a buffer of them. */
typedef struct parts {
    hn_tensor q, k, v;
} parts;

static parts parts_of(const hn_model_config *c, const hn_tensor *qkv)
{
    int64_t queries = (int64_t)c->heads * c->head_size, keys = (int64_t)c->kv_heads * c->head_size;
    return (parts){.q = hn_tensor_columns(qkv, 0, queries),
                   .k = hn_tensor_columns(qkv, queries, keys),
                   .v = hn_tensor_columns(qkv, queries + keys, keys)};
}

/* Q and K before their norms, where a layer keeps them. */
static parts kept_parts(const hn_model_config *c, const hn_tensor *qk, int64_t rows)
{
    int64_t queries = (int64_t)c->heads * c->head_size, keys = (int64_t)c->kv_heads * c->head_size;
    hn_tensor part = hn_tensor_rows(qk, 0, rows);
    return (parts){.q = hn_tensor_columns(&part, 0, queries), .k = hn_tensor_columns(&part, queries, keys)};
}

static void norm_heads(const hnp_pass *pass, int l, const parts *p)
{
    const hn_model_config *c = &pass->model->config;
    const hnp_layer *layer = &pass->model->layers[l];
    hnp_block_state *state = &pass->model->dec.layers[l];
    bool keeps = hnp_pass_keeps(pass, l + 1);
    parts kept = {0};
    if (keeps) kept = kept_parts(c, &state->qk, pass->batch->tokens);
    pass->ops->rmsnorm_forward(pass->ctx, &p->q, keeps ? &kept.q : NULL, state->q_rstd, &p->q, NULL,
                               &layer->q_norm.gamma.value, c->heads, c->norm_epsilon, NULL);
    pass->ops->rmsnorm_forward(pass->ctx, &p->k, keeps ? &kept.k : NULL, state->k_rstd, &p->k, NULL,
                               &layer->k_norm.gamma.value, c->kv_heads, c->norm_epsilon, NULL);
}

static void norm_heads_backward(const hnp_pass *pass, int l, const parts *d)
{
    const hn_model_config *c = &pass->model->config;
    const hnp_layer *layer = &pass->model->layers[l];
    hnp_block_state *state = &pass->model->dec.layers[l];
    parts kept = kept_parts(c, &state->qk, pass->batch->tokens);
    bool trains = layer->q_norm.gamma.trainable;
    pass->ops->rmsnorm_backward(pass->ctx, &d->q, NULL, trains ? layer->q_norm.gamma.gradient.data : NULL, &d->q, NULL,
                                &kept.q, state->q_rstd, &layer->q_norm.gamma.value, c->heads, NULL);
    pass->ops->rmsnorm_backward(pass->ctx, &d->k, NULL, trains ? layer->k_norm.gamma.gradient.data : NULL, &d->k, NULL,
                                &kept.k, state->k_rstd, &layer->k_norm.gamma.value, c->kv_heads, NULL);
}

/* Turns Q and K, which are neighbours in [T, (H + 2 K) D], by their positions, or a gradient back. */
static void turn(const hnp_pass *pass, const hn_tensor *qkv, bool back)
{
    const hn_model_config *c = &pass->model->config;
    hn_tensor qk = hn_tensor_columns(qkv, 0, ((int64_t)c->heads + c->kv_heads) * c->head_size);
    pass->ops->rope(pass->ctx, &qk, &pass->model->dec.rope_table, pass->batch->position, back);
}

/* Puts the batch's K and V into the cache; gives those of all tokens that the layer has there. */
static void pass_through_cache(const hnp_pass *pass, int l, parts *p)
{
    hn_kv_cache *cache = pass->forward->cache;
    int64_t keys = p->k.shape[1], count = (int64_t)cache->sequences * cache->capacity;
    hn_tensor rows = hn_tensor_rows(&cache->rows, l * count, count);
    hn_tensor k = hn_tensor_columns(&rows, 0, keys), v = hn_tensor_columns(&rows, keys, keys);
    pass->ops->scatter_rows(pass->ctx, &k, &p->k, cache->row);
    pass->ops->scatter_rows(pass->ctx, &v, &p->v, cache->row);
    p->k = k;
    p->v = v;
}

/* K and V in a buffer of both. */
static void split(const hn_tensor *both, hn_tensor *k, hn_tensor *v)
{
    int64_t columns = both->shape[1] / 2;
    *k = hn_tensor_columns(both, 0, columns);
    *v = hn_tensor_columns(both, columns, columns);
}

static hn_tensor keys_and_values(const hn_model_config *c, const hn_tensor *qkv)
{
    return hn_tensor_columns(qkv, (int64_t)c->heads * c->head_size, 2 * (int64_t)c->kv_heads * c->head_size);
}

/* K and V of every sequence, of a batch in which sequences share rows. */
static void unshare(const hnp_pass *pass, const hn_tensor *qkv, parts *p)
{
    const hn_batch *batch = pass->batch;
    hn_tensor from = keys_and_values(&pass->model->config, qkv), kv = hn_tensor_rows(&pass->model->dec.kv, 0, batch->keys);
    pass->ops->gather_rows(pass->ctx, &kv, &from, batch->key_row);
    split(&kv, &p->k, &p->v);
}

hn_tensor hnp_attend_project(const hnp_pass *pass, int l, const hn_tensor *x)
{
    const hn_model_config *c = &pass->model->config;
    hn_tensor qkv = hn_tensor_rows(&pass->model->dec.layers[l].qkv, 0, pass->batch->tokens);
    hn_linear_forward(pass->ops, pass->ctx, &qkv, NULL, x, &pass->model->layers[l].qkv, HN_ACT_NONE,
                      hnp_pass_random(pass, l + 1, &pass->tokens));
    parts p = parts_of(c, &qkv);
    if (c->qk_norm) norm_heads(pass, l, &p);
    if (c->gated) turn(pass, &qkv, false);
    return qkv;
}

void hnp_attend(const hnp_pass *pass, int l, const hn_tensor *o, const hn_tensor *x)
{
    hnp_block_state *state = &pass->model->dec.layers[l];
    hn_tensor qkv = hnp_attend_project(pass, l, x);
    parts p = parts_of(&pass->model->config, &qkv);
    if (pass->forward->cache) pass_through_cache(pass, l, &p);
    if (pass->batch->key_row) unshare(pass, &qkv, &p);
    hn_attention attention = hnp_pass_attention(pass, l);
    pass->ops->attention_forward(pass->ctx, o, hnp_pass_keeps(pass, l + 1) ? state->lse : NULL, &p.q, &p.k, &p.v,
                                 &attention);
}

void hnp_attend_backward(const hnp_pass *pass, int l, const hn_tensor *d_qkv, const hn_tensor *d_o)
{
    const hn_model_config *c = &pass->model->config;
    hnp_block_state *state = &pass->model->dec.layers[l];
    hn_tensor qkv = hn_tensor_rows(&state->qkv, 0, pass->batch->tokens);
    hn_tensor o = hn_tensor_rows(&state->attention, 0, pass->batch->tokens);
    parts p = parts_of(c, &qkv), d = parts_of(c, d_qkv), to = d;
    const hn_batch *batch = pass->batch;
    hn_attention attention = hnp_pass_attention(pass, l);
    hn_tensor d_kv = {0}, sum = keys_and_values(c, d_qkv);
    if (batch->key_row) {
        d_kv = hn_tensor_rows(&pass->model->dec.d_kv, 0, batch->keys);
        split(&d_kv, &to.k, &to.v);
        unshare(pass, &qkv, &p);
    }
    pass->ops->attention_backward(pass->ctx, &to.q, &to.k, &to.v, d_o, &o, state->lse, &p.q, &p.k, &p.v, &attention);
    if (batch->key_row) pass->ops->sum_rows(pass->ctx, &sum, &d_kv, batch->cu_uses, batch->use);
    if (c->gated) turn(pass, d_qkv, true);
    if (c->qk_norm) norm_heads_backward(pass, l, &d);
}
