/* Attention on the CPU. A task is one sequence and one K/V head, with all query heads that share it; tasks write disjoint parts
 * of the results, so any thread may take any of them. Everything of a task lies in its thread's scratch, fp32, rows padded to
 * whole vectors with zeros:
 *
 *     kt, vt [D][keys]     K and V transposed, so that scores come out as vectors over keys
 *     k, v   [keys][D]
 *     q, g   [QUERIES][D]  a block of queries (and of do)
 *     s, t   [QUERIES][keys] scores, then probabilities; in backward t holds do v^T, then ds
 *
 * A block of queries sees all its keys at once: for short sequences the whole [Tq, Tk] tile stays in the first-level cache, for
 * long ones a row of scores still fits the second level, so there is no online softmax. Under a causal mask the products of a
 * block end with the last key that one of its queries sees, and blocks are small, so that little of what they compute is hidden.
 *
 * One query of a sequence with a cache (generation's token that was just chosen) is no block: copying K and V would cost more than
 * the rest. With ctx->few_rows they are read as they lie, once for up to four heads that share them: 30 layers of SmolLM2-135M against
 * 2,000 keys, one thread's CPU time on a busy Intel family 6 model 207 (AVX-512), fp32 17.2 ms by blocks and 7.9, bf16 9.8 and 4.3. */
#include "kernels/attention.h"

#include <math.h>
#include <omp.h>

#include "core/error.h"
#include "kernels/block.h"
#include "kernels/scratch.h"
#include "kernels/transpose.h"
#include "kernels/vecmath.h"

enum { QUERIES = 64, CAUSAL_QUERIES = 32, PAD = 16 };
enum { DIRECT_HEADS = 4, DIRECT_VECTORS = HN_LANES == 16 ? 4 : 2, AHEAD = 64 /* keys */, LINE = 64 };

static int64_t padded(int64_t n)
{
    return hnp_ceil_div(n, PAD) * PAD;
}

/* Row length of panels over so many keys: an odd number of cache lines, or rows of 2 KiB would share their sets in the cache. */
static int64_t key_row(int64_t keys)
{
    return padded(keys) | PAD;
}

/* One thread's scratch. */
typedef struct panels {
    float *kt, *vt, *k, *v, *dk, *dv, *q, *g, *out, *s, *t, *sum;
    uint32_t *words;
    int64_t width, keys; /* padded row lengths: of head rows, of key rows */
} panels;

/* Lays the panels out from `base`; the bytes they take. */
static size_t lay_out(panels *p, char *base, int64_t head_size, int64_t keys)
{
    p->width = padded(head_size);
    p->keys = key_row(keys);
    size_t used = 0;
    struct {
        float **panel;
        int64_t rows, columns;
    } pieces[] = {{&p->kt, head_size, p->keys}, {&p->vt, head_size, p->keys}, {&p->k, p->keys, p->width},
                  {&p->v, p->keys, p->width},   {&p->dk, p->keys, p->width},  {&p->dv, p->keys, p->width},
                  {&p->q, QUERIES, p->width},   {&p->g, QUERIES, p->width},   {&p->out, QUERIES, p->width},
                  {&p->s, QUERIES, p->keys},    {&p->t, QUERIES, p->keys},    {&p->sum, 2, QUERIES}};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        if (base) *pieces[i].panel = (float *)(void *)(base + used);
        used += (size_t)(pieces[i].rows * pieces[i].columns) * sizeof(float);
    }
    if (base) p->words = (uint32_t *)(void *)(base + used);
    return (used + (size_t)(p->keys + 2 * HN_LANES) * sizeof(uint32_t) + 63) & ~(size_t)63;
}

size_t HN_ISA_NAME(hnp_attention_workspace)(int64_t longest, int64_t head_size, int threads)
{
    panels p;
    return (size_t)threads * lay_out(&p, NULL, head_size, longest) + HNP_SCRATCH_ALIGN;
}

/* What all tasks share. */
typedef struct job {
    const hn_tensor *q, *k, *v, *o, *d_o, *dq, *dk, *dv;
    float *lse_out;
    const float *lse;
    const hn_attention *attention;
    bool direct; /* ctx->few_rows: a token that goes on from a cache reads it as it lies */
} job;

