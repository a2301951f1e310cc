/* low_rank.cu, and the branch inside linear.cu, on the emulator against the formulas in double and against the CPU's table: every part,
 * with and without dropout, which is that of the dropout operation, over more rows than scratch holds at once. */
#include "tests/cuda_on_cpu/linear_test.h"

typedef struct branch_case {
    int64_t m, n, k, rank, gap;
    int parts;
    struct {
        int64_t row, rows;
    } part[HN_LOW_RANK_PARTS];
} branch_case;

static const branch_case cases[] = {
    {0, 8, 8, 4, 0, 1, {{0, 8}}},
    {1, 1, 1, 1, 0, 1, {{0, 1}}},
    {31, 33, 17, 3, 2, 1, {{5, 20}}},
    {257, 96, 33, 16, 0, 3, {{0, 32}, {32, 16}, {48, 48}}},
    {33, 72, 64, 8, 8, 2, {{0, 32}, {64, 8}}},
};
enum { CASES = sizeof cases / sizeof *cases, MOST = 5000, SHORT = 40 };

static uint32_t step_now = 9, example_now[MOST];
static int32_t position_now[MOST];
static hn_random random_now = {77, &step_now, example_now, position_now};

static hn_dropout dropout_at(float probability)
{
    for (int i = 0; i < MOST; i++) {
        example_now[i] = (uint32_t)(i / SHORT);
        position_now[i] = i % SHORT;
    }
    return (hn_dropout){.probability = probability, .site = HN_SITE(1, HN_SITE_LORA, 2), .random = &random_now};
}

static double kept(const hn_dropout *dropout, int64_t r, int64_t c, int64_t columns)
{
    return drop_factor(dropout, 0, r, (uint64_t)(r % SHORT * columns + c));
}

static int64_t part_rows(const branch_case *c)
{
    int64_t rows = 0;
    for (int p = 0; p < c->parts; p++) rows += c->part[p].rows;
    return rows;
}

static hn_low_rank branch_of(const branch_case *c, const hn_tensor *low, const hn_tensor *weight, const hn_dropout *dropout)
{
    hn_low_rank out = {.low = low, .weight = weight, .parts = c->parts, .dropout = dropout};
    for (int p = 0; p < c->parts; p++) {
        out.part[p].row = c->part[p].row;
        out.part[p].rows = c->part[p].rows;
    }
    return out;
}

static void release(hn_tensor *const *tensors, int count)
{
    for (int i = 0; i < count; i++) free(tensors[i]->data);
}
#define RELEASE(...)                                                                                                   \
    do {                                                                                                               \
        hn_tensor *const all_[] = {__VA_ARGS__};                                                                       \
        release(all_, sizeof all_ / sizeof *all_);                                                                     \
    } while (0)

/* x w^T + low B^T of one row. */
static void expect_row(const branch_case *c, double *row, int64_t r, const hn_tensor *x, const hn_tensor *w, const hn_tensor *low,
                       const hn_tensor *b)
{
    for (int64_t n = 0; n < c->n; n++) {
        row[n] = 0;
        for (int64_t k = 0; k < c->k; k++) row[n] += get(x, r, k) * get(w, n, k);
    }
    for (int p = 0, first = 0; p < c->parts; first += (int)c->part[p++].rows)
        for (int64_t n = 0; n < c->part[p].rows; n++)
            for (int64_t i = 0; i < c->rank; i++)
                row[c->part[p].row + n] += get(low, r, p * c->rank + i) * get(b, first + n, i);
}

static void check_forward(device *d, const branch_case *c, hn_dtype type, hn_activation activation, bool biased)
{
    int64_t width = c->parts * c->rank, count = c->m * c->n;
    hn_tensor x = matrix_random(type, c->m, c->k, c->k + c->gap, 1), w = matrix_random(type, c->n, c->k, c->k, 1 / sqrt((double)c->k));
    hn_tensor low = matrix_random(type, c->m, width, width + c->gap, 1), b = matrix_random(type, part_rows(c), c->rank, c->rank, 0.3);
    hn_tensor y = matrix_new(type, c->m, c->n, c->n + c->gap), z = matrix_new(type, c->m, c->n, c->n + c->gap);
    hn_tensor bias = vector_random(biased ? type : HN_F32, c->n);
    double *ey = malloc((size_t)count * sizeof *ey + 8), *ez = malloc((size_t)count * sizeof *ez + 8);
    for (int64_t r = 0; r < c->m; r++) expect_row(c, ez + r * c->n, r, &x, &w, &low, &b);
    for (int64_t i = 0; i < count; i++) ez[i] += get(&bias, 0, i % c->n);
    for (int64_t i = 0; i < count; i++) ey[i] = act(ez[i], activation);
    hn_low_rank branch = branch_of(c, &low, &b, NULL);
    d->ops->linear_forward_low_rank(&d->ctx, &y, activation == HN_ACT_NONE ? NULL : &z, &x, &w, &bias, activation, &branch);
    CHECK_TEXT(d->error.message, "");
    CHECK_MATRIX(&y, ey, tolerance(type));
    CHECK(gaps_untouched(&y));
    if (activation != HN_ACT_NONE) CHECK_MATRIX(&z, ez, tolerance(type));
    RELEASE(&x, &w, &low, &b, &y, &z, &bias);
    free(ey);
    free(ez);
}

