/* See linear_few.h. With few rows what costs is reading W from memory, so every row of W is read once, as it lies, by one thread:
 *
 *     a task: 64 rows of W --> c [M, 64], the columns of the result that belong to them --epilogue--> y, z
 *
 * Up to 16 rows (tokens of as many sequences side by side): the dot product of each row of x with four rows of W at a time, as
 * HN_LANES partial sums over K. Sixteen such vectors of partial sums are added up together, each in the order of vf_sum, so that a
 * result depends on its row of x and its row of W alone. W is asked for 8 KiB ahead: it comes in pieces of less than a page, and
 * what fetches ahead in the processor ends with a page.
 *
 * From 17 to 256 rows (a prompt, or a piece of one): the rows of W are transposed into a panel [K][64] that stays in the
 * second-level cache, and all of x is multiplied with it by blocks in registers, 128 of K at a time, which stay in the first. The
 * sum over K is in order for every element. Asking ahead for W gained nothing here.
 *
 * All four products of SmolLM2-135M's 30 layers (106 million weights), one thread's CPU time on a busy Intel family 6 model 207
 * (AVX-512), ms; "before" read the weights by the first way without asking ahead up to 16 rows, each sum by itself, and from 17
 * on transposed all of W to memory for oneDNN (linear.c):
 *
 *     rows          1    4    8   16   32   64  166  256
 *     fp32 before  30   49   64   99  102  163  422  460
 *     fp32         26   28   34   53   88  124  272  440
 *     bf16 before  24   38   52   83   98  149  327  409
 *     bf16         15   17   22   39   78  124  266  390
 */
#include "kernels/linear_few.h"

#include <omp.h>

#include "kernels/block.h"
#include "kernels/tiling.h"

enum { DOT_ROWS = 16, DOTS = 4, STRIP = 64, INNER = 128, AHEAD = 8192, LINE = 64 };

/* One product of few rows. */
typedef struct few {
    const hnp_epilogue *e;
    const hn_tensor *w;
    const hn_low_rank *low; /* NULL: none */
    const float *x;
    int64_t rows, inner, x_row;
    char *own; /* each thread's panel, result, and what the branch needs */
    size_t own_size;
} few;

static size_t floats(int64_t rows, int64_t columns)
{
    return ((size_t)rows * (size_t)columns * sizeof(float) + 63) & ~(size_t)63;
}

/* c[m][n] = x[m] . w[n] for `rows` rows of x, rows of c STRIP apart, and DOTS rows of w, of which `count` are there. */
HN_BODY void dots(float *c, const float *x, int64_t x_row, const char *w, size_t w_row, int64_t count, int64_t inner, int rows,
                  hn_dtype type)
{
    vf sum[DOTS * DOTS] = {{0}};
    const char *from[DOTS];
    size_t size = hnp_type_size(type);
    float flat[DOTS * DOTS];
    for (int j = 0; j < DOTS; j++) from[j] = w + (size_t)(j < count ? j : 0) * w_row;
    for (int64_t k = 0; k < inner; k += HN_LANES) {
        int64_t left = inner - k;
        vf value[DOTS];
        for (int j = 0; j < DOTS; j++) {
            value[j] = vf_get(from[j], type, k, left);
            if ((size_t)k * size % LINE == 0) __builtin_prefetch(from[j] + (size_t)k * size + AHEAD, 0, 2);
        }
        for (int i = 0; i < rows; i++) {
            vf one = vf_get(x + i * x_row, HN_F32, k, left);
            for (int j = 0; j < DOTS; j++) sum[i * DOTS + j] += one * value[j];
        }
    }
    for (int i = 0; i < rows * DOTS; i += HN_LANES) vf_store(flat + i, vf_sums(sum + i));
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < count; j++) c[i * STRIP + j] = flat[i * DOTS + j];
}

/* The products of all rows of x with the rows [first, first + count) of w. */
HN_BODY void dot_strip(const few *f, float *c, int64_t first, int64_t count, hn_dtype type)
{
    size_t w_row = (size_t)f->w->stride * hnp_type_size(type);
    for (int64_t n = 0; n < count; n += DOTS) {
        const char *w = hnp_row(f->w, first + n);
        int64_t some = hnp_least(DOTS, count - n), m = 0;
        for (; m + 4 <= f->rows; m += 4) dots(c + m * STRIP + n, f->x + m * f->x_row, f->x_row, w, w_row, some, f->inner, 4, type);
        for (; m + 2 <= f->rows; m += 2) dots(c + m * STRIP + n, f->x + m * f->x_row, f->x_row, w, w_row, some, f->inner, 2, type);
        for (; m < f->rows; m++) dots(c + m * STRIP + n, f->x + m * f->x_row, f->x_row, w, w_row, some, f->inner, 1, type);
    }
}

/* Rows [first, first + count) of w, count <= STRIP, as columns of panel [K][STRIP]; zeros where there are fewer. */
static void fill_columns(float *panel, const hn_tensor *w, int64_t first, int64_t count)
{
    for (int64_t n = 0; n < STRIP; n += HN_LANES) {
        int64_t some = count - n < 0 ? 0 : hnp_least(HN_LANES, count - n);
        const void *rows = hnp_row(w, first + (some ? n : 0));
        if (w->dtype == HN_F32) hnp_transpose_rows(panel + n, STRIP, rows, HN_F32, w->stride, some, w->shape[1], true);
        else hnp_transpose_rows(panel + n, STRIP, rows, HN_BF16, w->stride, some, w->shape[1], true);
    }
}

