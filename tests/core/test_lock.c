/* The lock of a folder: one holder at a time, and nothing but a living holder holds anybody up. */
#include "core/lock.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "tests/test.h"

static char folder[] = "/tmp/hone-lock-XXXXXX", path[64];

/* A process that takes the lock, says so, and lives until it is killed. */
static pid_t start_holder(void)
{
    int pipes[2];
    char byte = 0;
    if (pipe(pipes)) abort();
    pid_t child = fork();
    if (child == 0) {
        hn_lock lock;
        byte = hn_lock_open(&lock, folder, NULL) == HN_OK ? 'y' : 'n';
        if (write(pipes[1], &byte, 1) != 1) _exit(1);
        for (;;) pause();
    }
    if (child < 0 || read(pipes[0], &byte, 1) != 1 || byte != 'y') abort();
    close(pipes[0]);
    close(pipes[1]);
    return child;
}

static void end_holder(pid_t child)
{
    int status;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}

TEST(one_at_a_time)
{
    hn_lock mine, second = {.fd = -1};
    hn_error error = {0};
    char named[64];
    CHECK_INT(hn_lock_open(&mine, folder, &error), HN_OK);
    CHECK_INT(hn_lock_open(&second, folder, &error), HN_ERR_IO);
    CHECK(second.fd < 0);
    snprintf(named, sizeof named, "(process %ld on ", (long)getpid());
    CHECK_CONTAINS(error.message, folder);
    CHECK_CONTAINS(error.message, named);
    hn_lock_close(&mine);
    hn_lock_close(&mine);
    CHECK_INT(hn_lock_open(&second, folder, NULL), HN_OK);
    hn_lock_close(&second);
}

TEST(a_holder_that_was_killed_holds_nothing)
{
    hn_lock mine;
    hn_error error = {0};
    char named[64];
    pid_t holder = start_holder();
    snprintf(named, sizeof named, "(process %ld on ", (long)holder);
    CHECK_INT(hn_lock_open(&mine, folder, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, named);
    end_holder(holder);
    CHECK(hn_path_exists(path));
    CHECK_INT(hn_lock_open(&mine, folder, NULL), HN_OK);
    hn_lock_close(&mine);
}

/* A run folder that was copied while its run went on: the copy's file names a living process, and locks nothing. */
TEST(a_copied_file_holds_nothing)
{
    hn_lock mine;
    char *text, from[64], command[256];
    size_t size;
    pid_t holder = start_holder();
    snprintf(from, sizeof from, "%s/copy", folder);
    snprintf(command, sizeof command, "mkdir %s && cp %s %s/.lock", from, path, from);
    CHECK_INT(system(command), 0);
    CHECK_INT(hn_lock_open(&mine, from, NULL), HN_OK);
    snprintf(command, sizeof command, "%s/.lock", from);
    CHECK_INT(hn_file_read(&text, &size, command, 1000, NULL), HN_OK);
    snprintf(from, sizeof from, "process %ld on ", (long)getpid());
    CHECK_CONTAINS(text, from);
    hn_free(text);
    hn_lock_close(&mine);
    end_holder(holder);
}

TEST(a_file_that_says_nothing)
{
    hn_lock mine, second;
    hn_error error = {0};
    CHECK_INT(hn_lock_open(&mine, folder, NULL), HN_OK);
    CHECK_INT(truncate(path, 0), 0);
    CHECK_INT(hn_lock_open(&second, folder, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "a process that is not named");
    hn_lock_close(&mine);
}

/* What somebody put there instead of a file is not followed, waited for, or written to. */
TEST(no_file)
{
    hn_lock mine;
    hn_error error = {0};
    unlink(path);
    CHECK_INT(symlink("/tmp/hone-no-such-file", path), 0);
    CHECK_INT(hn_lock_open(&mine, folder, &error), HN_ERR_IO);
    CHECK(!hn_path_exists("/tmp/hone-no-such-file"));
    unlink(path);
    CHECK_INT(mkdir(path, 0777), 0);
    hn_error_reset(&error);
    CHECK_INT(hn_lock_open(&mine, folder, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "cannot open to lock the folder");
    rmdir(path);
    CHECK_INT(hn_lock_open(&mine, "/tmp/hone-no-such-folder", NULL), HN_ERR_IO);
    hn_mem_fail_at(1);
    hn_status status = hn_lock_open(&mine, folder, NULL);
    hn_mem_fail_at(0);
    CHECK_INT(status, HN_ERR_MEMORY);
}

static void begin(void)
{
    if (!mkdtemp(folder)) abort();
    snprintf(path, sizeof path, "%s/.lock", folder);
}

TEST_MAIN(begin(); RUN(one_at_a_time); RUN(a_holder_that_was_killed_holds_nothing); RUN(a_copied_file_holds_nothing);
          RUN(a_file_that_says_nothing); RUN(no_file); hn_folder_remove(folder, NULL))
