/* Messages over TCP. On each connection, both ways:
 *
 *     | tag u32 | size u32 | bytes ...            | tag u32 | size u32 | bytes ...
 *     |<------- one message, as it was sent ----->|<--- the next
 *
 * The receiver asked for exactly this message: the 8 bytes and what follows them are read by one call straight into the caller's memory,
 * and the 8 bytes are compared when they are there. A rank that sends something else is told off before anything is used. Nothing is copied
 * here but by the kernel, and nothing queued but by the caller: what nobody asked for yet waits in the kernel's buffers, and what does not
 * fit there makes the sender wait.
 *
 * The kernel tells changes (edge triggered epoll): `readable` and `writable` stay set until a call moves less than it could. So a rank with
 * a thousand connections asks about none that is silent, and hears at once of one that ends, whether it waits for it or not. When nothing
 * can move, it sleeps until the kernel has something to tell, for a millisecond at most: a sleeping thread takes nothing from the step.
 *
 * A connection's end is a death, for nobody leaves without a word: an orderly close sends everybody a BYE and waits for everybody's. */
#include "train/transport/sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"

enum { HEAD = 8, BYE = HN_P2P_TAGS, EVENTS = 64 };

static const double leave_within = 10; /* seconds, see p2p.h */

typedef struct queue {
    hn_message *first, **end;
} queue;

typedef struct stream {
    int fd;
    bool readable, writable, ended;
    queue sends, receives;
    unsigned char head[HEAD];  /* of the first receive */
    hn_message farewell[2];    /* BYE, sent and received */
    char host[HNP_HOST];
} stream;

typedef struct sockets {
    hn_p2p table;
    int epoll;
    stream *streams; /* [size] */
} sockets;

static void push(queue *q, hn_message *message)
{
    message->done = false;
    message->next = NULL;
    message->moved = 0;
    *q->end = message;
    q->end = &message->next;
}

static void pop(queue *q)
{
    q->first->done = true;
    q->first = q->first->next;
    if (!q->first) q->end = &q->first;
}

/* `code`: of errno, or 0 where the other side simply went. */
static hn_status fail_ended(sockets *s, int peer, int code, hn_error *error)
{
    return hn_fail(error, HN_ERR_IO, "rank %d (%s): its connection with rank %d ended%s%s: it is dead, or has failed", peer,
                   s->streams[peer].host, s->table.rank, code ? ": " : "", code ? strerror(code) : "");
}

/* What is left of a message, its head first. */
static int rest_of(const hn_message *m, unsigned char head[HEAD], struct iovec parts[2])
{
    int count = 0;
    size_t body = m->moved > HEAD ? m->moved - HEAD : 0;
    if (m->moved < HEAD) parts[count++] = (struct iovec){head + m->moved, HEAD - m->moved};
    if (body < m->size) parts[count++] = (struct iovec){(char *)m->bytes + body, m->size - body};
    return count;
}

static void write_head(const hn_message *m, unsigned char head[HEAD])
{
    uint32_t words[2] = {(uint32_t)m->tag, (uint32_t)m->size};
    memcpy(head, words, HEAD);
}

/* After a call that moved n bytes, or failed; *more: worth another call. */
static hn_status note(sockets *s, int peer, hn_message *m, ssize_t n, bool *ready, bool *more, hn_error *error)
{
    size_t wanted = HEAD + m->size - m->moved;
    if (n < 0 && errno == EINTR) return HN_OK;
    if (n < 0 && errno != EAGAIN) return fail_ended(s, peer, errno, error);
    *ready = n > 0 && (size_t)n == wanted; /* less: the kernel has no more, and tells when it has */
    *more = *ready;
    if (n > 0) m->moved += (size_t)n;
    return HN_OK;
}

/* Sends a piece's worth to one rank, or what the kernel takes. */
static hn_status send_some(sockets *s, int peer, bool *moved, hn_error *error)
{
    stream *to = &s->streams[peer];
    size_t before = 0;
    for (bool more = true; more && to->sends.first && to->writable && before < HN_P2P_MOST;) {
        hn_message *m = to->sends.first;
        unsigned char head[HEAD];
        struct iovec parts[2];
        write_head(m, head);
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)rest_of(m, head, parts)};
        ssize_t n = sendmsg(to->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        hn_status status = note(s, peer, m, n, &to->writable, &more, error);
        if (status != HN_OK) return status;
        if (n > 0) *moved = true;
        if (n > 0) before += (size_t)n;
        if (m->moved == HEAD + m->size) pop(&to->sends);
    }
    return HN_OK;
}

