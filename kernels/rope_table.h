/* The table that the operation `rope` reads, filled once on the host: row p holds cos(p f_i) for i < D / 2, then sin(p f_i), where
 * f_i = theta^(-2 i / D), changed by the scaling:
 *
 *     linear   f / factor                                                    (Chen et al. 2023, position interpolation)
 *     llama3   wavelength 2 pi / f below original_positions / high_freq_factor: f; above original_positions / low_freq_factor:
 *              f / factor; between them a blend of both, linear in original_positions / wavelength       (Llama 3.1)
 *
 * The values are those of transformers' modeling_rope_utils: frequencies and angles are rounded to fp32 where it rounds them. */
#ifndef HONE_KERNELS_ROPE_TABLE_H
#define HONE_KERNELS_ROPE_TABLE_H

#include <stdint.h>

typedef enum hn_rope_kind { HN_ROPE_DEFAULT, HN_ROPE_LINEAR, HN_ROPE_LLAMA3 } hn_rope_kind;

typedef struct hn_rope {
    hn_rope_kind kind;
    double theta;
    double factor;                            /* of linear and llama3 */
    double low_freq_factor, high_freq_factor; /* of llama3 */
    int64_t original_positions;               /* of llama3: original_max_position_embeddings */
} hn_rope;

/* Rows [first, first + count) of the table, to `rows` [count, head_size], the caller's; head_size is even. */
void hn_rope_table_fill(float *rows, const hn_rope *rope, int64_t first, int64_t count, int head_size);

#endif
