/* Mappings of files that may be cut short while they are mapped. Shared inside core/ (file.c). */
#ifndef HONE_CORE_GUARD_H
#define HONE_CORE_GUARD_H

#include <stdbool.h>
#include <stddef.h>

/* From now on bytes of this mapping that have no file behind them read as zeros, where they would end the
 * process with SIGBUS. At most 64 mappings are guarded at a time (a sharded model has some tens); one more is
 * not. */
void hnp_guard_add(const void *begin, size_t size);
void hnp_guard_remove(const void *begin);
/* Whether such bytes were read since hnp_guard_add. */
bool hnp_guard_lost(const void *begin);

#endif
