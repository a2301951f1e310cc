/* Saves that go wrong: every call that changes the disk fails, tears or is the last one before SIGKILL,
 * HDF5's own writes hit a limit, and a process that only saves is killed at random. Afterwards the loader
 * finds the old checkpoint or the new one, whole, and the next save works. */
#include "tests/checkpoints/common.h"
#include "tests/checkpoints/faults.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char said[2048], path[128];

/* Step 1 stands; step 2 is saved through the fault, and then retention deletes step 1. */
static hn_status save_second(hn_error *error)
{
    hn_status status = save_step(2, error);
    return status == HN_OK ? retain(1, 2, error) : status;
}

static void begin_case(void)
{
    fresh();
    if (save_step(1, NULL) != HN_OK) abort();
}

/* Whatever happened: old or new, and the next attempt works. */
static void check_after(int at)
{
    hn_error error = {0};
    int step = newest(said);
    if (step != 1 && step != 2) TEST_FAIL("call %d: found %d (%s)", at, step, said);
    if (save_second(&error) != HN_OK) TEST_FAIL("call %d, then saving again: %s", at, error.message);
    CHECK_INT(newest(said), 2);
    CHECK_TEXT(said, "");
    snprintf(path, sizeof path, "%s/.tmp-step-2", folder);
    CHECK(!hn_path_exists(path));
}

TEST(every_call_fails)
{
    size_t tried = 0;
    for (fault_kind kind = FAIL_ONCE; kind <= TEAR; kind++) {
        int failed = 0, failures = test_failures;
        for (int at = 1;; at++) {
            hn_error error = {0};
            begin_case();
            set_fault(at, kind);
            hn_status status = save_second(&error);
            end_fault();
            CHECK_INT(fault.retried, 0);
            if (fault.calls < at) break;
            tried++;
            if (status != HN_OK) CHECK_CONTAINS(error.message, folder);
            failed += status != HN_OK;
            check_after(at);
            if (test_failures != failures) return;
        }
        CHECK(failed > 12);
    }
    test_promise("every call of a save fails, once and for good, and every write tears", tried, tried);
}

TEST(a_failed_save_is_said_and_leaves_nothing)
{
    static const char *const failures[] = {
        "rank-0.h5: cannot write: Input/output error",
        "rank-0.h5: cannot sync to the disk: Input/output error",
        "step-2/.tmp-manifest.json: cannot write: Input/output error",
        "step-2/.tmp-manifest.json: cannot sync to the disk: Input/output error"};
    for (int i = 0; i < 4; i++) {
        hn_error error = {0};
        for (int at = 1; at < 100 && !strstr(error.message, failures[i]); at++) { /* until it strikes there */
            hn_error_reset(&error);
            begin_case();
            set_fault(at, FAIL_ONCE);
            save_step(2, &error);
            end_fault();
        }
        CHECK_CONTAINS(error.message, failures[i]);
        CHECK_INT(newest(said), 1);
        CHECK_TEXT(said, "");
        CHECK(!hn_path_exists(file_of(path, 2, "")));
    }
}

TEST(killed_at_every_call)
{
    int killed = 0, failures = test_failures;
    for (int at = 1;; at++) {
        int status = 0;
        begin_case();
        pid_t child = fork();
        if (child == 0) {
            set_fault(at, KILL);
            _exit(save_second(NULL) != HN_OK);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        if (!WIFSIGNALED(status)) {
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            break;
        }
        killed++;
        check_after(at);
        if (test_failures != failures) return;
    }
    CHECK(killed > 15);
    test_promise("killed at every call of a save", (size_t)killed, (size_t)killed);
}

static int open_files(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* A limit on the size of files makes HDF5's writes fail at any place, in the kernel's own way. */
TEST(hdf5_cannot_write)
{
    struct rlimit before, limit;
    int failed = 0, files = open_files();
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    for (rlim_t size = 0; size < 16384; size += size < 4096 ? 61 : 509) {
        hn_error error = {0};
        begin_case();
        limit = before;
        limit.rlim_cur = size;
        setrlimit(RLIMIT_FSIZE, &limit);
        hn_status status = save_step(2, &error);
        setrlimit(RLIMIT_FSIZE, &before);
        failed += status != HN_OK;
        if (status != HN_OK) CHECK_CONTAINS(error.message, "File too large");
        CHECK_INT(newest(said), status == HN_OK ? 2 : 1);
        CHECK_TEXT(said, "");
        CHECK(hn_path_exists(file_of(path, 2, "")) == (status == HN_OK));
        CHECK_INT(open_files(), files);
    }
    CHECK(failed > 20 && failed < 80);
}

/* A process that saves one step after the other and tells each that it was promised. */
static void save_forever(int first, int tell)
{
    for (int step = first;; step++) {
        if (save_step(step, NULL) != HN_OK || retain(2, step, NULL) != HN_OK) _exit(1);
        if (write(tell, &step, sizeof step) != sizeof step) _exit(1);
    }
}

/* Each child lives until it has promised 0 to 3 saves more and then some microseconds, so that kills find every part of a save
 * however long a save takes. */
TEST(killed_at_random)
{
    unsigned random = 12345;
    int promised = 0, rounds = 40;
    fresh();
    for (int round = 0; round < rounds; round++) {
        int pipes[2], status = 0, step;
        CHECK_INT(pipe(pipes), 0);
        pid_t child = fork();
        if (child == 0) save_forever(promised + 1, pipes[1]);
        close(pipes[1]);
        random = random * 1103515245u + 12345u;
        for (unsigned more = (random >> 8) % 4; more && read(pipes[0], &step, sizeof step) == sizeof step; more--) promised = step;
        usleep((random >> 16) % 10000);
        CHECK_INT(kill(child, SIGKILL), 0);
        CHECK_INT(waitpid(child, &status, 0), child);
        while (read(pipes[0], &step, sizeof step) == sizeof step) promised = step;
        close(pipes[0]);
        CHECK(WIFSIGNALED(status));
        int found = newest(said);
        if (found < promised || found == -2) /* 0 of 0 promised is -1 */
            if (promised || found == -2)
                TEST_FAIL("round %d: step %d was promised, found %d (%s)", round, promised, found, said);
    }
    printf("%d saves promised in %d rounds\n", promised, rounds);
    CHECK(promised > rounds / 4);
}

CHECKPOINT_MAIN(RUN(every_call_fails); RUN(a_failed_save_is_said_and_leaves_nothing);
                RUN(killed_at_every_call); RUN(hdf5_cannot_write); RUN(killed_at_random))
