/* Softmax cross-entropy of a vocabulary product on the GPU, as linear_cross_entropy.h defines it. Rows go in chunks, each with the
 * whole vocabulary, as in the .c: each logit is computed once, the softmax is exact, and no more than a chunk is ever there.
 *
 *     list      rows with a target, in order; -1 behind the last
 *     a chunk of up to SLOPE_ROWS of the list:
 *         gather    panel [chunk, C]           = x[list], zeros for -1
 *         a piece of up to LOGIT_ROWS of the chunk:
 *             product   logits [piece, V] fp32   = panel w^T
 *             entropy   loss, hits, slopes [piece, V] (entropy.cuh); zeros for -1
 *         products  dx [chunk, C] fp32 = slopes w        dw += slopes^T panel        and sums of the slopes' columns to dbias
 *         scatter   dx[list] = dx of the chunk
 *     sum       losses, targets, hits
 *
 * Which rows have a target is known to the GPU alone, and to ask would be to wait for it. So the products run over as many rows as the host
 * says have one (out->rows), or as there are; those behind the last target are zeros. Of a masked language model's rows 15 % have one, and
 * of an answer's some half. Rows are rounded up to ROWS, so that batches of any size ask cuBLASLt for few plans.
 *
 * Logits are fp32 although w and x may be bf16: rounded to bf16 (8 bits) one of 20 would be off by up to 0.06, its probability by
 * 6 %, and neighbours would tie for the prediction; the CPU keeps fp32 too. Slopes have the products' type, which is that of w (the
 * panel takes it on).
 *
 * Two sizes of chunk, because the products differ: dw (8 V C bytes, read and written) passes through memory once a chunk of slopes, w
 * once a piece of logits. Bytes a row, for V = 50,257 and C = 768 in bf16: logits written and read 402 KB, slopes written and read
 * twice 302 KB; with 2,048 and 512 rows w 151 KB forward and 38 backward, dw 151 KB. That is 1.04 MB beside 232 MFLOP: at the 4.3
 * TB/s and 790 TFLOP/s that others measured on an H200 0.24 us beside 0.29, of which 0.08 us, the pass from logits to slopes, cannot
 * hide behind products.
 *
 * Scratch: LOGITS_MOST and SLOPES_MOST bytes, unless a vocabulary is so large that LOGIT_LEAST rows take more. */
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/entropy.cuh"

extern "C" {
#include "core/batch.h"
#include "kernels/cuda/product.h"
#include "kernels/linear_cross_entropy.h"
}

