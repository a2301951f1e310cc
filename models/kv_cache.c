/* See kv_cache.h. Which rows the tokens of a batch take is worked out on the host, where the lengths are known, and copied in
 * beside the batch; forward scatters keys and values there and attends over the rows in use. */
#include "models/kv_cache.h"

#include "core/mem.h"
#include "models/internal.h"

hn_status hn_kv_cache_init(hn_kv_cache *cache, int32_t sequences, int32_t capacity, int32_t tokens, hn_error *error)
{
    HN_ASSERT(sequences > 0 && capacity > 0 && tokens > 0);
    *cache = (hn_kv_cache){.sequences = sequences, .capacity = capacity, .tokens = tokens};
    if ((int64_t)sequences * capacity > INT32_MAX)
        return hn_fail(error, HN_ERR_MEMORY, "a cache of %d sequences of %d tokens: expected at most 2147483647 tokens",
                       sequences, capacity);
    cache->length = hn_calloc((size_t)sequences, sizeof *cache->length);
    cache->host = hn_calloc((size_t)tokens, sizeof *cache->host);
    if (cache->length && cache->host) return HN_OK;
    hn_kv_cache_close(cache);
    return hn_fail(error, HN_ERR_MEMORY, "out of memory for a cache of %d sequences", sequences);
}

void hn_kv_cache_place(hn_kv_cache *cache, hn_model *model, hn_arena *arena)
{
    const hn_model_config *c = &model->config;
    hnp_layout l = {model, arena, cache->tokens, cache->sequences};
    int64_t rows = (int64_t)cache->sequences * cache->capacity;
    cache->rows = hnp_take(&l, c->layers * rows, 2 * (int64_t)c->kv_heads * c->head_size);
    cache->cu = hnp_take_series(&l, cache->sequences + 1, cache->capacity);
    cache->count = hn_arena_tensor(arena, HN_I32, cache->sequences, 1).data;
    cache->row = hn_arena_tensor(arena, HN_I32, cache->tokens, 1).data;
    for (int32_t s = 0; s < cache->sequences; s++) cache->length[s] = 0;
}

hn_status hn_kv_cache_next(hn_kv_cache *cache, hn_backend *backend, hn_batch *host, hn_error *error)
{
    HN_ASSERT(host->n <= cache->sequences && host->tokens <= cache->tokens);
    for (int32_t s = 0; s < host->n; s++) {
        int32_t added = host->cu_seqlens[s + 1] - host->cu_seqlens[s];
        if (added > cache->capacity - cache->length[s])
            return hn_fail(error, HN_ERR_MISMATCH, "sequence %d would have %lld tokens, its cache has room for %d", s,
                           (long long)cache->length[s] + added, cache->capacity);
    }
    cache->longest = 0;
    for (int32_t s = 0; s < host->n; s++) {
        for (int32_t r = host->cu_seqlens[s]; r < host->cu_seqlens[s + 1]; r++) {
            host->position[r] = cache->length[s]++;
            cache->host[r] = s * cache->capacity + host->position[r];
        }
        if (cache->length[s] > cache->longest) cache->longest = cache->length[s];
    }
    backend->copy_in(backend, cache->row, cache->host, (size_t)host->tokens * sizeof *cache->host);
    backend->copy_in(backend, cache->count, cache->length, (size_t)host->n * sizeof *cache->length);
    return backend->synchronize(backend, error);
}

void hn_kv_cache_cut(hn_kv_cache *cache, int32_t sequence, int32_t length)
{
    HN_ASSERT(sequence >= 0 && sequence < cache->sequences && length >= 0 && length <= cache->length[sequence]);
    cache->length[sequence] = length;
}

hn_status hn_kv_cache_copy(hn_kv_cache *cache, hn_model *model, hn_ops_context *ctx, int32_t from, int32_t to,
                           hn_error *error)
{
    HN_ASSERT(from >= 0 && from < cache->sequences && to >= 0 && to < cache->sequences && from != to);
    int64_t count = (int64_t)cache->sequences * cache->capacity;
    int32_t length = cache->length[from], some;
    for (int32_t at = 0; at < length; at += some) { /* in pieces, as `row` holds the tokens of one batch */
        some = length - at < cache->tokens ? length - at : cache->tokens;
        for (int32_t r = 0; r < some; r++) cache->host[r] = to * cache->capacity + at + r;
        ctx->backend->copy_in(ctx->backend, cache->row, cache->host, (size_t)some * sizeof *cache->host);
        for (int l = 0; l < model->config.layers; l++) {
            hn_tensor rows = hn_tensor_rows(&cache->rows, l * count, count);
            hn_tensor part = hn_tensor_rows(&rows, (int64_t)from * cache->capacity + at, some);
            model->ops->scatter_rows(ctx, &rows, &part, cache->row);
        }
        hn_status status = ctx->backend->synchronize(ctx->backend, error);
        if (status != HN_OK) return status;
    }
    cache->length[to] = length;
    return HN_OK;
}

void hn_kv_cache_close(hn_kv_cache *cache)
{
    hn_free(cache->length);
    hn_free(cache->host);
    *cache = (hn_kv_cache){0};
}
