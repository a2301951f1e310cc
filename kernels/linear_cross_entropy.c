/* Cross-entropy fused with the vocabulary product. Rows go in chunks, each with the whole vocabulary, so that the softmax is exact
 * and each logit is computed once (as Liger's kernel does; with chunks of the vocabulary its products would be run again for
 * the gradient, a third more work). The rows with a target are counted out first, so others cost nothing.
 *
 *     x rows with a target -> panel [chunk, C]
 *     scores, tiles of TILE words in any order:    z[tile] = panel w[tile]^T;  highest, sum of exp and label's logit of each row
 *     between: lse and loss of each row, from its tiles' in order
 *     slopes, spans of tiles in any order:         dz = exp(z[tile] - lse) - q;  dw[tile] += dz^T panel;  part[span] += dz w[tile]
 *     after: dx = sum of the spans' parts, in order
 *
 * A task owns a tile of words, not of rows: w and dw (hundreds of MiB) pass through the caches once a chunk and not once a tile of
 * rows; the tile's piece of w (widened, turned as linear.c says), its logits and its slopes stay in the second level while they
 * are used two or three times. A chunk is large for the same reason: CHUNK rows, fewer where the logits of a chunk, which are
 * what scratch is mostly made of, would pass LOGITS_MOST bytes. Chunks are of even size.
 *
 * dx sums over the vocabulary. Spans are SPANS runs of tiles, fixed by V, so that threads can share the work and the bits do not
 * know it. Logits lie tile by tile, [tiles][rows][TILE]: dense pieces, no rows a multiple of 4 KiB apart.
 *
 * Figures: Intel family 6 model 207, AVX-512, one thread's CPU time while other work filled the machine, 256 rows of 576, 16,384
 * words, fp32 (and bf16 tensors, products in fp32), GFLOP/s: loss alone 133 (137), with dx 127 (132), with dx and dw 127 (128);
 * there and then linear_forward 69 on the same product, which copies all of w once a call and reads it once a tile of rows,
 * linear_backward_input 84; linear_forward 122 on 1,280 rows and 1,152 words.
 *
 * Where no gradient is wanted a tile's logits live in the thread's own scratch and are gone with the tile. */
#include "kernels/linear_cross_entropy.h"

#include <math.h>

#include "kernels/tiling.h"
#include "kernels/vecmath.h"

enum { TILE = 256, SPANS = 16, CHUNK = 512, CHUNK_LEAST = 128 };
#define LOGITS_MOST ((int64_t)128 << 20)

/* A row that has a target. */
typedef struct target {
    int64_t row; /* of x */
    int32_t label;
    bool beaten; /* an earlier word of the label's tile has a logit no smaller */
    bool correct;
    float at_label, lse;
    double loss;
} target;

/* What a tile of words knows of a row. */
typedef struct share {
    float highest, sum, linear; /* sum of exp(z - highest); sum of z, 0 without smoothing */
} share;

/* Indices of a plan: of whole tiles of words or the last one; of a whole piece of rows or a smaller one. */
enum { WHOLE, PART };

typedef struct job {
    const hn_tensor *x, *w, *bias, *dx, *dw;
    float *dbias;
    float smoothing, scale;
    hn_dtype type; /* of products */
    hnp_tiling size;
    bool slopes; /* a gradient is wanted */
    int64_t tiles, span; /* tiles in all, and of a span */
    target *targets;
    int64_t count, room; /* targets; rows that a chunk's buffers hold */
    /* the chunk */
    target *rows;
    hnp_cut cut;
    int64_t padded; /* its rows rounded up to whole tiles, zeros in the panel */
    char *panel;    /* [room][C] of `type` */
    float *logits;  /* [tiles][room][TILE] */
    float *parts;   /* [SPANS][room][C] of dx */
    share *shares;  /* [tiles][room] */
    char *own;      /* each thread's [weights][dz] */
    size_t weights_size, own_size;
    hnp_plan *forward[2][2], *input[2][2], *weight[2][2];
} job;

