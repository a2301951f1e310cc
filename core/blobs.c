/* See blobs.h. */
#include "core/blobs.h"

#include "core/mem.h"

hn_status hn_blobs_init(hn_blobs *blobs, int count, const size_t *sizes, hn_error *error)
{
    hn_blobs made = {.count = count};
    bool fits = true;
    HN_ASSERT(count >= 0);
    made.begin = hn_calloc((size_t)count + 1, sizeof *made.begin);
    for (int i = 0; made.begin && i < count && fits; i++) fits = hn_size_add(made.begin[i], sizes[i], &made.begin[i + 1]);
    if (made.begin && fits) made.bytes = hn_malloc(made.begin[count]);
    if (!made.bytes) {
        hn_free(made.begin);
        return hn_fail(error, HN_ERR_MEMORY, "out of memory for the byte strings of %d makers", count);
    }
    *blobs = made;
    return HN_OK;
}

void hn_blobs_close(hn_blobs *blobs)
{
    hn_free(blobs->bytes);
    hn_free(blobs->begin);
    *blobs = (hn_blobs){0};
}