/* One head of one sequence. */
typedef struct head {
    int64_t q_first, q_count, k_first, k_count;
    int64_t q_column, k_column; /* first column of the head in q and o, in k and v */
    int number;                 /* of the query head */
} head;

HN_BODY const void *at(const hn_tensor *tensor, int64_t row, int64_t column, hn_dtype type)
{
    return (const char *)hnp_row(tensor, row) + (size_t)column * (type == HN_F32 ? 4 : 2);
}

HN_BODY void read_rows(float *panel, int64_t width, const hn_tensor *tensor, int64_t first, int64_t count,
                       int64_t column, int64_t size, hn_dtype type)
{
    for (int64_t r = 0; r < count; r++) {
        const void *row = at(tensor, first + r, column, type);
        for (int64_t c = 0; c < width; c += HN_LANES)
            vf_store(panel + r * width + c, c < size ? vf_get(row, type, c, size - c) : vf_all(0.0f));
    }
}

HN_BODY void write_rows(const hn_tensor *tensor, int64_t first, int64_t count, int64_t column, int64_t size,
                        const float *panel, int64_t width, hn_dtype type)
{
    for (int64_t r = 0; r < count; r++) {
        char *row = (char *)hnp_row(tensor, first + r) + (size_t)column * (type == HN_F32 ? 4 : 2);
        for (int64_t c = 0; c < size; c += HN_LANES) vf_put(row, type, c, size - c, vf_load(panel + r * width + c));
    }
}

/* A head's rows as turned [size][keys], with zeros for the keys beyond count. */
HN_BODY void read_turned(float *turned, int64_t keys, const hn_tensor *tensor, int64_t first, int64_t count,
                         int64_t column, int64_t size, hn_dtype type)
{
    for (int64_t j = 0; j < keys; j += HN_LANES) {
        int64_t rows = count - j < 0 ? 0 : hnp_least(HN_LANES, count - j);
        hnp_transpose_rows(turned + j, keys, at(tensor, first + (rows ? j : 0), column, type), type, tensor->stride, rows,
                           size, true);
    }
}

static int64_t keys_of(const hn_attention *a, int64_t sequence)
{
    return a->k_count ? a->k_count[sequence] : a->cu_k[sequence + 1] - a->cu_k[sequence];
}

/* How many keys query i of the sequence sees. */
static int64_t visible(const hn_attention *a, const head *h, int64_t i)
{
    if (!a->causal) return h->k_count;
    int64_t position = a->q_position ? a->q_position[h->q_first + i] : i + h->k_count - h->q_count;
    return position < 0 ? 0 : hnp_least(position + 1, h->k_count);
}

static int64_t block_size(const hn_attention *a)
{
    return a->causal ? CAUSAL_QUERIES : QUERIES;
}

/* The first keys of the sequence, so many that all keys seen by the queries [first, first + count) are among them. */
static int64_t reach(const hn_attention *a, const head *h, int64_t first, int64_t count)
{
    int64_t most = 0;
    for (int64_t i = first; i < first + count; i++) {
        int64_t seen = visible(a, h, i);
        if (seen > most) most = seen;
    }
    return most;
}

/* The words of a query's probabilities, key 0 first. */
static void draw(uint32_t *words, const job *work, const head *h, int64_t i, int64_t keys)
{
    const hn_dropout *dropout = &work->attention->dropout;
    const hn_random *random = dropout->random;
    int64_t row = h->q_first + i;
    hnp_stream stream = {random->seed, dropout->site + (uint32_t)h->number, random->example[row], *random->step};
    hnp_philox_fill(words, &stream, (uint64_t)random->position[row] * 65536, keys);
}

static bool drops(const hn_attention *a)
{
    return a->dropout.random && a->dropout.probability > 0;
}

/* The highest of a query's first `seen` scores; -inf of none. */
static float highest_of(const float *s, int64_t seen)
{
    vf most = vf_all(-INFINITY);
    int64_t j = 0;
    for (; j + HN_LANES <= seen; j += HN_LANES) most = vf_max(vf_load(s + j), most);
    if (j < seen) most = vf_max(vf_select(vf_first_lanes(seen - j), vf_load(s + j), vf_all(-INFINITY)), most);
    return vf_highest(most);
}

