/* Streams of bytes in pieces: what a collective sends and receives, in the order in which it says so, both ways at once, with the addition
 * of a piece beside the way of the next. On the transport thread alone.
 *
 * A collective says what is to be done (none of these waits), then runs it:
 *
 *     hnp_pump_tell / _hear     the call, to one rank and from one: what comes must be the call that this rank makes
 *     hnp_pump_send             bytes to one rank; they stay as they are until hnp_pump_finish
 *     hnp_pump_receive / _add   bytes from one rank, put there or added to what is there
 *     hnp_pump_relay            sends on what an earlier hnp_pump_receive brings, as it comes
 *
 *     hnp_pump_arrive           returns when all that was to be received is here
 *     hnp_pump_finish           returns when all is sent, too */
#ifndef HONE_TRAIN_TRANSPORT_PUMP_H
#define HONE_TRAIN_TRANSPORT_PUMP_H

#include <stdatomic.h>
#include <stdint.h>

#include "train/link.h"
#include "train/transport/p2p.h"

typedef enum hnp_collective_kind { HNP_REDUCE_SCATTER = 1, HNP_ALL_GATHER, HNP_ALL_REDUCE, HNP_BROADCAST } hnp_collective_kind;

/* A call of the link; every rank's is the same, and these bytes travel ahead of the first data. */
typedef struct hnp_collective {
    uint64_t sequence; /* from 1 */
    uint64_t bytes;
    uint32_t kind, sum;
    int32_t root;
    uint32_t reserved;
    char what[HN_LINK_WHAT];
} hnp_collective;

typedef struct hnp_pump hnp_pump;

/* Both pointers are the caller's and outlive the pump: `quit` ends a run from elsewhere, `bytes` counts what was sent and received. */
hn_status hnp_pump_open(hnp_pump **out, hn_p2p *p2p, const atomic_bool *quit, atomic_uint_fast64_t *bytes, hn_error *error);
void hnp_pump_free(hnp_pump *pump); /* takes NULL */

/* Begins a call. Nothing is under way. */
void hnp_pump_begin(hnp_pump *pump, const hnp_collective *call);
int hnp_pump_rank(const hnp_pump *pump);
int hnp_pump_size(const hnp_pump *pump);

void hnp_pump_tell(hnp_pump *pump, int peer);
void hnp_pump_hear(hnp_pump *pump, int peer);
void hnp_pump_send(hnp_pump *pump, int peer, const void *bytes, size_t size);
void hnp_pump_relay(hnp_pump *pump, int peer, const void *bytes, size_t size);
void hnp_pump_receive(hnp_pump *pump, int peer, void *bytes, size_t size);
void hnp_pump_add(hnp_pump *pump, int peer, float *sums, size_t size);
hn_status hnp_pump_arrive(hnp_pump *pump, hn_error *error);
hn_status hnp_pump_finish(hnp_pump *pump, hn_error *error);

#endif
