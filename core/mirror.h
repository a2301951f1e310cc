/* Tensors in a backend's memory as the host sees them, to be saved or filled by code that knows host memory alone. Where the
 * backend's memory is the host's, they are the tensors themselves and nothing is copied; or, with hn_mirror_open_apart, a copy that stays
 * as it was fetched while the tensors go on changing.
 *
 *     hn_mirror_open    a place for each
 *     hn_mirror_fetch   from the backend to the mirror
 *     hn_mirror_store   from the mirror to the backend */
#ifndef HONE_CORE_MIRROR_H
#define HONE_CORE_MIRROR_H

#include "core/backend.h"
#include "core/tensor.h"

typedef struct hn_mirror {
    hn_named_tensor *tensors; /* [count] the same names and shapes, in host memory */
    size_t count;
    hn_backend *backend;
    const hn_named_tensor *there; /* borrowed */
    void *memory; /* NULL: nothing is copied */
    size_t bytes; /* of memory */
} hn_mirror;

/* What a tensor of so many bytes takes of a mirror's memory. */
static inline size_t hn_mirror_room(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* `tensors` are dense and stay until hn_mirror_close. */
hn_status hn_mirror_open(hn_mirror *mirror, hn_backend *backend, const hn_named_tensor *tensors, size_t count, hn_error *error);
/* The same with memory of its own in any case. */
hn_status hn_mirror_open_apart(hn_mirror *mirror, hn_backend *backend, const hn_named_tensor *tensors, size_t count, hn_error *error);
/* Both wait until it is done. */
hn_status hn_mirror_fetch(hn_mirror *mirror, hn_error *error);
hn_status hn_mirror_store(hn_mirror *mirror, hn_error *error);
void hn_mirror_close(hn_mirror *mirror);

#endif