static void block_strip(const few *f, float *panel, float *c, int64_t first, int64_t count)
{
    fill_columns(panel, f->w, first, count);
    for (int64_t k = 0; k < f->inner; k += INNER) {
        hnp_block block = {.c = c, .a = f->x + k, .b = panel + k * STRIP, .c_row = STRIP, .a_row = f->x_row, .a_column = 1,
                           .b_row = STRIP, .m = f->rows, .n = STRIP, .k = hnp_least(INNER, f->inner - k), .add = k > 0};
        hnp_block_multiply(&block);
    }
}

/* c += low B^T of the columns [first, first + count) that parts of the low-rank branch belong to. */
static void add_branch(const few *f, float *c, float *own, int64_t first, int64_t count)
{
    const hn_tensor *low = f->low->low, *weight = f->low->weight;
    int64_t rank = weight->shape[1], width = low->shape[1], b = 0;
    float *sum = own, *columns = sum + f->rows * STRIP, *wide = columns + rank * STRIP;
    for (int64_t r = 0; r < f->rows; r++) hnp_copy_row(wide + r * width, HN_F32, hnp_row(low, r), low->dtype, width);
    for (int p = 0; p < f->low->parts; b += f->low->part[p++].rows) {
        int64_t from = f->low->part[p].row, end = hnp_least(from + f->low->part[p].rows, first + count);
        int64_t start = from > first ? from : first;
        if (start >= end) continue;
        fill_columns(columns, weight, b + start - from, end - start);
        hnp_block block = {.c = sum, .a = wide + p * rank, .b = columns, .c_row = STRIP, .a_row = width, .a_column = 1,
                           .b_row = STRIP, .m = f->rows, .n = STRIP, .k = rank};
        hnp_block_multiply(&block);
        for (int64_t r = 0; r < f->rows; r++)
            for (int64_t n = start; n < end; n++) c[r * STRIP + n - first] += sum[r * STRIP + n - start];
    }
}

/* The columns [first, first + count) of y. */
static void finish_strip(const few *f, const float *c, int64_t first, int64_t count)
{
    hnp_epilogue part = *f->e;
    hn_tensor y = hn_tensor_columns(f->e->y, first, count), z, bias;
    part.y = &y;
    if (part.z) z = hn_tensor_columns(part.z, first, count), part.z = &z;
    if (part.bias) bias = hn_tensor_rows(part.bias, first, count), part.bias = &bias;
    hnp_finish(&part, c, STRIP, 0, f->rows);
}

static void run_strip(const few *f, int64_t first, int thread)
{
    int64_t count = hnp_least(STRIP, f->w->shape[0] - first);
    float *c = (float *)(void *)(f->own + (size_t)thread * f->own_size), *panel = c + HNP_FEW_ROWS * STRIP;
    if (f->rows > DOT_ROWS) block_strip(f, panel, c, first, count);
    else if (f->w->dtype == HN_F32) dot_strip(f, c, first, count, HN_F32);
    else dot_strip(f, c, first, count, HN_BF16);
    if (f->low) add_branch(f, c, panel + f->inner * STRIP, first, count);
    finish_strip(f, c, first, count);
}

/* What a thread needs: c, the panel, and sum, columns and wide of the branch. */
static size_t own_size(int64_t inner)
{
    return floats(HNP_FEW_ROWS + inner, STRIP);
}

static size_t own_low_rank_size(int64_t rank, int64_t width)
{
    return floats(HNP_FEW_ROWS + rank, STRIP) + floats(HNP_FEW_ROWS, width);
}

void HN_ISA_NAME(hnp_linear_few)(hn_ops_context *ctx, const hnp_epilogue *e, const hn_tensor *x, const hn_tensor *w,
                                 const hn_low_rank *low)
{
    hnp_scratch scratch = {.ctx = ctx};
    int threads = hnp_team_size(ctx->state);
    few f = {.e = e, .w = w, .low = low, .rows = x->shape[0], .inner = x->shape[1], .x = x->data, .x_row = x->stride};
    float *wide = NULL;
    HN_ASSERT(f.rows <= HNP_FEW_ROWS);
    if (x->dtype != HN_F32) {
        if (!(wide = hnp_scratch_take(&scratch, floats(f.rows, f.inner)))) return;
        f.x = wide;
        f.x_row = f.inner;
    }
    f.own_size = own_size(f.inner) + (low ? own_low_rank_size(low->weight->shape[1], low->low->shape[1]) : 0);
    if (!(f.own = hnp_scratch_take(&scratch, (size_t)threads * f.own_size))) return;
#pragma omp parallel num_threads(threads)
    {
        if (wide) {
#pragma omp for schedule(static)
            for (int64_t r = 0; r < f.rows; r++) hnp_copy_row(wide + r * f.inner, HN_F32, hnp_row(x, r), x->dtype, f.inner);
        }
#pragma omp for schedule(dynamic)
        for (int64_t n = 0; n < w->shape[0]; n += STRIP) run_strip(&f, n, omp_get_thread_num());
    }
}

size_t HN_ISA_NAME(hnp_linear_few_workspace)(int64_t widest, int threads)
{
    return floats(HNP_FEW_ROWS, widest) + (size_t)threads * own_size(widest) + 2 * HNP_SCRATCH_ALIGN;
}

size_t HN_ISA_NAME(hnp_linear_few_low_rank_workspace)(int64_t width, int threads)
{
    return (size_t)threads * own_low_rank_size(width, width);
}
