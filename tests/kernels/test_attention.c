/* Attention against the formula in double, drawn element by element: sequences of odd lengths, strided views of one QKV buffer,
 * grouped heads, causal masks, fewer queries than keys, dropout; and bits that do not depend on the threads. */
#include "tests/kernels/ops_test.h"

typedef struct shape {
    int heads, kv_heads, size;
    bool causal;
    float dropout;
    int n;
    int q[4], k[4]; /* lengths */
    int back;       /* above 0: q_position is given, this many before the last tokens */
} shape;

typedef struct problem {
    shape s;
    hn_attention a;
    int32_t cu_q[5], cu_k[5];
    uint32_t *example, step;
    int32_t *position;
    hn_random random;
    matrix qkv, q_own, o, d_o, d_qkv, dq_own; /* q_own: when queries are fewer than keys */
    hn_tensor q, k, v, dq, dk, dv;
    float *lse;
} problem;

static problem problem_make(shape s, hn_dtype type)
{
    problem p = {.s = s, .step = 3};
    int longest_q = 0, longest_k = 0;
    bool apart = false;
    for (int i = 0; i < s.n; i++) {
        p.cu_q[i + 1] = p.cu_q[i] + s.q[i];
        p.cu_k[i + 1] = p.cu_k[i] + s.k[i];
        longest_q = s.q[i] > longest_q ? s.q[i] : longest_q;
        longest_k = s.k[i] > longest_k ? s.k[i] : longest_k;
        apart |= s.q[i] != s.k[i];
    }
    int64_t tq = p.cu_q[s.n], tk = p.cu_k[s.n], qc = s.heads * s.size, kc = s.kv_heads * s.size;
    p.qkv = matrix_random(type, tk, qc + 2 * kc, 1), p.d_qkv = matrix_random(type, tk, qc + 2 * kc, 1);
    p.q_own = matrix_random(type, tq, qc, 1), p.dq_own = matrix_random(type, tq, qc, 1);
    p.o = matrix_random(type, tq, qc, 1), p.d_o = matrix_random(type, tq, qc, 1);
    p.q = apart ? p.q_own.t : hn_tensor_columns(&p.qkv.t, 0, qc);
    p.dq = apart ? p.dq_own.t : hn_tensor_columns(&p.d_qkv.t, 0, qc);
    p.k = hn_tensor_columns(&p.qkv.t, qc, kc), p.v = hn_tensor_columns(&p.qkv.t, qc + kc, kc);
    p.dk = hn_tensor_columns(&p.d_qkv.t, qc, kc), p.dv = hn_tensor_columns(&p.d_qkv.t, qc + kc, kc);
    p.lse = calloc((size_t)(s.heads * tq) + 1, sizeof *p.lse);
    p.example = calloc((size_t)tq + 1, sizeof *p.example);
    p.position = calloc((size_t)tq + 1, sizeof *p.position);
    for (int i = 0; i < s.n; i++)
        for (int r = 0; r < s.q[i]; r++) {
            p.example[p.cu_q[i] + r] = 40u + (uint32_t)i;
            p.position[p.cu_q[i] + r] = s.k[i] - s.q[i] + r - s.back;
        }
    p.a = (hn_attention){.heads = s.heads, .kv_heads = s.kv_heads, .head_size = s.size,
                         .scale = (float)(1 / sqrt((double)s.size)), .causal = s.causal, .n = s.n,
                         .longest_q = longest_q, .longest_k = longest_k};
    return p;
}

/* Pointers into the problem itself, once it has its place. */
static void problem_link(problem *p)
{
    p->random = (hn_random){.seed = 99, .step = &p->step, .example = p->example, .position = p->position};
    p->a.cu_q = p->cu_q, p->a.cu_k = p->cu_k;
    p->a.q_position = p->s.back ? p->position : NULL;
    p->a.dropout = (hn_dropout){p->s.dropout, HN_SITE(2, HN_SITE_ATTENTION, 0), &p->random};
}

