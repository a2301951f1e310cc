/* Saves by several processes that go wrong on one of them: every call that changes the disk fails, tears or is the last one before SIGKILL, the
 * kernel refuses bytes, memory runs out. All ranks come to the same, the old checkpoint or the new one is there, whole, and the next save works. */
#include "tests/checkpoints/party.h"

#include <sys/resource.h>

#include "tests/checkpoints/faults.h"

static char said[2048], path[128];
static int now_rank, now_at, now_step = 2; /* for the ranks that are forked next: where the fault is */
static fault_kind now_kind;

/* The `number` of a rank is how many calls of the disk it made. */
static void save_body(int rank, result *out)
{
    if (rank == now_rank) set_fault(now_at, now_kind);
    save_part(now_step, EVENLY, 1, out);
    if (rank != now_rank) return;
    results[MOST_RANKS - 1].number = fault.calls;
    results[MOST_RANKS - 1].safe = fault.retried > 0;
}

/* Step 1 stands, of one process or of three. */
static void begin_case(int at)
{
    fresh();
    now_rank = -1;
    now_step = 1;
    if (at % 2) run_ranks(3, save_body);
    else if (save_step(1, NULL) != HN_OK) abort();
    now_step = 2;
}

/* Whatever happened: old or new, and the next attempt works. */
static void check_after(const char *what, int at)
{
    int step = newest(said);
    if (step != 1 && step != 2) TEST_FAIL("%s %d: found %d (%s)", what, at, step, said);
    now_rank = -1;
    run_ranks(2, save_body);
    if (!all_same(2) || !results[0].safe || results[0].status != HN_OK) TEST_FAIL("%s %d, then saving again: %s", what, at, results[0].message);
    CHECK_INT(newest(said), 2);
    CHECK_TEXT(said, "");
    snprintf(path, sizeof path, "%s/.tmp-step-2", folder);
    CHECK(!hn_path_exists(path) && !hn_path_exists(file_of(path, 1, "")));
}

TEST(every_call_fails_on_one_rank)
{
    size_t tried = 0;
    int failures = test_failures;
    for (int rank = 0; rank < 2; rank++)
        for (fault_kind kind = FAIL_ONCE; kind <= TEAR; kind++) {
            int failed = 0;
            for (int at = 1;; at++) {
                char says[64];
                begin_case(at);
                now_rank = rank, now_at = at, now_kind = kind;
                run_ranks(2, save_body);
                const result *told = &results[MOST_RANKS - 1];
                CHECK(all_same(2));
                CHECK(!told->safe);
                if (told->number < at) break;
                tried++;
                failed += results[0].status != HN_OK;
                snprintf(says, sizeof says, rank ? "rank 1: %s" : "%s", folder);
                if (results[0].status != HN_OK) CHECK_CONTAINS(results[0].message, says);
                if (results[0].status == HN_OK) CHECK(results[0].safe);
                if (results[0].safe) CHECK_INT(newest(said), 2);
                if (rank && !results[0].safe) CHECK_INT(newest(said), 1);
                check_after("call", at);
                if (test_failures != failures) return;
            }
            CHECK(failed > (rank ? 2 : 12));
        }
    test_promise("every call of a save by two processes fails on one, once and for good, and every write tears", tried, tried);
}

TEST(killed_at_every_call_of_one_rank)
{
    size_t killed = 0;
    int failures = test_failures;
    for (int rank = 0; rank < 2; rank++)
        for (int at = 1;; at++) {
            begin_case(at);
            now_rank = rank, now_at = at, now_kind = KILL;
            run_ranks(2, save_body);
            if (!WIFSIGNALED(exits[rank])) {
                CHECK(all_same(2));
                CHECK(results[0].safe);
                break;
            }
            CHECK_INT(WTERMSIG(exits[rank]), SIGKILL);
            CHECK(WIFEXITED(exits[!rank]) && results[!rank].over);
            CHECK(results[!rank].status != HN_OK);
            CHECK_CONTAINS(results[!rank].message, rank ? "rank 1 is gone" : "rank 0 is gone");
            killed++;
            check_after("kill", at);
            if (test_failures != failures) return;
        }
    CHECK(killed > 20);
    test_promise("one of two processes killed at every call of their save", killed, killed);
}

