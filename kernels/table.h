/* The operation tables of the instruction sets, for the chooser and for tests. */
#ifndef HONE_KERNELS_TABLE_H
#define HONE_KERNELS_TABLE_H

#include "kernels/ops.h"

extern const hn_ops hnp_ops_cpu_base, hnp_ops_cpu_avx2, hnp_ops_cpu_avx512;

/* NULL when this machine lacks the instruction set ("base", "avx2", "avx512"). */
const hn_ops *hnp_ops_cpu_named(const char *isa);
#endif
