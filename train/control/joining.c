/* How ranks come together.
 *
 *     rank r                              rank 0
 *       | -- connects ---------------------> |   a stranger: may say HELLO, within some seconds
 *       | -- HELLO token, rank, build ------> |   compared with its own
 *       | <- WELCOME token, times ----------- |   from now on both beat, and are watched
 *       |           ... all others ...        |
 *       | <- ROSTER ------------------------- |   nobody listens any more
 *
 * A stranger that says anything else, another token, or nothing is dropped with a line and harms nobody; there is room for 64 at a time,
 * the rest wait in the kernel. Who knows the token and contradicts (other world size, other build, a rank that is there already) is a
 * mistake of the launch, and is told to all, also to those who come some seconds later. The store of PyTorch (TCPStore) is the model of one process that listens; unlike there its
 * port closes when the last rank has come. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"
#include "train/control/rendezvous.h"
#include "train/control/world.h"

#define HELLO_WITHIN 10.0  /* seconds that a stranger has */
#define CONNECT_WITHIN 2.0 /* seconds for an address to answer */
#define LATE 0.025         /* of the time to come together, in which those who come after a refusal are told of it (3 s) */
#define NOTICES 20         /* lines about strangers */

#define FROM_ALL (HNP_ALLOW(BEAT) | HNP_ALLOW(STOP) | HNP_ALLOW(ABORT) | HNP_ALLOW(PIECE) | HNP_ALLOW(WRITER_PIECE))
#define FROM_RANKS (FROM_ALL | HNP_ALLOW(CALL) | HNP_ALLOW(WRITER_CALL))
#define FROM_FIRST (FROM_ALL | HNP_ALLOW(ROSTER) | HNP_ALLOW(ANSWER) | HNP_ALLOW(WRITER_ANSWER))

