/* The writer's thread: what it was handed is what is saved, one save at a time, and every failure of the disk reaches the caller, who can
 * save again. The tensors come back before the save is over, and what is done to them then reaches no file: every test here spoils them at
 * that moment. */
#include "tests/checkpoints/common.h"
#include "tests/checkpoints/faults.h"

#include <pthread.h>
#include <sys/wait.h>

#include "checkpoints/writer.h"

static char said[2048], path[128];

/* Hands the run of `step` over, and spoils it as soon as it was read. */
static void start_step(hn_checkpoint_writer *writer, run *self, int step)
{
    run_fill(self, step);
    hn_checkpoint_job job = {.step = step, .tensors = self->tensors, .count = TENSORS};
    job.state = json_pack("{s:i}", "cursor", step * 7);
    if (!job.state) abort();
    hn_checkpoint_writer_start(writer, &job);
    hn_checkpoint_writer_wait_read(writer);
    run_fill(self, -step);
}

static hn_checkpoint_outcome save_by(hn_checkpoint_writer *writer, int step)
{
    run self;
    hn_checkpoint_outcome outcome = {.step = -9};
    start_step(writer, &self, step);
    if (!hn_checkpoint_writer_wait(writer, &outcome)) abort();
    return outcome;
}

static hn_checkpoint_writer *open_writer(int keep)
{
    hn_checkpoint_writer *writer = NULL;
    if (hn_checkpoint_writer_open(&writer, folder, keep, NULL) != HN_OK) abort();
    return writer;
}

TEST(one_after_the_other)
{
    fresh();
    hn_checkpoint_outcome outcome;
    hn_checkpoint_writer *writer = open_writer(2);
    hn_checkpoint_writer_wait_read(writer); /* nothing is read */
    CHECK(!hn_checkpoint_writer_poll(writer, &outcome) && !hn_checkpoint_writer_wait(writer, &outcome));
    for (int step = 1; step <= 5; step++) {
        outcome = save_by(writer, step);
        CHECK_TEXT(outcome.error.message, "");
        CHECK_INT(outcome.step, step);
        CHECK(outcome.seconds > 0);
        CHECK(!hn_checkpoint_writer_poll(writer, &outcome)); /* an outcome is taken once */
        CHECK_INT(newest(said), step);
        CHECK_INT(load_step(step, NULL), HN_OK);
        CHECK(hn_path_exists(file_of(path, step, "")));
        CHECK(step < 3 || !hn_path_exists(file_of(path, step - 2, ""))); /* retention */
    }
    hn_checkpoint_writer_free(writer);
    hn_checkpoint_writer_free(NULL);
}

TEST(freeing_waits_for_the_save)
{
    run self;
    fresh();
    hn_checkpoint_writer *writer = open_writer(2);
    start_step(writer, &self, 3);
    hn_checkpoint_writer_free(writer);
    CHECK_INT(newest(said), 3);
}

static struct {
    pthread_t caller;
    bool other_thread, fails;
    int calls;
} log_calls;

static hn_status flush_log(void *context, hn_error *error)
{
    log_calls.other_thread = !pthread_equal(pthread_self(), log_calls.caller);
    ++*(int *)context;
    return log_calls.fails ? hn_fail(error, HN_ERR_IO, "the log cannot be written") : HN_OK;
}

TEST(the_log_comes_first)
{
    run copy;
    hn_checkpoint_outcome outcome;
    fresh();
    hn_checkpoint_writer *writer = open_writer(2);
    for (int step = 1; step <= 2; step++) {
        log_calls.caller = pthread_self();
        log_calls.fails = step == 2;
        run_fill(&copy, step);
        hn_checkpoint_job job = {.step = step, .tensors = copy.tensors, .count = TENSORS, .state = json_pack("{s:i}", "cursor", step * 7),
                                 .before = flush_log, .context = &log_calls.calls};
        hn_checkpoint_writer_start(writer, &job);
        hn_checkpoint_writer_wait_read(writer); /* also of a save that never comes to its tensors */
        CHECK(hn_checkpoint_writer_wait(writer, &outcome));
        CHECK_INT(log_calls.calls, step);
        CHECK(log_calls.other_thread);
    }
    CHECK_TEXT(outcome.error.message, "the log cannot be written");
    CHECK_INT(newest(said), 1);
    CHECK(!hn_path_exists(file_of(path, 2, "")));
    hn_checkpoint_writer_free(writer);
}

