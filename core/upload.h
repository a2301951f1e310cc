/* Many small pieces from the host to a backend's memory. Where that memory is the host's they are copied; else they go through two slots
 * of pinned memory (staging.h), one of which is filled while the other one is under way.
 *
 *     hn_upload upload = {.backend = backend};
 *     hn_upload_write(&upload, there, here, size, error) ...
 *     hn_upload_finish(&upload, error);                      always, also after a failure */
#ifndef HONE_CORE_UPLOAD_H
#define HONE_CORE_UPLOAD_H

#include "core/staging.h"

typedef struct hn_upload {
    hn_backend *backend;
    hn_staging staging;  /* no slots: not needed yet */
    unsigned char *slot; /* that is filled now; NULL: none */
    size_t used;
} hn_upload;

/* The bytes at `from` may change after the call. */
hn_status hn_upload_write(hn_upload *upload, void *to, const void *from, size_t size, hn_error *error);
/* Waits until everything has arrived. The upload may be used again. */
hn_status hn_upload_finish(hn_upload *upload, hn_error *error);

#endif
