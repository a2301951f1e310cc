/* Cross-entropy of a vocabulary product: loss, arg max and gradients against the formula in double at odd sizes, over several chunks,
 * tiles and spans, in both types of products; slopes by finite differences; rows without a target; ties; a NaN; bits. */
#include "core/batch.h"
#include "tests/kernels/ops_test.h"

typedef struct sizes {
    int64_t n, width, words;
    int64_t pad;
    bool bias, dx, dw;
    float smoothing;
    int every; /* each row that is no multiple of this has a target; 0: all have */
} sizes;

typedef struct problem {
    sizes s;
    matrix x, w, bias, dx, dw, dbias;
    int32_t *label;
    double loss;
    int64_t count, correct;
    float scale, *row_loss;
    bool *row_correct;
} problem;

static problem problem_make(hn_dtype type, sizes s)
{
    problem p = {.s = s, .scale = 0.7f, .loss = 100, .count = 1000, .correct = 10};
    double unit = 3 / sqrt((double)s.width + 1);
    p.x = matrix_strided(type, s.n, s.width, s.width + s.pad, 1), p.w = matrix_strided(type, s.words, s.width, s.width + s.pad, unit);
    p.bias = matrix_random(type, 1, s.words, 1), p.dx = matrix_strided(type, s.n, s.width, s.width + s.pad, 1);
    p.dw = matrix_strided(HN_F32, s.words, s.width, s.width + s.pad, 1), p.dbias = matrix_random(HN_F32, 1, s.words, 1);
    p.label = calloc((size_t)s.n + 1, sizeof *p.label);
    p.row_loss = calloc((size_t)s.n + 1, sizeof *p.row_loss);
    p.row_correct = calloc((size_t)s.n + 1, sizeof *p.row_correct);
    for (int64_t r = 0; r < s.n; r++)
        p.label[r] = s.every && r % s.every == 0 ? HN_NO_TARGET : (int32_t)((r * 37 + 5) % s.words);
    return p;
}

static void problem_free(problem *p)
{
    matrix *all[] = {&p->x, &p->w, &p->bias, &p->dx, &p->dw, &p->dbias};
    for (int i = 0; i < 6; i++) matrix_free(all[i]);
    free(p->label), free(p->row_loss), free(p->row_correct);
}

static void problem_run(problem *p)
{
    hn_tensor bias = hn_tensor_1d(p->bias.block, p->bias.t.dtype, p->s.words);
    hn_tensor dbias = hn_tensor_1d(p->dbias.block, HN_F32, p->s.words);
    hn_target_loss out = {&p->loss, &p->count, &p->correct, p->row_loss, p->row_correct, 0};
    bool slopes = p->s.dx || p->s.dw;
    ops_now->linear_cross_entropy(&context_now, &out, p->s.dx ? &p->dx.t : NULL, p->s.dw ? &p->dw.t : NULL,
                                  p->s.bias && slopes ? &dbias : NULL, &p->x.t, &p->w.t, p->s.bias ? &bias : NULL, p->label,
                                  p->s.smoothing, slopes ? &p->scale : NULL);
}

/* Loss of a row in double; z becomes dz; whether the label is the arg max. */
static double row_reference(const problem *p, int64_t r, double *z, bool *correct)
{
    int64_t C = p->s.width, V = p->s.words, best = 0;
    double sum = 0, loss = 0, smoothing = (double)p->s.smoothing;
    for (int64_t v = 0; v < V; v++) {
        z[v] = p->s.bias ? p->bias.d[v] : 0;
        for (int64_t c = 0; c < C; c++) z[v] += p->x.d[r * C + c] * p->w.d[v * C + c];
        sum += exp(z[v]);
        if (z[v] > z[best]) best = v;
    }
    for (int64_t v = 0; v < V; v++) {
        double q = smoothing / (double)V + (v == p->label[r] ? 1 - smoothing : 0);
        loss -= q * (z[v] - log(sum));
        z[v] = (exp(z[v]) / sum - q) * (double)p->scale;
    }
    *correct = best == p->label[r];
    return loss;
}

