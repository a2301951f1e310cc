/* Linear layers. A product is cut into tiles of TILE_ROWS rows of its result (of dW, of TILE_OUT rows of dW); a tile is one
 * oneDNN primitive (kernels/product.h) run by one thread, the reduction never split between threads. The tile's result stays in
 * the thread's cache for what follows: bias, activation, narrowing to bf16, addition.
 *
 *     x tile [128, K] --(widen, or copy when rows are missing)--> panel --product with W--> result [128, N] --epilogue--> y, z
 *
 * The last tile is rounded up to a multiple of TAIL rows, zeros in the panel, so that few primitives serve every M. A weight
 * gradient sums over M in chunks of CHUNK rows, one after another, the last one rounded up in the same way. */
#include "kernels/linear.h"

#include <omp.h>

#include "core/error.h"
#include "kernels/activation.h"
#include "kernels/product.h"
#include "kernels/scratch.h"

enum { TILE_ROWS = 128, TAIL = 32, TILE_OUT = 64, CHUNK = 512, CHUNK_TAIL = 64 };

/* An operand as oneDNN reads it: the tensor itself, or a copy in scratch of the product's type. */
typedef struct operand {
    const hn_tensor *tensor;
    hn_dtype type; /* of the product */
} operand;

static hn_dtype product_type(const hn_tensor *a, const hn_tensor *b)
{
    bool narrow = a->dtype == HN_BF16 || b->dtype == HN_BF16;
    return narrow && hnp_products_bf16() ? HN_BF16 : HN_F32;
}

static size_t type_size(hn_dtype type)
{
    return type == HN_F32 ? sizeof(float) : sizeof(uint16_t);
}

HN_BODY void copy_row_as(void *to, hn_dtype to_type, const void *from, hn_dtype from_type, int64_t columns)
{
    for (int64_t c = 0; c < columns; c += HN_LANES)
        vf_put(to, to_type, c, columns - c, vf_get(from, from_type, c, columns - c));
}

static void copy_row(void *to, hn_dtype to_type, const void *from, hn_dtype from_type, int64_t columns)
{
    if (to_type == from_type) memcpy(to, from, (size_t)columns * type_size(to_type));
    else if (to_type == HN_F32) copy_row_as(to, HN_F32, from, HN_BF16, columns);
    else copy_row_as(to, HN_BF16, from, HN_F32, columns);
}

/* Rows [first, first + rows) of the tensor, dense in `panel`; those beyond its end are zero. */
static void fill_panel(char *panel, hn_dtype type, const hn_tensor *tensor, int64_t first, int64_t rows)
{
    int64_t columns = tensor->shape[1];
    size_t row_size = (size_t)columns * type_size(type);
    for (int64_t r = 0; r < rows; r++) {
        char *to = panel + (size_t)r * row_size;
        if (first + r < tensor->shape[0]) copy_row(to, type, hnp_row(tensor, first + r), tensor->dtype, columns);
        else memset(to, 0, row_size);
    }
}

/* The whole tensor in the product's type, by all threads; NULL when scratch is short. */
static const void *whole(hnp_scratch *scratch, const hn_tensor *tensor, hn_dtype type, int64_t *stride)
{
    if (tensor->dtype == type) {
        *stride = tensor->stride;
        return tensor->data;
    }
    *stride = tensor->shape[1];
    size_t row_size = (size_t)tensor->shape[1] * type_size(type);
    char *copy = hnp_scratch_take(scratch, (size_t)tensor->shape[0] * row_size);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < (copy ? tensor->shape[0] : 0); r++)
        fill_panel(copy + (size_t)r * row_size, type, tensor, r, 1);
    return copy;
}

/* What becomes of a tile's result. */
typedef struct epilogue {
    const hn_tensor *y, *z, *bias; /* forward: y = act(z = c + bias); z and bias may be NULL */
    const hn_tensor *slope_of;     /* backward: y = c * act'(slope_of) */
    hn_activation activation;
    bool add; /* y += c */
} epilogue;

