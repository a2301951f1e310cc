/* The control thread: sleeps on its connections, and every round reads what came, takes what the main thread posted, beats, and
 * judges. It never waits for one of them alone, and takes a lock only where its holder holds it for some instructions. So it lives when the
 * main thread hangs, and can say so.
 *
 * A round reads before it judges: a process that was stopped and goes on finds the others' beats in its sockets. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"
#include "train/control/world.h"

#define NAP_MS 50        /* how soon a signal's flag is seen */
#define LEAVE_WITHIN 5.0 /* seconds for the others to close their connections after the orderly end */

void hnp_control_wake(hnp_world *w)
{
    while (eventfd_write(w->wake, 1) && errno == EINTR) {
    }
}

void hnp_control_notice(hnp_world *w, const char *text)
{
    hnp_recorder_notice(&w->recorder, text);
    if (w->options.notice) w->options.notice(text);
}

void hnp_control_phase(hnp_world *w, hnp_phase phase)
{
    pthread_mutex_lock(&w->lock);
    w->phase = phase;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

hnp_beat hnp_control_beat(hnp_world *w)
{
    pthread_mutex_lock(&w->lock);
    hnp_beat beat = w->here;
    pthread_mutex_unlock(&w->lock);
    beat.pulse = atomic_load_explicit(&w->pulses, memory_order_relaxed);
    beat.reached = atomic_load_explicit(&w->reached, memory_order_relaxed);
    beat.finished = atomic_load_explicit(&w->finished, memory_order_relaxed);
    beat.bytes = atomic_load_explicit(&w->bytes, memory_order_relaxed);
    return beat;
}

/* The same to everybody: rank 0 to all, another one to rank 0. */
static void tell_everybody(hnp_world *w, hnp_frame_type type, const hn_strbuf *text)
{
    bool fits = !text->failed;
    for (int i = 0; i < w->size && fits; i++)
        if (w->own.wire[i].fd >= 0) fits = hnp_wire_send(&w->own.wire[i], type, text->text, text->length);
    if (!fits) hnp_end_here(w, HN_ERR_MEMORY, "out of memory for a message to the other ranks");
}

static void beat(hnp_world *w)
{
    hnp_beat now = hnp_control_beat(w);
    hn_strbuf text;
    hnp_watch_hear(&w->own.watch, w->rank, &now, w->own.now);
    if (w->own.now < w->own.next_beat) return;
    w->own.next_beat = w->own.now + w->beat_every;
    hn_strbuf_init(&text);
    hnp_beat_encode(&text, &now);
    tell_everybody(w, HNP_FRAME_BEAT, &text);
    hn_strbuf_close(&text);
}

/* A stop was asked for: of this process by a signal, or of another one. Everybody learns it once; when to stop is agreed elsewhere. */
static void ask_to_stop(hnp_world *w, bool told)
{
    static const hn_strbuf nothing = {.text = ""};
    bool joining = w->phase == HNP_PHASE_JOINING;
    if (w->own.asked > 0) return;
    w->own.asked = w->own.now;
    if (w->options.stop && !*w->options.stop) *w->options.stop = 1;
    if (joining) {
        hnp_abort end = {.rank = -1, .status = HN_ERR_INTERRUPTED, .line = "stopped while the ranks came together"};
        hnp_end(w, &end, false);
    } else if (w->rank == 0 || !told) {
        tell_everybody(w, HNP_FRAME_STOP, &nothing);
    }
}

static void watch_the_stop(hnp_world *w)
{
    char line[HNP_OPERATION + 160], place[HNP_OPERATION + 48];
    if (w->options.stop && *w->options.stop) ask_to_stop(w, false);
    if (w->own.over || w->own.asked <= 0 || atomic_load(&w->stop_agreed) || w->own.now - w->own.asked <= w->stop_within) return;
    hnp_beat now = hnp_control_beat(w);
    hnp_beat_describe(place, sizeof place, &now);
    snprintf(line, sizeof line, "stopped without saving: asked to stop, the ranks came to no end of a step within %.0f s, rank %d being %s",
             w->stop_within, w->rank, place);
    hnp_abort end = {.rank = w->rank, .status = HN_ERR_INTERRUPTED};
    memcpy(end.line, line, strlen(line) + 1);
    hnp_end(w, &end, false);
}

static void hear_abort(hnp_world *w, int rank, const hnp_frame *frame)
{
    hnp_abort end;
    if (!hnp_abort_decode(&end, frame, w->size))
        hnp_end_by(w, (hnp_verdict){HNP_FATE_TOLD, rank, 0}, "it ends the job and does not say why");
    else
        hnp_end(w, &end, w->rank != 0);
}

static void hear_roster(hnp_world *w, const hnp_frame *frame, const char **why)
{
    if (w->phase != HNP_PHASE_JOINING || !hnp_roster_decode(w->who, w->size, frame)) {
        *why = "a list of ranks that is none";
        return;
    }
    hnp_join_places(w);
    hnp_control_phase(w, HNP_PHASE_RUNNING);
}

/* NULL, or what is wrong with it. */
static const char *hear(hnp_world *w, int rank, const hnp_frame *frame)
{
    const char *why = NULL;
    hnp_beat other;
    switch (frame->type) {
    case HNP_FRAME_BEAT:
        if (!hnp_beat_decode(&other, frame)) return "a beat that is none";
        if (w->own.watch.rank[rank].watched) hnp_watch_hear(&w->own.watch, rank, &other, w->own.now);
        break;
    case HNP_FRAME_STOP: ask_to_stop(w, true); break;
    case HNP_FRAME_ABORT: hear_abort(w, rank, frame); break;
    case HNP_FRAME_ROSTER: hear_roster(w, frame, &why); break;
    default: why = hnp_calls_hear(w, rank, frame); break;
    }
    return why;
}

static void ended(hnp_world *w, int rank)
{
    if (w->phase == HNP_PHASE_LEAVING)
        hnp_wire_close(&w->own.wire[rank]);
    else
        hnp_end_by(w, (hnp_verdict){HNP_FATE_DEAD, rank, 0}, "");
}

static void read_wire(hnp_world *w, int rank)
{
    hnp_wire *wire = &w->own.wire[rank];
    hnp_frame frame;
    const char *why = NULL;
    int got = 0;
    if (!hnp_wire_fill(wire)) {
        hnp_end_here(w, HN_ERR_MEMORY, "out of memory for what another rank sends");
        return;
    }
    while (!w->own.over && !why && (got = hnp_wire_next(wire, &frame, &why)) > 0) why = hear(w, rank, &frame);
    if (w->own.over) return;
    if (why)
        hnp_end_by(w, (hnp_verdict){HNP_FATE_TOLD, rank, 0}, why);
    else if (wire->ended)
        ended(w, rank);
}

static struct pollfd poll_of(const hnp_wire *wire)
{
    return (struct pollfd){wire->fd, (short)(POLLIN | (hnp_wire_waits(wire) ? POLLOUT : 0)), 0};
}

/* Sleeps until something came or may be sent. The places in `polled`: the eventfd, the ranks, strangers, the listener (fd < 0 is passed over). */
static void sleep_on_all(hnp_world *w)
{
    struct pollfd *p = w->own.polled;
    bool room = false;
    eventfd_t count;
    p[0] = (struct pollfd){w->wake, POLLIN, 0};
    for (int i = 0; i < w->size; i++) p[1 + i] = poll_of(&w->own.wire[i]);
    for (int i = 0; i < HNP_STRANGERS; i++) {
        p[1 + w->size + i] = poll_of(&w->own.stranger[i].wire);
        room = room || w->own.stranger[i].wire.fd < 0;
    }
    p[1 + w->size + HNP_STRANGERS] = (struct pollfd){room ? w->own.listener : -1, POLLIN, 0};
    if (poll(p, (nfds_t)w->size + HNP_STRANGERS + 2, NAP_MS) <= 0)
        for (int i = 0; i < w->size + HNP_STRANGERS + 2; i++) p[i].revents = 0;
    if (p[0].revents) eventfd_read(w->wake, &count);
}

static void read_all(hnp_world *w)
{
    const struct pollfd *p = w->own.polled;
    for (int i = 0; i < w->size && !w->own.over; i++) {
        if (p[1 + i].revents & POLLOUT) hnp_wire_flush(&w->own.wire[i]);
        if (p[1 + i].revents & ~POLLOUT) read_wire(w, i);
    }
    for (int i = 0; i < HNP_STRANGERS && w->own.listener >= 0 && !w->own.over; i++)
        if (w->own.stranger[i].wire.fd >= 0) hnp_join_stranger(w, &w->own.stranger[i]);
    if (w->own.listener >= 0 && !w->own.over) hnp_join_accept(w);
}

/* Rank 0: those who have not come in time. */
static void miss(hnp_world *w)
{
    char line[1024];
    hnp_abort end = {.rank = -1, .status = HN_ERR_IO};
    int used = snprintf(line, sizeof line, "%d of %d ranks came within %.0f s (%s); missing:", w->own.joined, w->size,
                        w->options.connect, w->launch.by);
    for (int i = 1; i < w->size && used < (int)sizeof line - 16; i++)
        if (w->own.wire[i].fd < 0) used += snprintf(line + used, sizeof line - (size_t)used, " %d", i);
    memcpy(end.line, line, strlen(line) + 1);
    hnp_end(w, &end, false);
}

static void judge(hnp_world *w)
{
    hnp_verdict verdict;
    hn_error failure;
    pthread_mutex_lock(&w->lock);
    failure = w->failure;
    double due = w->failure_due;
    pthread_mutex_unlock(&w->lock);
    if (failure.status != HN_OK && w->own.now >= due) hnp_end_here(w, failure.status, failure.message);
    if (hnp_watch_judge(&w->own.watch, w->own.now, &verdict))
        hnp_end_by(w, verdict, "");
    else if (w->rank == 0 && w->phase == HNP_PHASE_JOINING && w->own.now - w->own.opened > w->options.connect)
        miss(w);
}

/* Rank 0, after the orderly end: the others close their connections first. */
static void leave(hnp_world *w)
{
    bool all = true;
    for (int i = 1; i < w->size; i++) all = all && w->own.wire[i].fd < 0;
    if (!all && w->own.now - w->own.left < LEAVE_WITHIN) return;
    w->own.over = true;
    hnp_control_phase(w, HNP_PHASE_OVER);
}

void *hnp_control(void *world)
{
    hnp_world *w = world;
    if (w->rank) read_wire(w, 0); /* what came with the welcome wakes nobody any more */
    while (!w->own.over) {
        sleep_on_all(w);
        w->own.now = hn_clock();
        read_all(w);
        if (!w->own.over) hnp_calls_take(w);
        if (w->phase == HNP_PHASE_LEAVING && !w->own.over) leave(w);
        if (w->phase == HNP_PHASE_LEAVING) continue;
        if (!w->own.over) watch_the_stop(w);
        if (!w->own.over) beat(w);
        if (!w->own.over) judge(w);
    }
    return NULL;
}
