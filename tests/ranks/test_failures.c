/* One rank dies, is stopped, exits, hangs or fails, at several moments: every process ends in seconds, with 1 where it could choose, and
 * somebody who lives has said which rank it was, where, and at what. Four ranks; rank 0, one in the middle and the last fail in turn.
 * The worlds of one moment run side by side. */
#include "tests/ranks/processes.h"

enum { KILLED, STOPPED, EXITS, HANGS, FAILS, WAYS };
enum { COMPUTING, IN_A_CALL, IN_ROUNDS, AT_THE_END, MOMENTS };
enum { VICTIMS = 3, SIZE = 4, STEP = 812 };

static const int victims[VICTIMS] = {0, 1, 3};
static world worlds[WAYS * VICTIMS];
static hn_error error;

static int scene_of(int way, int moment, int victim) { return (way * MOMENTS + moment) * SIZE + victim; }

/* With pulses, for as long as the job lives. */
static void go_on(hn_ranks *ranks)
{
    for (int i = 0; i < 2000; i++) {
        hn_ranks_pulse(ranks);
        world_nap(0.01);
    }
    _exit(60);
}

static void act(hn_ranks *ranks, int way)
{
    if (way == EXITS) _exit(3);
    if (way == HANGS) world_nap(40);
    if (way == FAILS) {
        hn_fail(&error, HN_ERR_IO, "disk of mine is full");
        hn_ranks_fail(ranks, &error);
    }
    go_on(ranks); /* the test does something to it */
}

static void rounds(hn_ranks *ranks, int way, bool victim)
{
    for (int i = 0; i < 20000; i++) {
        hn_blobs all;
        if (victim && way >= EXITS && i == 50) {
            world_nap(0.4); /* so that a beat has told where it is */
            act(ranks, way);
        }
        if (hn_ranks_gather(ranks, "words", &i, sizeof i, &all, &error) != HN_OK) _exit(61);
        hn_blobs_close(&all);
        if (i == 40) world_arrive(ranks, "there");
    }
}

static void body(hn_ranks *ranks, int scene)
{
    int way = scene / SIZE / MOMENTS, moment = scene / SIZE % MOMENTS;
    bool victim = hn_ranks_rank(ranks) == scene % SIZE;
    char logs[80];
    snprintf(logs, sizeof logs, "%s/logs", world_options.rendezvous);
    if (hn_ranks_log(ranks, logs, &error) != HN_OK) _exit(62);
    hn_ranks_enter(ranks, HN_ACTIVITY_COMPUTE, "forward", STEP);
    hn_ranks_record_end(ranks, hn_ranks_record(ranks, "reduce-scatter of layer.5", 4096));
    if (hn_ranks_barrier(ranks, "ready", &error) != HN_OK) _exit(63);
    if (moment == IN_ROUNDS) rounds(ranks, way, victim);
    world_arrive(ranks, "there");
    if (moment == IN_A_CALL) {
        if (!victim) go_on(ranks);
        hn_ranks_barrier(ranks, "data", &error);
    } else if (victim) {
        if (way >= EXITS) world_nap(0.4);
        act(ranks, way);
    } else if (moment == COMPUTING) {
        hn_ranks_barrier(ranks, "data", &error);
    }
}

static bool contains_all(const world *w, int rank, int victim, const char *first, const char *second)
{
    char who[40];
    snprintf(who, sizeof who, "rank %d (", victim);
    return strstr(w->said[rank], who) && strstr(w->said[rank], "pid ") && strstr(w->said[rank], first) && strstr(w->said[rank], second);
}

/* After hundreds of rounds the first operations are forgotten. */
static bool has_log(const world *w, int rank, int moment)
{
    char path[80], *text = NULL;
    size_t size;
    snprintf(path, sizeof path, "%s/logs/rank-%d.log", w->folder, rank);
    if (hn_file_read(&text, &size, path, 1 << 20, NULL) != HN_OK) return false;
    bool whole = strstr(text, "the job ends") && strstr(text, moment == IN_ROUNDS ? " 4 gather \"words\"\n" : " 4096 reduce-scatter of layer.5\n");
    hn_free(text);
    return whole;
}