static int slow_fsync(int fd)
{
    usleep(20000);
    return fsync(fd);
}

/* A disk that is slower than the run: the run goes on until it asks for the next save, and none is lost. */
TEST(a_slow_disk)
{
    hn_checkpoint_outcome outcome;
    run self;
    int went_on = 0;
    fresh();
    hn_checkpoint_writer *writer = open_writer(9);
    hn_file_calls.fsync = slow_fsync;
    for (int step = 1; step <= 4; step++) {
        if (step > 1) CHECK(hn_checkpoint_writer_wait(writer, &outcome) && outcome.error.status == HN_OK);
        start_step(writer, &self, step);
        went_on += !hn_checkpoint_writer_poll(writer, &outcome);
    }
    CHECK(hn_checkpoint_writer_wait(writer, &outcome) && outcome.error.status == HN_OK);
    hn_file_calls.fsync = fsync;
    CHECK_INT(went_on, 4);
    for (int step = 1; step <= 4; step++) CHECK_INT(load_step(step, NULL), HN_OK);
    hn_checkpoint_writer_free(writer);
}

TEST(every_call_fails)
{
    static const int codes[] = {EIO, ENOSPC, EDQUOT, EROFS, ENOENT, EACCES};
    int failures = test_failures;
    for (int c = 0; c < 8; c++) {
        int failed = 0;
        fault_kind kind = c < 6 ? FAIL_ONCE : c == 6 ? FAIL_FOREVER : TEAR;
        for (int at = 1;; at++) {
            fresh();
            hn_checkpoint_writer *writer = open_writer(1);
            hn_checkpoint_outcome outcome = save_by(writer, 1);
            CHECK_INT(outcome.error.status, HN_OK);
            set_fault(at, kind);
            if (c < 6) fault.code = codes[c];
            outcome = save_by(writer, 2);
            end_fault();
            CHECK_INT(fault.retried, 0);
            if (outcome.error.status != HN_OK) CHECK_CONTAINS(outcome.error.message, folder);
            failed += outcome.error.status != HN_OK;
            int found = newest(said);
            if (found != 2 && (found != 1 || outcome.error.status == HN_OK)) TEST_FAIL("call %d: found %d (%s)", at, found, said);
            outcome = save_by(writer, 3); /* the same writer, the same disk, which works again */
            hn_checkpoint_writer_free(writer);
            if (outcome.error.status != HN_OK) TEST_FAIL("call %d, then saving again: %s", at, outcome.error.message);
            CHECK_INT(newest(said), 3);
            CHECK_TEXT(said, "");
            if (fault.calls < at) break;
            if (test_failures != failures) return;
        }
        CHECK(failed > 8);
    }
}