/* The only checkpoint is that of the step which is saved again: at every moment it is there, the old one or the new one. */
TEST(killed_while_replacing)
{
    int killed = 0;
    for (now_at = 1;; now_at++) {
        fresh();
        now_rank = -1, now_step = 2;
        run_ranks(2, save_body);
        now_rank = 0, now_kind = KILL;
        run_ranks(2, save_body);
        CHECK_INT(newest(said), 2);
        if (!WIFSIGNALED(exits[0])) break;
        killed++;
    }
    CHECK(killed > 15);
}

/* A limit on the size of files makes the writes of rank 1 fail at any place, in the kernel's own way. */
static void limited_body(int rank, result *out)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = (rlim_t)now_at;
    if (rank == 1) setrlimit(RLIMIT_FSIZE, &limit);
    save_part(2, EVENLY, 1, out);
}

TEST(the_kernel_refuses_bytes)
{
    int failed = 0;
    for (now_at = 0; now_at < 8192; now_at += now_at < 4096 ? 307 : 1021) {
        int size = now_at;
        begin_case(0);
        now_at = size;
        run_ranks(3, limited_body);
        CHECK(all_same(3));
        bool saved = results[0].status == HN_OK;
        failed += !saved;
        if (!saved) CHECK_CONTAINS(results[0].message, "rank 1: ");
        if (!saved) CHECK_CONTAINS(results[0].message, "rank-1.h5: cannot write: File too large");
        CHECK_INT(newest(said), saved ? 2 : 1);
        CHECK_TEXT(said, "");
        snprintf(path, sizeof path, "%s/.tmp-step-2", folder);
        CHECK(!hn_path_exists(path));
        CHECK(hn_path_exists(file_of(path, 2, "")) == saved);
    }
    CHECK(failed > 5 && failed < 18);
}

static void memory_body(int rank, result *out)
{
    memory_ends = rank == now_rank ? (size_t)now_at : 0;
    save_part(2, EVENLY, 0, out);
}

TEST(out_of_memory_on_one_rank)
{
    for (int rank = 0; rank < 2; rank++) {
        int failed = 0, failures = test_failures;
        for (int at = 1;; at += 5) {
            begin_case(0);
            now_rank = rank, now_at = at;
            run_ranks(2, memory_body);
            CHECK(all_same(2));
            CHECK_INT(newest(said), results[0].safe ? 2 : 1);
            if (results[0].status == HN_OK) break;
            CHECK_INT(results[0].status, HN_ERR_MEMORY);
            failed++;
            if (test_failures != failures) return;
        }
        CHECK(failed > 2);
    }
}

/* The same allocation by allocation in one process, where what is lost is seen: each rank of two alone, whose other says that all is well. */

static hn_status agreeable_go(void *context, int64_t step, const hn_error *mine, hn_error *error)
{
    (void)context, (void)step;
    return mine->status == HN_OK ? HN_OK : hn_fail(error, mine->status, "%s", mine->message);
}

static hn_status agreeable_parts(void *context, int64_t step, const hn_error *mine, const hn_strbuf *entry, hn_blobs *all, hn_error *error)
{
    (void)step;
    if (*(int *)context != 1) return hn_fail(error, HN_ERR_NUMERIC, "the tensors are held while others are waited for");
    if (mine->status != HN_OK) return hn_fail(error, mine->status, "%s", mine->message);
    size_t sizes[1] = {entry->length};
    if (!all) return HN_OK;
    if (hn_blobs_init(all, 1, sizes, error) != HN_OK) return error->status;
    memcpy(hn_blobs_view(all, 0), entry->text, entry->length);
    return HN_OK;
}

static hn_status agreeable_done(void *context, int64_t step, bool *safe, hn_error *came_to)
{
    (void)context, (void)step;
    *safe = came_to->status == HN_OK;
    return came_to->status;
}

static void count_release(void *context)
{
    ++*(int *)context;
}

