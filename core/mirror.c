/* See mirror.h. All tensors of a mirror lie in one block, each at a multiple of 64 bytes. */
#include "core/mirror.h"

#include <string.h>

#include "core/mem.h"

enum { ALIGN = 64 };

/* What a tensor takes of the block. */
static size_t room(const hn_tensor *tensor)
{
    return (hn_tensor_bytes(tensor) + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

hn_status hn_mirror_open(hn_mirror *mirror, hn_backend *backend, const hn_named_tensor *tensors, size_t count, hn_error *error)
{
    size_t total = 0;
    *mirror = (hn_mirror){.backend = backend, .there = tensors, .count = count};
    for (size_t i = 0; i < count; i++)
        HN_ASSERT(hn_tensor_dense(&tensors[i].tensor) && hn_size_add(total, room(&tensors[i].tensor), &total));
    mirror->tensors = hn_calloc(count ? count : 1, sizeof *mirror->tensors);
    if (!mirror->tensors) return hn_fail(error, HN_ERR_MEMORY, "out of memory for a list of %zu tensors", count);
    if (count) memcpy(mirror->tensors, tensors, count * sizeof *tensors);
    if (backend->host || !total) return HN_OK;
    mirror->memory = backend->pinned_alloc(backend, total, error);
    if (!mirror->memory) {
        hn_mirror_close(mirror);
        return error ? error->status : HN_ERR_MEMORY;
    }
    total = 0;
    for (size_t i = 0; i < count; i++) {
        mirror->tensors[i].tensor.data = (char *)mirror->memory + total;
        total += room(&tensors[i].tensor);
    }
    return HN_OK;
}

hn_status hn_mirror_fetch(hn_mirror *mirror, hn_error *error)
{
    hn_backend *backend = mirror->backend;
    for (size_t i = 0; mirror->memory && i < mirror->count; i++)
        backend->copy_out(backend, mirror->tensors[i].tensor.data, mirror->there[i].tensor.data,
                          hn_tensor_bytes(&mirror->there[i].tensor));
    return backend->synchronize(backend, error);
}

hn_status hn_mirror_store(hn_mirror *mirror, hn_error *error)
{
    hn_backend *backend = mirror->backend;
    for (size_t i = 0; mirror->memory && i < mirror->count; i++)
        backend->copy_in(backend, mirror->there[i].tensor.data, mirror->tensors[i].tensor.data,
                         hn_tensor_bytes(&mirror->there[i].tensor));
    return backend->synchronize(backend, error);
}

void hn_mirror_close(hn_mirror *mirror)
{
    if (mirror->memory) mirror->backend->pinned_free(mirror->backend, mirror->memory);
    hn_free(mirror->tensors);
    *mirror = (hn_mirror){0};
}