static int64_t chunk_room(int64_t rows, int64_t vocabulary)
{
    int64_t fits = LOGITS_MOST / (hnp_ceil_div(vocabulary, TILE) * TILE * (int64_t)sizeof(float));
    int64_t most = fits / CHUNK_LEAST * CHUNK_LEAST;
    most = most > CHUNK ? CHUNK : most < CHUNK_LEAST ? CHUNK_LEAST : most;
    return hnp_least(most, hnp_ceil_div(rows, CHUNK_LEAST) * CHUNK_LEAST);
}

/* Lays the job's buffers out in the scratch; false when it is too small. */
static bool take_buffers(job *j, hnp_scratch *scratch, int threads)
{
    size_t width = (size_t)j->x->shape[1], room = (size_t)j->room;
    j->weights_size = TILE * width * sizeof(float);
    j->own_size = j->weights_size + TILE * room * sizeof(float);
    return (j->panel = hnp_scratch_take(scratch, room * width * hnp_type_size(j->type))) &&
           (j->shares = hnp_scratch_take(scratch, (size_t)j->tiles * room * sizeof *j->shares)) &&
           (j->own = hnp_scratch_take(scratch, (size_t)threads * j->own_size)) &&
           (!j->slopes || (j->logits = hnp_scratch_take(scratch, (size_t)j->tiles * room * TILE * sizeof(float)))) &&
           (!j->dx || (j->parts = hnp_scratch_take(scratch, SPANS * room * width * sizeof(float))));
}

size_t HN_ISA_NAME(hnp_linear_cross_entropy_workspace)(int64_t rows, int64_t width, int64_t vocabulary, int threads)
{
    size_t room = (size_t)chunk_room(rows, vocabulary), tiles = (size_t)hnp_ceil_div(vocabulary, TILE), c = (size_t)width;
    return (size_t)rows * sizeof(target) + room * c * sizeof(float) + tiles * room * sizeof(share) +
           (size_t)threads * TILE * (c + room) * sizeof(float) + tiles * room * TILE * sizeof(float) +
           SPANS * room * c * sizeof(float) + 7 * HNP_SCRATCH_ALIGN;
}

static int64_t words_of(const job *j, int64_t tile)
{
    return hnp_least(TILE, j->w->shape[0] - tile * TILE);
}

static char *own_of(const job *j, int thread)
{
    return j->own + (size_t)thread * j->own_size;
}

/* The tile's words as B [C, words] of the forward product: turned for fp32, as they stand or narrowed for bf16. */
static const void *turned_words(const job *j, int64_t tile, int thread)
{
    int64_t first = tile * TILE, words = words_of(j, tile);
    char *copy = own_of(j, thread);
    if (j->type == HN_F32) {
        for (int64_t r = 0; r < words; r += HN_LANES)
            hnp_turn_rows((float *)(void *)copy + r, TILE, j->w, first + r, hnp_least(HN_LANES, words - r));
        return copy;
    }
    if (j->w->dtype == HN_BF16) return hnp_row(j->w, first);
    hnp_fill_panel(copy, HN_BF16, j->w, first, words);
    return copy;
}

/* ... and as B [words, C] of the product for dx. */
static const void *straight_words(const job *j, int64_t tile, int thread)
{
    if (j->w->dtype == j->type) return hnp_row(j->w, tile * TILE);
    hnp_fill_panel(own_of(j, thread), j->type, j->w, tile * TILE, words_of(j, tile));
    return own_of(j, thread);
}

