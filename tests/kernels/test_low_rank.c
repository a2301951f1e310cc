/* The low-rank branch of a linear layer against the formula in double: every part, odd sizes, both types, with and without dropout,
 * whose mask is that of the dropout operation. */
#include "tests/kernels/ops_test.h"

typedef struct sizes {
    int64_t m, n, k, rank;
    int parts;
    struct {
        int64_t row, rows;
    } part[HN_LOW_RANK_PARTS];
} sizes;

static const sizes cases[] = {
    {0, 8, 8, 4, 1, {{0, 8}}},
    {1, 1, 1, 1, 1, {{0, 1}}},
    {31, 33, 17, 3, 1, {{5, 20}}},
    {257, 96, 33, 16, 3, {{0, 32}, {32, 16}, {48, 48}}},
    {130, 70, 257, 5, 2, {{0, 31}, {64, 6}}},
    {13, 150, 33, 17, 2, {{3, 70}, {100, 50}}}, /* few rows, over two strips */
};
enum { CASES = sizeof cases / sizeof *cases, MOST = 600 };

static uint32_t step_now = 9, example_now[MOST];
static int32_t position_now[MOST];

static hn_dropout dropout_at(hn_random *random, float probability)
{
    for (int i = 0; i < MOST; i++) {
        example_now[i] = (uint32_t)(i / 40);
        position_now[i] = i % 40;
    }
    *random = (hn_random){77, &step_now, example_now, position_now};
    return (hn_dropout){.probability = probability, .site = HN_SITE(1, HN_SITE_LORA, 2), .random = random};
}

/* What dropout makes of ones: the factor of every element. */
static matrix mask_of(int64_t rows, int64_t columns, const hn_dropout *dropout)
{
    matrix mask = matrix_random(HN_F32, rows, columns, 1);
    for (int64_t i = 0; i < rows * columns; i++) ((float *)mask.t.data)[i] = 1;
    ops_now->dropout(&context_now, &mask.t, &mask.t, dropout);
    matrix_sync(&mask);
    return mask;
}

static int64_t part_rows(const sizes *s)
{
    int64_t rows = 0;
    for (int p = 0; p < s->parts; p++) rows += s->part[p].rows;
    return rows;
}

static hn_low_rank branch_of(const sizes *s, const hn_tensor *low, const hn_tensor *weight, const hn_dropout *dropout)
{
    hn_low_rank out = {.low = low, .weight = weight, .parts = s->parts, .dropout = dropout};
    for (int p = 0; p < s->parts; p++) {
        out.part[p].row = s->part[p].row;
        out.part[p].rows = s->part[p].rows;
    }
    return out;
}

static void forward_case(hn_dtype type, const sizes *s)
{
    int64_t width = s->parts * s->rank;
    matrix x = matrix_random(type, s->m, s->k, 1), w = matrix_random(type, s->n, s->k, 1 / sqrt((double)s->k));
    matrix low = matrix_random(type, s->m, width, 1), b = matrix_random(type, part_rows(s), s->rank, 1);
    matrix y = matrix_random(type, s->m, s->n, 1), z = matrix_random(type, s->m, s->n, 1);
    hn_low_rank branch = branch_of(s, &low.t, &b.t, NULL);
    ops_now->linear_forward_low_rank(&context_now, &y.t, &z.t, &x.t, &w.t, NULL, HN_ACT_RELU, &branch);
    for (int64_t r = 0; r < s->m; r++) {
        double *row = z.d + r * s->n;
        for (int64_t n = 0; n < s->n; n++) {
            row[n] = 0;
            for (int64_t k = 0; k < s->k; k++) row[n] += x.d[r * s->k + k] * w.d[n * s->k + k];
        }
        for (int p = 0, first = 0; p < s->parts; first += (int)s->part[p++].rows)
            for (int64_t n = 0; n < s->part[p].rows; n++)
                for (int64_t i = 0; i < s->rank; i++)
                    row[s->part[p].row + n] += low.d[r * width + p * s->rank + i] * b.d[(first + n) * s->rank + i];
        for (int64_t n = 0; n < s->n; n++) y.d[r * s->n + n] = fmax(row[n], 0);
    }
    CHECK_CLOSE(&z.t, z.d, tolerance(type));
    CHECK_CLOSE(&y.t, y.d, tolerance(type));
    matrix_free(&x), matrix_free(&w), matrix_free(&low), matrix_free(&b), matrix_free(&y), matrix_free(&z);
}

