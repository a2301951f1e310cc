/* See device_batch.h. */
#include "infer/device_batch.h"

void hn_device_batch_place(hn_device_batch *device, hn_arena *arena, hn_bounds bounds)
{
    size_t tokens = (size_t)bounds.tokens * sizeof(int32_t), examples = (size_t)bounds.examples * sizeof(int32_t);
    *device = (hn_device_batch){.bounds = bounds};
    device->batch.cu_seqlens = hn_arena_take(arena, examples + sizeof(int32_t));
    device->batch.token = hn_arena_take(arena, tokens);
    device->batch.position = hn_arena_take(arena, tokens);
    device->batch.type = hn_arena_take(arena, tokens);
    device->batch.example = hn_arena_take(arena, examples);
    device->batch.label = hn_arena_take(arena, examples);
    device->batch.value = hn_arena_take(arena, examples);
    device->target = hn_arena_take(arena, tokens);
    if (!bounds.keys) return;
    device->key_row = hn_arena_take(arena, (size_t)bounds.keys * sizeof(int32_t));
    device->batch.cu_keys = hn_arena_take(arena, examples + sizeof(int32_t));
    device->batch.use = hn_arena_take(arena, (size_t)bounds.keys * sizeof(int32_t));
    device->batch.cu_uses = hn_arena_take(arena, tokens + sizeof(int32_t));
}

void hn_device_batch_upload(hn_device_batch *device, hn_backend *backend, const hn_batch *host)
{
    hn_batch *batch = &device->batch;
    size_t tokens = (size_t)host->tokens * sizeof(int32_t), examples = (size_t)host->n * sizeof(int32_t);
    HN_ASSERT(host->tokens <= device->bounds.tokens && host->n <= device->bounds.examples);
    batch->n = host->n;
    batch->tokens = host->tokens;
    batch->longest = host->longest;
    backend->copy_in(backend, batch->cu_seqlens, host->cu_seqlens, examples + sizeof(int32_t));
    backend->copy_in(backend, batch->token, host->token, tokens);
    backend->copy_in(backend, batch->position, host->position, tokens);
    backend->copy_in(backend, batch->type, host->type, tokens);
    backend->copy_in(backend, batch->example, host->example, examples);
    backend->copy_in(backend, batch->label, host->label, examples);
    backend->copy_in(backend, batch->value, host->value, examples);
    batch->target = host->target ? device->target : NULL;
    if (host->target) backend->copy_in(backend, batch->target, host->target, tokens);
    batch->key_row = host->key_row ? device->key_row : NULL;
    batch->keys = host->keys;
    if (!host->key_row) return;
    size_t keys = (size_t)host->keys * sizeof(int32_t);
    HN_ASSERT(host->keys <= device->bounds.keys);
    backend->copy_in(backend, batch->key_row, host->key_row, keys);
    backend->copy_in(backend, batch->cu_keys, host->cu_keys, examples + sizeof(int32_t));
    backend->copy_in(backend, batch->use, host->use, keys);
    backend->copy_in(backend, batch->cu_uses, host->cu_uses, tokens + sizeof(int32_t));
}