TEST(out_of_memory)
{
    size_t tried = 0;
    json_t *state = json_pack("{s:i}", "cursor", 14);
    for (int rank = 0; rank < 2; rank++) {
        /* Rank 0 of one, which does all that a first rank does, and rank 1 of two. */
        int released = 0;
        const hn_checkpoint_party alone = {.rank = rank, .ranks = rank + 1, .context = &released, .go = agreeable_go, .parts = agreeable_parts, .done = agreeable_done};
        hn_status status = HN_ERR_MEMORY;
        for (size_t nth = 1; status != HN_OK; nth++, tried++) {
            run self;
            hn_error error = {0};
            hn_piece pieces[TENSORS];
            bool safe;
            const hn_checkpoint_release release = {.call = count_release, .context = &released};
            released = 0;
            fresh();
            snprintf(path, sizeof path, "%s/.tmp-step-2", folder);
            if (rank && hn_folder_make(path, NULL) != HN_OK) abort();
            run_fill(&self, 2);
            size_t count = cut_tensors(pieces, self.tensors, TENSORS, EVENLY, rank, rank + 1);
            hn_mem_fail_at(nth);
            status = hn_checkpoint_save_pieces(folder, 2, pieces, count, rank ? NULL : state, &release, &alone, NULL, &safe, &error);
            hn_mem_fail_at(0);
            CHECK_INT(released, 1);
            CHECK_INT(safe, status == HN_OK);
            if (status != HN_OK) CHECK_INT(status, HN_ERR_MEMORY);
            if (!rank) CHECK_INT(newest(said), status == HN_OK ? 2 : -1);
        }
    }
    json_decref(state);
    test_promise("the n-th allocation fails, saving one process's pieces", tried, tried);
}

TEST(out_of_memory_while_reading)
{
    size_t nth;
    hn_status status = HN_ERR_MEMORY;
    fresh();
    now_rank = -1;
    run_ranks(3, save_body);
    CHECK(all_same(3));
    for (nth = 1; status != HN_OK; nth++) {
        run self;
        hn_error error = {0};
        hn_strbuf passed;
        hn_piece pieces[TENSORS];
        hn_checkpoint *checkpoint = NULL;
        hn_strbuf_init(&passed);
        run_fill(&self, -1);
        size_t count = cut_tensors(pieces, self.tensors, TENSORS, TOGETHER, 1, 2);
        hn_mem_fail_at(nth);
        status = hn_checkpoint_open_newest(&checkpoint, folder, 9, NULL, &passed, &error);
        if (status == HN_OK) status = hn_checkpoint_read(checkpoint, pieces, count, &error);
        hn_mem_fail_at(0);
        CHECK_INT(passed.length, 0);
        hn_checkpoint_free(checkpoint);
        hn_strbuf_close(&passed);
        if (status != HN_OK) CHECK_INT(status, HN_ERR_MEMORY);
    }
    CHECK(nth > 50);
    test_promise("the n-th allocation fails, finding and reading pieces", nth - 1, nth - 1);
}

/* Ranks that save one step after the other; rank 0 leaves behind which was promised last. */
static void forever_body(int rank, result *out)
{
    for (int step = now_step;; step++) {
        save_part(step, EVENLY, 2, out);
        if (out->status != HN_OK) return;
        if (!rank) out->number = step;
    }
}

/* Each time another rank is killed, when some steps were promised and then after some microseconds, so that kills find every part of a save. */
TEST(one_killed_at_random)
{
    unsigned random = 54321;
    int64_t promised = 0, all = 0;
    enum { ROUNDS = 24 };
    fresh();
    for (int round = 0; round < ROUNDS; round++) {
        random = random * 1103515245u + 12345u;
        int victim = round % 3;
        int64_t until = promised + (random >> 8) % 3;
        now_step = (int)promised + 1;
        start_ranks(3, forever_body);
        for (int wait = 0; wait < 20000 && *(volatile int64_t *)&results[0].number < until; wait++) usleep(500);
        usleep((random >> 16) % 20000);
        CHECK_INT(kill(pids[victim], SIGKILL), 0);
        join_ranks(3);
        for (int r = 0; r < 3; r++)
            if (r != victim) CHECK(results[r].over && results[r].status != HN_OK);
        if (results[0].number > promised) all += results[0].number - promised, promised = results[0].number;
        int found = newest(said);
        if (found == -2 || (promised && found < promised))
            TEST_FAIL("round %d: step %d was promised, found %d (%s)", round, (int)promised, found, said);
    }
    printf("%d saves promised in %d rounds\n", (int)all, ROUNDS);
    CHECK(all > ROUNDS / 4);
}

CHECKPOINT_MAIN(RUN(every_call_fails_on_one_rank); RUN(killed_at_every_call_of_one_rank); RUN(killed_while_replacing);
                RUN(the_kernel_refuses_bytes);
                RUN(out_of_memory_on_one_rank); RUN(out_of_memory); RUN(out_of_memory_while_reading); RUN(one_killed_at_random))
