/* See low_rank.h. A block in registers (block.h) runs over the long side:
 *
 *     project           tiles of 64 rows of x;  the small factor, [K, R], stays in the second-level cache
 *     backward_weight   strips of 64 of dw's long side, each by one thread over all tokens, 256 at a time:
 *
 *                           dA [R, K]      strip of x      copied dense, dropped on the way
 *                           dB [N, r]      strip of dy     copied dense, read as columns
 *     branch            the tile of the layer's result, while it lies in cache
 *
 * The sum over tokens is never split between threads, so bits depend on nothing but the sizes.
 *
 * oneDNN is as fast here (SmolLM2-135M's shapes, r 16, 1,000 rows, one thread's CPU time, GFLOP/s: project 46 to 129 and 60 to 113,
 * weights 39 to 85 and 39 to 100), but its primitives would be half of the 256 that are kept, and each chunk of tokens a team of its
 * own. All of it is 11 % on top of the layer's own forward and backward, the branch 2 %; dW, which frozen weights save, would be
 * 50 %. */
#include "kernels/low_rank.h"

#include "kernels/block.h"
#include "kernels/branch.h"
#include "kernels/dropout_vec.h"
#include "kernels/linear_few.h"
#include "kernels/tiling.h"

enum { TILE = 64, STRIP = 64, CHUNK = 256, PAD = 16 };

/* Columns that whole vectors of every instruction set make. */
static int64_t padded(int64_t columns)
{
    return hnp_ceil_div(columns, PAD) * PAD;
}

static size_t floats(int64_t rows, int64_t columns)
{
    return ((size_t)rows * (size_t)columns * sizeof(float) + 63) & ~(size_t)63;
}

/* Columns [column, column + columns) of a row, as fp32 and dropped; up to `width` zeros follow. */
static void copy_row(float *to, int64_t width, const hn_tensor *from, int64_t row, int64_t column, int64_t columns,
                     const hn_dropout *dropout)
{
    const char *data = (const char *)hnp_row(from, row) + (size_t)column * hnp_type_size(from->dtype);
    hnp_copy_row(to, HN_F32, data, from->dtype, columns);
    if (hnp_drops(dropout)) {
        hnp_drop_row drop;
        hnp_drop_start(&drop, dropout, row, from->shape[1]);
        drop.first += (uint64_t)column;
        for (int64_t c = 0; c < columns; c += HN_LANES)
            vf_put(to, HN_F32, c, columns - c, hnp_drop_apply(&drop, vf_get(to, HN_F32, c, columns - c), c, columns - c));
    }
    memset(to + columns, 0, (size_t)(width - columns) * sizeof *to);
}

/* The right side of a block: w or its transpose, rows of whole vectors; as it stands where that will do. NULL: scratch is short. */
static const float *right_side(hnp_scratch *scratch, const hn_tensor *w, bool transposed, int64_t *row)
{
    int64_t rows = transposed ? w->shape[1] : w->shape[0], columns = transposed ? w->shape[0] : w->shape[1];
    if (!transposed && w->dtype == HN_F32 && columns % PAD == 0) {
        *row = w->stride;
        return w->data;
    }
    *row = padded(columns);
    float *copy = hnp_scratch_take(scratch, floats(rows, *row));
    if (!copy) return NULL;
    if (!transposed) {
        for (int64_t r = 0; r < rows; r++) copy_row(copy + r * *row, *row, w, r, 0, columns, NULL);
        return copy;
    }
    if (columns % PAD) memset(copy, 0, floats(rows, *row));
    for (int64_t c = 0; c < columns; c += HN_LANES) hnp_turn_rows(copy + c, *row, w, c, hnp_least(HN_LANES, columns - c));
    return copy;
}

/* ---- project ---- */

typedef struct project {
    const hn_tensor *low, *x;
    const float *b;
    int64_t b_row;
    float scale;
    const hn_dropout *dropout;
    bool direct; /* x is read where it stands */
} project;

static void project_tile(const project *p, int64_t first, float *own)
{
    int64_t rows = hnp_least(TILE, p->x->shape[0] - first), inner = p->x->shape[1], width = padded(p->low->shape[1]);
    float *result = own, *panel = own + TILE * width;
    for (int64_t r = 0; r < rows && !p->direct; r++) copy_row(panel + r * inner, inner, p->x, first + r, 0, inner, p->dropout);
    hnp_block block = {.c = result, .a = p->direct ? hnp_row(p->x, first) : (void *)panel, .b = p->b, .c_row = width,
                       .a_row = p->direct ? p->x->stride : inner, .a_column = 1, .b_row = p->b_row, .m = rows, .n = width,
                       .k = inner};
    hnp_block_multiply(&block);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < p->low->shape[1]; c += HN_LANES)
            vf_put(hnp_row(p->low, first + r), p->low->dtype, c, p->low->shape[1] - c,
                   vf_load(result + r * width + c) * p->scale);
}

