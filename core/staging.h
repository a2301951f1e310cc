/* Pinned host memory on the way to or from a backend: a few slots of one size, taken in turn. A slot that was marked is not given
 * out again before everything that was enqueued until its mark is done; so a host may be some copies ahead and none of them reads
 * what was written too early. Nothing is allocated after hn_staging_alloc. */
#ifndef HONE_CORE_STAGING_H
#define HONE_CORE_STAGING_H

#include <stdbool.h>
#include <stddef.h>

#include "core/backend.h"

#define HN_STAGING_MOST 2

typedef struct hn_staging {
    hn_backend *backend;
    struct {
        void *memory, *event;
        bool marked; /* and not waited for since */
    } slot[HN_STAGING_MOST];
    int slots, current; /* current: the slot taken last */
} hn_staging;

/* One or two slots of `size` bytes, zeroed. */
hn_status hn_staging_alloc(hn_staging *staging, hn_backend *backend, int slots, size_t size, hn_error *error);
void hn_staging_close(hn_staging *staging); /* takes one that was never allocated, all zero */
/* The next slot. Waits for its mark; fails when that shows a failure of the device. */
hn_status hn_staging_take(hn_staging *staging, void **slot, hn_error *error);
/* The slot taken last is used by what was enqueued since. */
void hn_staging_mark(hn_staging *staging);
/* Waits for the mark of the slot that was taken `before` takes before the last one: 0 for the last. Its memory is then the host's
 * until it is taken again. */
hn_status hn_staging_wait(hn_staging *staging, int before, void **slot, hn_error *error);

#endif
