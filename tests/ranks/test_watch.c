/* The watch's rules on scripted beats. */
#include "train/control/watch.h"

#include "core/mem.h"
#include "tests/test.h"

static const hnp_limits limits = {.timeout = 20, .silence = 10, .slow = 120};
static hnp_watch watch;
static hnp_verdict verdict;
static double now;

static void begin(int size)
{
    hnp_watch_close(&watch);
    if (hnp_watch_init(&watch, size, &limits, NULL) != HN_OK) abort();
    now = 1000;
    for (int i = 0; i < size; i++) hnp_watch_begin(&watch, i, now);
}

typedef struct script {
    hn_activity activity;
    bool pulses, beats;
    uint64_t reached;
} script;

static uint64_t pulses, entered = 1;

/* Beats of all ranks every second until somebody is judged, at most `seconds`. Whether somebody was, with `now` its time. */
static bool play(const script *ranks, double seconds)
{
    for (double end = now + seconds; now < end; now += 0.25) {
        if (now == (double)(long)now)
            for (int i = 0; i < watch.size; i++) {
                hnp_beat beat = {.pulse = ranks[i].pulses ? ++pulses : 7, .entered = entered, .activity = ranks[i].activity,
                                 .operation = "reduce-scatter of layer.5", .step = 812, .reached = ranks[i].reached};
                if (ranks[i].beats) hnp_watch_hear(&watch, i, &beat, now);
            }
        if (hnp_watch_judge(&watch, now, &verdict)) return true;
    }
    return false;
}

static const char *told(void)
{
    static char text[400];
    hnp_verdict_describe(text, sizeof text, &verdict, &watch, "rank 1 (n2, pid 47)", "broken");
    return text;
}

TEST(all_is_well)
{
    begin(3);
    CHECK(!play((script[]){{HN_ACTIVITY_COMPUTE, true, true, 0}, {HN_ACTIVITY_WAIT, true, true, 0}, {HN_ACTIVITY_DISK, false, true, 0}}, 500));
}

TEST(silent)
{
    begin(3);
    CHECK(!play((script[]){{0, true, true, 0}, {0, true, true, 0}, {0, true, true, 0}}, 30));
    CHECK(play((script[]){{0, true, true, 0}, {0, true, false, 0}, {0, true, true, 0}}, 100));
    CHECK_INT(verdict.fate, HNP_FATE_SILENT);
    CHECK_INT(verdict.rank, 1);
    CHECK_NEAR(now, 1039.25, 1e-9);
    CHECK_TEXT(told(), "rank 1 (n2, pid 47) silent for 10 s, last heard of in reduce-scatter of layer.5 of step 812; the job ends");
}

TEST(stuck)
{
    for (int activity = HN_ACTIVITY_COMPUTE; activity <= HN_ACTIVITY_WAIT; activity++) {
        begin(2);
        CHECK(play((script[]){{0, true, true, 0}, {activity, false, true, 0}}, 100));
        CHECK_INT(verdict.fate, HNP_FATE_STUCK);
        CHECK_INT(verdict.rank, 1);
        CHECK_NEAR(now, 1020.25, 1e-9);
        CHECK_TEXT(told(), "rank 1 (n2, pid 47) stuck for 20 s in reduce-scatter of layer.5 of step 812; the job ends");
    }
}

TEST(a_disk_and_a_start_may_take_longer)
{
    begin(2);
    CHECK(play((script[]){{0, true, true, 0}, {HN_ACTIVITY_SLOW, false, true, 0}}, 1000));
    CHECK_INT(verdict.fate, HNP_FATE_SLOW);
    CHECK_NEAR(now, 1120.25, 1e-9);
    CHECK_CONTAINS(told(), "not done after 120 s");
    begin(2);
    CHECK(play((script[]){{0, true, true, 0}, {HN_ACTIVITY_DISK, false, true, 0}}, 1000));
    CHECK_INT(verdict.fate, HNP_FATE_SLOW);
    CHECK_NEAR(now, 1600.25, 1e-9);
}

/* A new activity is a sign of life too. */
TEST(entering_is_moving)
{
    begin(1);
    for (int i = 0; i < 10; i++, entered++) CHECK(!play((script[]){{HN_ACTIVITY_COMPUTE, false, true, 0}}, 15));
}