static void backward_case(hn_dtype type, const sizes *s, float probability, bool add)
{
    int64_t width = s->parts * s->rank;
    hn_random random;
    hn_dropout dropout = dropout_at(&random, probability);
    matrix dy = matrix_random(type, s->m, s->n, 1), w = matrix_random(type, s->n, s->k, 1 / sqrt((double)s->n));
    matrix low = matrix_random(type, s->m, width, 1), a = matrix_random(type, width, s->k, 1);
    matrix dx = matrix_random(type, s->m, s->k, 1), z = matrix_random(type, s->m, s->k, 1);
    matrix mask = mask_of(s->m, s->k, &dropout);
    hn_low_rank branch = branch_of(s, &low.t, &a.t, &dropout);
    ops_now->linear_backward_input_low_rank(&context_now, &dx.t, &dy.t, &w.t, add ? NULL : &z.t,
                                            add ? HN_ACT_NONE : HN_ACT_RELU, add, &branch);
    for (int64_t r = 0; r < s->m; r++)
        for (int64_t k = 0; k < s->k; k++) {
            double sum = 0, own = 0, *to = &dx.d[r * s->k + k];
            for (int64_t n = 0; n < s->n; n++) sum += dy.d[r * s->n + n] * w.d[n * s->k + k];
            for (int64_t i = 0; i < width; i++) own += low.d[r * width + i] * a.d[i * s->k + k];
            sum += own * mask.d[r * s->k + k];
            *to = add ? *to + sum : z.d[r * s->k + k] > 0 ? sum : 0;
        }
    CHECK_CLOSE(&dx.t, dx.d, tolerance(type));
    matrix_free(&dy), matrix_free(&w), matrix_free(&low), matrix_free(&a), matrix_free(&dx), matrix_free(&z), matrix_free(&mask);
}

/* low = scale dropout(x) A^T, its gradient by the same operation, and A's. */
static void project_case(hn_dtype type, const sizes *s, float probability)
{
    int64_t width = s->parts * s->rank;
    hn_random random;
    hn_dropout dropout = dropout_at(&random, probability);
    matrix x = matrix_random(type, s->m, s->k, 1), a = matrix_random(type, width, s->k, 1 / sqrt((double)s->k));
    matrix low = matrix_random(type, s->m, width, 1), back = matrix_random(type, s->m, s->k, 1);
    matrix da = matrix_random(HN_F32, width, s->k, 1), mask = mask_of(s->m, s->k, &dropout);
    ops_now->low_rank_project(&context_now, &low.t, &x.t, &a.t, true, 1.5f, &dropout);
    for (int64_t r = 0; r < s->m; r++)
        for (int64_t i = 0; i < width; i++) {
            double sum = 0;
            for (int64_t k = 0; k < s->k; k++) sum += x.d[r * s->k + k] * mask.d[r * s->k + k] * a.d[i * s->k + k];
            low.d[r * width + i] = 1.5 * sum;
        }
    CHECK_CLOSE(&low.t, low.d, tolerance(type));
    matrix_sync(&low);
    ops_now->low_rank_project(&context_now, &back.t, &low.t, &a.t, false, -2, NULL);
    ops_now->low_rank_backward_weight(&context_now, &da.t, &low.t, &x.t, &dropout);
    for (int64_t k = 0; k < s->k; k++)
        for (int64_t r = 0; r < s->m; r++) {
            double sum = 0;
            for (int64_t i = 0; i < width; i++) {
                sum += low.d[r * width + i] * a.d[i * s->k + k];
                da.d[i * s->k + k] += low.d[r * width + i] * x.d[r * s->k + k] * mask.d[r * s->k + k];
            }
            back.d[r * s->k + k] = -2 * sum;
        }
    CHECK_CLOSE(&back.t, back.d, tolerance(type));
    CHECK_CLOSE(&da.t, da.d, tolerance(type));
    matrix db = matrix_random(HN_F32, s->k, width, 1); /* the other way round: more rows than columns */
    ops_now->low_rank_backward_weight(&context_now, &db.t, &x.t, &low.t, NULL);
    for (int64_t k = 0; k < s->k; k++)
        for (int64_t i = 0; i < width; i++)
            for (int64_t r = 0; r < s->m; r++) db.d[k * width + i] += x.d[r * s->k + k] * low.d[r * width + i];
    CHECK_CLOSE(&db.t, db.d, tolerance(type));
    matrix_free(&x), matrix_free(&a), matrix_free(&low), matrix_free(&back), matrix_free(&da), matrix_free(&mask), matrix_free(&db);
}