/* Adds the gradients to dw and dbias, sets dx's row. */
static void slopes_reference(problem *p, int64_t r, const double *dz)
{
    int64_t C = p->s.width, V = p->s.words;
    for (int64_t v = 0; v < V; v++) {
        p->dbias.d[v] += dz[v];
        for (int64_t c = 0; c < C; c++) {
            p->dx.d[r * C + c] += dz[v] * p->w.d[v * C + c];
            p->dw.d[v * C + c] += dz[v] * p->x.d[r * C + c];
        }
    }
}

static void compare(problem *p, hn_dtype type)
{
    double *z = calloc((size_t)p->s.words, sizeof *z), loss = 100, slack = hnp_products_bf16() ? tolerance(type) : tolerance(HN_F32);
    int64_t count = 1000, correct = 10;
    memset(p->dx.d, 0, (size_t)(p->s.n * p->s.width) * sizeof(double));
    for (int64_t r = 0; r < p->s.n; r++) {
        bool hit = false;
        double of_row = p->label[r] == HN_NO_TARGET ? 0 : row_reference(p, r, z, &hit);
        CHECK_NEAR((double)p->row_loss[r], of_row, 1e-4);
        CHECK_INT(p->row_correct[r], hit);
        loss += of_row, correct += hit, count += p->label[r] != HN_NO_TARGET;
        if (p->label[r] != HN_NO_TARGET) slopes_reference(p, r, z);
    }
    CHECK_NEAR(p->loss, loss, 1e-5 * loss);
    CHECK_INT(p->count, count);
    CHECK_INT(p->correct, correct);
    if (p->s.dx) CHECK_CLOSE(&p->dx.t, p->dx.d, tolerance(type));
    if (p->s.dw) CHECK_CLOSE(&p->dw.t, p->dw.d, slack);
    if (p->s.bias && (p->s.dx || p->s.dw)) CHECK_CLOSE(&p->dbias.t, p->dbias.d, slack);
    free(z);
}

static void value_cases(hn_dtype type)
{
    static const sizes cases[] = {
        {0, 8, 20, 0, true, true, true, 0, 0},       {1, 1, 1, 0, false, true, true, 0, 0},
        {31, 33, 257, 3, true, true, true, 0.1f, 3}, {33, 31, 256, 0, false, true, false, 0, 2},
        {3, 40, 600, 1, true, false, true, 0, 0},    {257, 9, 40, 0, false, true, true, 0, 5},
        {33, 16, 300, 0, true, false, false, 0, 4},  {700, 8, 300, 0, true, true, true, 0, 9},
        {5, 8, 4400, 0, false, true, true, 0.2f, 0}, {4, 8, 30, 0, true, true, true, 0, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        problem p = problem_make(type, cases[i]);
        problem_run(&p);
        compare(&p, type);
        problem_free(&p);
    }
}

/* Moves one input by a step either way: the loss moves by its gradient. */
static void finite_differences(hn_dtype type)
{
    if (type != HN_F32) return; /* the same body */
    problem p = problem_make(type, (sizes){6, 10, 290, 0, true, true, true, 0.1f, 4});
    p.scale = 1;
    memset(p.dw.block, 0, hn_tensor_bytes(&p.dw.t)), memset(p.dbias.block, 0, hn_tensor_bytes(&p.dbias.t));
    problem_run(&p);
    struct {
        matrix *input, *gradient;
        int64_t r, c;
    } at[] = {{&p.x, &p.dx, 1, 3}, {&p.x, &p.dx, 5, 9}, {&p.w, &p.dw, 5 + 37, 0}, {&p.w, &p.dw, 289, 7}, {&p.bias, &p.dbias, 0, 42}};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        double value = value_at(&at[i].input->t, at[i].r, at[i].c), slope = value_at(&at[i].gradient->t, at[i].r, at[i].c);
        double loss[2];
        p.s.dx = p.s.dw = false;
        for (int side = 0; side < 2; side++) {
            value_set(&at[i].input->t, at[i].r, at[i].c, value + (side ? 1e-2 : -1e-2));
            p.loss = 0;
            problem_run(&p);
            loss[side] = p.loss;
        }
        value_set(&at[i].input->t, at[i].r, at[i].c, value);
        CHECK_NEAR(slope, (loss[1] - loss[0]) / 2e-2, 2e-3);
    }
    problem_free(&p);
}

