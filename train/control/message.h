/* What the frames say, as structs and as bytes. Whatever is decoded was a stranger's: false means that the bytes are not such a
 * message, and nothing was written. Shared inside train/. */
#ifndef HONE_TRAIN_CONTROL_MESSAGE_H
#define HONE_TRAIN_CONTROL_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/strbuf.h"
#include "train/control/watch.h"
#include "train/control/wire.h"

#define HNP_NAME 64 /* bytes of a name with its NUL */

/* Where a process lives. */
typedef struct hnp_identity {
    char host[HNP_NAME];
    uint64_t node;  /* digest of the machine's boot */
    uint64_t space; /* digest of that and of the space of process numbers: where `pid` means this process */
    int64_t pid;
    uint64_t born; /* clock ticks after the boot, so that a number that was given again is another process */
} hnp_identity;

/* Who I am. A fact that /proc does not tell is 0, and then means nothing. */
void hnp_identity_find(hnp_identity *out);
/* Ends that process where it is on this machine and still the same. */
void hnp_identity_kill(const hnp_identity *other, const hnp_identity *own);

typedef struct hnp_hello {
    uint64_t token;
    int rank, size;
    char build[HNP_NAME]; /* version and digest of the program */
    hnp_identity who;
} hnp_hello;
typedef struct hnp_welcome {
    uint64_t token;
    hnp_limits limits;
    double stop_within;
} hnp_welcome;
typedef struct hnp_abort {
    int rank;  /* who is to blame; -1: nobody alone */
    bool stop; /* it cannot leave by itself: whoever can reach it ends it */
    hn_status status;
    char line[sizeof((hn_error *)0)->message];
} hnp_abort;
typedef enum hnp_call_kind {
    HNP_CALL_BARRIER,
    HNP_CALL_BROADCAST,
    HNP_CALL_GATHER,
    HNP_CALL_AGREE,
    HNP_CALL_CLOSE,
    HNP_CALL_KINDS
} hnp_call_kind;
typedef struct hnp_call {
    uint64_t number; /* how many collectives there were before */
    hnp_call_kind kind;
    char what[HNP_NAME];
    uint64_t size; /* bytes that follow in pieces */
} hnp_call;
typedef struct hnp_answer {
    uint64_t number, size;
    hn_status status; /* not HN_OK: the bytes are a message */
} hnp_answer;

void hnp_hello_encode(hn_strbuf *to, const hnp_hello *hello);
bool hnp_hello_decode(hnp_hello *out, const hnp_frame *frame);
void hnp_welcome_encode(hn_strbuf *to, const hnp_welcome *welcome);
bool hnp_welcome_decode(hnp_welcome *out, const hnp_frame *frame);
void hnp_roster_encode(hn_strbuf *to, const hnp_identity *who, int size);
bool hnp_roster_decode(hnp_identity *who, int size, const hnp_frame *frame);
void hnp_beat_encode(hn_strbuf *to, const hnp_beat *beat);
bool hnp_beat_decode(hnp_beat *out, const hnp_frame *frame);
void hnp_abort_encode(hn_strbuf *to, const hnp_abort *end);
bool hnp_abort_decode(hnp_abort *out, const hnp_frame *frame, int size);
void hnp_call_encode(hn_strbuf *to, const hnp_call *call);
bool hnp_call_decode(hnp_call *out, const hnp_frame *frame);
void hnp_answer_encode(hn_strbuf *to, const hnp_answer *answer);
bool hnp_answer_decode(hnp_answer *out, const hnp_frame *frame);

#endif
