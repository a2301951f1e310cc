/* A frame, little-endian:
 *
 *     0        4       6       8                   16            16 + bytes
 *     | bytes  | type  | from  | sequence           | body         |
 *
 * Whatever comes is a stranger's until it has been checked: a type that may come now, from the rank at the other end, with the number
 * that follows the last one's, and no longer than its type allows. The buffer grows only for a frame whose head has passed, so a
 * stranger, who may only say HELLO, gets some hundred bytes of ours. After the first frame that fails nothing is read any more.
 *
 * A connection ends in two halves. Writing may fail while words of the other side (why it left) still lie in our kernel: `deaf`. Only
 * the end of reading is the end. */
#include "train/control/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/error.h"
#include "core/mem.h"

#define SMALL 512         /* of a beat, a hello */
#define READ_AT_ONCE 65536

struct hnp_wire_out {
    unsigned char head[HNP_FRAME_HEAD];
    const unsigned char *bytes;
    size_t size;
    hnp_body *kept;
};

static const size_t most[HNP_FRAME_TYPES] = {
    [HNP_FRAME_HELLO] = SMALL, [HNP_FRAME_WELCOME] = SMALL, [HNP_FRAME_ROSTER] = HNP_FRAME_MOST, [HNP_FRAME_BEAT] = SMALL,
    [HNP_FRAME_ABORT] = 4096,  [HNP_FRAME_CALL] = SMALL,    [HNP_FRAME_ANSWER] = SMALL,          [HNP_FRAME_PIECE] = HNP_FRAME_MOST,
    [HNP_FRAME_WRITER_CALL] = SMALL, [HNP_FRAME_WRITER_ANSWER] = SMALL, [HNP_FRAME_WRITER_PIECE] = HNP_FRAME_MOST,
};

hnp_body *hnp_body_new(size_t size)
{
    hnp_body *body = hn_malloc(sizeof *body + size);
    if (!body) return NULL;
    body->users = 1;
    body->size = size;
    return body;
}

void hnp_body_release(hnp_body *body)
{
    if (body && --body->users == 0) hn_free(body);
}

