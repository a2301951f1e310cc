/* A folder that one process at a time may change: a file in it that carries the kernel's lock (flock). The lock is the open file's and
 * not the name's: it ends with the process that holds it, however that ends, so a file that is left behind, or copied from elsewhere,
 * holds nobody up. What stands in the file is for people: who has it. */
#ifndef HONE_CORE_LOCK_H
#define HONE_CORE_LOCK_H

#include "core/error.h"

typedef struct hn_lock {
    int fd; /* -1: not held */
} hn_lock;

/* Takes <folder>/.lock without waiting. HN_ERR_IO: another process has it, which is named. On a file system without locks it is
 * taken without protection. */
hn_status hn_lock_open(hn_lock *lock, const char *folder, hn_error *error);
/* The file stays; takes one that is not held. */
void hn_lock_close(hn_lock *lock);

#endif
