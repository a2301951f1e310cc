/* See lock.h. The name alone says nothing (whoever died left it), the number of a process in it neither (another program may have that
 * number by now): only the kernel's lock counts. It is asked for without waiting, so that a second `hone train` says at once what is
 * wrong. The text is written behind it and may be missing, where the disk is full. */
#include "core/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"

static void write_holder(int fd)
{
    char text[128], host[64] = "";
    gethostname(host, sizeof host - 1);
    int length = snprintf(text, sizeof text, "process %ld on %s\n", (long)getpid(), host);
    if (!ftruncate(fd, 0)) (void)!pwrite(fd, text, (size_t)length, 0); /* for people: it may stay empty */
}

/* The first line that the holder wrote. */
static void read_holder(int fd, char text[128])
{
    ssize_t got = pread(fd, text, 127, 0);
    text[got > 0 ? got : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
}

/* Whether the locked file still has its name: somebody may have removed it between open and flock. */
static bool is_named(int fd, const char *path)
{
    struct stat mine, named;
    return !fstat(fd, &mine) && !stat(path, &named) && mine.st_ino == named.st_ino && mine.st_dev == named.st_dev;
}

/* 0: taken; 1: the file was replaced meanwhile; -1: failed. */
static int take(hn_lock *lock, const char *path, const char *folder, hn_error *error)
{
    char holder[128];
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (fd < 0) {
        hn_fail_errno(error, "%s: cannot open to lock the folder", path);
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        read_holder(fd, holder);
        hn_fail(error, HN_ERR_IO, "%s: another run is at work in this folder (%s): wait for it, stop it, or choose another output.dir",
                folder, holder[0] ? holder : "a process that is not named");
        close(fd);
        return -1;
    }
    if (!is_named(fd, path)) {
        close(fd);
        return 1;
    }
    write_holder(fd);
    lock->fd = fd;
    return 0;
}

hn_status hn_lock_open(hn_lock *lock, const char *folder, hn_error *error)
{
    enum { ATTEMPTS = 100 };
    char *path = hn_path_join(folder, ".lock");
    hn_error failure = {0};
    int result = 1;
    *lock = (hn_lock){.fd = -1};
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    for (int i = 0; i < ATTEMPTS && result == 1; i++) result = take(lock, path, folder, &failure);
    if (result == 1) hn_fail(&failure, HN_ERR_IO, "%s: removed as often as it was locked", path);
    hn_free(path);
    return result == 0 ? HN_OK : hn_fail(error, failure.status, "%s", failure.message);
}

void hn_lock_close(hn_lock *lock)
{
    if (lock->fd >= 0) close(lock->fd);
    lock->fd = -1;
}
