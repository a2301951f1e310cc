/* A fault in the disk: the n-th call of hn_file_calls, counted over all its functions, fails, tears or is the last one of the process. */
#ifndef HONE_TESTS_CHECKPOINTS_FAULTS_H
#define HONE_TESTS_CHECKPOINTS_FAULTS_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"

/* What happens at the `at`-th call of the table, counted over all its functions. */
typedef enum fault_kind { FAIL_ONCE, FAIL_FOREVER, TEAR, KILL } fault_kind;
static struct {
    int calls, at;
    fault_kind kind;
    int code; /* errno; EIO unless set after set_fault */
    hn_file_hooks real;
    dev_t device; /* the file whose fsync failed */
    ino_t inode;
    int retried;
} fault;

static inline bool strikes(void)
{
    bool now = ++fault.calls == fault.at || (fault.kind == FAIL_FOREVER && fault.calls > fault.at);
    if (now && fault.kind == KILL) kill(getpid(), SIGKILL);
    errno = fault.code;
    return now;
}

static inline ssize_t faulty_write(int fd, const void *bytes, size_t size)
{
    if (!strikes()) return fault.real.write(fd, bytes, size);
    if (fault.kind != TEAR) return -1;
    fault.at++; /* half of it goes, the next call says why */
    return fault.real.write(fd, bytes, (size + 1) / 2);
}

static inline int faulty_fsync(int fd)
{
    struct stat info = {0};
    fstat(fd, &info);
    if (fault.inode && info.st_dev == fault.device && info.st_ino == fault.inode) fault.retried++;
    if (!strikes()) return fault.real.fsync(fd);
    fault.device = info.st_dev;
    fault.inode = info.st_ino;
    return -1;
}

static inline int faulty_rename(const char *from, const char *to, unsigned flags)
{
    return strikes() ? -1 : fault.real.rename(from, to, flags);
}

static inline int faulty_close(int fd)
{
    if (!strikes()) return fault.real.close(fd);
    fault.real.close(fd); /* a descriptor is gone even when close fails */
    errno = fault.code;
    return -1;
}

static inline int faulty_unlink(int at, const char *name, int flags)
{
    return strikes() ? -1 : fault.real.unlink(at, name, flags);
}

static inline int faulty_mkdir(const char *name, mode_t mode)
{
    return strikes() ? -1 : fault.real.mkdir(name, mode);
}

static inline void set_fault(int at, fault_kind kind)
{
    hn_file_hooks real = hn_file_calls;
    memset(&fault, 0, sizeof fault);
    fault.real = real;
    fault.at = at;
    fault.kind = kind;
    fault.code = EIO;
    hn_file_calls =
        (hn_file_hooks){faulty_write, faulty_fsync, faulty_rename, faulty_close, faulty_unlink, faulty_mkdir};
}

static inline void end_fault(void)
{
    hn_file_calls = fault.real;
}

#endif