static hn_status check_head(sockets *s, int peer, const hn_message *m, hn_error *error)
{
    unsigned char expected[HEAD];
    uint32_t got[2];
    write_head(m, expected);
    if (!memcmp(s->streams[peer].head, expected, HEAD)) return HN_OK;
    memcpy(got, s->streams[peer].head, HEAD);
    return hn_fail(error, HN_ERR_FORMAT, "rank %d (%s) sent a message of kind %u and %u bytes; rank %d expected kind %d and %zu bytes",
                   peer, s->streams[peer].host, got[0], got[1], s->table.rank, m->tag, m->size);
}

/* Receives what one rank has sent, a piece's worth at most. */
static hn_status receive_some(sockets *s, int peer, bool *moved, hn_error *error)
{
    stream *from = &s->streams[peer];
    size_t before = 0;
    for (bool more = true; more && from->receives.first && from->readable && before < HN_P2P_MOST;) {
        hn_message *m = from->receives.first;
        struct iovec parts[2];
        bool had_head = m->moved >= HEAD;
        ssize_t n = readv(from->fd, parts, rest_of(m, from->head, parts));
        hn_status status = n == 0 ? fail_ended(s, peer, 0, error) : note(s, peer, m, n, &from->readable, &more, error);
        if (status == HN_OK && !had_head && m->moved >= HEAD) status = check_head(s, peer, m, error);
        if (status != HN_OK) return status;
        if (n > 0) *moved = true;
        if (n > 0) before += (size_t)n;
        if (m->moved == HEAD + m->size) pop(&from->receives);
    }
    return HN_OK;
}

/* Takes up what the kernel has to tell, waiting for it for a millisecond or not at all. */
static hn_status listen_to_kernel(sockets *s, bool waits, hn_error *error)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(s->epoll, events, EVENTS, waits ? 1 : 0);
    if (count < 0 && errno != EINTR) return hn_fail_errno(error, "rank %d: epoll_wait", s->table.rank);
    for (int i = 0; i < count; i++) {
        stream *of = &s->streams[events[i].data.u32];
        if (events[i].events & EPOLLIN) of->readable = true;
        if (events[i].events & EPOLLOUT) of->writable = true;
        if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) of->ended = true;
    }
    return HN_OK;
}

/* Fails when somebody is gone, whether or not anything is expected from him. What he sent before was taken up by now: it may say why. */
static hn_status check_all_here(sockets *s, hn_error *error)
{
    for (int peer = 0; peer < s->table.size; peer++) {
        int code = 0;
        socklen_t size = sizeof code;
        if (!s->streams[peer].ended) continue;
        getsockopt(s->streams[peer].fd, SOL_SOCKET, SO_ERROR, &code, &size);
        return fail_ended(s, peer, code, error);
    }
    return HN_OK;
}

static hn_status sockets_send(hn_p2p *p2p, hn_message *message, hn_error *error)
{
    sockets *s = p2p->state;
    (void)error;
    HN_ASSERT(message->peer >= 0 && message->peer < p2p->size && message->peer != p2p->rank && message->size <= HN_P2P_MOST);
    push(&s->streams[message->peer].sends, message);
    return HN_OK;
}

static hn_status sockets_receive(hn_p2p *p2p, hn_message *message, hn_error *error)
{
    sockets *s = p2p->state;
    (void)error;
    HN_ASSERT(message->peer >= 0 && message->peer < p2p->size && message->peer != p2p->rank && message->size <= HN_P2P_MOST);
    push(&s->streams[message->peer].receives, message);
    return HN_OK;
}