static void problem_free(problem *p)
{
    matrix *all[] = {&p->qkv, &p->q_own, &p->o, &p->d_o, &p->d_qkv, &p->dq_own};
    for (int i = 0; i < 6; i++) matrix_free(all[i]);
    free(p->lse), free(p->example), free(p->position);
}

static double kept(const problem *p, int64_t row, int head, int64_t j)
{
    if (p->s.dropout <= 0) return 1;
    uint64_t element = (uint64_t)p->position[row] * 65536 + (uint64_t)j;
    hn_philox4 words = hn_philox(99, (uint32_t)(element / 4), HN_SITE(2, HN_SITE_ATTENTION, head), p->example[row], p->step);
    return words.word[element % 4] < hn_drop_threshold(p->s.dropout) ? 0 : 1 / (1 - (double)p->s.dropout);
}

/* Forward and backward of one head and query in double; dk and dv [Tk, kv columns] are added to. */
static void reference_row(const problem *p, int s, int64_t row, int head, double *o, double *lse, double *dq, double *dk, double *dv)
{
    int size = p->s.size, kv = head / (p->s.heads / p->s.kv_heads), k0 = p->cu_k[s], keys = p->cu_k[s + 1] - k0;
    int64_t kc = p->k.shape[1];
    double *prob = calloc((size_t)keys + 1, sizeof *prob), sum = 0, highest = -INFINITY, delta = 0;
    int seen = p->s.causal ? p->position[row] + 1 : keys;
    for (int j = 0; j < seen; j++) {
        for (int d = 0; d < size; d++)
            prob[j] += value_at(&p->q, row, head * size + d) * value_at(&p->k, k0 + j, kv * size + d);
        prob[j] *= (double)p->a.scale;
        highest = fmax(highest, prob[j]);
    }
    for (int j = 0; j < seen; j++) sum += exp(prob[j] - highest);
    *lse = highest + log(sum);
    for (int j = 0; j < seen; j++) prob[j] = exp(prob[j] - *lse);
    for (int d = 0; d < size; d++) {
        o[d] = dq[d] = 0;
        for (int j = 0; j < seen; j++) o[d] += prob[j] * kept(p, row, head, j) * value_at(&p->v, k0 + j, kv * size + d);
        delta += o[d] * value_at(&p->d_o.t, row, head * size + d);
    }
    for (int j = 0; j < seen; j++) {
        double keep = kept(p, row, head, j), slope = 0;
        for (int d = 0; d < size; d++) {
            double g = value_at(&p->d_o.t, row, head * size + d);
            slope += g * value_at(&p->v, k0 + j, kv * size + d);
            dv[(k0 + j) * kc + kv * size + d] += prob[j] * keep * g;
        }
        double ds = prob[j] * (slope * keep - delta) * (double)p->a.scale;
        for (int d = 0; d < size; d++) {
            dq[d] += ds * value_at(&p->k, k0 + j, kv * size + d);
            dk[(k0 + j) * kc + kv * size + d] += ds * value_at(&p->q, row, head * size + d);
        }
    }
    free(prob);
}

static void compare(problem *p, hn_dtype type)
{
    int64_t tq = p->q.shape[0], qc = p->q.shape[1], tk = p->k.shape[0], kc = p->k.shape[1];
    double *o = calloc((size_t)(tq * qc) + 1, 8), *dq = calloc((size_t)(tq * qc) + 1, 8);
    double *dk = calloc((size_t)(tk * kc) + 1, 8), *dv = calloc((size_t)(tk * kc) + 1, 8);
    double *lse = calloc((size_t)(tq * p->s.heads) + 1, 8);
    for (int s = 0; s < p->s.n; s++)
        for (int64_t row = p->cu_q[s]; row < p->cu_q[s + 1]; row++)
            for (int h = 0; h < p->s.heads; h++) {
                int64_t at = row * qc + h * p->s.size;
                reference_row(p, s, row, h, o + at, lse + h * tq + row, dq + at, dk, dv);
            }
    hn_tensor lse_view = hn_tensor_2d(p->lse, HN_F32, p->s.heads, tq);
    CHECK_CLOSE(&p->o.t, o, tolerance(type));
    CHECK_CLOSE(&lse_view, lse, tolerance(HN_F32));
    CHECK_CLOSE(&p->dq, dq, tolerance(type));
    CHECK_CLOSE(&p->dk, dk, tolerance(type));
    CHECK_CLOSE(&p->dv, dv, tolerance(type));
    free(o), free(dq), free(dk), free(dv), free(lse);
}