HN_BODY void finish_row(const epilogue *e, const float *c, int64_t r, hn_activation activation, bool backward)
{
    int64_t columns = e->y->shape[1];
    void *y = hnp_row(e->y, r), *z = e->z ? hnp_row(e->z, r) : NULL;
    const void *slope_of = backward ? hnp_row(e->slope_of, r) : NULL;
    for (int64_t i = 0; i < columns; i += HN_LANES) {
        int64_t left = columns - i;
        vf v = vf_get(c, HN_F32, i, left);
        if (backward) {
            v *= hnp_slope(vf_get(slope_of, e->slope_of->dtype, i, left), activation);
        } else {
            if (e->bias) v += vf_get(e->bias->data, e->bias->dtype, i, left);
            if (z) vf_put(z, e->z->dtype, i, left, v);
            v = hnp_activate(v, activation);
            if (e->add) v += vf_get(y, e->y->dtype, i, left);
        }
        vf_put(y, e->y->dtype, i, left, v);
    }
}

HN_BODY void finish_rows(const epilogue *e, const float *c, int64_t first, int64_t rows, hn_activation activation)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *row = c + r * e->y->shape[1];
        if (e->slope_of) finish_row(e, row, first + r, activation, true);
        else finish_row(e, row, first + r, activation, false);
    }
}

static void finish(const epilogue *e, const float *c, int64_t first, int64_t rows)
{
    switch (e->activation) {
    case HN_ACT_NONE: finish_rows(e, c, first, rows, HN_ACT_NONE); break;
    case HN_ACT_GELU: finish_rows(e, c, first, rows, HN_ACT_GELU); break;
    case HN_ACT_GELU_TANH: finish_rows(e, c, first, rows, HN_ACT_GELU_TANH); break;
    case HN_ACT_TANH: finish_rows(e, c, first, rows, HN_ACT_TANH); break;
    case HN_ACT_RELU: finish_rows(e, c, first, rows, HN_ACT_RELU); break;
    }
}

static int team_size(const hnp_products *products)
{
    return (int)hnp_least(omp_get_max_threads(), hnp_products_threads(products));
}

static void fail_run(hn_ops_context *ctx, const char *what)
{
    hn_fail(ctx->error, HN_ERR_DEVICE, "oneDNN failed in a matrix product of %s", what);
}

/* y = epilogue(x op(w)) by row tiles: op(w) = w^T when `transposed`. */
static void tiled(hn_ops_context *ctx, const epilogue *e, const hn_tensor *x, const hn_tensor *w, bool transposed,
                  const char *what)
{
    hnp_products *products = ctx->state;
    hnp_scratch scratch = {.ctx = ctx};
    hn_dtype type = product_type(x, w);
    int64_t rows = x->shape[0], inner = x->shape[1], columns = e->y->shape[1], w_stride;
    const void *weights = whole(&scratch, w, type, &w_stride);
    int threads = team_size(products);
    size_t panel_size = (size_t)(TILE_ROWS * inner) * type_size(type);
    size_t result_size = (size_t)(TILE_ROWS * columns) * sizeof(float);
    panel_size = (panel_size + 63) & ~(size_t)63;
    char *own = weights ? hnp_scratch_take(&scratch, (size_t)threads * (panel_size + result_size)) : NULL;
    if (!own) return;
    hnp_product shape = {.m = TILE_ROWS, .n = columns, .k = inner, .a_row = inner, .a_column = 1,
                         .b_row = transposed ? 1 : w_stride, .b_column = transposed ? w_stride : 1,
                         .c_row = columns, .bf16 = type == HN_BF16};
    int64_t tail_rows = rows % TILE_ROWS, full = rows - tail_rows;
    hnp_plan *panel_plan = full ? hnp_plan_get(products, &shape, ctx->error) : NULL;
    shape.a_row = x->stride;
    hnp_plan *direct_plan = full && x->dtype == type ? hnp_plan_get(products, &shape, ctx->error) : panel_plan;
    shape.a_row = inner;
    shape.m = hnp_ceil_div(tail_rows, TAIL) * TAIL;
    hnp_plan *tail_plan = tail_rows ? hnp_plan_get(products, &shape, ctx->error) : NULL;
    if ((full && (!panel_plan || !direct_plan)) || (tail_rows && !tail_plan)) return;
    bool failed = false;
#pragma omp parallel num_threads(threads) reduction(|| : failed)
    {
        omp_set_num_threads(1); /* a primitive must not start a team of its own */
        int thread = omp_get_thread_num();
        char *panel = own + (size_t)thread * (panel_size + result_size);
        float *result = (float *)(void *)(panel + panel_size);
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < rows; first += TILE_ROWS) {
            bool direct = first < full && x->dtype == type;
            const void *a = direct ? hnp_row(x, first) : panel;
            if (!direct) fill_panel(panel, type, x, first, first < full ? TILE_ROWS : shape.m);
            hnp_plan *plan = first >= full ? tail_plan : direct ? direct_plan : panel_plan;
            if (!hnp_plan_run(plan, thread, result, a, weights)) failed = true;
            finish(e, result, first, hnp_least(TILE_ROWS, rows - first));
        }
    }
    if (failed) fail_run(ctx, what);
}

