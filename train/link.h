/* The data plane: moves tensors between the ranks of one run, and adds them up on the way. A backend's kind of link fills one table of
 * functions; nobody above asks which one it is. Who is alive, and who ends the others when one is not, is no matter of this header: a
 * link tells (hn_link_options.fail) and its joins fail.
 *
 * A collective is begun by one call, goes on beside whatever the caller does then, and is over when its transfer was joined:
 *
 *     step        backward of layer 5 | backward of layer 4 | ...        | join(a) join(b) | AdamW
 *     transport         a = reduce_scatter(layer 5) | b = reduce_scatter(layer 4) | ...
 *
 * Buffers are cut into `size` equal pieces. reduce_scatter leaves the sum of all ranks' piece number hn_link_piece(sum, rank, size) in that
 * place of rank's buffer, and nothing that means anything in the other places; all_gather takes that piece from every rank and leaves the
 * whole buffer everywhere; all_reduce is both.
 *
 *     HN_SUM_FAST   own + (rank - 1)'s + (rank - 2)'s + ..., counted round the ring: the same bits for the same number of ranks
 *     HN_SUM_TREE   ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)): a tree over the ranks in their order. When each brings the root of such a
 *                   tree over its own part of a fixed list, the sum has the same bits for 1, 2, 4, 8, ... ranks. Only for these numbers.
 *
 * Threads. Whoever opened a link is its caller: every function of the table is called on that thread, but for `progress`, which any thread
 * may call. A CPU link has one thread of its own, the transport thread: it moves, adds, and calls `fail`; `pulse` and `exchange` are called
 * on the caller's. No wait of the caller's is longer than some milliseconds without a pulse, and none holds a lock meanwhile. */
#ifndef HONE_TRAIN_LINK_H
#define HONE_TRAIN_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

enum { HN_LINK_WHAT = 80, HN_LINK_PIECE = 64 }; /* bytes of a name that are kept; elements (or bytes) that every piece is a multiple of */

typedef enum hn_sum { HN_SUM_FAST, HN_SUM_TREE } hn_sum;

/* Owned by the link; from the call that begins it until its join. */
typedef struct hn_transfer hn_transfer;

/* What a link has done so far. */
typedef struct hn_link_progress {
    uint64_t begun, finished; /* collectives, counted in their order, which is the same on all ranks */
    uint64_t bytes;           /* sent and received */
    char what[HN_LINK_WHAT];  /* the one that is under way; "" between two */
} hn_link_progress;

typedef struct hn_link hn_link;
struct hn_link {
    const char *name; /* "sockets", "mpi 3.1 Open MPI v4.1.4"; lives as long as the link */
    void *state;
    int rank, size;
    /* All four: `buffer` lies in the backend's memory, aligned to 64 bytes, and is left alone by everybody else until the join. They begin
     * behind everything that was enqueued on the backend before, and run in the order of the calls, which is the same on every rank, with
     * the same sizes and names; a rank that differs is a failure that names both calls. `what` is copied. Beginning more than
     * hn_link_options.transfers is our bug. NULL with `error` filled: nothing was begun, for the link has failed before. */
    hn_transfer *(*reduce_scatter)(hn_link *link, float *buffer, int64_t count /* % (64 size) == 0 */, hn_sum sum, const char *what,
                                   hn_error *error);
    hn_transfer *(*all_gather)(hn_link *link, void *buffer, size_t bytes /* % (64 size) == 0 */, hn_sum sum, const char *what,
                               hn_error *error);
    hn_transfer *(*all_reduce)(hn_link *link, float *buffer, int64_t count /* % (64 size) == 0 */, hn_sum sum, const char *what,
                               hn_error *error);
    hn_transfer *(*broadcast)(hn_link *link, void *buffer, size_t bytes, int root, const char *what, hn_error *error);
    /* What is enqueued on the backend from now on runs behind the transfer, which is given back, failed or not. On a CPU: waits for it. */
    hn_status (*join)(hn_link *link, hn_transfer *transfer, hn_error *error);
    /* Whether join would not wait. */
    bool (*done)(hn_link *link, const hn_transfer *transfer);
    void (*progress)(hn_link *link, hn_link_progress *out);
    /* Orderly: every rank closes its link, having joined everything; nobody leaves before all are here, which is waited for some seconds.
     * Else at once, in any state: what cannot be ended in a second is left to the end of the process, its memory too. */
    void (*close)(hn_link *link, bool orderly);
};

typedef struct hn_link_options {
    int rank, size; /* at least 2 */
    int transfers;  /* most that are begun and not joined at once */
    bool mpi;       /* over MPI, whose launcher started this process; knows the way to the others by itself. Else over TCP: */
    double connect; /* seconds that meeting the others may take */
    /* The network interface, or the numeric address, that others reach this host by; NULL: whatever it has. */
    const char *interface;
    /* Once, in hn_link_open_cpu: every rank's `size` bytes into all[size * rank]. */
    hn_status (*exchange)(void *context, void *all, const void *mine, size_t size, hn_error *error);
    void (*pulse)(void *context);                       /* the caller lives; NULL: nobody asks */
    void (*fail)(void *context, const hn_error *error); /* the link's first failure; need not return; NULL: joins tell */
    void *context;
} hn_link_options;

/* Which of `size` pieces is rank's: its number with FAST, the bits of its number reversed with TREE (size a power of two). */
int hn_link_piece(hn_sum sum, int rank, int size);

/* A link between processes on CPUs. Every rank calls it; returns when all are connected, or one failed. `options` are copied. */
hn_status hn_link_open_cpu(hn_link **out, const hn_link_options *options, hn_error *error);

#endif
