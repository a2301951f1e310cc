/* Linear layers. A product is cut into tiles of rows of its result; a tile is one oneDNN primitive (kernels/product.h) run by one
 * thread, the reduction never split between threads. The tile's result stays in the thread's cache for what follows: bias,
 * activation, narrowing to bf16, addition.
 *
 *     x tile [64, K] --(widen, or copy when rows are missing)--> panel --product with W--> result [64, N] --epilogue--> y, z
 *
 * The last rows go in tiles of half the size, so that threads end together; what is missing in the very last one is zeros in the
 * panel. So three primitives serve every M.
 *
 * oneDNN reads B [K, N] as it stands and would repack B^T once a tile (fp32, one core of the machine below: 165 against 135 to 155
 * GFLOP/s). So the weights of a forward product are transposed once a call, and widened on the way if they are bf16. Their rows
 * and those of a result stand an odd number of cache lines apart: with 3,072 columns, 12 KiB, rows side by side fell into the same
 * sets of the first-level cache (800 rows, K 576: forward 66 GFLOP/s, apart 145; dX over the shapes of SmolLM2 135 and 155).
 *
 * A weight gradient sums over M in chunks, one after another: small enough that the chunk's operands stay in the second-level
 * cache while all tiles of dw pass over them (256 rows: 165, 1,280 rows: 141 to 160 GFLOP/s).
 *
 * Not kept: weights packed in the layout oneDNN prefers (tag any) run 64-row tiles at 97 to 104 % of that rate, and packing takes
 * 0.04 to 0.2 ms a matrix, as long as the transposing does; tiles of 128 rows win 3 to 5 % where K is 1,536 and lose as much where
 * N is 1,152.
 *
 * A low-rank branch (LoRA) joins where the tile's result lies in cache (low_rank.c), so that neither y nor dx passes through
 * memory once more.
 *
 * What is fused costs little beside it: bias and GELU with z kept 5 to 8 % of a forward product, GELU's slope 3 to 6 % of a
 * backward one.
 *
 * Figures: Intel family 6 model 207, AVX-512, one thread's CPU time, N and K of MiniLM (384, 1152, 1536). */
#include "kernels/linear.h"

#include <omp.h>

#include "core/error.h"
#include "kernels/branch.h"
#include "kernels/epilogue.h"
#include "kernels/linear_few.h"
#include "kernels/tiling.h"

/* The weights as a product reads them. */
typedef struct weights {
    const void *data;
    int64_t row, column; /* strides of B [K, N] */
} weights;

/* Elements from one row to the next where a product reads or writes rows side by side: an odd number of fp32's cache lines. Multiples of
 * 4 KiB would put them all into the same sets of the first-level cache. */
static int64_t apart(int64_t columns)
{
    enum { LINE = 16 };
    return (hnp_ceil_div(columns, LINE) | 1) * LINE;
}

/* B = w, or w^T when `transposed`: as it stands where oneDNN reads that well, else copied by all threads. data is NULL when
 * scratch is short. */
static weights prepare(hnp_scratch *scratch, const hn_tensor *w, hn_dtype type, bool transposed)
{
    int64_t rows = w->shape[0], columns = w->shape[1];
    bool turn = transposed && type == HN_F32;
    if (w->dtype == type && !turn)
        return (weights){w->data, transposed ? 1 : w->stride, transposed ? w->stride : 1};
    int64_t step = apart(turn ? rows : columns);
    size_t row_size = (size_t)step * hnp_type_size(type);
    weights out = {.row = transposed && !turn ? 1 : step, .column = transposed && !turn ? step : 1};
    char *copy = hnp_scratch_take(scratch, (size_t)(turn ? columns : rows) * row_size);
    out.data = copy;
    if (!copy) return out;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r += HN_LANES) {
        int64_t count = hnp_least(HN_LANES, rows - r);
        if (turn) hnp_turn_rows((float *)(void *)copy + r, step, w, r, count);
        for (int64_t i = 0; i < count && !turn; i++) hnp_fill_panel(copy + (size_t)(r + i) * row_size, type, w, r + i, 1);
    }
    return out;
}

/* One row-tiled product: y = epilogue(x B). */
typedef struct tiled {
    const hn_tensor *x;
    const void *b;
    hn_dtype type;
    hnp_cut cut;
    bool direct; /* oneDNN reads x itself, but for a last tile that lacks rows */
    hnp_branch branch; /* of NULL: none */
    hnp_plan *whole, *half, *last;
    char *own; /* each thread's panel and result, and those of the branch */
    size_t panel_size, result_size, own_size;
} tiled;