void hnp_wire_init(hnp_wire *wire, int fd, int own, int other, unsigned allowed)
{
    *wire = (hnp_wire){.fd = fd, .own = own, .other = other, .allowed = allowed};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void pop(hnp_wire *wire)
{
    hnp_body_release(wire->out[wire->first].kept);
    wire->first++;
    wire->sent = 0;
    if (wire->first == wire->queued) wire->first = wire->queued = 0;
}

void hnp_wire_close(hnp_wire *wire)
{
    while (wire->queued) pop(wire);
    if (wire->fd >= 0) close(wire->fd);
    hn_free(wire->in);
    hn_free(wire->out);
    *wire = (hnp_wire){.fd = -1};
}

static void put_number(unsigned char *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) to[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t get_number(const unsigned char *from, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value |= (uint64_t)from[i] << (8 * i);
    return value;
}

/* One more at the end of the queue; what was sent makes room first. */
static bool push(hnp_wire *wire, hnp_frame_type type, const void *bytes, size_t size, hnp_body *kept)
{
    HN_ASSERT(size <= most[type]);
    if (wire->first) {
        memmove(wire->out, wire->out + wire->first, (wire->queued - wire->first) * sizeof *wire->out);
        wire->queued -= wire->first;
        wire->first = 0;
    }
    if (!hn_grow((void **)&wire->out, &wire->room, wire->queued + 1, sizeof *wire->out)) return false;
    hnp_wire_out *out = &wire->out[wire->queued++];
    *out = (hnp_wire_out){.bytes = bytes, .size = size, .kept = kept};
    put_number(out->head, size, 4);
    put_number(out->head + 4, type, 2);
    put_number(out->head + 6, (uint64_t)wire->own, 2);
    put_number(out->head + 8, wire->frames_out++, 8);
    return true;
}

bool hnp_wire_send(hnp_wire *wire, hnp_frame_type type, const void *bytes, size_t size)
{
    if (wire->deaf) return true;
    hnp_body *body = hnp_body_new(size);
    if (!body) return false;
    if (size) memcpy(body->bytes, bytes, size);
    bool fits = hnp_wire_share(wire, type, body, 0, size);
    hnp_body_release(body);
    return fits;
}

bool hnp_wire_lend(hnp_wire *wire, hnp_frame_type type, const void *bytes, size_t size)
{
    if (wire->deaf) return true;
    if (!push(wire, type, bytes, size, NULL)) return false;
    hnp_wire_flush(wire);
    return true;
}

bool hnp_wire_share(hnp_wire *wire, hnp_frame_type type, hnp_body *body, size_t first, size_t size)
{
    HN_ASSERT(first + size <= body->size);
    if (wire->deaf) return true;
    if (!push(wire, type, body->bytes + first, size, body)) return false;
    body->users++;
    hnp_wire_flush(wire);
    return true;
}

bool hnp_wire_waits(const hnp_wire *wire) { return wire->fd >= 0 && !wire->deaf && wire->queued; }

void hnp_wire_flush(hnp_wire *wire)
{
    while (hnp_wire_waits(wire)) {
        hnp_wire_out *out = &wire->out[wire->first];
        size_t of_head = wire->sent < HNP_FRAME_HEAD ? wire->sent : HNP_FRAME_HEAD, of_body = wire->sent - of_head;
        struct iovec parts[2] = {{out->head + of_head, HNP_FRAME_HEAD - of_head},
                                 {(void *)(uintptr_t)(out->bytes + of_body), out->size - of_body}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = out->size ? 2 : 1};
        ssize_t n = sendmsg(wire->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n < 0) {
            wire->deaf = true;
            while (wire->queued) pop(wire);
            return;
        }
        wire->sent += (size_t)n;
        if (wire->sent == HNP_FRAME_HEAD + out->size) pop(wire);
    }
}

/* How much the buffer must hold now: the frame that has begun, or something to begin with. */
static size_t wanted(const hnp_wire *wire)
{
    size_t have = wire->end - wire->begin, frame = HNP_FRAME_HEAD + SMALL;
    if (wire->other >= 0) frame = READ_AT_ONCE;
    if (have >= HNP_FRAME_HEAD) {
        size_t body = (size_t)get_number(wire->in + wire->begin, 4);
        if (body <= HNP_FRAME_MOST && HNP_FRAME_HEAD + body > frame && wire->other >= 0) frame = HNP_FRAME_HEAD + body;
    }
    return frame;
}

bool hnp_wire_fill(hnp_wire *wire)
{
    size_t need = wanted(wire);
    if (wire->begin) {
        memmove(wire->in, wire->in + wire->begin, wire->end - wire->begin);
        wire->end -= wire->begin;
        wire->begin = 0;
    }
    if (!hn_grow((void **)&wire->in, &wire->capacity, need, 1)) return false;
    if (wire->end == wire->capacity) return true; /* frames wait to be taken */
    ssize_t n = recv(wire->fd, wire->in + wire->end, wire->capacity - wire->end, 0);
    if (n > 0)
        wire->end += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        wire->ended = true;
    return true;
}

int hnp_wire_next(hnp_wire *wire, hnp_frame *out, const char **why)
{
    size_t have = wire->end - wire->begin;
    if (have < HNP_FRAME_HEAD) return 0;
    const unsigned char *head = wire->in + wire->begin;
    size_t size = (size_t)get_number(head, 4);
    uint64_t type = get_number(head + 4, 2), from = get_number(head + 6, 2);
    *why = NULL;
    if (type >= HNP_FRAME_TYPES || !(wire->allowed >> type & 1))
        *why = "what came is of a kind that may not come here";
    else if (size > most[type])
        *why = "a message is longer than its kind may be";
    else if (wire->other >= 0 && from != (uint64_t)wire->other)
        *why = "a message names another sender";
    else if (get_number(head + 8, 8) != wire->frames_in)
        *why = "a message is missing before this one";
    if (*why) return -1;
    if (have < HNP_FRAME_HEAD + size) return 0;
    *out = (hnp_frame){.type = (hnp_frame_type)type, .size = size, .body = head + HNP_FRAME_HEAD};
    wire->begin += HNP_FRAME_HEAD + size;
    wire->frames_in++;
    return 1;
}
