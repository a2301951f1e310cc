/* The ranks of a run: who I am among them, small collectives between hosts, and the end of all where one ends.
 *
 * This is the control plane, and no tensor goes over it: connections by TCP from every rank to rank 0, one thread a process that
 * keeps them (control/thread.c). It needs neither MPI nor NCCL, so that it still speaks where those hang. Tensors go by
 * `hn_link` (link.h).
 *
 * NULL means one process, in every call. A rank that fails takes the job with it: hn_ranks_fail, or what the watch finds
 * (control/watch.h), ends every process by _exit(1), with a line that names rank, host, step and operation. No call below returns
 * after that. What all ranks agree on to be wrong (hn_ranks_agree) is no such failure: everybody returns it and ends in order. */
#ifndef HONE_TRAIN_RANKS_H
#define HONE_TRAIN_RANKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/blobs.h"
#include "core/error.h"

#define HN_RANKS_MOST 4096       /* ranks of a run */
#define HN_RANKS_BLOB (64 << 20) /* bytes of one collective, all ranks' together */

typedef struct hn_ranks hn_ranks;

enum { HN_TRANSPORT_AUTO, HN_TRANSPORT_NONE, HN_TRANSPORT_SOCKETS, HN_TRANSPORT_MPI, HN_TRANSPORT_NCCL };

typedef struct hn_ranks_options {
    int transport;      /* HN_TRANSPORT_NONE: one process, whatever the environment says */
    double timeout;     /* seconds without a sign of progress after which a rank counts as stuck */
    double silence;     /* seconds without a beat after which it counts as gone */
    double connect;     /* seconds in which all ranks must have come; also for what is slow by itself (HN_ACTIVITY_SLOW) */
    double stop_within; /* seconds from a request to stop to the agreed step */
    const char *rendezvous; /* a folder that all ranks see, in which rank 0 says where it listens; NULL: the environment says it */
    volatile int *stop;     /* the signal handler's flag; set here too where another rank was told to stop. NULL: none */
    void (*notice)(const char *text); /* a line for the user; called by any thread */
} hn_ranks_options;

/* Finds the other ranks. *out = NULL and HN_OK where the environment names one process. Every rank, main thread. The times are
 * rank 0's everywhere. A rank that does not come, comes twice, counts other ranks or is another build is an error on all. */
hn_status hn_ranks_open(hn_ranks **out, const hn_ranks_options *options, hn_error *error);
/* The orderly end, a collective: nobody takes the others' exit for a death. Takes NULL. */
void hn_ranks_close(hn_ranks *ranks);

int hn_ranks_rank(const hn_ranks *ranks);                   /* 0 of NULL */
int hn_ranks_size(const hn_ranks *ranks);                   /* 1 of NULL */
int hn_ranks_local(const hn_ranks *ranks);                  /* among the ranks of this machine; 0 leads it */
int hn_ranks_local_size(const hn_ranks *ranks);             /* 1 of NULL */
bool hn_ranks_first(const hn_ranks *ranks);                 /* rank 0, or NULL */
const char *hn_ranks_host(const hn_ranks *ranks, int rank); /* its host's name; "" of NULL */

/* The same ranks for the thread that writes checkpoints: barrier, broadcast, gather and agree of this handle are that thread's, beside those
 * of the main thread and in an order of their own. It is not watched: the main thread is, when it waits for the writer. Lives as
 * long as `ranks`; NULL of NULL. */
hn_ranks *hn_ranks_writer(hn_ranks *ranks);

/* Collectives of host bytes. Main thread only, on every rank in the same order; each waits by pulses, for as long as the others
 * take. `what` (at most 63 bytes) names it in messages and is compared: ranks that are not in the same call are an error on all, which
 * names two of them. HN_RANKS_BLOB bounds the bytes. */
hn_status hn_ranks_barrier(hn_ranks *ranks, const char *what, hn_error *error);
/* Rank 0's bytes to all: there they are read, elsewhere *bytes (hn_free) and *size are set. */
hn_status hn_ranks_broadcast(hn_ranks *ranks, const char *what, void **bytes, size_t *size, hn_error *error);
/* Everybody's bytes to everybody, by rank (hn_blobs_close). */
hn_status hn_ranks_gather(hn_ranks *ranks, const char *what, const void *mine, size_t size, hn_blobs *all, hn_error *error);
/* Ends every part that may fail on one rank alone: all return the first failing rank's status, and its message behind
 * "rank 3 (n2): " (without that where all failed with the same words). `mine` is this rank's status and *error what it came from. */
hn_status hn_ranks_agree(hn_ranks *ranks, const char *what, hn_status mine, hn_error *error);

typedef enum hn_activity {
    HN_ACTIVITY_COMPUTE, /* pulses */
    HN_ACTIVITY_WAIT,    /* a loop that tests for what others send, and pulses */
    HN_ACTIVITY_DISK,    /* in the kernel, which may take minutes: fsync, waiting for the own writer */
    HN_ACTIVITY_SLOW     /* a library's start, a compilation: no pulse for as long as `connect` says */
} hn_activity;
/* What the main thread is at from now on; `step` < 0: none. The text is copied (63 bytes). Before the first call it is SLOW. */
void hn_ranks_enter(hn_ranks *ranks, hn_activity activity, const char *operation, int64_t step);
/* A sign of progress. Any thread. */
void hn_ranks_pulse(hn_ranks *ranks);
/* What a pulse adds one to, for lower rooms, which know no ranks; NULL of NULL. */
uint64_t *hn_ranks_pulses(hn_ranks *ranks);
/* How far the data plane is: transfers that this rank has reached and finished, bytes that it moved. Any thread. */
void hn_ranks_moved(hn_ranks *ranks, uint64_t reached, uint64_t finished, uint64_t bytes);

/* The flight recorder: the last 256 operations and 64 notices, written to FOLDER/rank-R.log when the job fails. No log before a
 * folder was given. Any thread but hn_ranks_log (main). */
hn_status hn_ranks_log(hn_ranks *ranks, const char *folder, hn_error *error);
uint64_t hn_ranks_record(hn_ranks *ranks, const char *what, uint64_t bytes); /* begins; gives its number */
void hn_ranks_record_end(hn_ranks *ranks, uint64_t number);
void hn_ranks_notice(hn_ranks *ranks, const char *text); /* rank 0: to the user; all: recorded. Not of NULL */

/* All ranks have agreed at which step they stop, so that `stop_within` counts no longer. */
void hn_ranks_stop_agreed(hn_ranks *ranks);
/* For what this rank alone knows (a device, a disk in the middle of a step, its memory): tells everybody, writes the flight
 * recorder, and ends the process by _exit(1) within some seconds. Any thread. */
_Noreturn void hn_ranks_fail(hn_ranks *ranks, const hn_error *error);
/* The same for what another rank's end may have caused (a connection of the data plane that broke): only after two seconds in which
 * nobody was found to be to blame. */
_Noreturn void hn_ranks_lost(hn_ranks *ranks, const hn_error *error);

#endif
