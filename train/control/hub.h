/* A collective as rank 0 sees it: who has come, with which bytes, and what all are answered. Pure: no socket and no thread. Shared
 * inside train/. */
#ifndef HONE_TRAIN_CONTROL_HUB_H
#define HONE_TRAIN_CONTROL_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "train/control/message.h"

typedef struct hnp_part hnp_part;
typedef struct hnp_hub {
    int size, complete;
    uint64_t number;  /* of the collective that is under way */
    size_t claimed;   /* bytes of all parts */
    const char *over; /* why this one cannot be answered with bytes; NULL */
    hnp_part *part;
} hnp_hub;

hn_status hnp_hub_init(hnp_hub *hub, int size, hn_error *error);
void hnp_hub_close(hnp_hub *hub);
/* A rank has come. NULL, or why it may not. */
const char *hnp_hub_call(hnp_hub *hub, int rank, const hnp_call *call);
/* Bytes of a rank that has come. NULL, or why they may not be. */
const char *hnp_hub_piece(hnp_hub *hub, int rank, const void *bytes, size_t size);
bool hnp_hub_called(const hnp_hub *hub, int rank);
/* All have come. */
bool hnp_hub_ready(const hnp_hub *hub);
/* The answer to all, with its bytes in *out (hnp_body_release), and ready for the next. `who` names the ranks. false: out of memory,
 * and nothing has changed. */
bool hnp_hub_answer(hnp_hub *hub, hnp_answer *answer, hnp_body **out, const hnp_identity *who);

#endif