/* Scores of one query to exp(scale s - highest), dropped out but not yet divided; their sum before dropout. */
static float softmax_row(float *s, float highest, int64_t seen, int64_t keys, const job *work, const uint32_t *words)
{
    const hn_attention *a = work->attention;
    vf total = {0};
    vu threshold = (vu){0} + hn_drop_threshold(a->dropout.probability);
    int64_t j = 0;
    for (; j < seen; j += HN_LANES) {
        vf p = vf_exp(vf_load(s + j) * a->scale - highest);
        if (j + HN_LANES > seen) p = vf_select(vf_first_lanes(seen - j), p, vf_all(0.0f));
        total += p;
        if (words) {
            vu word;
            memcpy(&word, words + j, sizeof word);
            p = vf_select((vi)(word >= threshold), p, vf_all(0.0f));
        }
        vf_store(s + j, p);
    }
    for (; j < keys; j += HN_LANES) vf_store(s + j, vf_all(0.0f));
    return vf_sum(total);
}

/* Turns the block's scores of so many keys into probabilities; the factor of each query's output row goes to p->sum. */
static void softmax_block(panels *p, const job *work, const head *h, int64_t first, int64_t count, int64_t keys)
{
    const hn_attention *a = work->attention;
    float highest[QUERIES], sum[QUERIES], kept = drops(a) ? 1.0f / (1.0f - a->dropout.probability) : 1.0f;
    /* a loop of its own: the maxima of different queries overlap in the processor */
    for (int64_t i = 0; i < count; i++)
        highest[i] = highest_of(p->s + i * p->keys, visible(a, h, first + i)) * a->scale;
    for (int64_t i = 0; i < count; i++) {
        int64_t seen = visible(a, h, first + i);
        if (drops(a)) draw(p->words, work, h, first + i, keys);
        sum[i] = softmax_row(p->s + i * p->keys, highest[i], seen, keys, work, drops(a) ? p->words : NULL);
        p->sum[i] = seen ? kept / sum[i] : 0.0f;
    }
    if (!work->lse_out) return;
    float *lse = work->lse_out + (int64_t)h->number * work->q->shape[0] + h->q_first + first;
    for (int64_t i = 0; i < count; i += HN_LANES)
        vf_put(lse, HN_F32, i, count - i,
               vf_get(highest, HN_F32, i, count - i) + vf_log(vf_get(sum, HN_F32, i, count - i)));
}

HN_BODY void forward_head(panels *p, const job *work, const head *h, hn_dtype type)
{
    int64_t size = work->attention->head_size, step = block_size(work->attention);
    for (int64_t first = 0; first < h->q_count; first += step) {
        int64_t count = hnp_least(step, h->q_count - first), seen = reach(work->attention, h, first, count);
        read_rows(p->q, p->width, work->q, h->q_first + first, count, h->q_column, size, type);
        hnp_block scores = {.c = p->s, .a = p->q, .b = p->kt, .c_row = p->keys, .a_row = p->width, .a_column = 1,
                            .b_row = p->keys, .m = count, .n = padded(seen), .k = size};
        hnp_block_multiply(&scores);
        softmax_block(p, work, h, first, count, padded(seen));
        hnp_block output = {.c = p->out, .a = p->s, .b = p->v, .c_row = p->width, .a_row = p->keys, .a_column = 1,
                            .b_row = p->width, .m = count, .n = p->width, .k = seen};
        hnp_block_multiply(&output);
        for (int64_t i = 0; i < count; i++)
            for (int64_t c = 0; c < p->width; c += HN_LANES) {
                float *row = p->out + i * p->width + c;
                vf_store(row, vf_load(row) * p->sum[i]);
            }
        write_rows(work->o, h->q_first + first, count, h->q_column, size, p->out, p->width, type);
    }
}

/* Probabilities and ds of one query, from scores in s and do v^T in t. */
static void backward_row(float *s, float *t, int64_t seen, int64_t keys, const job *work, const uint32_t *words,
                         float lse, float delta)
{
    const hn_attention *a = work->attention;
    vu threshold = (vu){0} + hn_drop_threshold(a->dropout.probability);
    float kept = words ? 1.0f / (1.0f - a->dropout.probability) : 1.0f;
    for (int64_t j = 0; j < keys; j += HN_LANES) {
        vf probability = vf_exp(vf_load(s + j) * a->scale - lse), dropped = probability, slope = vf_load(t + j);
        if (words) {
            vu word;
            memcpy(&word, words + j, sizeof word);
            vi keep = (vi)(word >= threshold);
            dropped = vf_select(keep, probability * kept, vf_all(0.0f));
            slope = vf_select(keep, slope * kept, vf_all(0.0f));
        }
        vi seen_lanes = vf_first_lanes(seen - j);
        vf_store(s + j, vf_select(seen_lanes, dropped, vf_all(0.0f)));
        vf_store(t + j, vf_select(seen_lanes, probability * (slope - delta) * a->scale, vf_all(0.0f)));
    }
}