static void check_world(world *w, int way, int moment, int victim)
{
    static const int own[WAYS] = {-SIGKILL, -SIGKILL, 3, 1, 1};
    static const char *const words[WAYS] = {"died", "silent for ", "died", "stuck for ", "failed"};
    const char *place = moment == IN_A_CALL ? "in barrier \"data\" of step 812" : moment == IN_ROUNDS ? "of step 812" : "in forward of step 812";
    int teller = victim ? 0 : 1;
    if (!world_wait(w, 15)) TEST_FAIL("way %d, moment %d, rank %d: not all have ended", way, moment, victim);
    for (int i = 0; i < SIZE; i++) {
        int expected = i == victim ? own[way] : 1;
        if (world_code(w, i) != expected)
            TEST_FAIL("way %d, moment %d, rank %d: rank %d ended with %d, expected %d; it said: %s; rank %d: %s", way, moment, victim, i,
                      world_code(w, i), expected, w->said[i], teller, w->said[teller]);
        if (i != victim && !has_log(w, i, moment)) TEST_FAIL("way %d, moment %d, rank %d: no whole log of rank %d", way, moment, victim, i);
    }
    if (victim == 0 && way >= HANGS) teller = 0; /* its control thread lives */
    if (victim == 0 && way == STOPPED) /* the first that finds it ends it, and then it has died for the others */
        while (teller < SIZE - 1 && !strstr(w->said[teller], "silent")) teller++;
    if (!contains_all(w, teller, victim, words[way], place))
        TEST_FAIL("way %d, moment %d, rank %d: rank %d said: %s", way, moment, victim, teller, w->said[teller]);
    if (way == FAILS) CHECK_CONTAINS(w->said[teller], "disk of mine is full");
    if (teller == 0)
        for (int i = 1; i < SIZE; i++) CHECK_TEXT(w->said[i], "");
}

static void run_moment(int moment, int ways)
{
    for (int i = 0; i < ways * VICTIMS; i++) {
        int way = i / VICTIMS, victim = victims[i % VICTIMS];
        world_start(&worlds[i], SIZE, body, scene_of(way, moment, victim));
    }
    for (int i = 0; i < ways * VICTIMS; i++) CHECK(world_arrived(&worlds[i], "there", -1));
    world_nap(0.5); /* a beat */
    for (int i = 0; i < 2 * VICTIMS; i++) kill(worlds[i].pid[victims[i % VICTIMS]], i / VICTIMS == KILLED ? SIGKILL : SIGSTOP);
    for (int i = 0; i < ways * VICTIMS; i++) {
        check_world(&worlds[i], i / VICTIMS, moment, victims[i % VICTIMS]);
        world_close(&worlds[i]);
    }
}

TEST(while_it_computes) { run_moment(COMPUTING, WAYS); }
TEST(in_a_call) { run_moment(IN_A_CALL, STOPPED + 1); }
TEST(between_calls) { run_moment(IN_ROUNDS, WAYS); }
TEST(while_others_end) { run_moment(AT_THE_END, WAYS); }

/* All wait, one of them for what never comes. */
static void wait_body(hn_ranks *ranks, int scene)
{
    int rank = hn_ranks_rank(ranks);
    hn_ranks_moved(ranks, rank == 1 ? 41 : 42, 40, 4096);
    if (scene && rank == 1) {
        hn_ranks_enter(ranks, HN_ACTIVITY_WAIT, "reduce-scatter of layer.5", STEP);
        go_on(ranks);
    }
    hn_ranks_enter(ranks, HN_ACTIVITY_WAIT, "all-gather of layer.0", STEP);
    go_on(ranks);
}

TEST(all_wait)
{
    for (int scene = 0; scene < 2; scene++) world_start(&worlds[scene], SIZE, wait_body, scene);
    for (int scene = 0; scene < 2; scene++) {
        CHECK(world_wait(&worlds[scene], 15));
        for (int i = 0; i < SIZE; i++) CHECK_INT(world_code(&worlds[scene], i), 1);
        CHECK_CONTAINS(worlds[scene].said[0], "all 4 ranks wait and nothing moved for 2 s; rank 1 (");
        CHECK_CONTAINS(worlds[scene].said[0], scene ? "is behind, in reduce-scatter of layer.5 of step 812" : "is behind, in all-gather of layer.0");
        world_close(&worlds[scene]);
    }
}

