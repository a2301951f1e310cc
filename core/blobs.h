/* Byte strings of several makers in one block, as ranks gather them. */
#ifndef HONE_CORE_BLOBS_H
#define HONE_CORE_BLOBS_H

#include <stddef.h>

#include "core/error.h"

typedef struct hn_blobs {
    int count;
    unsigned char *bytes; /* all of them, end to end */
    size_t *begin;        /* [count + 1]: blob i is bytes[begin[i]] up to bytes[begin[i + 1]] */
} hn_blobs;

/* Room for `count` blobs of these sizes, not filled. */
hn_status hn_blobs_init(hn_blobs *blobs, int count, const size_t *sizes, hn_error *error);
void hn_blobs_close(hn_blobs *blobs); /* takes one that is all zero, and leaves it so */

static inline unsigned char *hn_blobs_view(const hn_blobs *blobs, int i) { return blobs->bytes + blobs->begin[i]; }
static inline size_t hn_blobs_size(const hn_blobs *blobs, int i) { return blobs->begin[i + 1] - blobs->begin[i]; }

#endif
