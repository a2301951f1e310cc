/* See upload.h. */
#include "core/upload.h"

#include <string.h>

enum { BLOCK = 4 << 20 };

hn_status hn_upload_write(hn_upload *upload, void *to, const void *from, size_t size, hn_error *error)
{
    hn_backend *backend = upload->backend;
    if (backend->host) {
        backend->copy_in(backend, to, from, size);
        return HN_OK;
    }
    if (!upload->block) upload->block = backend->pinned_alloc(backend, BLOCK, error);
    if (!upload->block) return HN_ERR_MEMORY;
    for (size_t done = 0, some; done < size; done += some) {
        if (upload->used == BLOCK) {
            hn_status status = backend->synchronize(backend, error);
            if (status != HN_OK) return status;
            upload->used = 0;
        }
        some = size - done < BLOCK - upload->used ? size - done : BLOCK - upload->used;
        memcpy(upload->block + upload->used, (const unsigned char *)from + done, some);
        backend->copy_in(backend, (unsigned char *)to + done, upload->block + upload->used, some);
        upload->used += some;
    }
    return HN_OK;
}

hn_status hn_upload_finish(hn_upload *upload, hn_error *error)
{
    hn_status status = upload->backend->synchronize(upload->backend, error);
    if (upload->block) upload->backend->pinned_free(upload->backend, upload->block);
    upload->block = NULL;
    upload->used = 0;
    return status;
}