/* Adds the bias to a row of a tile's logits, and sums it up. */
HN_BODY void sum_row(const job *j, float *z, int64_t first, int64_t words, share *out)
{
    vf most = vf_all(-INFINITY), sum = {0}, linear = {0};
    for (int64_t c = 0; c < words; c += HN_LANES) {
        int64_t left = words - c;
        vf v = vf_get(z, HN_F32, c, left);
        if (j->bias) {
            v += vf_get(j->bias->data, j->bias->dtype, first + c, left);
            vf_put(z, HN_F32, c, left, v);
        }
        linear += v; /* 0 beyond the row */
        most = vf_max(vf_select(vf_first_lanes(left), v, vf_all(-INFINITY)), most);
    }
    out->highest = vf_highest(most);
    for (int64_t c = 0; c < words; c += HN_LANES) {
        int64_t left = words - c;
        sum += vf_select(vf_first_lanes(left), vf_exp(vf_get(z, HN_F32, c, left) - out->highest), vf_all(0.0f));
    }
    out->sum = vf_sum(sum);
    out->linear = vf_sum(linear);
}

static void see_label(target *row, const float *z, int64_t first, int64_t words)
{
    int64_t at = row->label - first;
    if (at < 0 || at >= words) return;
    row->at_label = z[at];
    row->beaten = false;
    for (int64_t c = 0; c < at; c++) row->beaten |= z[c] >= z[at];
}

/* Logits of a tile of words and what they come to; false: oneDNN failed. */
static bool run_scores(const job *j, int64_t tile, int thread)
{
    int64_t first = tile * TILE, words = words_of(j, tile), rows = j->cut.rows, width = j->x->shape[1];
    float *z = j->slopes ? j->logits + tile * j->room * TILE : (float *)(void *)(own_of(j, thread) + j->weights_size);
    const void *b = turned_words(j, tile, thread);
    bool done = true;
    for (int64_t i = 0; i < j->cut.tiles; i++) {
        int64_t row = hnp_cut_first(&j->cut, i), size = i < j->cut.whole ? j->cut.size : j->cut.size / 2;
        const char *a = j->panel + (size_t)(row * width) * hnp_type_size(j->type);
        done &= hnp_plan_run(j->forward[words < TILE][i >= j->cut.whole], thread, z + row * TILE, a, b);
        for (int64_t r = row; r < hnp_least(row + size, rows); r++) {
            sum_row(j, z + r * TILE, first, words, j->shares + tile * j->room + r);
            see_label(j->rows + r, z + r * TILE, first, words);
        }
    }
    return done;
}

/* Loss of row r, from its tiles' shares, and the lse that its slopes need. */
static void close_row(const job *j, int64_t r)
{
    target *row = j->rows + r;
    float highest = -INFINITY;
    double sum = 0, linear = 0;
    bool first = !row->beaten;
    for (int64_t t = 0; t < j->tiles; t++) {
        float of_tile = j->shares[t * j->room + r].highest;
        highest = of_tile > highest ? of_tile : highest;
        if (t < row->label / TILE) first &= of_tile < row->at_label;
    }
    for (int64_t t = 0; t < j->tiles; t++) {
        const share *s = j->shares + t * j->room + r;
        sum += (double)s->sum * exp((double)s->highest - (double)highest);
        linear += (double)s->linear;
    }
    double lse = (double)highest + log(sum), smoothing = (double)j->smoothing;
    row->lse = (float)lse;
    row->loss = lse - (1 - smoothing) * (double)row->at_label;
    if (j->smoothing > 0) row->loss -= smoothing * linear / (double)j->w->shape[0];
    row->correct = first && row->at_label == highest && !isnan(row->loss);
}

static void close_rows(const job *j, const hn_target_loss *out)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < j->cut.rows; r++) close_row(j, r);
    for (int64_t r = 0; r < j->cut.rows; r++) {
        const target *row = j->rows + r;
        *out->loss += row->loss;
        if (out->correct) *out->correct += row->correct;
        if (out->row_loss) out->row_loss[row->row] = (float)row->loss;
        if (out->row_correct) out->row_correct[row->row] = row->correct;
    }
}

