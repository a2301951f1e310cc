/* A batch in the backend's memory: one block placed once for the largest batch. A host batch is packed into pinned memory and goes
 * over in one copy, while the batch before it may still be on its way. */
#ifndef HONE_INFER_DEVICE_BATCH_H
#define HONE_INFER_DEVICE_BATCH_H

#include "core/arena.h"
#include "core/batch.h"
#include "core/staging.h"
#include "models/model.h"

typedef struct hn_device_batch {
    hn_batch batch; /* device pointers, of the batch uploaded last */
    hn_bounds bounds;
    unsigned char *memory;
    hn_staging staging;
} hn_device_batch;

/* Run on a counting arena, then on the real one. */
void hn_device_batch_place(hn_device_batch *device, hn_arena *arena, hn_bounds bounds);
/* Bytes of the largest batch; alloc takes twice as many of pinned memory. */
size_t hn_device_batch_bytes(hn_bounds bounds);
hn_status hn_device_batch_alloc(hn_device_batch *device, hn_backend *backend, hn_error *error);
void hn_device_batch_close(hn_device_batch *device);
/* Enqueues the copy of a host batch within the bounds; its arrays may change as soon as this returns. Waits while both of the last two
 * batches are on their way; fails when the device has. */
hn_status hn_device_batch_upload(hn_device_batch *device, const hn_batch *host, hn_error *error);

#endif
