/* What tests ask of the double of cuBLASLt beside cuBLASLt's own calls. */
#ifndef HONE_TESTS_CUBLAS_LT_H
#define HONE_TESTS_CUBLAS_LT_H

#include <stdint.h>

/* Its algorithms, in the order in which the heuristic names them. Each adds products up in an order of its own, so that results tell
 * them apart. */
enum {
    EMU_LT_TILED,    /* wants everything aligned to 16 bytes, and counts of columns that fill eights or stay below */
    EMU_LT_SPLIT,    /* k in two halves, which lie in the workspace */
    EMU_LT_PLAIN,    /* runs anything */
    EMU_LT_ALGORITHMS
};

typedef struct emu_lt_counts {
    int64_t queries; /* of the heuristic */
    int64_t products[EMU_LT_ALGORITHMS];
    int64_t epilogue[1024]; /* by cublasLtEpilogue_t */
} emu_lt_counts;

/* Since emu_lt_reset. */
const emu_lt_counts *emu_lt_counted(void);

/* As at the start: everything offered, nothing counted. */
void emu_lt_reset(void);
/* No algorithm is offered for this epilogue (cublasLtEpilogue_t) from now on. */
void emu_lt_refuse(int epilogue);
/* Every algorithm but this one is slow; -1: none is. A program that knows nothing of tests is told by HONE_EMU_LT_FASTEST. */
void emu_lt_fastest(int algorithm);
/* The next product ends in this cublasStatus_t. */
void emu_lt_fail(int status);
/* What cublasLtGetVersion says; 0: the version that the header is of. */
void emu_lt_version(uint64_t version);

#endif