/* The plans that the cut needs; false when one could not be made. */
static bool tiled_plan(hn_ops_context *ctx, tiled *t, const weights *w, int64_t columns)
{
    int64_t inner = t->x->shape[1];
    hnp_product shape = {.n = columns, .k = inner, .a_column = 1, .b_row = w->row, .b_column = w->column,
                         .c_row = apart(columns), .bf16 = t->type == HN_BF16};
    shape.a_row = t->direct ? t->x->stride : inner;
    shape.m = t->cut.size;
    if (t->cut.whole && !(t->whole = hnp_plan_get(ctx->state, &shape, ctx->error))) return false;
    shape.m = t->cut.size / 2;
    if (!(t->half = hnp_plan_get(ctx->state, &shape, ctx->error))) return false;
    shape.a_row = inner;
    return (t->last = hnp_plan_get(ctx->state, &shape, ctx->error)) != NULL;
}

static bool tiled_run(const tiled *t, const hnp_epilogue *e, int64_t tile, int thread)
{
    char *panel = t->own + (size_t)thread * t->own_size;
    float *result = (float *)(void *)(panel + t->panel_size);
    int64_t first = hnp_cut_first(&t->cut, tile), size = tile < t->cut.whole ? t->cut.size : t->cut.size / 2;
    int64_t rows = hnp_least(size, t->cut.rows - first);
    bool direct = t->direct && rows == size;
    hnp_plan *plan = tile < t->cut.whole ? t->whole : direct ? t->half : t->last;
    if (!direct) hnp_fill_panel(panel, t->type, t->x, first, size);
    bool done = hnp_plan_run(plan, thread, result, direct ? hnp_row(t->x, first) : panel, t->b);
    if (t->branch.of)
        HN_ISA_NAME(hnp_branch_run)(&t->branch, result, apart(e->y->shape[1]), first, rows, panel + t->panel_size + t->result_size);
    hnp_finish(e, result, apart(e->y->shape[1]), first, rows);
    return done;
}

static size_t rounded(size_t size)
{
    return (size + 63) & ~(size_t)63;
}

/* y = epilogue(x op(w) + the branch): op(w) = w^T when `transposed`; low may be NULL. */
static void run_tiled(hn_ops_context *ctx, const hnp_epilogue *e, const hn_tensor *x, const hn_tensor *w, bool transposed,
                      const hn_low_rank *low, const char *what)
{
    hn_dtype type = hnp_product_type(ctx, x, w);
    hnp_scratch scratch = {.ctx = ctx};
    tiled t = {.x = x, .type = type, .cut = hnp_cut_rows(x->shape[0], hnp_tiling_of(type).rows), .direct = x->dtype == type};
    int threads = hnp_team_size(ctx->state);
    t.panel_size = rounded((size_t)(t.cut.size * x->shape[1]) * hnp_type_size(type));
    t.result_size = rounded((size_t)(t.cut.size * apart(e->y->shape[1])) * sizeof(float));
    weights b = prepare(&scratch, w, type, transposed);
    t.b = b.data;
    if (low && (!b.data || !HN_ISA_NAME(hnp_branch_init)(&t.branch, &scratch, low, !transposed, t.cut.size))) return;
    t.own_size = t.panel_size + t.result_size + t.branch.own_size;
    t.own = b.data ? hnp_scratch_take(&scratch, (size_t)threads * t.own_size) : NULL;
    if (!t.own || !tiled_plan(ctx, &t, &b, e->y->shape[1])) return;
    bool failed = false;
#pragma omp parallel num_threads(threads) reduction(|| : failed)
    {
        omp_set_num_threads(1); /* a primitive must not start a team of its own */
#pragma omp for schedule(dynamic)
        for (int64_t tile = 0; tile < t.cut.tiles; tile++)
            if (!tiled_run(&t, e, tile, omp_get_thread_num())) failed = true;
    }
    if (failed) hnp_fail_run(ctx, what);
}

