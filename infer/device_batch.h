/* A batch in the backend's memory: arrays placed once for the largest batch, filled from a host batch every step. */
#ifndef HONE_INFER_DEVICE_BATCH_H
#define HONE_INFER_DEVICE_BATCH_H

#include "core/arena.h"
#include "core/batch.h"
#include "models/model.h"

typedef struct hn_device_batch {
    hn_batch batch; /* device pointers */
    int32_t *target;  /* [T] of batches that have targets */
    int32_t *key_row; /* [keys] of batches that share rows */
    hn_bounds bounds;
} hn_device_batch;

/* Run on a counting arena, then on the real one. */
void hn_device_batch_place(hn_device_batch *device, hn_arena *arena, hn_bounds bounds);
/* Copies a host batch within the bounds. */
void hn_device_batch_upload(hn_device_batch *device, hn_backend *backend, const hn_batch *host);

#endif
