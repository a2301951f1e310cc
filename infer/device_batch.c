/* See device_batch.h. The arrays of a batch lie end to end in the order of pack_all, each at a multiple of HN_ARENA_ALIGN, so a batch of the
 * same sizes has the same addresses. */
#include "infer/device_batch.h"

#include <string.h>

enum { TARGETS = 128 };

/* Every array has elements of four bytes. */
static size_t room(int32_t count)
{
    return ((size_t)count * sizeof(int32_t) + HN_ARENA_ALIGN - 1) & ~(size_t)(HN_ARENA_ALIGN - 1);
}

size_t hn_device_batch_bytes(hn_bounds bounds)
{
    size_t bytes = room(bounds.examples + 1) + 4 * room(bounds.tokens) + 3 * room(bounds.examples);
    if (bounds.keys) bytes += 2 * room(bounds.keys) + room(bounds.examples + 1) + room(bounds.tokens + 1);
    return bytes;
}

void hn_device_batch_place(hn_device_batch *device, hn_arena *arena, hn_bounds bounds)
{
    *device = (hn_device_batch){.bounds = bounds};
    device->memory = hn_arena_take(arena, hn_device_batch_bytes(bounds));
}

hn_status hn_device_batch_alloc(hn_device_batch *device, hn_backend *backend, hn_error *error)
{
    return hn_staging_alloc(&device->staging, backend, 2, hn_device_batch_bytes(device->bounds), error);
}

void hn_device_batch_close(hn_device_batch *device)
{
    hn_staging_close(&device->staging);
}

typedef struct packer {
    unsigned char *host, *device;
    size_t used;
} packer;

/* Where the array will be on the device; NULL when there is none. */
static void *pack(packer *p, const void *array, int32_t count)
{
    if (!array) return NULL;
    void *place = p->device + p->used;
    memcpy(p->host + p->used, array, (size_t)count * sizeof(int32_t));
    p->used += room(count);
    return place;
}

/* Rounded up, so that batches of one size differ in nothing that a device is told. */
static int32_t count_targets(const hn_batch *host)
{
    int32_t count = 0;
    for (int32_t t = 0; t < host->tokens; t++) count += host->target[t] != HN_NO_TARGET;
    count = (count + TARGETS - 1) / TARGETS * TARGETS;
    return count < host->tokens ? count : host->tokens;
}

static void pack_all(packer *p, hn_batch *batch, const hn_batch *host)
{
    *batch = (hn_batch){.n = host->n, .tokens = host->tokens, .longest = host->longest, .keys = host->keys};
    batch->cu_seqlens = pack(p, host->cu_seqlens, host->n + 1);
    batch->token = pack(p, host->token, host->tokens);
    batch->position = pack(p, host->position, host->tokens);
    batch->type = pack(p, host->type, host->tokens);
    batch->example = pack(p, host->example, host->n);
    batch->label = pack(p, host->label, host->n);
    batch->value = pack(p, host->value, host->n);
    batch->target = pack(p, host->target, host->tokens);
    if (host->target) batch->targets = count_targets(host);
    if (!host->key_row) return;
    batch->key_row = pack(p, host->key_row, host->keys);
    batch->cu_keys = pack(p, host->cu_keys, host->n + 1);
    batch->use = pack(p, host->use, host->keys);
    batch->cu_uses = pack(p, host->cu_uses, host->tokens + 1);
}

hn_status hn_device_batch_upload(hn_device_batch *device, const hn_batch *host, hn_error *error)
{
    void *slot;
    hn_backend *backend = device->staging.backend;
    HN_ASSERT(host->tokens <= device->bounds.tokens && host->n <= device->bounds.examples);
    HN_ASSERT(!host->key_row || host->keys <= device->bounds.keys);
    hn_status status = hn_staging_take(&device->staging, &slot, error);
    if (status != HN_OK) return status;
    packer p = {.host = slot, .device = device->memory};
    pack_all(&p, &device->batch, host);
    backend->copy_in(backend, device->memory, slot, p.used);
    hn_staging_mark(&device->staging);
    return HN_OK;
}