static const hn_tensor *present(const hn_tensor *tensor)
{
    return tensor && tensor->data ? tensor : NULL;
}

void HN_ISA_NAME(hnp_linear_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *z, const hn_tensor *x,
                                     const hn_tensor *w, const hn_tensor *bias, hn_activation activation)
{
    HN_ASSERT(x->shape[1] == w->shape[1] && y->shape[0] == x->shape[0] && y->shape[1] == w->shape[0]);
    z = present(z);
    bias = present(bias);
    HN_ASSERT(!z || (z->shape[0] == y->shape[0] && z->shape[1] == y->shape[1]));
    HN_ASSERT(!bias || bias->shape[0] == w->shape[0]);
    if (!hn_tensor_count(y)) return;
    epilogue e = {.y = y, .z = z, .bias = bias, .activation = activation};
    tiled(ctx, &e, x, w, true, "linear_forward");
}

void HN_ISA_NAME(hnp_linear_backward_input)(hn_ops_context *ctx, const hn_tensor *dx, const hn_tensor *dy,
                                            const hn_tensor *w, const hn_tensor *z, hn_activation activation,
                                            bool add)
{
    HN_ASSERT(dy->shape[1] == w->shape[0] && dx->shape[0] == dy->shape[0] && dx->shape[1] == w->shape[1]);
    HN_ASSERT(activation == HN_ACT_NONE || (!add && present(z) && z->shape[0] == dx->shape[0] && z->shape[1] == dx->shape[1]));
    if (!hn_tensor_count(dx)) return;
    epilogue e = {.y = dx, .slope_of = activation == HN_ACT_NONE ? NULL : z, .activation = activation, .add = add};
    tiled(ctx, &e, dy, w, false, "linear_backward_input");
}

/* dbias += column sums of dy: blocks of HNP_SUM_ROWS rows, added in order; each column range belongs to one thread. */
static void add_column_sums(const hn_tensor *dbias, const hn_tensor *dy)
{
    int64_t rows = dy->shape[0], columns = dy->shape[1];
    float *to = dbias->data;
    HN_ASSERT(dbias->dtype == HN_F32 && dbias->shape[0] == columns);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < columns; c += HN_LANES) {
        int64_t left = columns - c;
        vf total = vf_get(to, HN_F32, c, left);
        for (int64_t first = 0; first < rows; first += HNP_SUM_ROWS) {
            vf sum = {0};
            int64_t end = hnp_least(first + HNP_SUM_ROWS, rows);
            for (int64_t r = first; r < end; r++) sum += vf_get(hnp_row(dy, r), dy->dtype, c, left);
            total += sum;
        }
        vf_put(to, HN_F32, c, left, total);
    }
}

/* One operand of a chunk of the weight gradient: a view of the tensor where it can be read as it stands, else its copy. */
static hn_tensor chunk_view(const hn_tensor *tensor, hn_dtype type, void *panel, int64_t first, int64_t rows,
                            int64_t padded)
{
    if (tensor->dtype == type && rows == padded) return hn_tensor_rows(tensor, first, rows);
    return hn_tensor_2d(panel, type, padded, tensor->shape[1]);
}