void HN_ISA_NAME(hnp_linear_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *z, const hn_tensor *x,
                                     const hn_tensor *w, const hn_tensor *bias, hn_activation activation,
                                     const hn_low_rank *low)
{
    HN_ASSERT(x->shape[1] == w->shape[1] && y->shape[0] == x->shape[0] && y->shape[1] == w->shape[0]);
    z = hnp_present(z);
    bias = hnp_present(bias);
    HN_ASSERT(!z || (z->shape[0] == y->shape[0] && z->shape[1] == y->shape[1]));
    HN_ASSERT(!bias || bias->shape[0] == w->shape[0]);
    HN_ASSERT(!low || (low->low->shape[0] == y->shape[0] && low->low->shape[1] == low->parts * low->weight->shape[1]));
    if (!hn_tensor_count(y)) return;
    hnp_epilogue e = {.y = y, .z = z, .bias = bias, .activation = activation};
    if (ctx->few_rows && x->shape[0] <= HNP_FEW_ROWS) HN_ISA_NAME(hnp_linear_few)(ctx, &e, x, w, low);
    else run_tiled(ctx, &e, x, w, true, low, "linear_forward");
}

void HN_ISA_NAME(hnp_linear_backward_input)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *dy,
                                            const hn_tensor *w, const hn_tensor *z, hn_activation activation,
                                            bool add, const hn_low_rank *low)
{
    HN_ASSERT(dy->shape[1] == w->shape[0] && dx->shape[0] == dy->shape[0] && dx->shape[1] == w->shape[1]);
    HN_ASSERT(activation == HN_ACT_NONE || (!add && hnp_present(z) && z->shape[0] == dx->shape[0] && z->shape[1] == dx->shape[1]));
    HN_ASSERT(!low || (low->low->shape[0] == dx->shape[0] && low->low->shape[1] == low->weight->shape[0] &&
                       low->weight->shape[1] == dx->shape[1]));
    if (!hn_tensor_count(dx)) return;
    hnp_epilogue e = {.y = dx, .slope_of = activation == HN_ACT_NONE ? NULL : z, .activation = activation, .add = add};
    run_tiled(ctx, &e, dy, w, false, low, "linear_backward_input");
}

enum { STRIP = 64 }; /* columns of dy that a task of the bias gradient sums: whole cache lines of either type */

/* dbias += sums of the strip's columns over the rows [first, end). */
static void add_column_sums(float *dbias, const hn_tensor *dy, int64_t column, int64_t first, int64_t end)
{
    int64_t last = hnp_least(column + STRIP, dy->shape[1]);
    vf sum[STRIP / HN_LANES] = {{0}};
    for (int64_t r = first; r < end; r++)
        for (int64_t c = column, i = 0; c < last; c += HN_LANES, i++)
            sum[i] += vf_get(hnp_row(dy, r), dy->dtype, c, last - c);
    for (int64_t c = column, i = 0; c < last; c += HN_LANES, i++)
        vf_put(dbias, HN_F32, c, last - c, vf_get(dbias, HN_F32, c, last - c) + sum[i]);
}

/* A chunk's rows of an operand: a view of the tensor where oneDNN can read it as it stands, else of its copy in scratch. */
static hn_tensor chunk_view(const hn_tensor *tensor, hn_dtype type, void *panel, int64_t first, int64_t padded)
{
    if (tensor->dtype == type && first + padded <= tensor->shape[0]) return hn_tensor_rows(tensor, first, padded);
    return hn_tensor_2d(panel, type, padded, tensor->shape[1]);
}

/* One chunk of a weight gradient. */
typedef struct chunk {
    hn_tensor dy, x; /* as the product reads them */
    int64_t first, end;
    hnp_plan *plan, *tail_plan; /* of whole tiles of dw, and of its last rows */
} chunk;

static bool chunk_make(hn_ops_context *ctx, chunk *out, const hn_tensor *dw, const hn_tensor *dy, const hn_tensor *x,
                       hn_dtype type, void *dy_panel, void *x_panel, int64_t first)
{
    hnp_tiling size = hnp_tiling_of(type);
    int64_t end = hnp_least(first + size.chunk, dy->shape[0]);
    int64_t padded = hnp_ceil_div(end - first, size.chunk_tail) * size.chunk_tail, tail = dw->shape[0] % size.out;
    *out = (chunk){.first = first, .end = end};
    out->dy = chunk_view(dy, type, dy_panel, first, padded);
    out->x = chunk_view(x, type, x_panel, first, padded);
    hnp_product shape = {.m = size.out, .n = dw->shape[1], .k = padded, .a_row = 1, .a_column = out->dy.stride,
                         .b_row = out->x.stride, .b_column = 1, .c_row = dw->stride, .bf16 = type == HN_BF16,
                         .add = true};
    if (dw->shape[0] >= size.out && !(out->plan = hnp_plan_get(ctx->state, &shape, ctx->error))) return false;
    shape.m = tail;
    return !tail || (out->tail_plan = hnp_plan_get(ctx->state, &shape, ctx->error));
}

