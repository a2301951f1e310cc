/* The watch: who is gone, stuck or waits in vain, judged by beats. Pure: no socket, no clock, no thread; whoever keeps the connections
 * brings what was heard and the time. Shared inside train/. */
#ifndef HONE_TRAIN_CONTROL_WATCH_H
#define HONE_TRAIN_CONTROL_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "train/ranks.h"

#define HNP_OPERATION 64  /* bytes of an operation's name with its NUL */
#define HNP_DISK_MOST 600 /* seconds that a disk may take */

/* What a rank says of itself, once a second. */
typedef struct hnp_beat {
    uint64_t pulse;   /* any progress */
    uint64_t entered; /* how many activities were begun */
    uint64_t reached, finished, bytes; /* of the data plane */
    int64_t step; /* < 0: none */
    hn_activity activity;
    char operation[HNP_OPERATION];
} hnp_beat;

typedef struct hnp_limits {
    double timeout, silence, slow; /* seconds */
} hnp_limits;

typedef struct hnp_watched {
    bool watched;
    hnp_beat beat;       /* the last one */
    double heard, moved; /* when it came; when its pulse last was another one */
} hnp_watched;

typedef struct hnp_watch {
    hnp_limits limits;
    int size;
    hnp_watched *rank;
    double judged; /* the last judgement */
    double news;   /* when a beat last told more than a pulse, or the ranks were not all waiting */
} hnp_watch;

typedef enum hnp_fate { HNP_FATE_DEAD, HNP_FATE_TOLD, HNP_FATE_SILENT, HNP_FATE_STUCK, HNP_FATE_SLOW, HNP_FATE_ALL_WAIT } hnp_fate;
typedef struct hnp_verdict {
    hnp_fate fate;
    int rank; /* whose; -1: all ranks' alike */
    double seconds;
} hnp_verdict;

hn_status hnp_watch_init(hnp_watch *watch, int size, const hnp_limits *limits, hn_error *error);
void hnp_watch_close(hnp_watch *watch);
/* Watches this rank from now on, or no longer. */
void hnp_watch_begin(hnp_watch *watch, int rank, double now);
void hnp_watch_end(hnp_watch *watch, int rank);
void hnp_watch_hear(hnp_watch *watch, int rank, const hnp_beat *beat, double now);
/* true and *out where somebody's time is over. Called often, after what had arrived was heard: a time without judgement (the judge
 * itself was stopped, or had no core) counts for nobody. */
bool hnp_watch_judge(hnp_watch *watch, double now, hnp_verdict *out);

/* "in gather \"words\" of step 812". */
void hnp_beat_describe(char *out, size_t size, const hnp_beat *beat);
/* The line for the user; `who` is "rank 3 (n2, pid 4711)", `message` what a failure that was told said. */
void hnp_verdict_describe(char *out, size_t size, const hnp_verdict *verdict, const hnp_watch *watch, const char *who,
                          const char *message);

#endif