static void run(problem *p)
{
    ops_now->attention_forward(&context_now, &p->o.t, p->lse, &p->q, &p->k, &p->v, &p->a);
    ops_now->attention_backward(&context_now, &p->dq, &p->dk, &p->dv, &p->d_o.t, &p->o.t, p->lse, &p->q, &p->k, &p->v, &p->a);
}

static const shape cases[] = {
    {.heads = 1, .kv_heads = 1, .size = 8, .n = 1, .q = {1}, .k = {1}},
    {.heads = 3, .kv_heads = 3, .size = 32, .n = 3, .q = {31, 0, 33}, .k = {31, 0, 33}},
    {.heads = 2, .kv_heads = 2, .size = 32, .dropout = 0.3f, .n = 4, .q = {5, 40, 17, 1}, .k = {5, 40, 17, 1}},
    {.heads = 4, .kv_heads = 2, .size = 24, .causal = true, .dropout = 0.1f, .n = 2, .q = {70, 9}, .k = {70, 9}},
    {.heads = 2, .kv_heads = 1, .size = 64, .n = 3, .q = {1, 1, 2}, .k = {37, 4, 66}},
    {.heads = 1, .kv_heads = 1, .size = 40, .causal = true, .n = 2, .q = {3, 16}, .k = {20, 16}},
    {.heads = 1, .kv_heads = 1, .size = 256, .n = 1, .q = {19}, .k = {19}},
    {.heads = 1, .kv_heads = 1, .size = 16, .dropout = 0.5f, .n = 1, .q = {257}, .k = {257}},
    {.heads = 9, .kv_heads = 3, .size = 64, .causal = true, .n = 2, .q = {33, 7}, .k = {33, 7}},
    {.heads = 2, .kv_heads = 2, .size = 80, .causal = true, .n = 1, .q = {31}, .k = {31}},
    {.heads = 4, .kv_heads = 1, .size = 128, .causal = true, .n = 2, .q = {1, 1}, .k = {257, 40}},
    {.heads = 2, .kv_heads = 1, .size = 64, .causal = true, .dropout = 0.2f, .n = 2, .q = {2, 5}, .k = {66, 9}, .back = 4},
};

static void against_reference(hn_dtype type)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        problem p = problem_make(cases[i], type);
        problem_link(&p);
        run(&p);
        compare(&p, type);
        problem_free(&p);
    }
}

/* Generation: queries that come one at a time against the keys so far give what they give within the whole sequence. */
static void one_at_a_time(hn_dtype type)
{
    enum { T = 2048, TAIL = 3 };
    shape whole = {.heads = 2, .kv_heads = 1, .size = 64, .causal = true, .n = 1, .q = {T}, .k = {T}};
    problem all = problem_make(whole, type);
    problem_link(&all);
    ops_now->attention_forward(&context_now, &all.o.t, all.lse, &all.q, &all.k, &all.v, &all.a);
    for (int i = 0; i < TAIL; i++) {
        int32_t row = i * (T - 1) / (TAIL - 1), cu_q[2] = {0, 1}, cu_k[2] = {0, T}; /* keys to come are masked */
        hn_tensor q = hn_tensor_rows(&all.q, row, 1);
        matrix o = matrix_random(type, 1, 128, 1);
        hn_attention one = all.a;
        one.cu_q = cu_q, one.cu_k = cu_k, one.longest_q = 1, one.q_position = &row;
        ops_now->attention_forward(&context_now, &o.t, NULL, &q, &all.k, &all.v, &one);
        for (int64_t c = 0; c < 128; c++) o.d[c] = value_at(&all.o.t, row, c);
        CHECK_CLOSE(&o.t, o.d, tolerance(type));
        matrix_free(&o);
    }
    problem_free(&all);
}