/* Copies what the product cannot read in place; called by every thread of a team. */
static void chunk_fill(const hn_tensor *view, const hn_tensor *tensor, int64_t first)
{
    if (view->data == hnp_row(tensor, first)) return;
    size_t row_size = (size_t)view->stride * hnp_type_size(view->dtype);
#pragma omp for schedule(static)
    for (int64_t r = 0; r < view->shape[0]; r++)
        hnp_fill_panel((char *)view->data + (size_t)r * row_size, view->dtype, tensor, first + r, 1);
}

/* dw += dy^T x over the chunk, dbias += its column sums; called by every thread of a team. false: oneDNN failed. */
static bool chunk_run(const chunk *c, const hn_tensor *dw, float *dbias, const hn_tensor *dy, const hn_tensor *x,
                      int64_t tile_rows)
{
    bool done = true;
    if (dbias) {
#pragma omp for schedule(static) nowait
        for (int64_t column = 0; column < dy->shape[1]; column += STRIP)
            add_column_sums(dbias, dy, column, c->first, c->end);
    }
    if (!dw) return true;
    chunk_fill(&c->dy, dy, c->first);
    chunk_fill(&c->x, x, c->first);
#pragma omp for schedule(dynamic)
    for (int64_t n = 0; n < dw->shape[0]; n += tile_rows) {
        hnp_plan *plan = n + tile_rows <= dw->shape[0] ? c->plan : c->tail_plan;
        const char *a = (const char *)c->dy.data + (size_t)n * hnp_type_size(c->dy.dtype);
        done &= hnp_plan_run(plan, omp_get_thread_num(), hnp_row(dw, n), a, c->x.data);
    }
    return done;
}

void HN_ISA_NAME(hnp_linear_backward_weight)(hn_ops_context *ctx, const hn_tensor *dw, const hn_tensor *dbias,
                                             const hn_tensor *dy, const hn_tensor *x)
{
    int64_t rows = dy->shape[0];
    dw = hnp_present(dw);
    dbias = hnp_present(dbias);
    HN_ASSERT(!dbias || (dbias->dtype == HN_F32 && dbias->shape[0] == dy->shape[1]));
    HN_ASSERT(!dw || (x->shape[0] == rows && dw->dtype == HN_F32 && dw->shape[0] == dy->shape[1] &&
                      dw->shape[1] == x->shape[1]));
    if (!rows || (!dw && !dbias)) return;
    hn_dtype type = dw ? hnp_product_type(ctx, dy, x) : dy->dtype;
    hnp_tiling size = hnp_tiling_of(type);
    hnp_scratch scratch = {.ctx = ctx};
    int64_t most = dw ? hnp_least(size.chunk, hnp_ceil_div(rows, size.chunk_tail) * size.chunk_tail) : 0;
    void *dy_panel = hnp_scratch_take(&scratch, (size_t)(most * dy->shape[1]) * hnp_type_size(type));
    void *x_panel = hnp_scratch_take(&scratch, dw ? (size_t)(most * x->shape[1]) * hnp_type_size(type) : 0);
    if (!dy_panel || !x_panel) return;
    bool failed = false;
    for (int64_t first = 0; first < rows && !failed; first += size.chunk) {
        chunk c = {.first = first, .end = hnp_least(first + size.chunk, rows)};
        if (dw && !chunk_make(ctx, &c, dw, dy, x, type, dy_panel, x_panel, first)) return;
#pragma omp parallel num_threads(hnp_team_size(ctx->state)) reduction(|| : failed)
        {
            omp_set_num_threads(1);
            if (!chunk_run(&c, dw, dbias ? dbias->data : NULL, dy, x, size.out)) failed = true;
        }
    }
    if (failed) hnp_fail_run(ctx, "linear_backward_weight");
}

size_t HN_ISA_NAME(hnp_linear_workspace)(int64_t widest, int threads)
{
    size_t wide = (size_t)apart(widest) * sizeof(float), weights_size = (size_t)widest * wide, most = 0;
    for (int narrow = 0; narrow < 2; narrow++) {
        hnp_tiling size = hnp_tiling_of(narrow ? HN_BF16 : HN_F32);
        size_t tiles = (size_t)threads * 2 * (size_t)size.rows * wide, chunks = 2 * (size_t)size.chunk * wide;
        most = tiles + weights_size > most ? tiles + weights_size : most;
        most = chunks > most ? chunks : most;
    }
    size_t few = HN_ISA_NAME(hnp_linear_few_workspace)(widest, threads);
    return (few > most ? few : most) + 4 * HNP_SCRATCH_ALIGN;
}