/* dz of a row of a tile, in the product's type. */
HN_BODY void slope_row(const job *j, void *d, const float *z, const target *row, int64_t first, int64_t words, hn_dtype type)
{
    float each = j->smoothing / (float)j->w->shape[0];
    int64_t at = row->label - first;
    for (int64_t c = 0; c < words; c += HN_LANES) {
        int64_t left = words - c;
        vf p = vf_exp(vf_get(z, HN_F32, c, left) - row->lse);
        vf_put(d, type, c, left, (p - each) * j->scale);
    }
    if (at < 0 || at >= words) return;
    vf p = vf_exp(vf_all(z[at] - row->lse));
    vf_put(d, type, at, 1, (p - (each + (1.0f - j->smoothing))) * j->scale);
}

HN_BODY void slope_rows(const job *j, char *d, const float *z, int64_t first, int64_t words, hn_dtype type)
{
    size_t row_size = TILE * hnp_type_size(type);
    for (int64_t r = 0; r < j->cut.rows; r++)
        slope_row(j, d + (size_t)r * row_size, z + r * TILE, j->rows + r, first, words, type);
    memset(d + (size_t)j->cut.rows * row_size, 0, (size_t)(j->padded - j->cut.rows) * row_size);
    for (int64_t c = 0; j->dbias && c < words; c += HN_LANES) {
        int64_t left = words - c;
        vf sum = vf_get(j->dbias, HN_F32, first + c, left);
        for (int64_t r = 0; r < j->cut.rows; r++) sum += vf_get(d + (size_t)r * row_size, type, c, left);
        vf_put(j->dbias, HN_F32, first + c, left, sum);
    }
}

/* dz of a tile and what is made of it: its rows of dw, its words' part of dx. */
static bool run_slopes(const job *j, int64_t tile, float *part, int thread)
{
    int64_t first = tile * TILE, words = words_of(j, tile), width = j->x->shape[1];
    const float *z = j->logits + tile * j->room * TILE;
    char *d = own_of(j, thread) + j->weights_size;
    size_t size = hnp_type_size(j->type);
    bool done = true;
    if (j->type == HN_F32) slope_rows(j, d, z, first, words, HN_F32);
    else slope_rows(j, d, z, first, words, HN_BF16);
    for (int64_t k = 0; j->dw && k < j->padded; k += j->size.chunk) {
        hnp_plan *plan = j->weight[words < TILE][j->padded - k < j->size.chunk];
        done &= hnp_plan_run(plan, thread, hnp_row(j->dw, first), d + (size_t)(k * TILE) * size,
                             j->panel + (size_t)(k * width) * size);
    }
    if (!j->dx) return done;
    const void *b = straight_words(j, tile, thread);
    for (int64_t i = 0; i < j->cut.tiles; i++) {
        int64_t row = hnp_cut_first(&j->cut, i);
        done &= hnp_plan_run(j->input[words < TILE][i >= j->cut.whole], thread, part + row * width,
                             d + (size_t)(row * TILE) * size, b);
    }
    return done;
}

static bool run_span(const job *j, int64_t span, int thread)
{
    int64_t width = j->x->shape[1], last = hnp_least((span + 1) * j->span, j->tiles);
    float *part = j->dx ? j->parts + span * j->room * width : NULL;
    bool done = true;
    if (part) memset(part, 0, (size_t)(j->padded * width) * sizeof *part);
    for (int64_t tile = span * j->span; tile < last; tile++) done &= run_slopes(j, tile, part, thread);
    return done;
}

static void sum_parts(const job *j, int64_t r)
{
    int64_t width = j->x->shape[1], spans = hnp_ceil_div(j->tiles, j->span);
    for (int64_t c = 0; c < width; c += HN_LANES) {
        vf sum = {0};
        for (int64_t s = 0; s < spans; s++) sum += vf_get(j->parts, HN_F32, (s * j->room + r) * width + c, width - c);
        vf_put(hnp_row(j->dx, j->rows[r].row), j->dx->dtype, c, width - c, sum);
    }
}

