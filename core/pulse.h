/* A sign of life: a number that whoever makes progress adds to now and then, and that somebody else looks at (train/ranks.h). NULL where nobody
 * looks. Any thread. No _Atomic: kernels are C++ too. */
#ifndef HONE_CORE_PULSE_H
#define HONE_CORE_PULSE_H

#include <stddef.h>
#include <stdint.h>

static inline void hn_pulse(uint64_t *pulse)
{
    if (pulse) __atomic_fetch_add(pulse, 1, __ATOMIC_RELAXED);
}

#endif
