/* manifest.json of a checkpoint: what its files hold, byte by byte, and the run's state. One tensor a line,
 * so that it reads well and two of them compare with diff. Of one process, whose file holds whole tensors:
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
 * Of several, each of which wrote its pieces of the tensors into a file of its own:
 *
 *     {"format": 2,
 *      "world_size": 2,
 *      "files": [{"name": "rank-0.h5", ..., "tensors": [
 *       {"name": "layer.0.weight", "dtype": "f32", "shape": [2, 3], "first": 0, "count": 4, "offset": ...},
 *       ...]},
 *      {"name": "rank-1.h5", ..., "tensors": [
 *       {"name": "layer.0.weight", "dtype": "f32", "shape": [2, 3], "first": 4, "count": 2, "offset": ...},
 *
 * where a piece is elements [first, first + count) of the tensor as it lies row by row, and the pieces of a tensor, of whichever files, are
 * all of it and do not overlap.
 *
 * The last line has a fixed form, so that no byte of the file can change unseen. */
#ifndef HONE_CHECKPOINTS_MANIFEST_H
#define HONE_CHECKPOINTS_MANIFEST_H

#include <jansson.h>
#include <stdint.h>

#include "core/blobs.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/strbuf.h"
#include "core/tensor.h"

#define HNP_MANIFEST_WHOLE 1  /* formats */
#define HNP_MANIFEST_PIECES 2
#define HNP_MANIFEST_RANKS 1024 /* at most */
#define HNP_MANIFEST_NAME "manifest.json"

/* The name of a rank's file. */
#define HNP_FILE_NAME 24
const char *hnp_file_name(char text[HNP_FILE_NAME], int rank);

/* A tensor of a file, or a piece of one. */
typedef struct hnp_entry {
    const char *name;     /* borrowed: the caller's when saving, the manifest's when loading */
    const char *dataset;  /* what it is called in the HDF5 file: a whole tensor `name` itself (the same pointer), a piece NAME@FIRST */
    hn_tensor shape;      /* type and shape of the whole tensor; data is NULL */
    int64_t first, count; /* elements of it that stand here */
    int file;
    uint64_t offset; /* of its bytes in the file; 0 when it has none */
    hn_digest digest;
} hnp_entry;

typedef struct hnp_file {
    uint64_t bytes;
    hn_digest digest;
    hnp_entry *entries;
    size_t count;
} hnp_file;

typedef struct hnp_manifest {
    int format;
    int64_t step;
    int ranks;
    hnp_file *files; /* [ranks] */
    const json_t *state; /* borrowed */
    /* When read: */
    hnp_entry *entries; /* [count] of all files, one file's behind the other's */
    hnp_entry **order;  /* [count] by name, then by their first element */
    size_t count;
    char *datasets; /* owns the names of pieces */
    json_t *root;   /* owns the tensors' names */
} hnp_manifest;

/* All elements of a tensor. */
hnp_entry hnp_entry_whole(const char *name, const hn_tensor *tensor);
/* Names the datasets of pieces; the block that owns the names (hn_free), NULL: out of memory. */
char *hnp_entries_name(hnp_entry *entries, size_t count);
size_t hnp_entry_bytes(const hnp_entry *entry);
/* Type and shape of its dataset. */
hn_tensor hnp_entry_stored(const hnp_entry *entry);
bool hnp_same_shape(const hn_tensor *a, const hn_tensor *b);

/* Append text; check out->failed once. The whole manifest: */
void hnp_manifest_encode(hn_strbuf *out, const hnp_manifest *manifest);
/* One rank's member of "files", in the format of pieces, and the manifest of such members, rank 0's first: */
void hnp_manifest_encode_file(hn_strbuf *out, const hnp_file *file, int rank);
void hnp_manifest_join(hn_strbuf *out, int64_t step, const hn_blobs *files, const json_t *state);

/* Checks the text against its digest, then everything in it. `where` is what errors call it. */
hn_status hnp_manifest_decode(hnp_manifest *out, const char *text, size_t size, const char *where,
                              hn_error *error);
/* The same for the text of <folder>/manifest.json, which must be of this step. */
hn_status hnp_manifest_take(hnp_manifest *out, const char *text, size_t size, const char *folder, int64_t step, hn_error *error);
/* That text (hn_free). */
hn_status hnp_manifest_text(char **text, size_t *size, const char *folder, hn_error *error);
hn_status hnp_manifest_read(hnp_manifest *out, const char *folder, int64_t step, hn_error *error); /* both */
void hnp_manifest_close(hnp_manifest *manifest);
/* The tensor's first piece in `order`, behind which its others are; NULL: it has none. */
hnp_entry *const *hnp_manifest_find(const hnp_manifest *manifest, const char *name);

#endif
