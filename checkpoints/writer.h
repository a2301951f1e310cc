/* Saving beside the training: a thread that writes one checkpoint at a time by the commit protocol (checkpoint.h) and then lets
 * retention delete what is too old. The caller hands over its own tensors and changes none of them before they were read, which is
 * long before the save is over. With a party (pieces.h) each rank has a writer, and their threads talk with each other: an outcome is the same on
 * all ranks, while a rank's tensors are its own again as soon as its own file needs them no more.
 *
 *     start      at most one save is under way: the one before it must be over and its outcome taken
 *     wait_read  until the tensors are the caller's again
 *     poll       whether it is over, without waiting; its outcome, once
 *     wait       the same, waiting */
#ifndef HONE_CHECKPOINTS_WRITER_H
#define HONE_CHECKPOINTS_WRITER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/pieces.h"
#include "core/error.h"
#include "core/tensor.h"

typedef struct hn_checkpoint_writer hn_checkpoint_writer;

typedef struct hn_checkpoint_job {
    int64_t step;
    int64_t stay[HN_CHECKPOINT_STAY]; /* other steps, which are not deleted either; -1: none */
    const hn_named_tensor *tensors; /* [count] they stay until the save is over; their bytes, until they were read */
    size_t count;
    /* NULL: one process. Else there are `pieces`, also [count], in the place of tensors, and it stays until the save is over. */
    const hn_checkpoint_party *party;
    const hn_piece *pieces;
    json_t *state; /* an object that only the writer uses; it is released with the outcome. Of a party's rank 0 alone, NULL elsewhere */
    /* Called on the writer's thread before the checkpoint takes its name; its failure is the save's. May be NULL. */
    hn_status (*before)(void *context, hn_error *error);
    void *context;
} hn_checkpoint_job;

/* What a save came to. */
typedef struct hn_checkpoint_outcome {
    int64_t step;
    double seconds; /* from start to end */
    bool safe;      /* it is on the disk, also where an older one could not be deleted then */
    hn_error error; /* of the save, or of what was to be deleted behind it */
} hn_checkpoint_outcome;

/* Checkpoints go into `folder`, and `keep` of them stay. The thread takes no signals. */
hn_status hn_checkpoint_writer_open(hn_checkpoint_writer **out, const char *folder, int keep, hn_error *error);
/* Waits for a save under way, whose outcome is lost. Takes NULL. */
void hn_checkpoint_writer_free(hn_checkpoint_writer *writer);

/* Takes job->state. Starting while a save is under way, or before its outcome was taken, is our bug. */
void hn_checkpoint_writer_start(hn_checkpoint_writer *writer, const hn_checkpoint_job *job);
/* Waits until no save reads its tensors' bytes. */
void hn_checkpoint_writer_wait_read(hn_checkpoint_writer *writer);
/* true: a save is over, and *outcome is what it came to. false: there is none, or it is under way. */
bool hn_checkpoint_writer_poll(hn_checkpoint_writer *writer, hn_checkpoint_outcome *outcome);
/* The same, but a save under way is waited for. */
bool hn_checkpoint_writer_wait(hn_checkpoint_writer *writer, hn_checkpoint_outcome *outcome);

#endif