static void check_backward(device *d, const branch_case *c, hn_dtype type, float probability, hn_activation activation, bool add)
{
    int64_t width = c->parts * c->rank;
    hn_dropout dropout = dropout_at(probability);
    hn_tensor dy = matrix_random(type, c->m, c->n, c->n + c->gap, 1), w = matrix_random(type, c->n, c->k, c->k, 1 / sqrt((double)c->n));
    hn_tensor low = matrix_random(type, c->m, width, width + c->gap, 1), a = matrix_random(type, width, c->k, c->k, 0.3);
    hn_tensor z = matrix_random(type, c->m, c->k, c->k + c->gap, 1);
    hn_tensor dx = add ? matrix_random(type, c->m, c->k, c->k + c->gap, 1) : matrix_new(type, c->m, c->k, c->k + c->gap);
    double *expected = malloc((size_t)(c->m * c->k) * sizeof *expected + 8);
    for (int64_t r = 0; r < c->m; r++)
        for (int64_t k = 0; k < c->k; k++) {
            double sum = 0, own = 0, *to = &expected[r * c->k + k];
            for (int64_t n = 0; n < c->n; n++) sum += get(&dy, r, n) * get(&w, n, k);
            for (int64_t i = 0; i < width; i++) own += get(&low, r, i) * get(&a, i, k);
            sum += own * kept(&dropout, r, k, c->k);
            *to = add ? sum + get(&dx, r, k) : sum * slope(get(&z, r, k), activation);
        }
    hn_low_rank branch = branch_of(c, &low, &a, &dropout);
    d->ops->linear_backward_input_low_rank(&d->ctx, &dx, &dy, &w, activation == HN_ACT_NONE ? NULL : &z, activation, add, &branch);
    CHECK_TEXT(d->error.message, "");
    CHECK_MATRIX(&dx, expected, tolerance(type));
    CHECK(gaps_untouched(&dx));
    RELEASE(&dy, &w, &low, &a, &z, &dx);
    free(expected);
}

TEST(branch_forward)
{
    for (int bits = 0; bits < 4; bits++) {
        hn_dtype type = bits & 1 ? HN_BF16 : HN_F32;
        device d;
        linear_open(&d, bits & 2 ? 90 : 80);
        for (int i = 0; i < CASES; i++) {
            check_forward(&d, &cases[i], type, HN_ACT_NONE, false);
            check_forward(&d, &cases[i], type, HN_ACT_NONE, true);
            check_forward(&d, &cases[i], type, HN_ACT_GELU_TANH, true);
            check_forward(&d, &cases[i], type, HN_ACT_RELU, false);
        }
        device_close(&d);
    }
}

TEST(branch_backward)
{
    for (int bits = 0; bits < 8; bits++) {
        hn_dtype type = bits & 1 ? HN_BF16 : HN_F32;
        float probability = bits & 2 ? 0.3f : 0;
        device d;
        linear_open(&d, bits & 4 ? 90 : 80);
        for (int i = 0; i < CASES; i++) {
            check_backward(&d, &cases[i], type, probability, HN_ACT_NONE, false);
            check_backward(&d, &cases[i], type, probability, HN_ACT_NONE, true);
            check_backward(&d, &cases[i], type, probability, HN_ACT_GELU_TANH, false);
            check_backward(&d, &cases[i], type, probability, HN_ACT_GELU, false);
        }
        device_close(&d);
    }
}

/* low = 1.5 dropout(x) A^T; back = -2 low A; dA += low^T dropout(x); dB += x^T low, the other way round. */
static void check_project(device *d, const branch_case *c, hn_dtype type, float probability)
{
    int64_t width = c->parts * c->rank;
    hn_dropout dropout = dropout_at(probability);
    hn_tensor x = matrix_random(type, c->m, c->k, c->k + c->gap, 1), a = matrix_random(type, width, c->k, c->k, 1 / sqrt((double)c->k));
    hn_tensor low = matrix_new(type, c->m, width, width + c->gap), back = matrix_new(type, c->m, c->k, c->k + c->gap);
    hn_tensor da = matrix_random(HN_F32, width, c->k, c->k, 1), db = matrix_random(HN_F32, c->k, width, width, 1);
    double *el = calloc((size_t)(c->m * width) + 1, sizeof *el), *eb = calloc((size_t)(c->m * c->k) + 1, sizeof *eb);
    double *ea = malloc((size_t)(width * c->k) * sizeof *ea), *et = malloc((size_t)(width * c->k) * sizeof *et);
    for (int64_t i = 0; i < c->m * width; i++)
        for (int64_t k = 0; k < c->k; k++)
            el[i] += 1.5 * get(&x, i / width, k) * kept(&dropout, i / width, k, c->k) * get(&a, i % width, k);
    d->ops->low_rank_project(&d->ctx, &low, &x, &a, true, 1.5f, &dropout);
    CHECK_TEXT(d->error.message, "");
    CHECK_MATRIX(&low, el, tolerance(type));
    CHECK(gaps_untouched(&low));
    for (int64_t i = 0; i < c->m * c->k; i++)
        for (int64_t j = 0; j < width; j++) eb[i] += -2 * get(&low, i / c->k, j) * get(&a, j, i % c->k);
    for (int64_t i = 0; i < width * c->k; i++) {
        ea[i] = get(&da, i / c->k, i % c->k);
        et[i] = get(&db, i / width, i % width);
        for (int64_t r = 0; r < c->m; r++) {
            ea[i] += get(&low, r, i / c->k) * get(&x, r, i % c->k) * kept(&dropout, r, i % c->k, c->k);
            et[i] += get(&x, r, i / width) * get(&low, r, i % width);
        }
    }
    d->ops->low_rank_project(&d->ctx, &back, &low, &a, false, -2, NULL);
    d->ops->low_rank_backward_weight(&d->ctx, &da, &low, &x, &dropout);
    d->ops->low_rank_backward_weight(&d->ctx, &db, &x, &low, NULL);
    CHECK_TEXT(d->error.message, "");
    CHECK_MATRIX(&back, eb, tolerance(type));
    CHECK_MATRIX(&da, ea, 1e-4);
    CHECK_MATRIX(&db, et, 1e-4);
    RELEASE(&x, &a, &low, &back, &da, &db);
    free(el), free(eb), free(ea), free(et);
}