static void send_at_once(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* One connection a rank, and what else a process has open. */
static void allow_descriptors(int ranks)
{
    struct rlimit limit;
    rlim_t need = (rlim_t)ranks + HNP_STRANGERS + 256;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= need) return;
    limit.rlim_cur = need < limit.rlim_max ? need : limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

hn_status hnp_join_listen(hnp_world *w, hn_error *error)
{
    int port;
    const char *folder = w->options.rendezvous;
    hnp_launch launch = w->launch;
    if (folder) launch.port = 0;
    allow_descriptors(w->size);
    hn_status status = hnp_meet_listen(&w->own.listener, &port, &launch, error);
    if (status == HN_OK && folder) {
        status = hnp_meet_publish(folder, launch.token, port, error);
        w->own.published = status == HN_OK;
    }
    w->own.joined = 1;
    return status;
}

void hnp_join_end(hnp_world *w)
{
    if (w->own.listener >= 0) close(w->own.listener);
    w->own.listener = -1;
    if (w->own.published) hnp_meet_withdraw(w->options.rendezvous, w->launch.token);
    w->own.published = false;
    for (int i = 0; i < HNP_STRANGERS; i++)
        if (w->own.stranger[i].wire.fd >= 0) hnp_wire_close(&w->own.stranger[i].wire);
}

void hnp_join_places(hnp_world *w)
{
    w->local = w->local_size = 0;
    for (int i = 0; i < w->size; i++) {
        if (w->who[i].node != w->who[w->rank].node) continue;
        w->local += i < w->rank;
        w->local_size++;
    }
}

/* Rank 0. */

void hnp_join_accept(hnp_world *w)
{
    for (int i = 0; i < HNP_STRANGERS; i++) {
        hnp_stranger *one = &w->own.stranger[i];
        if (one->wire.fd >= 0) continue;
        int fd = accept4(w->own.listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) return;
        send_at_once(fd);
        hnp_wire_init(&one->wire, fd, 0, -1, HNP_ALLOW(HELLO));
        one->since = w->own.now;
    }
}

static void drop(hnp_world *w, hnp_stranger *one, const char *why)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char host[NI_MAXHOST] = "somewhere", text[NI_MAXHOST + 200];
    if (!getpeername(one->wire.fd, (struct sockaddr *)&address, &length))
        getnameinfo((struct sockaddr *)&address, length, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    hnp_wire_close(&one->wire);
    snprintf(text, sizeof text, "a connection from %s was dropped: %s", host, why);
    if (w->own.notices++ < NOTICES) hnp_control_notice(w, text);
}

/* Why this rank may not be one of us, in `out`; false: it may. */
static bool contradicts(const hnp_world *w, const hnp_hello *hello, hn_error *out)
{
    const hnp_identity *me = &w->who[0], *who = &hello->who;
    if (hello->size != w->size)
        hn_fail(out, HN_ERR_MISMATCH, "rank %d (%s, pid %lld) counts %d ranks, rank 0 (%s) counts %d", hello->rank, who->host,
                (long long)who->pid, hello->size, me->host, w->size);
    else if (hello->rank >= w->size)
        hn_fail(out, HN_ERR_MISMATCH, "%s, pid %lld says it is rank %d; expected a number below %d", who->host, (long long)who->pid,
                hello->rank, w->size);
    else if (hello->rank == 0 || w->own.wire[hello->rank].fd >= 0)
        hn_fail(out, HN_ERR_MISMATCH, "rank %d is there twice: %s, pid %lld and %s, pid %lld", hello->rank, w->who[hello->rank].host,
                (long long)w->who[hello->rank].pid, who->host, (long long)who->pid);
    else if (strcmp(hello->build, w->build))
        hn_fail(out, HN_ERR_MISMATCH, "rank %d (%s) runs hone %s, rank 0 (%s) %s; expected the same program", hello->rank, who->host,
                hello->build, me->host, w->build);
    return out->status != HN_OK;
}

static void send_roster(hnp_world *w)
{
    hn_strbuf text;
    hnp_body *body;
    bool fits;
    hn_strbuf_init(&text);
    hnp_roster_encode(&text, w->who, w->size);
    body = text.failed ? NULL : hnp_body_new(text.length);
    fits = body != NULL;
    if (fits) memcpy(body->bytes, text.text, text.length);
    for (int i = 1; i < w->size && fits; i++) fits = hnp_wire_share(&w->own.wire[i], HNP_FRAME_ROSTER, body, 0, body->size);
    hnp_body_release(body);
    hn_strbuf_close(&text);
    if (!fits) hnp_end_here(w, HN_ERR_MEMORY, "out of memory for the ranks' addresses");
}

static void admit(hnp_world *w, hnp_stranger *one, const hnp_hello *hello)
{
    hn_strbuf text;
    hnp_wire *wire = &w->own.wire[hello->rank];
    hnp_welcome welcome = {w->launch.token, w->limits, w->stop_within};
    *wire = one->wire;
    one->wire = (hnp_wire){.fd = -1};
    wire->other = hello->rank;
    wire->allowed = FROM_RANKS;
    w->who[hello->rank] = hello->who;
    hn_strbuf_init(&text);
    hnp_welcome_encode(&text, &welcome);
    bool fits = !text.failed && hnp_wire_send(wire, HNP_FRAME_WELCOME, text.text, text.length);
    hn_strbuf_close(&text);
    if (!fits) {
        hnp_end_here(w, HN_ERR_MEMORY, "out of memory for a rank that has come");
        return;
    }
    hnp_watch_begin(&w->own.watch, hello->rank, w->own.now);
    if (++w->own.joined < w->size) return;
    hnp_join_end(w);
    send_roster(w);
    if (w->own.over) return;
    hnp_join_places(w);
    hnp_control_phase(w, HNP_PHASE_RUNNING);
}

/* Reads a stranger: 1 when it has said who it is and belongs to this launch; 0: not yet; -1: it was dropped. */
static int hear_hello(hnp_world *w, hnp_stranger *one, hnp_hello *hello)
{
    hnp_frame frame;
    const char *why = NULL;
    int got = hnp_wire_fill(&one->wire) ? hnp_wire_next(&one->wire, &frame, &why) : -1;
    if (got < 0 && !why)
        why = "out of memory for it";
    else if (got == 0 && one->wire.ended)
        why = "it ended without a word";
    else if (got == 0 && w->own.now - one->since > HELLO_WITHIN)
        why = "it did not say who it is";
    else if (got > 0 && !hnp_hello_decode(hello, &frame))
        why = "it does not speak as a rank does";
    else if (got > 0 && hello->token != w->launch.token)
        why = "it belongs to another launch";
    if (why) drop(w, one, why);
    return why ? -1 : got;
}

void hnp_join_stranger(hnp_world *w, hnp_stranger *one)
{
    hnp_hello hello;
    hn_error error = {0};
    if (hear_hello(w, one, &hello) <= 0) return;
    if (!contradicts(w, &hello, &error)) {
        admit(w, one, &hello);
        return;
    }
    hnp_abort end = {.rank = -1, .status = error.status};
    memcpy(end.line, error.message, sizeof end.line);
    hnp_end_tell(&one->wire, &end);
    hnp_wire_close(&one->wire);
    w->own.turned_away++;
    hnp_end(w, &end, false);
}

void hnp_join_turn_away(hnp_world *w, const hnp_abort *end)
{
    hnp_hello hello;
    for (double until = hn_clock() + LATE * w->options.connect; w->own.now < until && w->own.joined + w->own.turned_away < w->size;) {
        poll(&(struct pollfd){w->own.listener, POLLIN, 0}, 1, 20);
        w->own.now = hn_clock();
        hnp_join_accept(w);
        for (int i = 0; i < HNP_STRANGERS; i++) {
            hnp_stranger *one = &w->own.stranger[i];
            if (one->wire.fd < 0 || hear_hello(w, one, &hello) <= 0) continue;
            hnp_end_tell(&one->wire, end);
            hnp_wire_close(&one->wire);
            w->own.turned_away++;
        }
    }
}

/* The others. */

static bool stopped(const hnp_world *w) { return w->options.stop && *w->options.stop; }

/* The next frame within `seconds`: as hnp_wire_next, and -1 where the connection ends or the time is over. */
static int await(hnp_world *w, hnp_wire *wire, double seconds, hnp_frame *frame)
{
    const char *why;
    for (double end = hn_clock() + seconds; hn_clock() < end && !stopped(w);) {
        struct pollfd one = {.fd = wire->fd, .events = (short)(POLLIN | (hnp_wire_waits(wire) ? POLLOUT : 0))};
        if (poll(&one, 1, 50) <= 0) continue;
        hnp_wire_flush(wire);
        if (!hnp_wire_fill(wire)) return -1;
        int got = hnp_wire_next(wire, frame, &why);
        if (got || wire->ended) return got ? got : -1;
    }
    return -1;
}

static bool say_hello(hnp_world *w, hnp_wire *wire)
{
    hn_strbuf text;
    hnp_hello hello = {.token = w->launch.token, .rank = w->rank, .size = w->size, .who = w->who[w->rank]};
    memcpy(hello.build, w->build, sizeof hello.build);
    hn_strbuf_init(&text);
    hnp_hello_encode(&text, &hello);
    bool fits = !text.failed && hnp_wire_send(wire, HNP_FRAME_HELLO, text.text, text.length);
    hn_strbuf_close(&text);
    return fits;
}

/* Whether rank 0 was there and let this rank in. It may also have told why it does not: then `error` is set. */
static bool try_place(hnp_world *w, const hnp_place *place, hn_error *error)
{
    hnp_wire *wire = &w->own.wire[0];
    hnp_frame frame;
    hnp_welcome welcome;
    hnp_abort end;
    int fd = hnp_meet_connect(place, CONNECT_WITHIN, w->options.stop);
    if (fd < 0) return false;
    send_at_once(fd);
    hnp_wire_init(wire, fd, w->rank, 0, HNP_ALLOW(WELCOME) | HNP_ALLOW(ABORT));
    if (say_hello(w, wire) && await(w, wire, w->options.connect / 4, &frame) > 0) {
        if (frame.type == HNP_FRAME_ABORT && hnp_abort_decode(&end, &frame, w->size)) hn_fail(error, end.status, "%s", end.line);
        if (frame.type == HNP_FRAME_WELCOME && hnp_welcome_decode(&welcome, &frame) && welcome.token == w->launch.token) {
            w->limits = welcome.limits;
            w->stop_within = welcome.stop_within;
            wire->allowed = FROM_FIRST;
            return true;
        }
    }
    hnp_wire_close(wire);
    return false;
}

static hn_status no_rank_zero(const hnp_world *w, const hnp_place *place, int places, hn_error *error)
{
    char where[320] = "nowhere yet";
    if (places) snprintf(where, sizeof where, "%s, port %d", place->host, place->port);
    return hn_fail(error, HN_ERR_IO,
                   "rank %d of %d did not find rank 0 within %.0f s (%s%s; last tried: %s). %s made it one of %d ranks; train.transport=none is "
                   "one process",
                   w->rank, w->size, w->options.connect, w->options.rendezvous ? "by the folder " : "by the environment",
                   w->options.rendezvous ? w->options.rendezvous : "", where, w->launch.by, w->size);
}

hn_status hnp_join_connect(hnp_world *w, hn_error *error)
{
    hnp_place place[HNP_PLACES];
    int places = 0;
    long nap = 20;
    hn_error told = {0};
    for (double end = hn_clock() + w->options.connect; hn_clock() < end && told.status == HN_OK;) {
        places = hnp_meet_places(place, &w->launch, w->options.rendezvous);
        for (int i = 0; i < places && told.status == HN_OK && !stopped(w); i++)
            if (try_place(w, &place[i], &told)) return HN_OK;
        if (stopped(w)) return hn_fail(error, HN_ERR_INTERRUPTED, "stopped while the ranks came together");
        nanosleep(&(struct timespec){0, nap * 1000000}, NULL);
        if (nap < 200) nap *= 2;
    }
    if (told.status != HN_OK) return hn_fail(error, told.status, "%s", told.message);
    return no_rank_zero(w, &place[places ? places - 1 : 0], places, error);
}