/* A batch over a cache: places that hold fewer keys than there is room for (the rest is NaN), for one token, for several, for none. */
typedef struct cached {
    int heads, kv_heads, size;
    bool causal;
    float dropout;
} cached;

static problem cache_make(const cached *c, hn_dtype type, int32_t *count)
{
    static const int32_t counts[4] = {37, 5, 20, 257};
    shape s = {.heads = c->heads, .kv_heads = c->kv_heads, .size = c->size, .causal = c->causal, .dropout = c->dropout, .n = 4,
               .q = {1, 0, 3, 1}, .k = {40, 7, 20, 300}};
    problem p = problem_make(s, type);
    memcpy(count, counts, sizeof counts);
    for (int i = 0; i < 4; i++) {
        for (int r = 0; r < s.q[i]; r++) p.position[p.cu_q[i] + r] = counts[i] - s.q[i] + r;
        for (int64_t row = p.cu_k[i] + counts[i]; row < p.cu_k[i + 1]; row++)
            for (int64_t column = 0; column < p.k.shape[1]; column++) value_set(&p.k, row, column, NAN), value_set(&p.v, row, column, NAN);
    }
    p.a.longest_k = 257;
    return p;
}

static void cache_against_reference(hn_dtype type)
{
    static const cached caches[] = {{9, 3, 64, true, 0}, {5, 1, 24, true, 0}, {4, 4, 8, false, 0}, {2, 2, 40, true, 0.3f}, {2, 1, 256, true, 0},
                                    {8, 1, 80, true, 0}};
    for (size_t i = 0; i < sizeof caches / sizeof *caches; i++) {
        int32_t count[4];
        problem p = cache_make(&caches[i], type, count);
        int64_t tq = p.q.shape[0], qc = p.q.shape[1], kc = p.k.shape[1];
        size_t keys = (size_t)(p.k.shape[0] * kc), heads = (size_t)p.s.heads;
        double *o = calloc((size_t)(tq * qc), 8), *dq = calloc((size_t)(tq * qc), 8), *lse = calloc((size_t)tq * heads, 8);
        double *dk = calloc(keys, 8), *dv = calloc(keys, 8);
        problem_link(&p);
        p.a.k_count = count;
        p.a.q_position = p.position;
        ops_now->attention_forward(&context_now, &p.o.t, p.lse, &p.q, &p.k, &p.v, &p.a);
        for (int s = 0; s < 4; s++) {
            p.cu_k[s + 1] = p.cu_k[s] + count[s]; /* of the keys that are there */
            for (int64_t row = p.cu_q[s]; row < p.cu_q[s + 1]; row++)
                for (int h = 0; h < p.s.heads; h++) {
                    int64_t at = row * qc + h * p.s.size;
                    reference_row(&p, s, row, h, o + at, lse + h * tq + row, dq + at, dk, dv);
                }
            p.cu_k[s + 1] = p.cu_k[s] + p.s.k[s];
        }
        hn_tensor lse_view = hn_tensor_2d(p.lse, HN_F32, p.s.heads, tq);
        CHECK_CLOSE(&p.o.t, o, tolerance(type));
        CHECK_CLOSE(&lse_view, lse, tolerance(HN_F32));
        free(o), free(dq), free(lse), free(dk), free(dv);
        problem_free(&p);
    }
}

static void goes_on_from_a_cache(hn_dtype type)
{
    cache_against_reference(type);
    context_now.few_rows = true;
    cache_against_reference(type);
    context_now.few_rows = false;
}

