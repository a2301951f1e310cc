/* manifest.json of a checkpoint: what its file holds, byte by byte, and the run's state. One tensor a line,
 * so that it reads well and two of them compare with diff:
 *
 *     {"format": 1,
 *      "step": 500,
 *      "world_size": 1,
 *      "files": [{"name": "rank-0.h5", "bytes": 2344, "digest": "<32 digits>", "tensors": [
 *       {"name": "layer.0.weight", "dtype": "f32", "shape": [2, 3], "offset": 2048, "bytes": 24, ...},
 *       ...]}],
 *      "state": {...},
 *      "digest": "<XXH3-128 of every byte before this line>"}
 *
 * The last line has a fixed form, so that no byte of the file can change unseen. */
#ifndef HONE_CHECKPOINTS_MANIFEST_H
#define HONE_CHECKPOINTS_MANIFEST_H

#include <jansson.h>
#include <stdint.h>

#include "core/digest.h"
#include "core/error.h"
#include "core/strbuf.h"
#include "core/tensor.h"

#define HNP_MANIFEST_FORMAT 1
#define HNP_MANIFEST_NAME "manifest.json"
#define HNP_FILE_NAME "rank-0.h5"

/* A tensor of the file. */
typedef struct hnp_entry {
    const char *name; /* borrowed: the caller's when saving, the manifest's when loading */
    hn_tensor shape;  /* type and shape; data is NULL */
    uint64_t offset;  /* of its bytes in the file; 0 when it has none */
    hn_digest digest;
} hnp_entry;

typedef struct hnp_manifest {
    int64_t step;
    uint64_t file_bytes;
    hn_digest file_digest;
    hnp_entry *entries; /* sorted by name when read */
    size_t count;
    json_t *root;        /* owns the names when read; NULL when saving */
    const json_t *state; /* borrowed */
} hnp_manifest;

/* Appends the text; check out->failed once. */
void hnp_manifest_encode(hn_strbuf *out, const hnp_manifest *manifest);
/* Checks the text against its digest, then everything in it. `where` is what errors call it. */
hn_status hnp_manifest_decode(hnp_manifest *out, const char *text, size_t size, const char *where,
                              hn_error *error);
/* The same for <folder>/manifest.json, which must be of this step. */
hn_status hnp_manifest_read(hnp_manifest *out, const char *folder, int64_t step, hn_error *error);
void hnp_manifest_close(hnp_manifest *manifest);
const hnp_entry *hnp_manifest_find(const hnp_manifest *manifest, const char *name);

#endif