/* delta_i = do_i . o_i */
HN_BODY void read_deltas(panels *p, const job *work, const head *h, int64_t first, int64_t count, hn_dtype type)
{
    int64_t size = work->attention->head_size;
    read_rows(p->out, p->width, work->o, h->q_first + first, count, h->q_column, size, type);
    for (int64_t i = 0; i < count; i++) {
        vf sum = {0};
        for (int64_t c = 0; c < p->width; c += HN_LANES)
            sum += vf_load(p->g + i * p->width + c) * vf_load(p->out + i * p->width + c);
        p->sum[i] = vf_sum(sum);
    }
}

HN_BODY void backward_head(panels *p, const job *work, const head *h, hn_dtype type)
{
    const hn_attention *a = work->attention;
    int64_t size = a->head_size, step = block_size(a);
    const float *lse = work->lse + (int64_t)h->number * work->q->shape[0] + h->q_first;
    for (int64_t first = 0; first < h->q_count; first += step) {
        int64_t count = hnp_least(step, h->q_count - first), seen = reach(a, h, first, count), keys = padded(seen);
        read_rows(p->q, p->width, work->q, h->q_first + first, count, h->q_column, size, type);
        read_rows(p->g, p->width, work->d_o, h->q_first + first, count, h->q_column, size, type);
        read_deltas(p, work, h, first, count, type);
        hnp_block scores = {.c = p->s, .a = p->q, .b = p->kt, .c_row = p->keys, .a_row = p->width, .a_column = 1,
                            .b_row = p->keys, .m = count, .n = keys, .k = size};
        hnp_block_multiply(&scores);
        scores.c = p->t, scores.a = p->g, scores.b = p->vt;
        hnp_block_multiply(&scores);
        for (int64_t i = 0; i < count; i++) {
            if (drops(a)) draw(p->words, work, h, first + i, keys);
            backward_row(p->s + i * p->keys, p->t + i * p->keys, visible(a, h, first + i), keys, work,
                         drops(a) ? p->words : NULL, lse[first + i], p->sum[i]);
        }
        hnp_block gradient = {.c = p->dv, .a = p->s, .b = p->g, .c_row = p->width, .a_row = 1, .a_column = p->keys,
                              .b_row = p->width, .m = seen, .n = p->width, .k = count, .add = true};
        hnp_block_multiply(&gradient);
        gradient.c = p->dk, gradient.a = p->t, gradient.b = p->q;
        hnp_block_multiply(&gradient);
        hnp_block queries = {.c = p->out, .a = p->t, .b = p->k, .c_row = p->width, .a_row = p->keys, .a_column = 1,
                             .b_row = p->width, .m = count, .n = p->width, .k = seen};
        hnp_block_multiply(&queries);
        write_rows(work->dq, h->q_first + first, count, h->q_column, size, p->out, p->width, type);
    }
}

/* A head's row of K or V that is to be in cache soon: heads stand apart, and what fetches ahead in the processor misses them. */
HN_BODY void call_row(const hn_tensor *tensor, int64_t row, int64_t column, int64_t size, hn_dtype type)
{
    const char *data = at(tensor, row, column, type);
    for (int64_t c = 0; c < size * (type == HN_F32 ? 4 : 2); c += LINE) __builtin_prefetch(data + c, 0, 2);
}

/* Scores of one query head, q [D] as panels have it, with the first `seen` keys: HN_LANES keys at a time. */
HN_BODY void score_keys(float *s, const float *q, const job *work, const head *h, int64_t seen, bool ahead,
                        hn_dtype type)
{
    int64_t size = work->attention->head_size;
    for (int64_t j = 0; j < seen; j += HN_LANES) {
        const void *from[HN_LANES];
        vf sum[HN_LANES] = {{0}};
        for (int i = 0; i < HN_LANES; i++)
            from[i] = at(work->k, h->k_first + hnp_least(j + i, seen - 1), h->k_column, type);
        for (int i = 0; i < HN_LANES && ahead; i++)
            call_row(work->k, h->k_first + j + i + AHEAD, h->k_column, size, type);
        for (int64_t c = 0; c < size; c += HN_LANES) {
            vf one = vf_load(q + c);
            for (int i = 0; i < HN_LANES; i++) sum[i] += one * vf_get(from[i], type, c, size - c);
        }
        vf_store(s + j, vf_sums(sum));
    }
}

