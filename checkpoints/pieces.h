/* Checkpoints of several processes (ranks): each writes the pieces of the tensors that it keeps into a file of its own,
 *
 *     <folder>/step-N/rank-0.h5, rank-1.h5, ...   one contiguous dataset a piece, called TENSOR@FIRST
 *     <folder>/step-N/manifest.json               written by rank 0, last
 *
 * and any number of processes, one included, reads them back, cut as it likes. Nothing here knows how processes talk: they do so by
 * the caller's functions. One process whose tensors are whole saves by checkpoint.h; what it wrote is read here too, and the other way
 * round.
 *
 * Write: rank 0 makes .tmp-step-N -> go -> every rank writes its file, closes it, reads it back, compares digests, fsync -> parts -> rank 0:
 * fsync of the folder, rename, fsync of the parent, manifest by temp + fsync + rename + fsync, retention -> done. */
#ifndef HONE_CHECKPOINTS_PIECES_H
#define HONE_CHECKPOINTS_PIECES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "checkpoints/checkpoint.h"
#include "core/blobs.h"

/* Elements [first, first + count) of a tensor as it lies row by row. of.tensor has the whole tensor's type and shape, and its data is where
 * the first of these elements stands; the others follow it. */
typedef struct hn_piece {
    hn_named_tensor of;
    int64_t first, count;
} hn_piece;

/* How the ranks of a save come to one result. Every rank calls these three in this order, once each, whatever has failed on it, so that they
 * may be collectives; only a `go` that fails, which it does everywhere, is not followed by the others. They may wait for other ranks, and
 * return a failure when those are gone. */
typedef struct hn_checkpoint_party {
    int rank, ranks; /* at most 1,024 */
    uint64_t bytes;  /* of all ranks' pieces together: room for them is asked for on rank 0 */
    void *context;
    /* Rank 0 tells what came of making the folder, *mine; the others wait for it. Returns that, everywhere. */
    hn_status (*go)(void *context, int64_t step, const hn_error *mine, hn_error *error);
    /* Each rank tells that its file is whole and durable, and what it holds (`entry`: text of any length), or what failed, *mine. Rank 0 waits
     * for all: *all is every rank's entry (hn_blobs_close), or the failure of one of them, with its rank. The others give NULL, and what they
     * return counts for nothing. */
    hn_status (*parts)(void *context, int64_t step, const hn_error *mine, const hn_strbuf *entry, hn_blobs *all, hn_error *error);
    /* Rank 0 tells what the save came to: whether the checkpoint is there, and what failed, of it or behind it. The others wait for that
     * and are given the same. Returns *came_to's status. */
    hn_status (*done)(void *context, int64_t step, bool *safe, hn_error *came_to);
} hn_checkpoint_party;

/* What to delete behind a save that is safe (hn_checkpoint_retain). */
typedef struct hn_checkpoint_retention {
    int keep;
    int64_t stay[HN_CHECKPOINT_STAY];
} hn_checkpoint_retention;

/* Saves one rank's pieces, called by all ranks at once: the checkpoint is there for all of them or for none, and all learn the same: *safe,
 * whether it is, and the error, which may also be of `retention` (NULL: nothing is deleted). Each tensor's pieces, of all ranks, must be all of
 * it and not overlap. `state` is rank 0's alone. Otherwise as hn_checkpoint_save; `release` is the rank's own: it is let go behind the last
 * write of its own file, and its `then` belongs to its part. */
hn_status hn_checkpoint_save_pieces(const char *folder, int64_t step, const hn_piece *pieces, size_t count, const json_t *state,
                                    const hn_checkpoint_release *release, const hn_checkpoint_party *party,
                                    const hn_checkpoint_retention *retention, bool *safe, hn_error *error);

/* How the ranks that read come to one result; called by all of them at the same places. */
typedef struct hn_checkpoint_readers {
    int rank, ranks;
    void *context;
    /* Rank 0's bytes to everybody: it leaves them as they are, the others are given a copy (hn_free). */
    hn_status (*share)(void *context, void **bytes, size_t *size, hn_error *error);
    /* The first failure of any rank, with its message, everywhere; HN_OK: there is none. */
    hn_status (*agree)(void *context, hn_status mine, hn_error *error);
} hn_checkpoint_readers;

/* A checkpoint all of whose bytes were checked. */
typedef struct hn_checkpoint hn_checkpoint;

/* Opens step-<step>. With `readers` (NULL: one process), which call this all at once, rank 0 alone reads the manifest, and each rank
 * checks a share of the files: file i is that of rank i % ranks. */
hn_status hn_checkpoint_open(hn_checkpoint **out, const char *folder, int64_t step, const hn_checkpoint_readers *readers, hn_error *error);
/* The newest one of step `last` or before that can be opened, as hn_checkpoint_find_until does it; NULL: there is none. */
hn_status hn_checkpoint_open_newest(hn_checkpoint **out, const char *folder, int64_t last, const hn_checkpoint_readers *readers,
                                    hn_strbuf *passed_over, hn_error *error);
void hn_checkpoint_free(hn_checkpoint *checkpoint); /* takes NULL */

int64_t hn_checkpoint_step(const hn_checkpoint *checkpoint);
int hn_checkpoint_ranks(const hn_checkpoint *checkpoint); /* that wrote it */
const json_t *hn_checkpoint_state(const hn_checkpoint *checkpoint);
/* Fills the pieces, whoever wrote them; every tensor's type and shape must be the checkpoint's (HN_ERR_MISMATCH). A file is opened only if
 * anything is wanted of it. On failure what is in the pieces means nothing. Every rank on its own. */
hn_status hn_checkpoint_read(const hn_checkpoint *checkpoint, const hn_piece *pieces, size_t count, hn_error *error);

#endif