/* Plans of the chunk's products; false when one could not be made. */
static bool make_plans(hn_ops_context *ctx, job *j)
{
    int64_t width = j->x->shape[1], stride = j->w->stride, vocabulary = j->w->shape[0];
    bool bf16 = j->type == HN_BF16, as_it_stands = j->w->dtype == j->type;
    hnp_product forward = {.k = width, .a_row = width, .a_column = 1, .b_row = bf16 ? 1 : TILE,
                           .b_column = !bf16 ? 1 : as_it_stands ? stride : width, .c_row = TILE, .bf16 = bf16};
    hnp_product input = {.n = width, .a_row = TILE, .a_column = 1, .b_row = as_it_stands ? stride : width, .b_column = 1,
                         .c_row = width, .bf16 = bf16, .add = true};
    hnp_product weight = {.n = width, .a_row = 1, .a_column = TILE, .b_row = width, .b_column = 1,
                          .c_row = j->dw ? j->dw->stride : 0, .bf16 = bf16, .add = true};
    for (int words = WHOLE; words <= PART; words++)
        for (int rows = WHOLE; rows <= PART; rows++) {
            int64_t n = words == WHOLE ? TILE : vocabulary % TILE;
            int64_t piece = rows == WHOLE ? j->size.chunk : j->padded % j->size.chunk;
            forward.n = input.k = weight.m = n;
            forward.m = input.m = rows == WHOLE ? j->cut.size : j->cut.size / 2;
            weight.k = piece;
            if (!n || (words == WHOLE && vocabulary < TILE)) continue;
            bool cut = rows == PART || j->cut.whole;
            if (cut && !(j->forward[words][rows] = hnp_plan_get(ctx->state, &forward, ctx->error))) return false;
            if (cut && j->dx && !(j->input[words][rows] = hnp_plan_get(ctx->state, &input, ctx->error))) return false;
            if (j->dw && piece && piece <= j->padded &&
                !(j->weight[words][rows] = hnp_plan_get(ctx->state, &weight, ctx->error)))
                return false;
        }
    return true;
}

static void fill_rows(const job *j)
{
    size_t row_size = (size_t)j->x->shape[1] * hnp_type_size(j->type);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < j->padded; r++) {
        char *to = j->panel + (size_t)r * row_size;
        if (r < j->cut.rows) hnp_fill_panel(to, j->type, j->x, j->rows[r].row, 1);
        else memset(to, 0, row_size);
    }
}

/* Every task of a pass, each by one thread; false: oneDNN failed. */
static bool run_pass(const job *j, bool slopes, int threads)
{
    int64_t tasks = slopes ? hnp_ceil_div(j->tiles, j->span) : j->tiles;
    bool failed = false;
#pragma omp parallel num_threads(threads) reduction(|| : failed)
    {
        omp_set_num_threads(1); /* a primitive must not start a team of its own */
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < tasks; i++) {
            int thread = omp_get_thread_num();
            if (!(slopes ? run_span(j, i, thread) : run_scores(j, i, thread))) failed = true;
        }
    }
    return !failed;
}

static bool run_chunk(hn_ops_context *ctx, job *j, const hn_target_loss *out, int64_t first, int64_t rows, int threads)
{
    j->rows = j->targets + first;
    j->cut = hnp_cut_rows(rows, j->size.rows);
    j->padded = hnp_ceil_div(rows, j->size.chunk_tail) * j->size.chunk_tail;
    if (!make_plans(ctx, j)) return false;
    fill_rows(j);
    bool done = run_pass(j, false, threads);
    close_rows(j, out);
    if (done && j->slopes) done = run_pass(j, true, threads);
    if (!done) {
        hnp_fail_run(ctx, "linear_cross_entropy");
        return false;
    }
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < (j->dx ? rows : 0); r++) sum_parts(j, r);
    return true;
}