TEST(all_wait)
{
    begin(3);
    CHECK(play((script[]){{HN_ACTIVITY_WAIT, true, true, 5}, {HN_ACTIVITY_WAIT, true, true, 4}, {HN_ACTIVITY_WAIT, true, true, 5}}, 100));
    CHECK_INT(verdict.fate, HNP_FATE_ALL_WAIT);
    CHECK_INT(verdict.rank, 1);
    CHECK_NEAR(now, 1020.25, 1e-9);
    CHECK_TEXT(told(), "all 3 ranks wait and nothing moved for 20 s; rank 1 (n2, pid 47) is behind, in reduce-scatter of layer.5 of step 812; the job ends");
    begin(2);
    CHECK(play((script[]){{HN_ACTIVITY_WAIT, true, true, 5}, {HN_ACTIVITY_WAIT, true, true, 5}}, 100));
    CHECK_INT(verdict.rank, -1);
    CHECK_TEXT(told(), "all 2 ranks wait in reduce-scatter of layer.5 of step 812 and nothing moved for 20 s; the job ends");
}

/* Bytes, transfers, a new activity of one rank, or one that does not wait: each makes waiting fine. */
TEST(somebody_moves)
{
    script wait[2] = {{HN_ACTIVITY_WAIT, true, true, 5}, {HN_ACTIVITY_WAIT, true, true, 5}};
    begin(2);
    for (int i = 0; i < 10; i++, wait[1].reached++) CHECK(!play(wait, 15));
    for (int i = 0; i < 10; i++, entered++) CHECK(!play(wait, 15));
    wait[0].activity = HN_ACTIVITY_DISK;
    CHECK(!play(wait, 300));
    wait[0].activity = HN_ACTIVITY_WAIT;
    CHECK(!play(wait, 18));
    CHECK(play(wait, 4));
}

/* A rank that is not watched does not count, and nobody waits for all where it is unknown what one does. */
TEST(only_who_is_watched)
{
    script wait[2] = {{HN_ACTIVITY_WAIT, true, true, 5}, {HN_ACTIVITY_WAIT, true, false, 5}};
    begin(2);
    hnp_watch_end(&watch, 1);
    CHECK(!play(wait, 100));
}

/* The judge was stopped for a minute: nobody pays for it, and what comes afterwards is judged as before. */
TEST(a_gap_counts_for_nobody)
{
    script ranks[2] = {{0, true, true, 0}, {0, true, true, 0}};
    begin(2);
    CHECK(!play(ranks, 30));
    ranks[1].beats = false;
    CHECK(!play(ranks, 5));
    now += 60;
    CHECK(!play(ranks, 4));
    CHECK(play(ranks, 3));
    CHECK_INT(verdict.rank, 1);
    CHECK_INT(verdict.fate, HNP_FATE_SILENT);
}

TEST(the_worst_is_named)
{
    begin(3);
    CHECK(!play((script[]){{0, true, true, 0}, {0, false, true, 0}, {0, true, true, 0}}, 10));
    CHECK(play((script[]){{0, true, true, 0}, {0, false, true, 0}, {0, true, false, 0}}, 20));
    CHECK_INT(verdict.rank, 2);
    verdict = (hnp_verdict){HNP_FATE_DEAD, 1, 0};
    CHECK_TEXT(told(), "rank 1 (n2, pid 47) died in reduce-scatter of layer.5 of step 812; the job ends");
    verdict.fate = HNP_FATE_TOLD;
    CHECK_TEXT(told(), "rank 1 (n2, pid 47) failed in reduce-scatter of layer.5 of step 812: broken; the job ends");
    begin(2);
    verdict.fate = HNP_FATE_DEAD;
    CHECK_TEXT(told(), "rank 1 (n2, pid 47) died in its start; the job ends");
}

TEST(no_memory)
{
    hnp_watch none = {0};
    hn_mem_fail_at(1);
    hn_status status = hnp_watch_init(&none, 4, &limits, NULL);
    hn_mem_fail_at(0);
    CHECK_INT(status, HN_ERR_MEMORY);
    hnp_watch_close(&watch);
}

TEST_MAIN(RUN(all_is_well); RUN(silent); RUN(stuck); RUN(a_disk_and_a_start_may_take_longer); RUN(entering_is_moving); RUN(all_wait);
          RUN(somebody_moves); RUN(only_who_is_watched); RUN(a_gap_counts_for_nobody); RUN(the_worst_is_named); RUN(no_memory))
