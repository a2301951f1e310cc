/* A step computed twice, and what nothing may have written: train.check_every (replay.c says what is seen and what is not). All functions
 * wait for the device, and do nothing to the run but fail. */
#ifndef HONE_TRAIN_REPLAY_H
#define HONE_TRAIN_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/digest.h"
#include "core/mirror.h"

typedef struct hn_trainer hn_trainer;

/* Tensors whose bits are known. */
typedef struct hnp_watched {
    hn_named_tensor *tensors; /* [count] in the backend's memory */
    char *names;
    size_t count;
    hn_digest *digests; /* [count] when they were noted */
    hn_mirror mirror;
} hnp_watched;
typedef struct hnp_replay {
    hnp_watched gradients; /* and the loss */
    hnp_watched state;     /* weights, their bf16 copies, moments */
    hnp_watched frozen;    /* what never trains */
    int64_t noted;         /* the step whose beginning `state` is of; -1: none */
} hnp_replay;

/* Once everything has its values; notes what is frozen. */
hn_status hnp_replay_open(hn_trainer *trainer, hn_error *error);
void hnp_replay_close(hnp_replay *replay);
bool hnp_replay_due(const hn_trainer *trainer, int64_t step);
/* Weights and moments as `step` begins, if they are not noted yet. */
hn_status hnp_replay_note_state(hn_trainer *trainer, int64_t step, hn_error *error);
hn_status hnp_replay_note_gradients(hn_trainer *trainer, hn_error *error);
/* HN_ERR_DEVICE: something has other bits than when it was noted. */
hn_status hnp_replay_expect_all(hn_trainer *trainer, hn_error *error);
hn_status hnp_replay_expect_gradients(hn_trainer *trainer, hn_error *error);

#endif
