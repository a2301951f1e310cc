/* How a job ends that failed. One rank knows it first; rank 0 tells all, and prints the one line. Then every process leaves by _exit:
 * MPI_Abort, MPI_Finalize and ncclCommAbort are known to hang where a peer is gone, and PyTorch's ProcessGroupNCCL tears its process
 * down without aborting for the same reason.
 *
 *     rank 3                     rank 0                                    others
 *     ABORT ------------------->  prints; ABORT to all  --------------->  end their connection, write logs, _exit(1)
 *     waits for its echo  <----'  reads until all have ended, 1 s
 *                                 SIGKILL to those of this machine that have not; writes logs; _exit(1)
 *
 * Rank 0 reads on until the others have ended their connections because closing one with unread bytes in it could destroy the ABORT
 * that is on its way. A process that is stopped cannot leave by itself: where somebody was silent, every rank of its machine sends it
 * SIGKILL. If rank 0 itself is gone, each finds that alone, and says so.
 *
 * Writing logs may hang on the disk that failed; then an alarm ends the process. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"
#include "core/file.h"
#include "train/control/world.h"

#define TELL_WITHIN 1.0 /* seconds for the others to hear it */
#define LOG_WITHIN 3    /* seconds for writing the log */

void hnp_end_tell(hnp_wire *wire, const hnp_abort *end)
{
    hn_strbuf text;
    if (wire->fd < 0) return;
    hn_strbuf_init(&text);
    hnp_abort_encode(&text, end);
    if (!text.failed) hnp_wire_send(wire, HNP_FRAME_ABORT, text.text, text.length);
    hn_strbuf_close(&text);
}

/* Sends what is queued and throws away what comes. Whether rank 0's word of the end came, which is looked for on other ranks. */
static bool drain(hnp_wire *wire)
{
    hnp_frame frame;
    const char *why;
    int got = 0;
    hnp_wire_flush(wire);
    if (!hnp_wire_fill(wire)) wire->ended = true;
    while (!wire->ended && (got = hnp_wire_next(wire, &frame, &why)) > 0)
        if (frame.type == HNP_FRAME_ABORT && wire->other == 0) return true;
    if (got < 0) wire->begin = wire->end;
    if (wire->ended) hnp_wire_close(wire);
    return false;
}

/* Until every connection has ended, or a second has passed. Whether rank 0 has said it too. */
static bool drain_all(hnp_world *w)
{
    bool echo = false;
    for (double end = hn_clock() + TELL_WITHIN; hn_clock() < end && !echo;) {
        nfds_t count = 0;
        for (int i = 0; i < w->size; i++) {
            hnp_wire *wire = &w->own.wire[i];
            if (wire->fd >= 0) echo = drain(wire) || echo;
            if (wire->fd >= 0)
                w->own.polled[count++] = (struct pollfd){wire->fd, (short)(POLLIN | (hnp_wire_waits(wire) ? POLLOUT : 0)), 0};
        }
        if (!count || echo) break;
        poll(w->own.polled, count, 50);
    }
    return echo;
}

static void write_log(hnp_world *w, const char *line)
{
    char path[4096];
    hn_error error = {0};
    pthread_mutex_lock(&w->lock);
    int used = w->logs ? snprintf(path, sizeof path, "%s/rank-%d.log", w->logs, w->rank) : 0;
    pthread_mutex_unlock(&w->lock);
    if (used <= 0 || used >= (int)sizeof path) return;
    signal(SIGALRM, SIG_DFL);
    alarm(LOG_WITHIN);
    if (hnp_recorder_write(&w->recorder, path, line, &error) != HN_OK) hnp_control_notice(w, error.message);
}

static void refuse(hnp_world *w, hn_status status, const char *line)
{
    pthread_mutex_lock(&w->lock);
    hn_fail(&w->refusal, status, "%s", line);
    w->phase = HNP_PHASE_OVER;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    w->own.over = true;
}

void hnp_end(hnp_world *w, const hnp_abort *end, bool told)
{
    pthread_mutex_lock(&w->lock);
    bool running = w->phase != HNP_PHASE_JOINING;
    pthread_mutex_unlock(&w->lock);
    if (w->rank == 0 && running) hnp_control_notice(w, end->line);
    for (int i = 0; i < w->size && !told; i++) hnp_end_tell(&w->own.wire[i], end);
    if (end->stop) hnp_identity_kill(&w->who[end->rank], &w->who[w->rank]);
    bool known = told || drain_all(w);
    for (int i = 0; i < w->size; i++) {
        if (w->own.wire[i].fd < 0) continue;
        if (w->rank == 0) hnp_identity_kill(&w->who[i], &w->who[0]);
        hnp_wire_close(&w->own.wire[i]);
    }
    if (!running) {
        if (w->own.listener >= 0 && w->own.now - w->own.opened < w->options.connect) hnp_join_turn_away(w, end);
        refuse(w, end->status, end->line);
        return;
    }
    if (w->rank && !known) hnp_control_notice(w, end->line);
    write_log(w, end->line);
    _exit(1);
}

static void name(char *out, size_t size, const hnp_world *w, int rank)
{
    if (w->who[rank].host[0])
        snprintf(out, size, "rank %d (%s, pid %lld)", rank, w->who[rank].host, (long long)w->who[rank].pid);
    else
        snprintf(out, size, "rank %d", rank);
}

void hnp_end_by(hnp_world *w, hnp_verdict verdict, const char *message)
{
    char who[HNP_NAME + 64] = "";
    hnp_abort end = {.rank = verdict.rank, .stop = verdict.fate == HNP_FATE_SILENT, .status = HN_ERR_DEVICE};
    if (verdict.rank >= 0) name(who, sizeof who, w, verdict.rank);
    hnp_verdict_describe(end.line, sizeof end.line, &verdict, &w->own.watch, who, message);
    hnp_end(w, &end, false);
}

void hnp_end_here(hnp_world *w, hn_status status, const char *message)
{
    char who[HNP_NAME + 64], line[sizeof((hnp_abort *)0)->line];
    hnp_verdict verdict = {HNP_FATE_TOLD, w->rank, 0};
    hnp_abort end = {.rank = w->rank, .status = status};
    hnp_beat beat = hnp_control_beat(w);
    hnp_watch_hear(&w->own.watch, w->rank, &beat, w->own.now);
    name(who, sizeof who, w, w->rank);
    hnp_verdict_describe(line, sizeof line, &verdict, &w->own.watch, who, message);
    memcpy(end.line, line, sizeof end.line);
    hnp_end(w, &end, false);
}
