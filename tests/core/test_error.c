/* Errors: the first one wins, long ones are cut, errno is spelled out, our own bugs abort. */
#include "core/error.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"

TEST(the_first_wins)
{
    hn_error error = {0};
    CHECK_INT(hn_fail(&error, HN_ERR_IO, "%s: %d", "first", 1), HN_ERR_IO);
    CHECK_INT(hn_fail(&error, HN_ERR_MEMORY, "second"), HN_ERR_MEMORY);
    errno = ENOENT;
    CHECK_INT(hn_fail_errno(&error, "third"), HN_ERR_IO);
    CHECK_INT(error.status, HN_ERR_IO);
    CHECK_TEXT(error.message, "first: 1");
    hn_error_reset(&error);
    CHECK_TEXT(error.message, "");
    CHECK_INT(hn_fail(NULL, HN_ERR_FORMAT, "nobody listens"), HN_ERR_FORMAT);
}

TEST(names_errno)
{
    hn_error error = {0};
    errno = ENOENT;
    hn_fail_errno(&error, "%s: cannot open", "x");
    CHECK_TEXT(error.message, "x: cannot open: No such file or directory");
    CHECK_INT(error.status, HN_ERR_IO);
    hn_error_reset(&error);
    errno = ENOMEM;
    CHECK_INT(hn_fail_errno(&error, "x"), HN_ERR_MEMORY);
    CHECK_INT(error.status, HN_ERR_MEMORY);
}

TEST(long_messages_are_cut)
{
    hn_error error = {0};
    errno = EIO;
    hn_fail_errno(&error, "%5000d", 1);
    CHECK_INT(strlen(error.message), sizeof error.message - 1);
}

TEST(no_message_drives_a_terminal)
{
    hn_error error = {0};
    hn_fail(&error, HN_ERR_FORMAT, "%s", "a\x1b[2J\r\x7f\tb\nc \xc2\x9b" "1m \xc3\xa9 \xc2\xa9");
    CHECK_TEXT(error.message, "a?[2J???b\nc ??1m \xc3\xa9 \xc2\xa9");
    hn_error_reset(&error);
    errno = ENOENT;
    hn_fail_errno(&error, "%s", "\x1b[2J");
    CHECK_TEXT(error.message, "?[2J: No such file or directory");
}

TEST(our_own_bugs_abort)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        if (!freopen("/dev/null", "w", stderr)) _exit(1);
        signal(SIGABRT, SIG_DFL);
        int zero = 0;
        HN_ASSERT(zero == 1);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

TEST_MAIN(RUN(the_first_wins); RUN(names_errno); RUN(long_messages_are_cut); RUN(no_message_drives_a_terminal); RUN(our_own_bugs_abort))
