/* A low-rank branch (hn_low_rank in ops.h) inside a linear layer's tiles: what it adds to rows of the result before the epilogue.
 * Its code stands in low_rank.c. */
#ifndef HONE_KERNELS_BRANCH_H
#define HONE_KERNELS_BRANCH_H

#include "kernels/isa.h"
#include "kernels/ops.h"
#include "kernels/scratch.h"

/* A branch made ready: its weights as blocks read them. */
typedef struct hnp_branch {
    const hn_low_rank *of;
    int parts;
    struct {
        const float *b; /* [inner, columns], rows b_row apart */
        int64_t b_row, inner, low, column, columns;
    } part[HN_LOW_RANK_PARTS];
    size_t own_size; /* bytes that a thread needs for itself */
} hnp_branch;

/* For tiles of at most `rows` rows. false: scratch is short. */
bool HN_ISA_NAME(hnp_branch_init)(hnp_branch *out, hnp_scratch *scratch, const hn_low_rank *of, bool backward, int64_t rows);
/* result += the branch's rows [first, first + rows); rows of the result are `stride` floats apart. */
void HN_ISA_NAME(hnp_branch_run)(const hnp_branch *branch, float *result, int64_t stride, int64_t first, int64_t rows, void *own);

#endif