static hn_status sockets_progress(hn_p2p *p2p, hn_error *error)
{
    sockets *s = p2p->state;
    bool moved = false;
    hn_status status = HN_OK;
    for (int peer = 0; peer < p2p->size && status == HN_OK; peer++) {
        status = send_some(s, peer, &moved, error);
        if (status == HN_OK) status = receive_some(s, peer, &moved, error);
    }
    if (status == HN_OK) status = check_all_here(s, error);
    return status == HN_OK ? listen_to_kernel(s, !moved, error) : status;
}

/* Sends everybody a BYE, and waits for everybody's: who has sent one reads nothing more but the others'. Whoever dies meanwhile, or is
 * too late, is left behind. */
static void take_leave(sockets *s)
{
    double end = hn_clock() + leave_within;
    for (int peer = 0; peer < s->table.size; peer++) {
        stream *of = &s->streams[peer];
        of->farewell[0] = of->farewell[1] = (hn_message){.peer = peer, .tag = BYE};
        if (peer == s->table.rank) continue;
        push(&of->sends, &of->farewell[0]);
        push(&of->receives, &of->farewell[1]);
    }
    for (int here = s->table.size - 1; here > 0 && hn_clock() < end;) {
        bool moved = false;
        here = 0;
        for (int peer = 0; peer < s->table.size; peer++) {
            stream *of = &s->streams[peer];
            if (of->fd < 0 || (of->farewell[0].done && of->farewell[1].done)) continue;
            if (send_some(s, peer, &moved, NULL) != HN_OK || receive_some(s, peer, &moved, NULL) != HN_OK)
                of->farewell[0].done = of->farewell[1].done = true;
            else
                here++;
        }
        if (here && listen_to_kernel(s, !moved, NULL) != HN_OK) break;
    }
}

static bool sockets_close(hn_p2p *p2p, bool orderly)
{
    sockets *s = p2p->state;
    if (orderly) take_leave(s);
    for (int peer = 0; peer < p2p->size; peer++)
        if (s->streams[peer].fd >= 0) close(s->streams[peer].fd);
    if (s->epoll >= 0) close(s->epoll);
    hn_free(s->streams);
    hn_free(s);
    return true;
}

static hn_status watch(sockets *s, const int *fds, const hnp_socket_place *places, hn_error *error)
{
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll < 0) return hn_fail_errno(error, "epoll_create1");
    for (int peer = 0; peer < s->table.size; peer++) {
        stream *of = &s->streams[peer];
        struct epoll_event wanted = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u32 = (uint32_t)peer};
        memcpy(of->host, places[peer].host, sizeof of->host - 1);
        if (peer != s->table.rank && epoll_ctl(s->epoll, EPOLL_CTL_ADD, fds[peer], &wanted))
            return hn_fail_errno(error, "connection with rank %d: epoll_ctl", peer);
    }
    return HN_OK;
}

hn_status hnp_sockets_open(hn_p2p **out, int listener, const hnp_socket_place *places, int rank, int size, double seconds, hn_error *error)
{
    hn_status status = HN_OK;
    int *fds = hn_malloc((size_t)size * sizeof *fds);
    sockets *s = hn_calloc(1, sizeof *s);
    stream *streams = hn_calloc((size_t)size, sizeof *streams);
    if (!fds || !s || !streams) {
        status = hn_fail(error, HN_ERR_MEMORY, "out of memory for connections with %d ranks", size);
        close(listener);
        goto out;
    }
    s->table = (hn_p2p){"sockets", s, rank, size, sockets_send, sockets_receive, sockets_progress, sockets_close};
    s->epoll = -1;
    s->streams = streams;
    for (int i = 0; i < size; i++) {
        streams[i].fd = -1;
        streams[i].sends.end = &streams[i].sends.first;
        streams[i].receives.end = &streams[i].receives.first;
    }
    status = hnp_sockets_meet(fds, listener, places, rank, size, seconds, error);
    if (status != HN_OK) goto out;
    for (int i = 0; i < size; i++) streams[i].fd = fds[i];
    status = watch(s, fds, places, error);
    if (status == HN_OK) {
        *out = &s->table;
    } else {
        sockets_close(&s->table, false);
    }
    s = NULL;
    streams = NULL;
out:
    hn_free(fds);
    hn_free(s);
    hn_free(streams);
    return status;
}
