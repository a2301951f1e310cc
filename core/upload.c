/* See upload.h. */
#include "core/upload.h"

#include <string.h>

enum { SLOT = 2 << 20 };

/* Lets the full slot go and takes the other. */
static hn_status next_slot(hn_upload *upload, hn_error *error)
{
    void *slot;
    hn_status status = HN_OK;
    if (upload->slot) hn_staging_mark(&upload->staging);
    else if (!upload->staging.slots) status = hn_staging_alloc(&upload->staging, upload->backend, 2, SLOT, error);
    if (status == HN_OK) status = hn_staging_take(&upload->staging, &slot, error);
    upload->slot = status == HN_OK ? slot : NULL;
    upload->used = 0;
    return status;
}

hn_status hn_upload_write(hn_upload *upload, void *to, const void *from, size_t size, hn_error *error)
{
    hn_backend *backend = upload->backend;
    if (backend->host) {
        backend->copy_in(backend, to, from, size);
        return HN_OK;
    }
    for (size_t done = 0, some; done < size; done += some) {
        if (!upload->slot || upload->used == SLOT) {
            hn_status status = next_slot(upload, error);
            if (status != HN_OK) return status;
        }
        some = size - done < SLOT - upload->used ? size - done : SLOT - upload->used;
        memcpy(upload->slot + upload->used, (const unsigned char *)from + done, some);
        backend->copy_in(backend, (unsigned char *)to + done, upload->slot + upload->used, some);
        upload->used += some;
    }
    return HN_OK;
}

hn_status hn_upload_finish(hn_upload *upload, hn_error *error)
{
    hn_backend *backend = upload->backend;
    hn_status status = backend->synchronize(backend, error);
    hn_staging_close(&upload->staging);
    *upload = (hn_upload){.backend = backend};
    return status;
}
