/* See mirror.h. All tensors of a mirror lie in one block, each at a multiple of 64 bytes. */
#include "core/mirror.h"

#include <string.h>

#include "core/mem.h"

static hn_status open_mirror(hn_mirror *mirror, hn_backend *backend, const hn_named_tensor *tensors, size_t count, bool apart,
                             hn_error *error)
{
    size_t total = 0;
    *mirror = (hn_mirror){.backend = backend, .there = tensors, .count = count};
    for (size_t i = 0; i < count; i++)
        HN_ASSERT(hn_tensor_dense(&tensors[i].tensor) &&
                  hn_size_add(total, hn_mirror_room(hn_tensor_bytes(&tensors[i].tensor)), &total));
    mirror->tensors = hn_calloc(count ? count : 1, sizeof *mirror->tensors);
    if (!mirror->tensors) return hn_fail(error, HN_ERR_MEMORY, "out of memory for a list of %zu tensors", count);
    if (count) memcpy(mirror->tensors, tensors, count * sizeof *tensors);
    if (!apart || !total) return HN_OK;
    mirror->memory = backend->pinned_alloc(backend, total, error);
    if (!mirror->memory) {
        hn_mirror_close(mirror);
        return error ? error->status : HN_ERR_MEMORY;
    }
    mirror->bytes = total;
    total = 0;
    for (size_t i = 0; i < count; i++) {
        mirror->tensors[i].tensor.data = (char *)mirror->memory + total;
        total += hn_mirror_room(hn_tensor_bytes(&tensors[i].tensor));
    }
    return HN_OK;
}

hn_status hn_mirror_open(hn_mirror *mirror, hn_backend *backend, const hn_named_tensor *tensors, size_t count, hn_error *error)
{
    return open_mirror(mirror, backend, tensors, count, !backend->host, error);
}

hn_status hn_mirror_open_apart(hn_mirror *mirror, hn_backend *backend, const hn_named_tensor *tensors, size_t count, hn_error *error)
{
    return open_mirror(mirror, backend, tensors, count, true, error);
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
