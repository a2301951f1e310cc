/* One connection between two ranks: frames in and out, without ever blocking. Shared inside train/. */
#ifndef HONE_TRAIN_CONTROL_WIRE_H
#define HONE_TRAIN_CONTROL_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HNP_FRAME_HEAD 16
#define HNP_FRAME_MOST (1 << 20) /* bytes of a body */

typedef enum hnp_frame_type {
    HNP_FRAME_HELLO = 1, /* a rank to rank 0: who it is */
    HNP_FRAME_WELCOME,   /* the answer: the times of the run */
    HNP_FRAME_ROSTER,    /* all have come: who they are */
    HNP_FRAME_BEAT,      /* both ways, about once a second */
    HNP_FRAME_STOP,      /* somebody was asked to stop: to rank 0, and from it to all */
    HNP_FRAME_ABORT,     /* the job ends: the same ways */
    HNP_FRAME_CALL,      /* a rank has come to a collective */
    HNP_FRAME_ANSWER,    /* its result */
    HNP_FRAME_PIECE,     /* bytes of the call or answer before it */
    HNP_FRAME_WRITER_CALL, /* the same three for the writer's lane */
    HNP_FRAME_WRITER_ANSWER,
    HNP_FRAME_WRITER_PIECE,
    HNP_FRAME_TYPES
} hnp_frame_type;
#define HNP_ALLOW(type) (1u << HNP_FRAME_##type)
#define HNP_FRAME_LANE (HNP_FRAME_WRITER_CALL - HNP_FRAME_CALL) /* from a type to the next lane's */

typedef struct hnp_frame {
    hnp_frame_type type;
    size_t size;
    const unsigned char *body; /* until the next call with the wire */
} hnp_frame;

/* Bytes that several wires send. One thread has them. */
typedef struct hnp_body {
    int users;
    size_t size;
    unsigned char bytes[];
} hnp_body;
hnp_body *hnp_body_new(size_t size); /* one user; NULL: out of memory */
void hnp_body_release(hnp_body *body); /* takes NULL */

typedef struct hnp_wire_out hnp_wire_out;
typedef struct hnp_wire {
    int fd;           /* -1: none */
    int own, other;   /* ranks; other < 0: not known yet */
    unsigned allowed; /* types that may come now (HNP_ALLOW) */
    bool ended;       /* nothing more comes: the other side has closed, or the connection broke */
    bool deaf;        /* the other side takes nothing any more; what it had sent may still be read */
    unsigned char *in;
    size_t begin, end, capacity;
    hnp_wire_out *out;
    size_t first, queued, room, sent; /* sent: bytes of the first */
    uint64_t frames_in, frames_out;
} hnp_wire;

/* Takes the descriptor over, and makes it non-blocking. */
void hnp_wire_init(hnp_wire *wire, int fd, int own, int other, unsigned allowed);
void hnp_wire_close(hnp_wire *wire);

/* Queues a frame and sends what goes without waiting. false: out of memory. `send` copies; `lend` needs the bytes until they are
 * sent; `share` keeps the body. */
bool hnp_wire_send(hnp_wire *wire, hnp_frame_type type, const void *bytes, size_t size);
bool hnp_wire_lend(hnp_wire *wire, hnp_frame_type type, const void *bytes, size_t size);
bool hnp_wire_share(hnp_wire *wire, hnp_frame_type type, hnp_body *body, size_t first, size_t size);
void hnp_wire_flush(hnp_wire *wire);
bool hnp_wire_waits(const hnp_wire *wire); /* there is something to send, and somebody who takes it */

/* Reads what is there. false: out of memory. */
bool hnp_wire_fill(hnp_wire *wire);
/* The next whole frame: 1 and *out; 0: none yet; -1: what came is no frame of ours, and *why says it. */
int hnp_wire_next(hnp_wire *wire, hnp_frame *out, const char **why);

#endif
