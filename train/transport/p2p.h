/* Messages between two ranks: what the collectives (collectives.h) stand on, and all that a transport has to do.
 *
 * A message has a tag and a size that both sides know beforehand: it is sent and received whole. Messages from one rank to another with
 * the same tag arrive in the order of their sends and are taken in the order of the receives. What arrives differently from what was
 * asked for is a failure. Nothing here waits, but for `progress`, and that for about a millisecond: whoever waits calls it in a loop that
 * can be left. Everything is called on one thread, the one that opened it.
 *
 * The module for MPI (module/hone_mpi.c) is compiled apart, perhaps on another machine: it includes this header and core/error.h, and calls
 * nothing of hone. HN_P2P_LAYOUT changes when either header does. */
#ifndef HONE_TRAIN_TRANSPORT_P2P_H
#define HONE_TRAIN_TRANSPORT_P2P_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

enum { HN_P2P_LAYOUT = 1, HN_P2P_TAGS = 16, HN_P2P_MOST = 1 << 20 }; /* tags are below; bytes of the longest message */

/* The caller's, with `bytes`, until `done`. */
typedef struct hn_message {
    int peer, tag;
    void *bytes;
    size_t size; /* at most HN_P2P_MOST */
    bool done;   /* set by progress */
    /* of whoever moves it */
    struct hn_message *next;
    size_t moved;
} hn_message;

typedef struct hn_p2p hn_p2p;
struct hn_p2p {
    const char *name;
    void *state;
    int rank, size;
    hn_status (*send)(hn_p2p *p2p, hn_message *message, hn_error *error);
    hn_status (*receive)(hn_p2p *p2p, hn_message *message, hn_error *error);
    /* Moves what can be moved; where that is nothing, gives the processor away until something may have changed, for about a millisecond
     * at most. A rank that is gone is a failure that names it, whether or not something is expected from it. */
    hn_status (*progress)(hn_p2p *p2p, hn_error *error);
    /* Orderly: nothing is under way, and all ranks come here; waits at most 10 s for them. Else at once. false: it could not be ended, and
     * messages that were under way may still be written to; their memory, and this, stay until the process's end. */
    bool (*close)(hn_p2p *p2p, bool orderly);
};

#endif
