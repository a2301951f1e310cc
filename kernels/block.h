/* A small matrix product in registers, for tiles that lie in the first- and second-level cache:
 *
 *     c [m][n] (+)= a [m][k] b [k][n]
 *
 * c and b have dense, padded rows (n a multiple of HN_LANES); an element of a lies at i * a_row + x * a_column, so that a
 * transposed matrix costs nothing. Every element of a is broadcast against whole vectors of b. The order of the sum over k is
 * the same for every element, wherever it stands in its block. */
#ifndef HONE_KERNELS_BLOCK_H
#define HONE_KERNELS_BLOCK_H

#include "kernels/vec.h"

typedef struct hnp_block {
    float *c;
    const float *a, *b;
    int64_t c_row, a_row, a_column, b_row; /* strides in elements */
    int64_t m, n, k;
    bool add;
} hnp_block;

#if HN_LANES == 16
enum { HNP_BLOCK_ROWS = 6, HNP_BLOCK_VECTORS = 4 }; /* 24 of 32 registers hold sums */
#else
enum { HNP_BLOCK_ROWS = 4, HNP_BLOCK_VECTORS = 2 }; /* 8 of 16 */
#endif

HN_BODY void hnp_block_tile(const hnp_block *p, int64_t i, int64_t j, int rows, int vectors)
{
    vf sum[HNP_BLOCK_ROWS][HNP_BLOCK_VECTORS];
    float *c = p->c + i * p->c_row + j;
    const float *a = p->a + i * p->a_row, *b = p->b + j;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[r][v] = p->add ? vf_load(c + r * p->c_row + v * HN_LANES) : vf_all(0.0f);
    for (int64_t x = 0; x < p->k; x++) {
        vf row[HNP_BLOCK_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) row[v] = vf_load(b + x * p->b_row + v * HN_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sum[r][v] += a[r * p->a_row + x * p->a_column] * row[v];
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) vf_store(c + r * p->c_row + v * HN_LANES, sum[r][v]);
}

HN_BODY void hnp_block_column(const hnp_block *p, int64_t j, int vectors)
{
    int64_t i = 0;
    for (; i + HNP_BLOCK_ROWS <= p->m; i += HNP_BLOCK_ROWS) hnp_block_tile(p, i, j, HNP_BLOCK_ROWS, vectors);
    for (; i + 2 <= p->m; i += 2) hnp_block_tile(p, i, j, 2, vectors);
    if (i < p->m) hnp_block_tile(p, i, j, 1, vectors);
}

static void hnp_block_multiply(const hnp_block *p)
{
    int64_t j = 0, step = HNP_BLOCK_VECTORS * HN_LANES;
    for (; j + step <= p->n; j += step) hnp_block_column(p, j, HNP_BLOCK_VECTORS);
    switch ((p->n - j) / HN_LANES) {
    case 3: hnp_block_column(p, j, 3 < HNP_BLOCK_VECTORS ? 3 : 1); break; /* only where a column has 4 vectors */
    case 2: hnp_block_column(p, j, 2); break;
    case 1: hnp_block_column(p, j, 1); break;
    }
}

#endif