/* Asked to stop, and no rank comes to the end of its step: the job ends, and says that nothing was saved. */
static void no_stop_body(hn_ranks *ranks, int scene)
{
    (void)scene;
    hn_ranks_enter(ranks, HN_ACTIVITY_COMPUTE, "backward", STEP);
    world_arrive(ranks, "there");
    go_on(ranks);
}

TEST(a_stop_that_is_not_agreed)
{
    double before = world_options.stop_within;
    world_options.stop_within = 1;
    world_start(&worlds[0], SIZE, no_stop_body, 0);
    world_options.stop_within = before;
    CHECK(world_arrived(&worlds[0], "there", -1));
    kill(worlds[0].pid[2], SIGTERM);
    CHECK(world_wait(&worlds[0], 15));
    for (int i = 0; i < SIZE; i++) CHECK_INT(world_code(&worlds[0], i), 1);
    CHECK_CONTAINS(worlds[0].said[0], "stopped without saving");
    CHECK_CONTAINS(worlds[0].said[0], "in backward of step 812");
    world_close(&worlds[0]);
}

/* One rank goes on to the end, another is still in a collective: a program that diverged, told as such. */
static void early_body(hn_ranks *ranks, int scene)
{
    if (hn_ranks_rank(ranks) == scene) return;
    if (hn_ranks_barrier(ranks, "data", &error) != HN_ERR_MISMATCH) _exit(64);
    go_on(ranks);
}

TEST(an_end_that_others_do_not_know_of)
{
    for (int scene = 0; scene < 2; scene++) world_start(&worlds[scene], 3, early_body, scene);
    for (int scene = 0; scene < 2; scene++) {
        CHECK(world_wait(&worlds[scene], 15));
        for (int i = 0; i < 3; i++) CHECK_INT(world_code(&worlds[scene], i), 1);
        CHECK_CONTAINS(worlds[scene].said[0], "barrier \"data\"");
        CHECK_CONTAINS(worlds[scene].said[0], "the end \"the run\"");
        world_close(&worlds[scene]);
    }
}

/* A connection between two ranks breaks because one of them has died: that one is named, and not who noticed. Where nobody has, it is told as
 * what it is. */
static void lost_body(hn_ranks *ranks, int scene)
{
    int rank = hn_ranks_rank(ranks);
    hn_ranks_enter(ranks, HN_ACTIVITY_COMPUTE, "backward", STEP);
    if (rank == 1 && scene) {
        world_nap(0.7);
        _exit(3);
    }
    world_nap(0.4);
    if (rank != 2) go_on(ranks);
    hn_fail(&error, HN_ERR_IO, "rank 1 does not answer");
    hn_ranks_lost(ranks, &error);
}

TEST(a_lost_connection)
{
    for (int scene = 0; scene < 2; scene++) world_start(&worlds[scene], SIZE, lost_body, scene);
    for (int scene = 0; scene < 2; scene++) {
        CHECK(world_wait(&worlds[scene], 15));
        for (int i = 0; i < SIZE; i++) CHECK_INT(world_code(&worlds[scene], i), scene && i == 1 ? 3 : 1);
        if (!contains_all(&worlds[scene], 0, scene ? 1 : 2, scene ? "died in backward of step 812" : "failed in backward of step 812",
                          scene ? "the job ends" : "rank 1 does not answer"))
            TEST_FAIL("scene %d: rank 0 said: %s", scene, worlds[scene].said[0]);
        world_close(&worlds[scene]);
    }
}

TEST_MAIN(alarm(200); RUN(while_it_computes); RUN(in_a_call); RUN(between_calls); RUN(while_others_end); RUN(all_wait);
          RUN(a_stop_that_is_not_agreed); RUN(an_end_that_others_do_not_know_of); RUN(a_lost_connection))