namespace {

const char *const NAME = "linear_cross_entropy";

constexpr int64_t ROWS = 128, LOGIT_LEAST = 256, LOGIT_ROWS = 512, SLOPE_ROWS = 2048;
constexpr int64_t LOGITS_MOST = 128 << 20, SLOPES_MOST = 256 << 20;
constexpr int LISTERS = 1024, MOVERS = 128;

__device__ __forceinline__ bool is_target(int32_t label, int64_t classes)
{
    return label >= 0 && label < classes;
}

/* The sum of `mine` over all threads before this one, of a block of LISTERS; `total` is that of all. */
__device__ __forceinline__ int sum_before(int mine, int *total)
{
    HN_SHARED(int, warps, [LISTERS / 32]);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int sum = mine;
    for (int step = 1; step < 32; step *= 2) {
        const int before = __shfl_sync(0xffffffffu, sum, lane >= step ? lane - step : lane);
        if (lane >= step) sum += before;
    }
    if (lane == 31) warps[warp] = sum;
    __syncthreads();
    int before = 0, all = 0;
    for (int i = 0; i < LISTERS / 32; i++) {
        if (i < warp) before += warps[i];
        all += warps[i];
    }
    *total = all;
    return before + sum - mine;
}

/* One block: the rows that have a target, in order, then -1 up to `room`. Each thread looks at a run of rows. */
__global__ void __launch_bounds__(LISTERS)
    list_kernel(int32_t *list, int64_t room, const int32_t *label, int64_t rows, int64_t classes, volatile hn_cuda_fault *fault)
{
    const int64_t run = (rows + LISTERS - 1) / LISTERS, first = (int64_t)threadIdx.x * run;
    const int64_t last = first + run < rows ? first + run : rows;
    int mine = 0, total = 0;
    for (int64_t r = first; r < last; r++)
        mine += label[r] != HN_NO_TARGET && in_table(fault, HN_FAULT_LABEL, r, label[r], classes);
    int64_t at = sum_before(mine, &total);
    for (int64_t r = first; r < last; r++)
        if (is_target(label[r], classes) && at < room) list[at++] = (int32_t)r;
    for (at = total + threadIdx.x; at < room; at += LISTERS) list[at] = -1;
}

/* Rows without a target: dx, row_loss and row_correct (each may be absent) become 0. A block has a row. */
__global__ void __launch_bounds__(MOVERS)
    clear_kernel(any_matrix dx, float *row_loss, bool *row_correct, const int32_t *label, int64_t classes, int columns)
{
    const int64_t r = blockIdx.x;
    if (is_target(label[r], classes)) return;
    if (dx.data) entropy_clear<MOVERS, 1>(dx, r, columns, (int)threadIdx.x);
    if (threadIdx.x) return;
    if (row_loss) row_loss[r] = 0.0f;
    if (row_correct) row_correct[r] = false;
}

/* `scatter`: to[list[i]] = from[i]; else to[i] = from[list[i]], zeros where that is -1. A block has a row. */
template <int N>
__global__ void __launch_bounds__(MOVERS) move_kernel(any_matrix to, any_matrix from, const int32_t *list, int columns, bool scatter)
{
    const int64_t i = blockIdx.x, row = list[i];
    if (scatter && row < 0) return;
    for (int c = (int)threadIdx.x * N; c < columns; c += MOVERS * N) {
        float v[N] = {};
        if (row >= 0) load_any(v, from, scatter ? i : row, c);
        store_any(to, scatter ? row : i, c, v);
    }
}

struct piece {
    matrix<float> logits;
    any_matrix slopes, bias; /* slopes absent: no gradient is wanted */
    const int32_t *list, *label;
    const float *scale;
    entropy_result *results;
    float *row_loss;
    bool *row_correct;
    int classes;
    float smoothing;
};

/* A row a block. Logits and slopes are the launcher's own buffers: their rows are aligned. */
template <int GROUP> __global__ void __launch_bounds__(GROUP, 1) entropy_kernel(const piece a)
{
    const int64_t i = blockIdx.x;
    const int target = a.list[i], lane = (int)threadIdx.x;
    entropy_result result = {0.0, 0, 0};
    if (target >= 0) {
        entropy_row<float> row = {a.logits.row(i), a.bias, a.classes, a.label[target], 0.0f, 0.0f, 0.0f};
        result = entropy_of<GROUP, 4>(row, lane, a.smoothing);
        if (a.slopes.data) entropy_slopes<GROUP, 4>(a.slopes, i, row, lane, a.smoothing, *a.scale);
    } else if (a.slopes.data) {
        entropy_clear<GROUP, 4>(a.slopes, i, (int)a.slopes.stride, lane);
    }
    if (lane) return;
    a.results[i] = result;
    if (target >= 0 && a.row_loss) a.row_loss[target] = (float)result.loss;
    if (target >= 0 && a.row_correct) a.row_correct[target] = result.correct;
}

/* --- sizes --- */

int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

size_t aligned(size_t size)
{
    return (size + 255) / 256 * 256;
}

/* How rows are cut, and where things lie in the operation's own scratch. */
struct layout {
    int64_t room, piece, chunk; /* rows of the list; of logits; of slopes */
    int64_t words, width;       /* strides of logits and slopes, and of the panels */
    size_t list, results, panel, dx, logits, slopes, size;
};

layout lay_out(int64_t rows, int64_t width, int64_t vocabulary, hn_dtype type, bool slopes)
{
    layout l = {};
    const size_t element = hn_dtype_size(type);
    l.room = ceil_div(rows > 0 ? rows : 1, ROWS) * ROWS;
    l.words = ceil_div(vocabulary, 64) * 64;
    l.width = ceil_div(width, 64) * 64;
    const int64_t fit = LOGITS_MOST / (l.words * (int64_t)sizeof(float)) / ROWS * ROWS;
    l.piece = least(least(fit > LOGIT_LEAST ? fit : LOGIT_LEAST, LOGIT_ROWS), l.room);
    const int64_t pieces = SLOPES_MOST / (l.words * (int64_t)element) / l.piece;
    l.chunk = least(least((pieces > 1 ? pieces : 1) * l.piece, SLOPE_ROWS / l.piece * l.piece), l.room);
    size_t at = 0;
    const auto take = [&](size_t size) {
        const size_t place = at;
        at += aligned(size);
        return place;
    };
    l.list = take((size_t)l.room * sizeof(int32_t));
    l.results = take((size_t)l.room * sizeof(entropy_result));
    l.panel = take((size_t)(l.chunk * l.width) * element);
    l.dx = take((size_t)(l.chunk * l.width) * sizeof(float));
    l.logits = take((size_t)(l.piece * l.words) * sizeof(float));
    l.slopes = take(slopes ? (size_t)(l.chunk * l.words) * element : 0);
    l.size = at;
    return l;
}

/* --- the operation --- */

struct job {
    hn_ops_context *ctx;
    const hn_target_loss *out;
    const hn_tensor *dx, *dw, *dbias, *x, *w, *bias;
    const int32_t *label;
    float smoothing;
    const float *scale;
    bool slopes; /* a gradient is wanted */
    layout at;
    char *own;
};

/* A matrix in the scratch. */
hn_tensor scratch_matrix(const job &j, size_t place, hn_dtype type, int64_t first, int64_t rows, int64_t columns, int64_t stride)
{
    hn_tensor t = {};
    t.data = j.own + place + (size_t)(first * stride) * hn_dtype_size(type);
    t.dtype = type;
    t.rank = 2;
    t.shape[0] = rows;
    t.shape[1] = columns;
    t.stride = stride;
    return t;
}

void multiply(const job &j, const hn_tensor *d, const hn_tensor *a, bool a_turned, const hn_tensor *b, bool b_turned, bool add)
{
    hnp_cuda_product product = {};
    product.d = d;
    product.a = a;
    product.b = b;
    product.a_turned = a_turned;
    product.b_turned = b_turned;
    product.add = add;
    product.scale = 1.0f;
    hnp_cuda_product_run(j.ctx, NAME, &product);
}

void move(const job &j, const hn_tensor *to, const hn_tensor *from, const int32_t *list, int64_t rows, bool scatter)
{
    const int64_t columns = to->shape[1];
    const bool vectors = columns % 4 == 0 && rows_aligned(to) && rows_aligned(from);
    launch(j.ctx, NAME, vectors ? move_kernel<4> : move_kernel<1>, dim3((unsigned)rows), MOVERS, 0, any_matrix_of(to),
           any_matrix_of(from), list, (int)columns, scatter);
}

/* Logits of rows [first, first + rows) of the list, and what they come to. `slopes` may be NULL. */
void run_piece(const job &j, const hn_tensor *panel, const hn_tensor *slopes, int64_t first)
{
    const int64_t rows = panel->shape[0], words = j.w->shape[0];
    const hn_tensor logits = scratch_matrix(j, j.at.logits, HN_F32, 0, rows, words, j.at.words);
    multiply(j, &logits, panel, false, j.w, true, false);
    const piece a = {matrix_of<float>(&logits),
                     any_matrix_of(slopes),
                     any_matrix_of(j.bias),
                     (const int32_t *)(j.own + j.at.list) + first,
                     j.label,
                     j.scale,
                     (entropy_result *)(j.own + j.at.results) + first,
                     j.out->row_loss,
                     j.out->row_correct,
                     (int)words,
                     j.smoothing};
    entropy_grouped(words, [&](auto group) {
        constexpr int GROUP = decltype(group)::value;
        launch(j.ctx, NAME, entropy_kernel<GROUP>, dim3((unsigned)rows), GROUP, 0, a);
    });
}

void run_chunk(const job &j, int64_t first, int64_t rows)
{
    const int64_t words = j.w->shape[0], width = j.w->shape[1];
    const int32_t *list = (const int32_t *)(j.own + j.at.list) + first;
    const hn_tensor panel = scratch_matrix(j, j.at.panel, j.w->dtype, 0, rows, width, j.at.width);
    const hn_tensor slopes = scratch_matrix(j, j.at.slopes, j.w->dtype, 0, rows, words, j.at.words);
    move(j, &panel, j.x, list, rows, false);
    for (int64_t r = 0; r < rows; r += j.at.piece) {
        const int64_t some = least(j.at.piece, rows - r);
        const hn_tensor a = hn_tensor_rows(&panel, r, some), d = hn_tensor_rows(&slopes, r, some);
        run_piece(j, &a, j.slopes ? &d : nullptr, first + r);
    }
    if (present(j.dx)) {
        const hn_tensor dx = scratch_matrix(j, j.at.dx, HN_F32, 0, rows, width, j.at.width);
        multiply(j, &dx, &slopes, false, j.w, false, false);
        move(j, j.dx, &dx, list, rows, true);
    }
    if (present(j.dw)) multiply(j, j.dw, &slopes, true, &panel, false, true);
    if (present(j.dbias)) column_sums(j.ctx, NAME, (float *)j.dbias->data, &slopes, nullptr);
}

void run(const job &j)
{
    const int64_t rows = j.x->shape[0], words = j.w->shape[0];
    int32_t *list = (int32_t *)(j.own + j.at.list);
    launch(j.ctx, NAME, list_kernel, dim3(1), LISTERS, 0, list, j.at.room, j.label, rows, words, fault_of(j.ctx));
    launch(j.ctx, NAME, clear_kernel, dim3((unsigned)rows), MOVERS, 0, any_matrix_of(j.dx), j.out->row_loss, j.out->row_correct,
           j.label, words, (int)j.w->shape[1]);
    for (int64_t first = 0; first < j.at.room; first += j.at.chunk) run_chunk(j, first, least(j.at.chunk, j.at.room - first));
    launch(j.ctx, NAME, entropy_sum_kernel, dim3(1), ENTROPY_ADDERS, 0, j.out->loss, j.out->count, j.out->correct,
           (const entropy_result *)(j.own + j.at.results), j.at.room);
}

void check(const job &j)
{
    const hn_tensor *x = j.x, *w = j.w;
    HN_ASSERT(x->shape[1] == w->shape[1] && w->shape[0] > 0 && (!j.slopes || j.scale));
    HN_ASSERT(!present(j.bias) || j.bias->shape[0] == w->shape[0]);
    HN_ASSERT(!present(j.dx) || (j.dx->shape[0] == x->shape[0] && j.dx->shape[1] == x->shape[1]));
    HN_ASSERT(!present(j.dw) || (j.dw->dtype == HN_F32 && j.dw->shape[0] == w->shape[0] && j.dw->shape[1] == w->shape[1]));
    HN_ASSERT(!present(j.dbias) || (j.dbias->dtype == HN_F32 && j.dbias->shape[0] == w->shape[0]));
}

} // namespace

size_t hnp_cuda_linear_cross_entropy_workspace(int64_t rows, int64_t width, int64_t vocabulary)
{
    const size_t narrow = lay_out(rows, width, vocabulary, HN_BF16, true).size, wide = lay_out(rows, width, vocabulary, HN_F32, true).size;
    return hnp_cuda_product_workspace(narrow > wide ? narrow : wide);
}

void HN_ISA_NAME(hnp_linear_cross_entropy)(hn_ops_context *ctx, const hn_target_loss *out, const hn_tensor *dx,
                                           const hn_tensor *dw, const hn_tensor *dbias, const hn_tensor *x,
                                           const hn_tensor *w, const hn_tensor *bias, const int32_t *label,
                                           float smoothing, const float *scale)
{
    if (!x->shape[0]) return;
    job j = {ctx, out, dx, dw, dbias, x, w, bias, label, smoothing, scale, present(dx) || present(dw) || present(dbias), {}, nullptr};
    check(j);
    j.at = lay_out(out->rows ? least(out->rows, x->shape[0]) : x->shape[0], w->shape[1], w->shape[0], w->dtype, j.slopes);
    j.own = (char *)hnp_cuda_product_own(ctx, NAME, j.at.size);
    if (j.own) run(j);
}