/* Lists the rows with a target, and clears what belongs to the others; false when a label is out of range. */
static bool list_targets(hn_ops_context *ctx, job *j, const hn_target_loss *out, const int32_t *label)
{
    for (int64_t r = 0; r < j->x->shape[0]; r++) {
        if (label[r] == HN_NO_TARGET) continue;
        if (label[r] < 0 || label[r] >= j->w->shape[0]) {
            hn_fail(ctx->error, HN_ERR_MISMATCH, "cross entropy: row %lld has the label %d, expected 0 to %lld",
                    (long long)r, label[r], (long long)j->w->shape[0] - 1);
            return false;
        }
        j->targets[j->count++] = (target){.row = r, .label = label[r]};
    }
    HN_ASSERT(!out->rows || j->count <= out->rows);
    *out->count += j->count;
    for (int64_t r = 0; r < j->x->shape[0]; r++) {
        if (label[r] != HN_NO_TARGET) continue;
        if (out->row_loss) out->row_loss[r] = 0;
        if (out->row_correct) out->row_correct[r] = false;
        if (j->dx) memset(hnp_row(j->dx, r), 0, (size_t)j->dx->shape[1] * hnp_type_size(j->dx->dtype));
    }
    return true;
}

static void check(const job *j, const float *scale)
{
    const hn_tensor *x = j->x, *w = j->w;
    HN_ASSERT(x->shape[1] == w->shape[1] && w->shape[0] > 0 && (!j->slopes || scale));
    HN_ASSERT(!j->bias || j->bias->shape[0] == w->shape[0]);
    HN_ASSERT(!j->dx || (j->dx->shape[0] == x->shape[0] && j->dx->shape[1] == x->shape[1]));
    HN_ASSERT(!j->dw || (j->dw->dtype == HN_F32 && j->dw->shape[0] == w->shape[0] && j->dw->shape[1] == w->shape[1]));
}

void HN_ISA_NAME(hnp_linear_cross_entropy)(hn_ops_context *ctx, const hn_target_loss *out, const hn_tensor *dx,
                                           const hn_tensor *dw, const hn_tensor *dbias, const hn_tensor *x,
                                           const hn_tensor *w, const hn_tensor *bias, const int32_t *label,
                                           float smoothing, const float *scale)
{
    if (!x->shape[0]) return;
    hn_dtype type = hnp_product_type(ctx, x, w);
    job j = {.x = x, .w = w, .bias = hnp_present(bias), .dx = hnp_present(dx), .dw = hnp_present(dw), .smoothing = smoothing,
             .type = type, .size = hnp_tiling_of(type), .tiles = hnp_ceil_div(w->shape[0], TILE)};
    HN_ASSERT(!hnp_present(dbias) || (dbias->dtype == HN_F32 && dbias->shape[0] == w->shape[0]));
    j.dbias = hnp_present(dbias) ? dbias->data : NULL;
    j.slopes = j.dx || j.dw || j.dbias;
    check(&j, scale);
    if (j.slopes) j.scale = *scale;
    j.span = hnp_ceil_div(j.tiles, SPANS);
    hnp_scratch scratch = {.ctx = ctx};
    int threads = hnp_team_size(ctx->state);
    j.targets = hnp_scratch_take(&scratch, (size_t)x->shape[0] * sizeof *j.targets);
    if (!j.targets || !list_targets(ctx, &j, out, label) || !j.count) return;
    j.room = chunk_room(j.count, w->shape[0]);
    if (!take_buffers(&j, &scratch, threads)) return;
    int64_t chunks = hnp_ceil_div(j.count, j.room), each = hnp_ceil_div(j.count, chunks);
    for (int64_t first = 0; first < j.count; first += each)
        if (!run_chunk(ctx, &j, out, first, hnp_least(each, j.count - first), threads)) return;
}
