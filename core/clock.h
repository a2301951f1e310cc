/* Seconds of the monotonic clock, for rates and times in logs; no result depends on it. */
#ifndef HONE_CORE_CLOCK_H
#define HONE_CORE_CLOCK_H

#include <time.h>

static inline double hn_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