/* out[g] = the sum over the first `seen` keys j of s[g][j] v[j], in their order, times sum[g]: `vectors` vectors from column c on. */
HN_BODY void mix_columns(const panels *p, const job *work, const head *h, int64_t seen, int64_t c, int heads, int vectors,
                         hn_dtype type)
{
    int64_t size = work->attention->head_size;
    vf sum[DIRECT_HEADS][DIRECT_VECTORS] = {{{0}}};
    for (int64_t j = 0; j < seen; j++) {
        const void *row = at(work->v, h->k_first + j, h->k_column, type);
        call_row(work->v, h->k_first + j + AHEAD, h->k_column, size, type);
        for (int v = 0; v < vectors; v++) {
            vf value = vf_get(row, type, c + v * HN_LANES, size - c - v * HN_LANES);
            for (int g = 0; g < heads; g++) sum[g][v] += p->s[g * p->keys + j] * value;
        }
    }
    for (int g = 0; g < heads; g++)
        for (int v = 0; v < vectors; v++) vf_store(p->out + g * p->width + c + v * HN_LANES, sum[g][v] * p->sum[g]);
}

HN_BODY void mix_values(const panels *p, const job *work, const head *h, int64_t seen, int heads, hn_dtype type)
{
    enum { STEP = DIRECT_VECTORS * HN_LANES };
    int64_t c = 0;
    for (; c + STEP <= p->width; c += STEP) mix_columns(p, work, h, seen, c, heads, DIRECT_VECTORS, type);
    for (; c < p->width; c += HN_LANES) mix_columns(p, work, h, seen, c, heads, 1, type);
}

/* A token that goes on from a cache, the only query of its sequence: `heads` heads of it from h->number on, which share K and V.
 * These are read as they lie. */
HN_BODY void direct_heads(panels *p, const job *work, const head *h, int heads, hn_dtype type)
{
    int64_t size = work->attention->head_size, seen = visible(work->attention, h, 0);
    for (int g = 0; g < heads; g++) {
        panels row = *p;
        head one = *h;
        row.s += g * p->keys, row.sum += g;
        one.number += g;
        read_rows(p->q, p->width, work->q, h->q_first, 1, one.number * size, size, type);
        score_keys(row.s, p->q, work, h, seen, g == 0, type);
        softmax_block(&row, work, &one, 0, 1, padded(seen));
    }
    switch (heads) { /* a constant, so that the sums stay in registers */
    case 1: mix_values(p, work, h, seen, 1, type); break;
    case 2: mix_values(p, work, h, seen, 2, type); break;
    case 3: mix_values(p, work, h, seen, 3, type); break;
    default: mix_values(p, work, h, seen, DIRECT_HEADS, type);
    }
    for (int g = 0; g < heads; g++)
        write_rows(work->o, h->q_first, 1, (h->number + g) * size, size, p->out + g * p->width, p->width, type);
}