TEST(killed_at_every_call)
{
    int killed = 0, failures = test_failures;
    for (int at = 1;; at++) {
        int status = 0;
        fresh();
        if (save_step(1, NULL) != HN_OK) abort();
        pid_t child = fork();
        if (child == 0) {
            hn_checkpoint_writer *writer = open_writer(1);
            set_fault(at, KILL);
            _exit(save_by(writer, 2).error.status != HN_OK);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        int found = newest(said);
        if (found != 1 && found != 2) TEST_FAIL("call %d: found %d (%s)", at, found, said);
        if (!WIFSIGNALED(status)) {
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            CHECK_INT(found, 2);
            break;
        }
        killed++;
        if (test_failures != failures) return;
    }
    CHECK(killed > 12);
}

static int releases;

static void spoil(void *self)
{
    releases++;
    run_fill(self, -7);
}

/* Step 2 by hn_checkpoint_save itself, whose tensors are spoilt in the very moment of their release. */
static hn_status save_and_spoil(const json_t *state, hn_error *problem)
{
    run self;
    const hn_checkpoint_release release = {.call = spoil, .context = &self};
    run_fill(&self, 2);
    releases = 0;
    return hn_checkpoint_save(folder, 2, self.tensors, TENSORS, state, &release, problem);
}

TEST(released_behind_the_last_read)
{
    int failures = test_failures, failed = 0;
    json_t *state = json_object();
    for (int at = 1;; at++) {
        hn_error problem = {0};
        fresh();
        set_fault(at, FAIL_ONCE);
        hn_status status = save_and_spoil(state, &problem);
        end_fault();
        CHECK_INT(releases, 1);
        failed += status != HN_OK;
        if (status == HN_OK) CHECK_INT(load_step(2, NULL), HN_OK);
        if (fault.calls < at || test_failures != failures) break;
    }
    json_decref(state);
    CHECK(failed > 8);
}

TEST(released_by_saves_that_cannot_begin)
{
    run self;
    hn_error problem = {0};
    const hn_checkpoint_release release = {.call = spoil, .context = &self};
    json_t *state = json_object();
    run_fill(&self, 1);
    fresh();
    self.tensors[3].name = "a/b";
    releases = 0;
    CHECK_INT(hn_checkpoint_save(folder, 1, self.tensors, TENSORS, state, &release, &problem), HN_ERR_USAGE);
    CHECK_INT(releases, 1);
    for (size_t n = 1;; n++) {
        hn_mem_fail_at(n);
        hn_status status = save_and_spoil(state, &problem);
        hn_mem_fail_at(0);
        CHECK_INT(releases, 1);
        if (status == HN_OK) break;
        CHECK_INT(status, HN_ERR_MEMORY);
    }
    json_decref(state);
    CHECK_INT(load_step(2, NULL), HN_OK);
}

/* Whoever changes the tensors while they are read finds no checkpoint, rather than one of half a step. */
static struct {
    run *self;
    int writes;
} hasty;

static ssize_t change_and_write(int fd, const void *bytes, size_t size)
{
    if (!hasty.writes++) run_fill(hasty.self, -3);
    return write(fd, bytes, size);
}

TEST(changed_too_early)
{
    run self;
    hn_checkpoint_outcome outcome;
    fresh();
    hn_checkpoint_writer *writer = open_writer(2);
    hasty.self = &self;
    hn_file_calls.write = change_and_write;
    start_step(writer, &self, 3);
    CHECK(hn_checkpoint_writer_wait(writer, &outcome));
    hn_file_calls.write = write;
    CHECK(outcome.error.status != HN_OK);
    CHECK_CONTAINS(outcome.error.message, "digest");
    CHECK_INT(newest(said), -1);
    hn_checkpoint_writer_free(writer);
}

TEST(out_of_memory)
{
    for (size_t n = 1;; n++) {
        hn_checkpoint_writer *writer = NULL;
        hn_error error = {0};
        hn_mem_fail_at(n);
        hn_status status = hn_checkpoint_writer_open(&writer, folder, 1, &error);
        hn_mem_fail_at(0);
        if (status == HN_OK) {
            CHECK_INT(n, 3);
            hn_checkpoint_writer_free(writer);
            return;
        }
        CHECK_INT(status, HN_ERR_MEMORY);
        CHECK(error.message[0] && !writer);
    }
}

/* The room on the disk that a run asks for before it starts; what a kill left does not count. */
TEST(space)
{
    run copy;
    hn_error error = {0};
    run_fill(&copy, 1);
    fresh();
    CHECK_INT(hn_checkpoint_check_space(folder, copy.tensors, TENSORS, &error), HN_OK);
    snprintf(path, sizeof path, "%s/.tmp-step-8/rank-0.h5", folder);
    CHECK(hn_path_exists(folder));
    *strrchr(path, '/') = 0;
    CHECK_INT(hn_folder_make(path, NULL), HN_OK);
    CHECK_INT(hn_checkpoint_check_space(folder, copy.tensors, TENSORS, &error), HN_OK);
    CHECK(!hn_path_exists(path));
    hn_named_tensor huge = {"huge", hn_tensor_2d(NULL, HN_F32, (int64_t)1 << 30, (int64_t)1 << 25)};
    CHECK_INT(hn_checkpoint_check_space(folder, &huge, 1, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "the disk is too full for a checkpoint");
}

CHECKPOINT_MAIN(RUN(one_after_the_other); RUN(freeing_waits_for_the_save); RUN(the_log_comes_first); RUN(a_slow_disk);
                RUN(every_call_fails); RUN(killed_at_every_call);
                RUN(released_behind_the_last_read); RUN(released_by_saves_that_cannot_begin); RUN(changed_too_early); RUN(out_of_memory); RUN(space))
