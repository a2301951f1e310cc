/* One checkpoint folder against its manifest, byte by byte. Shared inside this room. */
#ifndef HONE_CHECKPOINTS_CHECK_H
#define HONE_CHECKPOINTS_CHECK_H

#include <stdbool.h>

#include "checkpoints/manifest.h"

/* An open file of tensors. It is read by its offsets, without HDF5 and in blocks: a digest needs no room for
 * the tensor. */
typedef struct hnp_reader {
    int fd; /* -1: nothing open */
    uint64_t size;
    const char *path; /* borrowed */
    unsigned char *block;
} hnp_reader;

/* A regular file, no link. */
hn_status hnp_reader_open(hnp_reader *reader, const char *path, hn_error *error);
void hnp_reader_close(hnp_reader *reader);
/* Who wants bytes that are read: `size` of them, the first of which stands `at` bytes behind the offset asked for. */
typedef struct hnp_taker {
    void (*take)(void *context, uint64_t at, const unsigned char *bytes, size_t size);
    void *context;
} hnp_taker;

/* Digest of `size` bytes from `offset`, which also go to `taker` (may be NULL), block by block. */
hn_status hnp_reader_digest(hn_digest *out, const hnp_taker *taker, hnp_reader *reader, uint64_t offset, uint64_t size,
                            hn_error *error);
/* Reads the file once: its own digest, and each tensor's bytes against its digest. Damaged ones are named in `report` (may be NULL), the first
 * in the error; *whole is there then too. Tensors that share bytes are an error. */
hn_status hnp_reader_check(hn_digest *whole, hnp_reader *reader, const hnp_entry *entries, size_t count, hn_strbuf *report,
                           hn_error *error);

/* Checks that the file holds exactly these tensors, as hnp_store_write writes them. Writes each one's offset, or, with
 * `expect_offsets`, compares it. */
hn_status hnp_check_structure(const char *path, hnp_entry *entries, size_t count, bool expect_offsets, hn_error *error);

/* Files `part`, part + parts, ... of a manifest: each one's size and digest, each tensor's digest, and that its structure names the same
 * tensors in the same places. All of them are looked at, and the first failure is kept; `report` (may be NULL) gets a line a good file and
 * a line a damaged tensor. */
hn_status hnp_check_files(const hnp_manifest *manifest, const char *folder, int part, int parts, hn_strbuf *report, hn_error *error);

/* The whole folder of a step: its manifest and all files. */
hn_status hnp_check_folder(hnp_manifest *out, const char *folder, int64_t step, hn_strbuf *report,
                           hn_error *error);

/* The number in "step-N" as this room writes it (no sign, no leading zero), or -1. */
int64_t hnp_step_of(const char *name);
/* <folder>/<before>step-<step> (hn_free); NULL: out of memory. */
char *hnp_step_path(const char *folder, const char *before, int64_t step);
/* Steps of the folders named step-N, ascending (hn_free); with `manifests` only those that hold a manifest. A
 * folder that does not exist has none. */
hn_status hnp_steps_list(int64_t **steps, size_t *count, const char *folder, bool manifests, hn_error *error);

#endif