static void all_cases(hn_dtype type)
{
    for (int i = 0; i < CASES; i++) {
        forward_case(type, &cases[i]);
        for (int drops = 0; drops < 2; drops++) {
            backward_case(type, &cases[i], drops ? 0.4f : 0, false);
            backward_case(type, &cases[i], drops ? 0.4f : 0, true);
            project_case(type, &cases[i], drops ? 0.4f : 0);
        }
    }
}

/* The workspace is just what the table asks for: an operation that takes more fails. */
TEST(against_the_formula)
{
    static const char *const isas[] = {"base", "avx2", "avx512"};
    static const hn_dtype types[] = {HN_F32, HN_BF16};
    for (int i = 0; i < 6; i++) {
        const hn_ops *ops = hnp_ops_cpu_named(isas[i / 2]);
        if (!ops) continue;
        table_begin(ops, ops->workspace(257, 257, 0, 0, types[i % 2]) + ops->low_rank_workspace(257, 48));
        all_cases(types[i % 2]);
        context_now.few_rows = true;
        all_cases(types[i % 2]);
        table_end();
    }
}

/* A row's bits depend neither on the other rows nor on the number of threads. */
TEST(bits)
{
    const sizes *s = &cases[3];
    const hn_ops *ops = hn_ops_cpu();
    hn_random random;
    hn_dropout dropout = dropout_at(&random, 0.3f);
    table_begin(ops, ops->workspace(257, 257, 0, 0, HN_F32) + ops->low_rank_workspace(257, 48));
    matrix dy = matrix_random(HN_F32, s->m, s->n, 1), w = matrix_random(HN_F32, s->n, s->k, 1);
    matrix low = matrix_random(HN_F32, s->m, 48, 1), a = matrix_random(HN_F32, 48, s->k, 1);
    matrix one = matrix_random(HN_F32, s->m, s->k, 1), two = matrix_random(HN_F32, s->m, s->k, 1);
    hn_low_rank branch = branch_of(s, &low.t, &a.t, &dropout);
    ops->linear_backward_input_low_rank(&context_now, &one.t, &dy.t, &w.t, NULL, HN_ACT_NONE, false, &branch);
    int threads = omp_get_max_threads();
    omp_set_num_threads(3);
    for (int64_t first = 0, count = 0; first < s->m; first += count) {
        count = first + 50 < s->m ? 50 : s->m - first;
        hn_tensor part = hn_tensor_rows(&two.t, first, count), from = hn_tensor_rows(&dy.t, first, count);
        hn_tensor low_part = hn_tensor_rows(&low.t, first, count);
        random.example = example_now + first;
        random.position = position_now + first;
        branch.low = &low_part;
        ops->linear_backward_input_low_rank(&context_now, &part, &from, &w.t, NULL, HN_ACT_NONE, false, &branch);
    }
    omp_set_num_threads(threads);
    CHECK(!memcmp(one.block, two.block, (size_t)(s->m * s->k) * sizeof(float)));
    matrix_free(&dy), matrix_free(&w), matrix_free(&low), matrix_free(&a), matrix_free(&one), matrix_free(&two);
    table_end();
}

TEST_MAIN(RUN(against_the_formula); RUN(bits))