static void fill_chunk(const hn_tensor *chunk, const hn_tensor *tensor, int64_t first)
{
    if (chunk->data == hnp_row(tensor, first)) return;
    size_t row_size = (size_t)chunk->stride * type_size(chunk->dtype);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < chunk->shape[0]; r++)
        fill_panel((char *)chunk->data + (size_t)r * row_size, chunk->dtype, tensor, first + r, 1);
}

/* dw += dy^T x for one chunk, tile by tile of dw's rows. */
static void weight_chunk(hn_ops_context *ctx, const hn_tensor *dw, const hn_tensor *dy, const hn_tensor *x)
{
    hnp_products *products = ctx->state;
    int64_t out = dw->shape[0], tail = out % TILE_OUT, full = out - tail;
    hnp_product shape = {.m = TILE_OUT, .n = dw->shape[1], .k = dy->shape[0], .a_row = 1, .a_column = dy->stride,
                         .b_row = x->stride, .b_column = 1, .c_row = dw->stride, .bf16 = dy->dtype == HN_BF16,
                         .add = true};
    hnp_plan *plan = full ? hnp_plan_get(products, &shape, ctx->error) : NULL;
    shape.m = tail;
    hnp_plan *tail_plan = tail ? hnp_plan_get(products, &shape, ctx->error) : NULL;
    if ((full && !plan) || (tail && !tail_plan)) return;
    bool failed = false;
#pragma omp parallel num_threads(team_size(products)) reduction(|| : failed)
    {
        omp_set_num_threads(1);
#pragma omp for schedule(dynamic)
        for (int64_t n = 0; n < out; n += TILE_OUT)
            if (!hnp_plan_run(n < full ? plan : tail_plan, omp_get_thread_num(), hnp_row(dw, n),
                              (char *)dy->data + (size_t)n * type_size(dy->dtype), x->data))
                failed = true;
    }
    if (failed) fail_run(ctx, "linear_backward_weight");
}

void HN_ISA_NAME(hnp_linear_backward_weight)(hn_ops_context *ctx, const hn_tensor *dw, const hn_tensor *dbias,
                                             const hn_tensor *dy, const hn_tensor *x)
{
    int64_t rows = dy->shape[0];
    if (present(dbias)) add_column_sums(dbias, dy);
    if (!present(dw) || !rows) return;
    HN_ASSERT(x->shape[0] == rows && dw->shape[0] == dy->shape[1] && dw->shape[1] == x->shape[1] && dw->dtype == HN_F32);
    hn_dtype type = product_type(dy, x);
    hnp_scratch scratch = {.ctx = ctx};
    int64_t most = hnp_least(CHUNK, hnp_ceil_div(rows, CHUNK_TAIL) * CHUNK_TAIL);
    void *dy_panel = hnp_scratch_take(&scratch, (size_t)(most * dy->shape[1]) * type_size(type));
    void *x_panel = hnp_scratch_take(&scratch, (size_t)(most * x->shape[1]) * type_size(type));
    if (!dy_panel || !x_panel) return;
    for (int64_t first = 0; first < rows; first += CHUNK) {
        int64_t count = hnp_least(CHUNK, rows - first), padded = hnp_ceil_div(count, CHUNK_TAIL) * CHUNK_TAIL;
        hn_tensor dy_chunk = chunk_view(dy, type, dy_panel, first, count, padded);
        hn_tensor x_chunk = chunk_view(x, type, x_panel, first, count, padded);
        fill_chunk(&dy_chunk, dy, first);
        fill_chunk(&x_chunk, x, first);
        weight_chunk(ctx, dw, &dy_chunk, &x_chunk);
    }
}

size_t HN_ISA_NAME(hnp_linear_workspace)(int64_t rows, int64_t widest, hn_dtype dtype, int threads)
{
    (void)rows;
    (void)dtype;
    size_t wide = (size_t)(widest + 16) * sizeof(float), weights = (size_t)widest * wide;
    size_t tiles = (size_t)threads * 2 * TILE_ROWS * wide, chunks = 2 * CHUNK * wide;
    return (weights + tiles > chunks ? weights + tiles : chunks) + 4 * HNP_SCRATCH_ALIGN;
}