TEST(project_and_weights)
{
    device d;
    linear_open(&d, 80);
    for (int i = 0; i < CASES; i++) {
        check_project(&d, &cases[i], HN_F32, 0);
        check_project(&d, &cases[i], HN_F32, 0.25f);
        check_project(&d, &cases[i], HN_BF16, 0);
        check_project(&d, &cases[i], HN_BF16, 0.25f);
    }
    device_close(&d);
}

/* More rows than a piece of scratch holds: 8 MiB / 4 / 1,200 = 1,747. */
TEST(rows_go_by_pieces)
{
    static const branch_case wide = {1800, 2, 1200, 2, 0, 1, {{0, 2}}};
    device d;
    linear_open(&d, 80);
    check_project(&d, &wide, HN_F32, 0.5f);
    check_backward(&d, &wide, HN_F32, 0.5f, HN_ACT_NONE, true);
    check_backward(&d, &wide, HN_F32, 0.5f, HN_ACT_RELU, false);
    device_close(&d);
}

/* The masks are the CPU's, bit for bit. */
TEST(agrees_with_the_cpu)
{
    enum { X, A, LOW, DA, TENSORS, ROWS = 37, COLUMNS = 48, RANK = 8 };
    device d;
    table cpu;
    hn_tensor t[2][TENSORS];
    hn_dropout dropout = dropout_at(0.25f);
    for (int side = 0; side < 2; side++) {
        test_random = 42;
        t[side][X] = matrix_random(HN_F32, ROWS, COLUMNS, COLUMNS, 1);
        t[side][A] = matrix_random(HN_F32, RANK, COLUMNS, COLUMNS, 1);
        t[side][LOW] = matrix_new(HN_F32, ROWS, RANK, RANK);
        t[side][DA] = matrix_random(HN_F32, RANK, COLUMNS, COLUMNS, 1);
    }
    cpu_open(&cpu);
    linear_open(&d, 80);
    hn_tensor *c = t[0], *g = t[1];
    hn_ops_cpu()->low_rank_project(&cpu.ctx, &c[LOW], &c[X], &c[A], true, 0.5f, &dropout);
    hn_ops_cpu()->low_rank_backward_weight(&cpu.ctx, &c[DA], &c[LOW], &c[X], &dropout);
    d.ops->low_rank_project(&d.ctx, &g[LOW], &g[X], &g[A], true, 0.5f, &dropout);
    d.ops->low_rank_backward_weight(&d.ctx, &g[DA], &g[LOW], &g[X], &dropout);
    CHECK_TEXT(cpu.error.message, "");
    CHECK_TEXT(d.error.message, "");
    CHECK(apart(&c[LOW], &g[LOW]) < 1e-6);
    CHECK(apart(&c[DA], &g[DA]) < 1e-6);
    for (int i = 0; i < TENSORS; i++) RELEASE(&c[i], &g[i]);
    cpu_close(&cpu);
    device_close(&d);
}

TEST(workspace_too_small_is_an_error)
{
    device d;
    float f[8] = {0};
    hn_tensor t = hn_tensor_2d(f, HN_F32, 1, 8), low = hn_tensor_2d(f, HN_F32, 1, 1);
    device_open(&d, 64);
    d.ops->low_rank_project(&d.ctx, &low, &t, &t, true, 1, NULL);
    CHECK_TEXT(d.error.message, "low_rank_project: needs 50331904 bytes of workspace, has 64");
    device_close(&d);
}

TEST_MAIN(RUN(branch_forward); RUN(branch_backward); RUN(project_and_weights); RUN(rows_go_by_pieces); RUN(agrees_with_the_cpu);
          RUN(workspace_too_small_is_an_error))
