/* Tensors in a backend's memory as the host sees them, to be saved or filled by code that knows host memory alone. Where the
 * backend's memory is the host's, they are the tensors themselves and nothing is copied.
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
} hn_mirror;

/* `tensors` are dense and stay until hn_mirror_close. */
hn_status hn_mirror_open(hn_mirror *mirror, hn_backend *backend, const hn_named_tensor *tensors, size_t count, hn_error *error);
/* Both wait until it is done. */
hn_status hn_mirror_fetch(hn_mirror *mirror, hn_error *error);
hn_status hn_mirror_store(hn_mirror *mirror, hn_error *error);
void hn_mirror_close(hn_mirror *mirror);

#endif
