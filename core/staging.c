/* See staging.h. */
#include "core/staging.h"

hn_status hn_staging_alloc(hn_staging *staging, hn_backend *backend, int slots, size_t size, hn_error *error)
{
    hn_status status = HN_OK;
    HN_ASSERT(slots >= 1 && slots <= HN_STAGING_MOST);
    *staging = (hn_staging){.backend = backend, .slots = slots};
    for (int i = 0; i < slots && status == HN_OK; i++) {
        staging->slot[i].memory = backend->pinned_alloc(backend, size, error);
        if (staging->slot[i].memory) staging->slot[i].event = backend->event_new(backend, error);
        if (!staging->slot[i].event)
            status = hn_fail(error, HN_ERR_MEMORY, "out of memory for %zu bytes between host and device", size);
    }
    if (status != HN_OK) hn_staging_close(staging);
    return status;
}

void hn_staging_close(hn_staging *staging)
{
    hn_backend *backend = staging->backend;
    for (int i = 0; i < staging->slots; i++) {
        backend->event_free(backend, staging->slot[i].event);
        backend->pinned_free(backend, staging->slot[i].memory);
    }
    *staging = (hn_staging){0};
}

static hn_status wait_for(hn_staging *staging, int i, void **slot, hn_error *error)
{
    hn_status status = HN_OK;
    if (staging->slot[i].marked) status = staging->backend->event_wait(staging->backend, staging->slot[i].event, error);
    staging->slot[i].marked = false;
    *slot = staging->slot[i].memory;
    return status;
}

hn_status hn_staging_take(hn_staging *staging, void **slot, hn_error *error)
{
    staging->current = (staging->current + 1) % staging->slots;
    return wait_for(staging, staging->current, slot, error);
}

void hn_staging_mark(hn_staging *staging)
{
    staging->backend->event_record(staging->backend, staging->slot[staging->current].event);
    staging->slot[staging->current].marked = true;
}

hn_status hn_staging_wait(hn_staging *staging, int before, void **slot, hn_error *error)
{
    HN_ASSERT(before >= 0 && before < staging->slots);
    return wait_for(staging, (staging->current + staging->slots - before) % staging->slots, slot, error);
}
