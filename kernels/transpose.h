/* Transposes a block of HN_LANES x HN_LANES elements in registers, in log2(HN_LANES) exchanges of halves. */
#ifndef HONE_KERNELS_TRANSPOSE_H
#define HONE_KERNELS_TRANSPOSE_H

#include "kernels/vec.h"

/* Lane i of the two results of exchanging groups of s lanes between the rows a and b. */
#define HN_LANE_A(i, s) ((i) & (s) ? HN_LANES + (i) - (s) : (i))
#define HN_LANE_B(i, s) ((i) & (s) ? HN_LANES + (i) : (i) + (s))

#define HN_EXCHANGE(row, s)                                                                                            \
    for (int i_ = 0; i_ < HN_LANES; i_++)                                                                              \
        if (!(i_ & (s))) {                                                                                             \
            vf a_ = (row)[i_], b_ = (row)[i_ + (s)];                                                                   \
            (row)[i_] = __builtin_shufflevector(a_, b_, HN_LANE_LIST(HN_LANE_A, s));                                   \
            (row)[i_ + (s)] = __builtin_shufflevector(a_, b_, HN_LANE_LIST(HN_LANE_B, s));                             \
        }

HN_BODY void vf_transpose(vf row[HN_LANES])
{
#pragma GCC unroll 16
    HN_EXCHANGE(row, 1)
#pragma GCC unroll 16
    HN_EXCHANGE(row, 2)
#if HN_LANES >= 8
#pragma GCC unroll 16
    HN_EXCHANGE(row, 4)
#endif
#if HN_LANES >= 16
#pragma GCC unroll 16
    HN_EXCHANGE(row, 8)
#endif
}

/* `rows` <= HN_LANES rows of `columns` elements of `type`, row_stride elements apart, to fp32: to[c * stride + r]. Whole vectors
 * are stored when `padded` (zeros for the missing rows), else `rows` elements. */
HN_BODY void hnp_transpose_rows(float *to, int64_t stride, const void *from, hn_dtype type, int64_t row_stride,
                                int64_t rows, int64_t columns, bool padded)
{
    for (int64_t c = 0; c < columns; c += HN_LANES) {
        int64_t left = columns - c;
        vf block[HN_LANES];
        for (int r = 0; r < HN_LANES; r++)
            block[r] = r < rows ? vf_get(from, type, r * row_stride + c, left) : vf_all(0.0f);
        vf_transpose(block);
        for (int i = 0; i < HN_LANES; i++)
            if (i < left) vf_put(to, HN_F32, (c + i) * stride, padded ? HN_LANES : rows, block[i]);
    }
}

#endif
