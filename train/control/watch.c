/* Every process tells once a second how it is: a count of pulses, and what it is at. From that, and from connections that end, follows
 * everything (found after, with the default times):
 *
 *     dead      its connection ended without a goodbye                                     at once
 *     told      it said itself what is wrong                                               at once
 *     silent    no beat for `silence`: stopped, its host or the network gone               10 s
 *     stuck     beats, and the same pulse for `timeout`                                    20 s
 *     slow      the same in an activity that is slow by itself, for `slow`                120 s
 *               and in the kernel for its disk, which nothing can interrupt               600 s
 *     all wait  every rank waits for others, and no beat tells anything but pulses         20 s
 *
 * Pulse and beat are two things on purpose (as the watchdog and the heartbeat monitor of PyTorch's ProcessGroupNCCL are): the thread that
 * beats lives on when the thread that trains hangs, and whoever waits in a loop pulses in it, so a pulse that stands is always a hang.
 * A wait for what never comes does pulse, and is found by the last rule; there the rank that has reached the fewest transfers is to
 * blame. `entered` makes the rule safe: a rank that computed for a moment between two beats has begun another activity since.
 *
 * The first two rules need no clock and are not judged here. */
#include "train/control/watch.h"

#include <stdio.h>
#include <string.h>

#include "core/mem.h"

hn_status hnp_watch_init(hnp_watch *watch, int size, const hnp_limits *limits, hn_error *error)
{
    hnp_watched *rank = hn_calloc((size_t)size, sizeof *rank);
    if (!rank) return hn_fail(error, HN_ERR_MEMORY, "out of memory for watching %d ranks", size);
    *watch = (hnp_watch){.limits = *limits, .size = size, .rank = rank};
    return HN_OK;
}

void hnp_watch_close(hnp_watch *watch)
{
    hn_free(watch->rank);
    *watch = (hnp_watch){0};
}

void hnp_watch_begin(hnp_watch *watch, int rank, double now)
{
    HN_ASSERT(rank >= 0 && rank < watch->size);
    watch->rank[rank] =
        (hnp_watched){.watched = true, .beat = {.activity = HN_ACTIVITY_SLOW, .step = -1}, .heard = now, .moved = now};
    watch->news = now;
}

void hnp_watch_end(hnp_watch *watch, int rank) { watch->rank[rank].watched = false; }

static bool same_news(const hnp_beat *a, const hnp_beat *b)
{
    return a->entered == b->entered && a->reached == b->reached && a->finished == b->finished && a->bytes == b->bytes;
}

void hnp_watch_hear(hnp_watch *watch, int rank, const hnp_beat *beat, double now)
{
    hnp_watched *one = &watch->rank[rank];
    if (beat->pulse != one->beat.pulse || beat->entered != one->beat.entered) one->moved = now;
    if (!same_news(beat, &one->beat) || beat->activity != HN_ACTIVITY_WAIT) watch->news = now;
    one->beat = *beat;
    one->heard = now;
}

/* What passed unjudged is taken off everybody's account. */
static void forgive_gap(hnp_watch *watch, double now)
{
    double gap = now - watch->judged, most = watch->limits.silence / 4;
    if (watch->judged > 0 && gap > (most < 1 ? most : 1)) {
        for (int i = 0; i < watch->size; i++) {
            watch->rank[i].heard += gap;
            watch->rank[i].moved += gap;
        }
        watch->news += gap;
    }
    watch->judged = now;
}

static double patience(const hnp_watch *watch, hn_activity activity)
{
    if (activity == HN_ACTIVITY_DISK) return HNP_DISK_MOST;
    return activity == HN_ACTIVITY_SLOW ? watch->limits.slow : watch->limits.timeout;
}

static bool judge_one(const hnp_watch *watch, int rank, double now, hnp_verdict *out)
{
    const hnp_watched *one = &watch->rank[rank];
    hn_activity activity = one->beat.activity;
    if (!one->watched) return false;
    *out = (hnp_verdict){HNP_FATE_SILENT, rank, now - one->heard};
    if (out->seconds > watch->limits.silence) return true;
    out->fate = activity == HN_ACTIVITY_DISK || activity == HN_ACTIVITY_SLOW ? HNP_FATE_SLOW : HNP_FATE_STUCK;
    out->seconds = now - one->moved;
    return out->seconds > patience(watch, activity);
}

/* The rank that reached the fewest transfers, or -1 where all have reached as many. */
static int find_behind(const hnp_watch *watch)
{
    int least = 0;
    bool equal = true;
    for (int i = 1; i < watch->size; i++) {
        equal = equal && watch->rank[i].beat.reached == watch->rank[0].beat.reached;
        if (watch->rank[i].beat.reached < watch->rank[least].beat.reached) least = i;
    }
    return equal ? -1 : least;
}

static bool judge_all(const hnp_watch *watch, double now, hnp_verdict *out)
{
    bool all = now - watch->news > watch->limits.timeout;
    for (int i = 0; i < watch->size; i++)
        all = all && watch->rank[i].watched && watch->rank[i].beat.activity == HN_ACTIVITY_WAIT;
    if (all) *out = (hnp_verdict){HNP_FATE_ALL_WAIT, find_behind(watch), now - watch->news};
    return all;
}

bool hnp_watch_judge(hnp_watch *watch, double now, hnp_verdict *out)
{
    hnp_verdict one, worst = {0};
    bool found = false;
    forgive_gap(watch, now);
    for (int i = 0; i < watch->size; i++)
        if (judge_one(watch, i, now, &one) && (!found || one.fate < worst.fate)) {
            worst = one;
            found = true;
        }
    if (!found) found = judge_all(watch, now, &worst);
    if (found) *out = worst;
    return found;
}

void hnp_beat_describe(char *out, size_t size, const hnp_beat *beat)
{
    char step[40] = "";
    if (beat->step >= 0) snprintf(step, sizeof step, " of step %lld", (long long)beat->step);
    snprintf(out, size, "in %s%s", beat->operation[0] ? beat->operation : "its start", step);
}

void hnp_verdict_describe(char *out, size_t size, const hnp_verdict *verdict, const hnp_watch *watch, const char *who,
                          const char *message)
{
    char place[HNP_OPERATION + 48];
    hnp_beat_describe(place, sizeof place, &watch->rank[verdict->rank < 0 ? 0 : verdict->rank].beat);
    double s = verdict->seconds;
    switch (verdict->fate) {
    case HNP_FATE_DEAD: snprintf(out, size, "%s died %s; the job ends", who, place); break;
    case HNP_FATE_TOLD: snprintf(out, size, "%s failed %s: %s; the job ends", who, place, message); break;
    case HNP_FATE_SILENT: snprintf(out, size, "%s silent for %.0f s, last heard of %s; the job ends", who, s, place); break;
    case HNP_FATE_STUCK: snprintf(out, size, "%s stuck for %.0f s %s; the job ends", who, s, place); break;
    case HNP_FATE_SLOW: snprintf(out, size, "%s not done after %.0f s %s; the job ends", who, s, place); break;
    case HNP_FATE_ALL_WAIT:
        if (verdict->rank < 0)
            snprintf(out, size, "all %d ranks wait %s and nothing moved for %.0f s; the job ends", watch->size, place, s);
        else
            snprintf(out, size, "all %d ranks wait and nothing moved for %.0f s; %s is behind, %s; the job ends", watch->size, s, who,
                     place);
        break;
    }
}
