/* Keys and values of the tokens that a decoder has read, so that a forward runs over new tokens only.
 *
 *     layer 0: | sequence 0: capacity rows of [K | V] | sequence 1: capacity rows | ... |      K [kv_heads D], turned
 *     layer 1: ...
 *
 * Life: hn_kv_cache_init -> hn_kv_cache_place (counting arena, then the real one) -> hn_kv_cache_next and hn_model_forward per
 * batch -> hn_kv_cache_close. Sequence s of a batch goes on from sequence s of the cache. */
#ifndef HONE_MODELS_KV_CACHE_H
#define HONE_MODELS_KV_CACHE_H

#include "models/model.h"

struct hn_kv_cache {
    int32_t sequences, capacity, tokens; /* tokens: of one batch at most */
    hn_tensor rows;                      /* [layers * sequences * capacity, 2 kv_heads D] in the model's precision */
    /* In the backend's memory, as hn_attention has them: */
    int32_t *cu;    /* [sequences + 1] 0, capacity, 2 capacity, ... */
    int32_t *count; /* [sequences] tokens that are there, those of the batch with them */
    int32_t *row;   /* [tokens] where the keys of the batch's tokens go, among the rows of a layer */
    int32_t longest;
    int32_t *length; /* host, [sequences]: tokens that are there (hn_free) */
    int32_t *host;   /* host, [tokens]: what `row` is filled from */
};

/* `capacity` tokens for each of so many sequences, `tokens` at most in one batch. */
hn_status hn_kv_cache_init(hn_kv_cache *cache, int32_t sequences, int32_t capacity, int32_t tokens, hn_error *error);
/* Empties the cache. */
void hn_kv_cache_place(hn_kv_cache *cache, hn_model *model, hn_arena *arena);
/* Before the forward of a batch, given in host memory: makes room for its tokens and sets its positions, which go on from
 * what each sequence has. A sequence that would not fit is an error, and nothing is changed. */
hn_status hn_kv_cache_next(hn_kv_cache *cache, hn_backend *backend, hn_batch *host, hn_error *error);
/* Forgets all but the first `length` tokens of a sequence. */
void hn_kv_cache_cut(hn_kv_cache *cache, int32_t sequence, int32_t length);
/* Sequence `to` becomes a copy of sequence `from`, another one: what several have in common is computed once. */
hn_status hn_kv_cache_copy(hn_kv_cache *cache, hn_model *model, hn_ops_context *ctx, int32_t from, int32_t to,
                           hn_error *error);
void hn_kv_cache_close(hn_kv_cache *cache);

#endif