void HN_ISA_NAME(hnp_low_rank_project)(hn_ops_context *ctx, const hn_tensor *low, const hn_tensor *x, const hn_tensor *w,
                                       bool transposed, float scale, const hn_dropout *dropout)
{
    HN_ASSERT(x->shape[1] == w->shape[transposed ? 1 : 0] && low->shape[0] == x->shape[0]);
    HN_ASSERT(low->shape[1] == w->shape[transposed ? 0 : 1]);
    if (!hn_tensor_count(low)) return;
    hnp_scratch scratch = {.ctx = ctx};
    project p = {.low = low, .x = x, .scale = scale, .dropout = dropout};
    p.direct = x->dtype == HN_F32 && !hnp_drops(dropout);
    int threads = hnp_team_size(ctx->state);
    size_t own_size = floats(TILE, padded(low->shape[1])) + (p.direct ? 0 : floats(TILE, x->shape[1]));
    p.b = right_side(&scratch, w, transposed, &p.b_row);
    char *own = p.b ? hnp_scratch_take(&scratch, (size_t)threads * own_size) : NULL;
    if (!own) return;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (x->shape[0] > TILE)
    for (int64_t first = 0; first < x->shape[0]; first += TILE)
        project_tile(&p, first, (float *)(void *)(own + (size_t)omp_get_thread_num() * own_size));
}

/* ---- backward_weight ---- */

typedef struct sum {
    const hn_tensor *dw, *dy, *x;
    const hn_dropout *dropout;
    bool tall; /* strips are rows of dw, else columns */
} sum;

/* The small side of a chunk: where it stands, or copied. `whole`: rows must be of whole vectors. */
static const float *small_side(const hn_tensor *tensor, bool whole, int64_t first, int64_t rows, const hn_dropout *dropout,
                               float *copy, int64_t *row)
{
    int64_t columns = tensor->shape[1];
    *row = tensor->stride;
    if (tensor->dtype == HN_F32 && !hnp_drops(dropout) && !(whole && columns % PAD)) return hnp_row(tensor, first);
    *row = padded(columns);
    for (int64_t r = 0; r < rows; r++) copy_row(copy + r * *row, *row, tensor, first + r, 0, columns, dropout);
    return copy;
}

/* One strip of dw over all tokens. */
static void sum_strip(const sum *s, int64_t strip, float *own)
{
    const hn_tensor *large = s->tall ? s->dy : s->x, *small = s->tall ? s->x : s->dy;
    int64_t count = hnp_least(STRIP, large->shape[1] - strip), width = padded(small->shape[1]), tokens = large->shape[0];
    int64_t c_row = s->tall ? width : STRIP;
    float *result = own, *panel = result + STRIP * width, *copy = panel + CHUNK * STRIP;
    memset(result, 0, (size_t)(STRIP * width) * sizeof *result);
    for (int64_t first = 0; first < tokens; first += CHUNK) {
        int64_t rows = hnp_least(CHUNK, tokens - first), small_row;
        const float *other = small_side(small, s->tall, first, rows, s->tall ? s->dropout : NULL, copy, &small_row);
        for (int64_t r = 0; r < rows; r++)
            copy_row(panel + r * STRIP, STRIP, large, first + r, strip, count, s->tall ? NULL : s->dropout);
        hnp_block block = {.c = result, .a = s->tall ? panel : other, .b = s->tall ? other : panel, .c_row = c_row, .a_row = 1,
                           .a_column = s->tall ? STRIP : small_row, .b_row = s->tall ? small_row : STRIP,
                           .m = s->tall ? count : small->shape[1], .n = s->tall ? width : padded(count), .k = rows, .add = true};
        hnp_block_multiply(&block);
    }
    int64_t out_rows = s->tall ? count : small->shape[1], out_columns = s->tall ? small->shape[1] : count;
    for (int64_t r = 0; r < out_rows; r++) {
        float *to = (float *)hnp_row(s->dw, s->tall ? strip + r : r) + (s->tall ? 0 : strip);
        for (int64_t c = 0; c < out_columns; c++) to[c] += result[r * c_row + c];
    }
}