HN_BODY void task(panels *p, const job *work, int64_t sequence, int kv_head, bool backward, hn_dtype type)
{
    const hn_attention *a = work->attention;
    int64_t size = a->head_size;
    int group = a->heads / a->kv_heads;
    head h = {.q_first = a->cu_q[sequence], .q_count = a->cu_q[sequence + 1] - a->cu_q[sequence],
              .k_first = a->cu_k[sequence], .k_count = keys_of(a, sequence), .k_column = kv_head * size};
    if (!h.q_count && !backward) return; /* a place of a cache that this batch has no token for */
    p->keys = key_row(h.k_count);
    if (work->direct && h.q_count == 1) {
        for (int i = 0; i < group; i += DIRECT_HEADS) {
            h.number = kv_head * group + i;
            direct_heads(p, work, &h, (int)hnp_least(DIRECT_HEADS, group - i), type);
        }
        return;
    }
    read_turned(p->kt, p->keys, work->k, h.k_first, h.k_count, h.k_column, size, type);
    if (!backward) {
        read_rows(p->v, p->width, work->v, h.k_first, h.k_count, h.k_column, size, type);
    } else {
        read_rows(p->k, p->width, work->k, h.k_first, h.k_count, h.k_column, size, type);
        read_turned(p->vt, p->keys, work->v, h.k_first, h.k_count, h.k_column, size, type);
        memset(p->dk, 0, (size_t)(h.k_count * p->width) * sizeof(float));
        memset(p->dv, 0, (size_t)(h.k_count * p->width) * sizeof(float));
    }
    for (int i = 0; i < group; i++) {
        h.number = kv_head * group + i;
        h.q_column = h.number * size;
        if (backward) backward_head(p, work, &h, type);
        else forward_head(p, work, &h, type);
    }
    if (!backward) return;
    write_rows(work->dk, h.k_first, h.k_count, h.k_column, size, p->dk, p->width, type);
    write_rows(work->dv, h.k_first, h.k_count, h.k_column, size, p->dv, p->width, type);
}

HN_BODY void run(const job *work, char *scratch, size_t size, int threads, bool backward, hn_dtype type)
{
    const hn_attention *a = work->attention;
#pragma omp parallel num_threads(threads)
    {
        panels p;
        lay_out(&p, scratch + (size_t)omp_get_thread_num() * size, a->head_size, a->longest_k);
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t s = 0; s < a->n; s++)
            for (int h = 0; h < a->kv_heads; h++) task(&p, work, s, h, backward, type);
    }
}

static void start(hn_ops_context *ctx, const job *work, bool backward)
{
    const hn_attention *a = work->attention;
    const hn_tensor *q = work->q, *k = work->k;
    HN_ASSERT(a->head_size >= 8 && a->head_size <= 256 && a->head_size % 8 == 0);
    HN_ASSERT(a->kv_heads > 0 && a->heads % a->kv_heads == 0 && a->scale > 0);
    HN_ASSERT(!backward || !a->k_count);
    HN_ASSERT(q->shape[1] == a->heads * a->head_size && k->shape[1] == a->kv_heads * a->head_size);
    HN_ASSERT(q->dtype == k->dtype && q->dtype == work->v->dtype && q->dtype == work->o->dtype);
    if (!a->n) return;
    HN_ASSERT(a->cu_q[a->n] <= q->shape[0] && a->cu_k[a->n] <= k->shape[0]);
    for (int64_t s = 0; s < a->n; s++) HN_ASSERT(keys_of(a, s) <= a->longest_k);
    panels p;
    hnp_scratch scratch = {.ctx = ctx};
    int threads = omp_get_max_threads();
    size_t size = lay_out(&p, NULL, a->head_size, a->longest_k);
    char *base = hnp_scratch_take(&scratch, (size_t)threads * size);
    if (!base) return;
    if (q->dtype == HN_F32) {
        if (backward) run(work, base, size, threads, true, HN_F32);
        else run(work, base, size, threads, false, HN_F32);
    } else {
        if (backward) run(work, base, size, threads, true, HN_BF16);
        else run(work, base, size, threads, false, HN_BF16);
    }
}

void HN_ISA_NAME(hnp_attention_forward)(hn_ops_context *ctx, const hn_tensor *o, float *lse, const hn_tensor *q,
                                        const hn_tensor *k, const hn_tensor *v, const hn_attention *attention)
{
    job work = {.q = q, .k = k, .v = v, .o = o, .lse_out = lse, .attention = attention,
                .direct = ctx->few_rows && attention->k_count};
    start(ctx, &work, false);
}

void HN_ISA_NAME(hnp_attention_backward)(hn_ops_context *ctx, const hn_tensor *dq, const hn_tensor *dk,
                                         const hn_tensor *dv, const hn_tensor *d_o, const hn_tensor *o,
                                         const float *lse, const hn_tensor *q, const hn_tensor *k, const hn_tensor *v,
                                         const hn_attention *attention)
{
    HN_ASSERT(dq->dtype == q->dtype && dk->dtype == q->dtype && dv->dtype == q->dtype && d_o->dtype == q->dtype);
    job work = {.q = q, .k = k, .v = v, .o = o, .d_o = d_o, .dq = dq, .dk = dk, .dv = dv, .lse = lse,
               .attention = attention};
    start(ctx, &work, true);
}
