/* See hdf5_lock.h. In order of arrival: a thread that leaves and enters again at once stands behind those who wait. The lock is the process's
 * because the library's state is. */
#include "core/hdf5_lock.h"

#include <pthread.h>
#include <stdint.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t left = PTHREAD_COND_INITIALIZER;
static uint64_t arrived, served; /* tickets given out, and those whose thread has left */

void hn_hdf5_enter(void)
{
    pthread_mutex_lock(&lock);
    uint64_t ticket = arrived++;
    while (ticket != served) pthread_cond_wait(&left, &lock);
    pthread_mutex_unlock(&lock);
}

void hn_hdf5_leave(void)
{
    pthread_mutex_lock(&lock);
    served++;
    pthread_cond_broadcast(&left);
    pthread_mutex_unlock(&lock);
}
