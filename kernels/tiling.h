/* What operations made of matrix products share: the sizes of tiles, how rows are cut into them, panels in the type that a product
 * reads, and the team that runs it. */
#ifndef HONE_KERNELS_TILING_H
#define HONE_KERNELS_TILING_H

#include <omp.h>

#include "core/error.h"
#include "kernels/product.h"
#include "kernels/scratch.h"
#include "kernels/transpose.h"

/* Sizes of tiles by the product's type. bf16 products repack what they read as B for every primitive, so theirs are larger. */
typedef struct hnp_tiling {
    int64_t rows;  /* of a forward or backward_input tile; half of it at the end */
    int64_t out;   /* rows of dw in a tile */
    int64_t chunk; /* rows of a weight gradient's partial sum */
    int64_t chunk_tail; /* the last chunk is rounded up to a multiple of this */
} hnp_tiling;

static inline hnp_tiling hnp_tiling_of(hn_dtype type)
{
    return type == HN_BF16 ? (hnp_tiling){256, 192, 1024, 128} : (hnp_tiling){64, 64, 256, 32};
}

static inline hn_dtype hnp_product_type(const hn_ops_context *ctx, const hn_tensor *a, const hn_tensor *b)
{
    bool narrow = a->dtype == HN_BF16 || b->dtype == HN_BF16;
    return narrow && hnp_products_narrow(ctx->state) ? HN_BF16 : HN_F32;
}

static inline size_t hnp_type_size(hn_dtype type)
{
    return type == HN_F32 ? sizeof(float) : sizeof(uint16_t);
}

HN_BODY void hnp_copy_row_as(void *to, hn_dtype to_type, const void *from, hn_dtype from_type, int64_t columns)
{
    int64_t c = 0;
    for (; c + HN_LANES <= columns; c += HN_LANES) vf_put(to, to_type, c, HN_LANES, vf_get(from, from_type, c, HN_LANES));
    if (c < columns) vf_put(to, to_type, c, columns - c, vf_get(from, from_type, c, columns - c));
}

static inline void hnp_copy_row(void *to, hn_dtype to_type, const void *from, hn_dtype from_type, int64_t columns)
{
    if (to_type == from_type) memcpy(to, from, (size_t)columns * hnp_type_size(to_type));
    else if (to_type == HN_F32) hnp_copy_row_as(to, HN_F32, from, HN_BF16, columns);
    else hnp_copy_row_as(to, HN_BF16, from, HN_F32, columns);
}

/* Rows [first, first + rows) of the tensor, dense in `panel`; those beyond its end are zero. */
static inline void hnp_fill_panel(char *panel, hn_dtype type, const hn_tensor *tensor, int64_t first, int64_t rows)
{
    int64_t columns = tensor->shape[1];
    size_t row_size = (size_t)columns * hnp_type_size(type);
    for (int64_t r = 0; r < rows; r++) {
        char *to = panel + (size_t)r * row_size;
        if (first + r < tensor->shape[0]) hnp_copy_row(to, type, hnp_row(tensor, first + r), tensor->dtype, columns);
        else memset(to, 0, row_size);
    }
}

/* `count` <= HN_LANES rows of w from row r on, as columns of `to`, `stride` floats from one element of a row to the next. */
static inline void hnp_turn_rows(float *to, int64_t stride, const hn_tensor *w, int64_t r, int64_t count)
{
    if (w->dtype == HN_F32) hnp_transpose_rows(to, stride, hnp_row(w, r), HN_F32, w->stride, count, w->shape[1], false);
    else hnp_transpose_rows(to, stride, hnp_row(w, r), HN_BF16, w->stride, count, w->shape[1], false);
}

static inline int hnp_team_size(const hnp_products *products)
{
    return (int)hnp_least(omp_get_max_threads(), hnp_products_threads(products));
}

static inline void hnp_fail_run(hn_ops_context *ctx, const char *what)
{
    hn_fail(ctx->error, HN_ERR_DEVICE, "oneDNN failed in a matrix product of %s", what);
}

/* How the rows of a result are cut: `whole` tiles of `size` rows, then halves; the last half may lack rows. */
typedef struct hnp_cut {
    int64_t rows, size, whole, tiles;
} hnp_cut;

static inline hnp_cut hnp_cut_rows(int64_t rows, int64_t size)
{
    hnp_cut out = {.rows = rows, .size = size, .whole = rows >= 2 * size ? (rows - size) / size : 0};
    out.tiles = out.whole + hnp_ceil_div(rows - out.whole * size, size / 2);
    return out;
}

static inline int64_t hnp_cut_first(const hnp_cut *of, int64_t tile)
{
    return tile < of->whole ? tile * of->size : of->whole * of->size + (tile - of->whole) * (of->size / 2);
}

#endif
