/* What one process knows of the ranks, and what the files of the control plane do with it. Shared by ranks.c and control/ alone.
 *
 * The control thread has the connections and everything else that stands below `own`, which nobody else touches while it runs. Two others
 * post collectives and wait, each on a lane of its own, so that neither waits for the other's: the main thread, and the thread
 * that writes checkpoints. What several use stands under `lock` or is atomic. */
#ifndef HONE_TRAIN_CONTROL_WORLD_H
#define HONE_TRAIN_CONTROL_WORLD_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "train/control/hub.h"
#include "train/control/launch.h"
#include "train/control/message.h"
#include "train/control/recorder.h"
#include "train/control/watch.h"
#include "train/control/wire.h"
#include "train/ranks.h"

enum { HNP_STRANGERS = 64 };

/*   rank 0:  JOINING --every HELLO--> RUNNING --every call of the end--> LEAVING --all connections ended--> OVER
 *   others:  JOINING --ROSTER-------> RUNNING --its answer------------------------------------------------> OVER
 *
 * A failure while JOINING is told to all who have come, and hn_ranks_open returns it (OVER, `refusal`). While RUNNING it ends the
 * process. */
typedef enum hnp_phase { HNP_PHASE_JOINING, HNP_PHASE_RUNNING, HNP_PHASE_LEAVING, HNP_PHASE_OVER } hnp_phase;

enum { HNP_LANE_MAIN, HNP_LANE_WRITER, HNP_LANES };

/* The collective of a lane. */
typedef enum hnp_post_state { HNP_POST_NONE, HNP_POST_NEW, HNP_POST_SENT, HNP_POST_ANSWERED } hnp_post_state;
typedef struct hnp_post {
    hnp_post_state state;
    hnp_call call;
    const unsigned char *bytes; /* the caller's, until it is answered */
    hn_status status;
    unsigned char *answer; /* then the caller's (hn_free) */
    size_t size;
} hnp_post;

/* An answer that comes in pieces. */
typedef struct hnp_taking {
    bool answering;
    hnp_answer answer;
    unsigned char *bytes;
    size_t have;
} hnp_taking;

/* A connection that has not said who it is. */
typedef struct hnp_stranger {
    hnp_wire wire;
    double since;
} hnp_stranger;

typedef struct hnp_world hnp_world;
/* A lane's view of the world. */
struct hn_ranks {
    hnp_world *world;
    int lane;
};

struct hnp_world {
    hn_ranks lane[HNP_LANES];
    int rank, size;
    hnp_launch launch;
    hn_ranks_options options;
    hnp_limits limits;
    double stop_within, beat_every;
    hnp_identity *who; /* [size]; of the others from RUNNING on */
    int local, local_size;
    char build[HNP_NAME];
    hnp_recorder recorder;
    pthread_t thread;
    int wake; /* an eventfd that ends the control thread's sleep */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* phase, post */
    hnp_phase phase;
    hnp_post post[HNP_LANES];
    hnp_beat here; /* without what is atomic */
    hn_error refusal, failure; /* why the ranks did not come together; what hn_ranks_fail was given */
    double failure_due;        /* when that is told */
    char *logs; /* the folder; NULL: none */

    _Atomic uint64_t pulses, reached, finished, bytes;
    atomic_bool stop_agreed;

    struct {
        double now, opened, next_beat, left;
        double asked; /* when a stop was first known of; 0: none was */
        hnp_watch watch;
        hnp_wire *wire;               /* [size]; of another rank than 0: only that to rank 0 */
        hnp_hub hub[HNP_LANES];       /* rank 0 */
        int listener, joined, turned_away, notices;
        bool published;
        hnp_stranger stranger[HNP_STRANGERS];
        struct pollfd *polled; /* [size + HNP_STRANGERS + 2] */
        hnp_taking taking[HNP_LANES]; /* others */
        bool over;
    } own;
};

/* joining.c */
hn_status hnp_join_listen(hnp_world *w, hn_error *error);  /* rank 0, before its thread */
hn_status hnp_join_connect(hnp_world *w, hn_error *error); /* the others, before theirs: until rank 0 has said welcome */
void hnp_join_accept(hnp_world *w);                        /* rank 0: new connections */
void hnp_join_stranger(hnp_world *w, hnp_stranger *one);   /* rank 0: one of them has sent something, or its time is over */
void hnp_join_turn_away(hnp_world *w, const hnp_abort *end); /* rank 0: tells those who are late that nothing comes of it */
void hnp_join_end(hnp_world *w);                           /* nobody is waited for any more */
void hnp_join_places(hnp_world *w);                        /* local ranks, from `who` */

/* thread.c */
void *hnp_control(void *world);
void hnp_control_wake(hnp_world *w);
void hnp_control_notice(hnp_world *w, const char *text);
hnp_beat hnp_control_beat(hnp_world *w); /* what this rank would say now */
void hnp_control_phase(hnp_world *w, hnp_phase phase);

/* calls.c: the control thread's half of the collectives */
void hnp_calls_take(hnp_world *w);                                        /* what was posted */
const char *hnp_calls_hear(hnp_world *w, int rank, const hnp_frame *frame); /* CALL, ANSWER, PIECE of a lane. NULL, or why it may not be */

/* ending.c: all end the job; they return only while the ranks come together, with own.over set */
void hnp_end_tell(hnp_wire *wire, const hnp_abort *end); /* one connection; this one ends nothing */
void hnp_end(hnp_world *w, const hnp_abort *end, bool told); /* told: rank 0 has told it, and everybody knows */
void hnp_end_by(hnp_world *w, hnp_verdict verdict, const char *message);
void hnp_end_here(hnp_world *w, hn_status status, const char *message); /* this rank itself */

#endif