/* One thread against two, and rows that stand in another order among others: all bits of a row, all bits of sums. */
static void same_bits(hn_dtype type)
{
    sizes s = {150, 24, 4400, 0, true, true, true, 0.1f, 6}, few = s;
    few.n = 40;
    test_seed = 9;
    problem a = problem_make(type, s), b = problem_make(type, s), c = problem_make(type, few);
    matrix *from[] = {&a.x, &a.w, &a.bias, &a.dw, &a.dbias}, *to[] = {&b.x, &b.w, &b.bias, &b.dw, &b.dbias};
    for (int i = 0; i < 5; i++) memcpy(to[i]->block, from[i]->block, hn_tensor_bytes(&from[i]->t));
    for (int64_t r = 0; r < few.n; r++) { /* rows 100 to 139 alone, and none left out */
        c.label[r] = a.label[r + 100];
        for (int64_t i = 0; i < s.width; i++) value_set(&c.x.t, r, i, value_at(&a.x.t, r + 100, i));
    }
    memcpy(c.w.block, a.w.block, hn_tensor_bytes(&a.w.t)), memcpy(c.bias.block, a.bias.block, hn_tensor_bytes(&a.bias.t));
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    problem_run(&a);
    omp_set_num_threads(2);
    problem_run(&b), problem_run(&c);
    omp_set_num_threads(threads);
    CHECK(a.loss == b.loss && a.correct == b.correct && !memcmp(a.row_loss, b.row_loss, (size_t)s.n * 4));
    CHECK(!memcmp(a.dx.block, b.dx.block, hn_tensor_bytes(&a.dx.t)));
    CHECK(!memcmp(a.dw.block, b.dw.block, hn_tensor_bytes(&a.dw.t)));
    CHECK(!memcmp(a.dbias.block, b.dbias.block, hn_tensor_bytes(&a.dbias.t)));
    CHECK(!memcmp(a.row_loss + 100, c.row_loss, (size_t)few.n * 4));
    for (int64_t r = 0; r < few.n; r++)
        for (int64_t i = 0; i < s.width; i++) CHECK(value_at(&a.dx.t, r + 100, i) == value_at(&c.dx.t, r, i));
    problem_free(&a), problem_free(&b), problem_free(&c);
}

/* Logits that the bias alone makes, so that they are exact: of equal ones the first is the prediction, in a tile and over two. */
static void ties(hn_dtype type)
{
    static const int32_t labels[] = {3, 7, 300, 8};
    static const bool expected[] = {true, false, false, false};
    problem p = problem_make(type, (sizes){4, 8, 310, 0, true, false, false, 0, 0});
    for (int64_t i = 0; i < 4 * 8; i++) value_set(&p.x.t, i / 8, i % 8, 0);
    for (int64_t v = 0; v < 310; v++) value_set(&p.bias.t, 0, v, v == 3 || v == 7 || v == 300 ? 2 : 1);
    memcpy(p.label, labels, sizeof labels);
    problem_run(&p);
    for (int r = 0; r < 4; r++) CHECK_INT(p.row_correct[r], expected[r]);
    CHECK_INT(p.correct, 11);
    CHECK_NEAR((double)p.row_loss[3], log(307 + 3 * M_E), 1e-5);
    problem_free(&p);
}