void HN_ISA_NAME(hnp_low_rank_backward_weight)(hn_ops_context *ctx, const hn_tensor *dw, const hn_tensor *dy,
                                               const hn_tensor *x, const hn_dropout *dropout)
{
    HN_ASSERT(dw->dtype == HN_F32 && dw->shape[0] == dy->shape[1] && dw->shape[1] == x->shape[1] && dy->shape[0] == x->shape[0]);
    if (!hn_tensor_count(dw) || !dy->shape[0]) return;
    sum s = {.dw = dw, .dy = dy, .x = x, .dropout = dropout, .tall = dw->shape[0] > dw->shape[1]};
    hnp_scratch scratch = {.ctx = ctx};
    int threads = hnp_team_size(ctx->state);
    int64_t width = padded(s.tall ? x->shape[1] : dy->shape[1]), strips = s.tall ? dw->shape[0] : dw->shape[1];
    size_t own_size = floats(STRIP + CHUNK, width) + floats(CHUNK, STRIP);
    char *own = hnp_scratch_take(&scratch, (size_t)threads * own_size);
    if (!own) return;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t strip = 0; strip < strips; strip += STRIP)
        sum_strip(&s, strip, (float *)(void *)(own + (size_t)omp_get_thread_num() * own_size));
}

/* ---- branch ---- */

bool HN_ISA_NAME(hnp_branch_init)(hnp_branch *out, hnp_scratch *scratch, const hn_low_rank *of, bool backward, int64_t rows)
{
    int64_t row = 0, widest = 0;
    *out = (hnp_branch){.of = of, .parts = backward ? 1 : of->parts};
    for (int i = 0; i < out->parts; i++) {
        hn_tensor w = *of->weight;
        if (!backward) w = hn_tensor_rows(of->weight, row, of->part[i].rows);
        out->part[i].inner = w.shape[backward ? 0 : 1];
        out->part[i].columns = w.shape[backward ? 1 : 0];
        out->part[i].column = backward ? 0 : of->part[i].row;
        out->part[i].low = i * out->part[i].inner;
        out->part[i].b = right_side(scratch, &w, !backward, &out->part[i].b_row);
        if (!out->part[i].b) return false;
        if (padded(out->part[i].columns) > widest) widest = padded(out->part[i].columns);
        row += w.shape[0];
    }
    out->own_size = floats(rows, of->low->shape[1]) + floats(rows, widest);
    return true;
}

void HN_ISA_NAME(hnp_branch_run)(const hnp_branch *branch, float *result, int64_t stride, int64_t first, int64_t rows, void *own)
{
    const hn_tensor *low = branch->of->low;
    const hn_dropout *dropout = branch->of->dropout;
    int64_t width = low->shape[1], a_row = low->stride;
    const float *a = hnp_row(low, first);
    float *panel = own, *apart = panel + rows * width;
    if (low->dtype != HN_F32) {
        for (int64_t r = 0; r < rows; r++) copy_row(panel + r * width, width, low, first + r, 0, width, NULL);
        a = panel;
        a_row = width;
    }
    for (int p = 0; p < branch->parts; p++) {
        int64_t column = branch->part[p].column, columns = branch->part[p].columns, whole = padded(columns);
        bool direct = !hnp_drops(dropout) && columns == whole;
        hnp_block block = {.c = direct ? result + column : apart, .a = a + branch->part[p].low, .b = branch->part[p].b,
                           .c_row = direct ? stride : whole, .a_row = a_row, .a_column = 1, .b_row = branch->part[p].b_row,
                           .m = rows, .n = whole, .k = branch->part[p].inner, .add = direct};
        hnp_block_multiply(&block);
        for (int64_t r = 0; r < rows && !direct; r++) {
            hn_tensor row = hn_tensor_2d(apart + r * whole, HN_F32, 1, columns);
            float *to = result + r * stride + column;
            hnp_drop_row drop;
            hnp_drop_start(&drop, dropout, first + r, columns);
            for (int64_t c = 0; c < columns; c += HN_LANES) {
                vf v = hnp_drop_apply(&drop, vf_get(row.data, HN_F32, c, columns - c), c, columns - c);
                vf_put(to, HN_F32, c, columns - c, vf_get(to, HN_F32, c, columns - c) + v);
            }
        }
    }
}

size_t HN_ISA_NAME(hnp_low_rank_workspace)(int64_t widest, int64_t width, int threads)
{
    int64_t rows = hnp_tiling_of(HN_F32).rows > hnp_tiling_of(HN_BF16).rows ? hnp_tiling_of(HN_F32).rows
                                                                             : hnp_tiling_of(HN_BF16).rows;
    size_t own = floats(rows, width) + floats(rows, padded(widest)), sums = floats(STRIP + CHUNK, padded(width)) + floats(CHUNK, STRIP);
    size_t sides = HN_LOW_RANK_PARTS * floats(width, padded(widest)) + floats(widest, padded(width));
    size_t tiled = sides + (size_t)threads * (own > sums ? own : sums), few = HN_ISA_NAME(hnp_linear_few_low_rank_workspace)(width, threads);
    return (tiled > few ? tiled : few) + (HN_LOW_RANK_PARTS + 2) * HNP_SCRATCH_ALIGN;
}