/* On one thread and on three, beside others and alone: the same bits. */
static void cache_bits(hn_dtype type)
{
    const cached c = {9, 3, 64, true, 0};
    int32_t count[4];
    problem p = cache_make(&c, type, count);
    matrix again = matrix_random(type, 1, 576, 1);
    problem_link(&p);
    p.a.k_count = count;
    context_now.few_rows = true;
    int threads = omp_get_max_threads();
    omp_set_num_threads(3);
    ops_now->attention_forward(&context_now, &p.o.t, NULL, &p.q, &p.k, &p.v, &p.a);
    omp_set_num_threads(1);
    hn_attention alone = p.a;
    int32_t cu_q[2] = {0, 1}, cu_k[2] = {0, 300};
    hn_tensor q = hn_tensor_rows(&p.q, 4, 1), row = hn_tensor_rows(&p.o.t, 4, 1);
    hn_tensor k = hn_tensor_rows(&p.k, p.cu_k[3], 300), v = hn_tensor_rows(&p.v, p.cu_k[3], 300);
    alone.n = 1, alone.cu_q = cu_q, alone.cu_k = cu_k, alone.k_count = count + 3;
    ops_now->attention_forward(&context_now, &again.t, NULL, &q, &k, &v, &alone);
    omp_set_num_threads(threads);
    context_now.few_rows = false;
    CHECK(!memcmp(again.block, row.data, hn_tensor_bytes(&row)));
    matrix_free(&again);
    problem_free(&p);
}

static void same_bits(hn_dtype type)
{
    test_seed = 5;
    problem a = problem_make(cases[3], type), b = problem_make(cases[3], type);
    problem_link(&a), problem_link(&b);
    memcpy(b.qkv.block, a.qkv.block, hn_tensor_bytes(&a.qkv.t));
    memcpy(b.d_o.block, a.d_o.block, hn_tensor_bytes(&a.d_o.t));
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    run(&a);
    omp_set_num_threads(2);
    run(&b);
    omp_set_num_threads(threads);
    CHECK(!memcmp(a.o.block, b.o.block, hn_tensor_bytes(&a.o.t)));
    CHECK(!memcmp(a.d_qkv.block, b.d_qkv.block, hn_tensor_bytes(&a.d_qkv.t)));
    CHECK(!memcmp(a.lse, b.lse, 4 * 79 * sizeof(float)));
    problem_free(&a), problem_free(&b);
}

static void sees_nothing(hn_dtype type)
{
    shape s = {.heads = 2, .kv_heads = 2, .size = 8, .n = 2, .q = {2, 3}, .k = {0, 3}};
    problem p = problem_make(s, type);
    problem_link(&p);
    run(&p);
    for (int c = 0; c < 16; c++) {
        CHECK_NEAR(value_at(&p.o.t, 0, c), 0, 0);
        CHECK_NEAR(value_at(&p.dq, 1, c), 0, 0);
    }
    CHECK(p.lse[0] == -INFINITY);
    problem_free(&p);
}

/* A NaN reaches the queries and keys of its own sequence and head, nothing else. */
static void nan_stays(hn_dtype type)
{
    shape s = {.heads = 2, .kv_heads = 2, .size = 8, .n = 2, .q = {4, 5}, .k = {4, 5}};
    problem p = problem_make(s, type);
    problem_link(&p);
    value_set(&p.k, 5, 9, NAN); /* second sequence, second head */
    run(&p);
    for (int64_t r = 0; r < 9; r++)
        for (int64_t c = 0; c < 16; c++) CHECK_INT(isnan(value_at(&p.o.t, r, c)), r >= 4 && c >= 8);
    problem_free(&p);
}

TEST(values) { on_every_table(against_reference, 300, 800, 257, 1); }
TEST(long_sequences) { on_every_table(one_at_a_time, 2048, 128, 2048, 2); }
TEST(bits) { on_every_table(same_bits, 300, 800, 257, 4); }
TEST(cache) { on_every_table(goes_on_from_a_cache, 300, 800, 257, 1); }
TEST(bits_of_a_cache) { on_every_table(cache_bits, 300, 800, 257, 4); }
TEST(no_keys) { on_every_table(sees_nothing, 300, 800, 257, 4); }
TEST(nan) { on_every_table(nan_stays, 300, 800, 257, 4); }

TEST_MAIN(RUN(values); RUN(long_sequences); RUN(bits); RUN(cache); RUN(bits_of_a_cache); RUN(no_keys); RUN(nan))