/* A NaN reaches its row's loss and dx; rows without a target may hold anything. */
static void nan_stays(hn_dtype type)
{
    problem p = problem_make(type, (sizes){40, 12, 270, 0, false, true, false, 0, 10});
    value_set(&p.x.t, 7, 3, NAN), value_set(&p.x.t, 20, 0, NAN);
    problem_run(&p);
    CHECK(isnan(p.loss));
    CHECK_INT(p.row_correct[7], false);
    for (int64_t r = 0; r < 40; r++) {
        CHECK_INT(isnan(p.row_loss[r]), r == 7);
        for (int64_t c = 0; c < 12; c++) {
            CHECK_INT(isnan(value_at(&p.dx.t, r, c)), r == 7);
            if (r % 10 == 0) CHECK_NEAR(value_at(&p.dx.t, r, c), 0, 0);
        }
    }
    problem_free(&p);
}

static void refusals(hn_dtype type)
{
    problem p = problem_make(type, (sizes){3, 8, 20, 0, true, true, true, 0, 0});
    p.label[1] = 20;
    problem_run(&p);
    CHECK_INT(error_now.status, HN_ERR_MISMATCH);
    CHECK_CONTAINS(error_now.message, "row 1 has the label 20, expected 0 to 19");
    CHECK_INT(p.count, 1000);
    hn_error_reset(&error_now);
    p.label[1] = 0;
    size_t size = context_now.workspace_size;
    for (size_t small = 64; small < size && small < 400000; small = small * 3 / 2) {
        context_now.workspace_size = small;
        problem_run(&p);
        if (error_now.status != HN_ERR_MEMORY) break;
        CHECK_CONTAINS(error_now.message, "workspace too small");
        hn_error_reset(&error_now);
    }
    context_now.workspace_size = size;
    problem_free(&p);
}

/* Every table with just the scratch that is asked for: 700 rows of 40, 4,400 words. */
static void on_tables(void (*body)(hn_dtype type))
{
    static const char *const isas[] = {"base", "avx2", "avx512"};
    for (int i = 0; i < 6; i++) {
        const hn_ops *ops = hnp_ops_cpu_named(isas[i / 2]);
        if (!ops) continue;
        omp_set_num_threads(2);
        table_begin(ops, ops->linear_cross_entropy_workspace(700, 40, 4400));
        body(i % 2 ? HN_BF16 : HN_F32);
        table_end();
    }
}

/* Each case in scratch of exactly its own size. */
static void exact_scratch(hn_dtype type)
{
    static const sizes cases[] = {{1, 1, 1, 0, true, true, true, 0, 0}, {130, 17, 513, 2, true, true, true, 0.1f, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        problem p = problem_make(type, cases[i]);
        context_now.workspace_size = ops_now->linear_cross_entropy_workspace(cases[i].n, cases[i].width, cases[i].words);
        problem_run(&p);
        compare(&p, type);
        problem_free(&p);
    }
}

TEST(values) { on_tables(value_cases); }
TEST(slopes) { on_tables(finite_differences); }
TEST(bits) { on_tables(same_bits); }
TEST(arg_max) { on_tables(ties); }
TEST(nan) { on_tables(nan_stays); }
TEST(errors) { on_tables(refusals); }
TEST(scratch) { on_tables(exact_scratch); }

/* Products of the other kind than this machine's own. */
TEST(product_types)
{
    static const char *const kinds[] = {"fp32", "bf16"};
    for (int i = 0; i < 2; i++) {
        setenv("HONE_CPU_PRODUCTS", kinds[i], 1);
        table_begin(hn_ops_cpu(), hn_ops_cpu()->linear_cross_entropy_workspace(700, 40, 4400));
        value_cases(HN_BF16);
        same_bits(HN_BF16);
        nan_stays(HN_BF16);
        table_end();
    }
    unsetenv("HONE_CPU_PRODUCTS");
}

TEST_MAIN(RUN(values); RUN(slopes); RUN(bits); RUN(arg_max); RUN(nan); RUN(errors); RUN(scratch); RUN(product_types))
