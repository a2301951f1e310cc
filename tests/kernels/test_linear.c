/* Linear layers against the formula in double: odd sizes, strided views, mixed types, every activation, and bits that depend
 * neither on the threads nor on the other rows. */
#include "tests/kernels/ops_test.h"

static double act(double z, hn_activation a)
{
    switch (a) {
    case HN_ACT_GELU: return 0.5 * z * (1 + erf(z / sqrt(2)));
    case HN_ACT_GELU_TANH: return 0.5 * z * (1 + tanh(sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
    case HN_ACT_TANH: return tanh(z);
    case HN_ACT_RELU: return z > 0 ? z : 0;
    case HN_ACT_SILU: return z / (1 + exp(-z));
    default: return z;
    }
}

/* By central difference, so that the slopes in the product are checked against something else than themselves; for tanh the
 * argument is the output. */
static double slope(double z, hn_activation a)
{
    if (a == HN_ACT_TANH) return 1 - z * z;
    if (a == HN_ACT_RELU) return z > 0;
    return (act(z + 1e-5, a) - act(z - 1e-5, a)) / 2e-5;
}

typedef struct sizes {
    int64_t m, n, k, pad; /* pad: columns between the end of a row and the next */
} sizes;

static void forward_case(hn_dtype type, sizes s, hn_activation a, bool keep_z, bool with_bias)
{
    matrix x = matrix_strided(type, s.m, s.k, s.k + s.pad, 1), w = matrix_random(type, s.n, s.k, 1 / sqrt((double)s.k + 1));
    matrix bias = matrix_random(type, 1, s.n, 1), y = matrix_strided(type, s.m, s.n, s.n + s.pad, 1);
    matrix z = matrix_random(type, s.m, s.n, 1);
    hn_tensor b = hn_tensor_1d(bias.block, type, s.n);
    ops_now->linear_forward(&context_now, &y.t, keep_z ? &z.t : NULL, &x.t, &w.t, with_bias ? &b : NULL, a);
    for (int64_t r = 0; r < s.m; r++)
        for (int64_t n = 0; n < s.n; n++) {
            double sum = with_bias ? bias.d[n] : 0;
            for (int64_t k = 0; k < s.k; k++) sum += x.d[r * s.k + k] * w.d[n * s.k + k];
            z.d[r * s.n + n] = sum;
            y.d[r * s.n + n] = act(sum, a);
        }
    CHECK_CLOSE(&y.t, y.d, tolerance(type));
    if (keep_z) CHECK_CLOSE(&z.t, z.d, tolerance(type));
    matrix_free(&x), matrix_free(&w), matrix_free(&bias), matrix_free(&y), matrix_free(&z);
}

static void forward_all(hn_dtype type)
{
    static const sizes cases[] = {{0, 8, 8, 0},  {1, 1, 1, 0},     {1, 3, 33, 0},    {31, 33, 31, 5},
                                  {33, 31, 257, 0}, {257, 64, 33, 3}, {129, 384, 128, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        forward_case(type, cases[i], HN_ACT_NONE, false, i % 2);
        forward_case(type, cases[i], HN_ACT_GELU, true, true);
    }
    forward_case(type, cases[4], HN_ACT_GELU, false, true);
    forward_case(type, cases[4], HN_ACT_GELU_TANH, true, true);
    forward_case(type, cases[4], HN_ACT_TANH, false, true);
    forward_case(type, cases[4], HN_ACT_RELU, true, false);
    forward_case(type, cases[4], HN_ACT_SILU, true, true);
}

static void backward_input_case(hn_dtype type, sizes s, hn_activation a, bool add)
{
    matrix dy = matrix_strided(type, s.m, s.n, s.n + s.pad, 1), w = matrix_random(type, s.n, s.k, 1 / sqrt((double)s.n + 1));
    matrix z = matrix_random(type, s.m, s.k, 0.9), dx = matrix_strided(type, s.m, s.k, s.k + s.pad, 1);
    ops_now->linear_backward_input(&context_now, &dx.t, &dy.t, &w.t, a ? &z.t : NULL, a, add);
    for (int64_t r = 0; r < s.m; r++)
        for (int64_t k = 0; k < s.k; k++) {
            double sum = 0, *out = &dx.d[r * s.k + k];
            for (int64_t n = 0; n < s.n; n++) sum += dy.d[r * s.n + n] * w.d[n * s.k + k];
            *out = add ? *out + sum : sum * (a ? slope(z.d[r * s.k + k], a) : 1);
        }
    CHECK_CLOSE(&dx.t, dx.d, tolerance(type));
    matrix_free(&dy), matrix_free(&w), matrix_free(&z), matrix_free(&dx);
}

static void backward_input_all(hn_dtype type)
{
    static const sizes cases[] = {{0, 8, 8, 0}, {1, 1, 1, 0}, {31, 33, 31, 5}, {33, 257, 31, 0}, {257, 33, 64, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        backward_input_case(type, cases[i], HN_ACT_NONE, false);
        backward_input_case(type, cases[i], HN_ACT_NONE, true);
        backward_input_case(type, cases[i], HN_ACT_GELU, false);
    }
    backward_input_case(type, cases[3], HN_ACT_GELU_TANH, false);
    backward_input_case(type, cases[3], HN_ACT_TANH, false);
    backward_input_case(type, cases[3], HN_ACT_RELU, false);
    backward_input_case(type, cases[3], HN_ACT_SILU, false);
}

static void backward_weight_case(hn_dtype type, sizes s, bool with_weight, bool with_bias)
{
    matrix dy = matrix_strided(type, s.m, s.n, s.n + s.pad, 1), x = matrix_strided(type, s.m, s.k, s.k + s.pad, 1);
    matrix dw = matrix_strided(HN_F32, s.n, s.k, s.k + s.pad, 1), dbias = matrix_random(HN_F32, 1, s.n, 1);
    hn_tensor b = hn_tensor_1d(dbias.block, HN_F32, s.n);
    ops_now->linear_backward_weight(&context_now, with_weight ? &dw.t : NULL, with_bias ? &b : NULL, &dy.t, &x.t);
    for (int64_t n = 0; n < s.n; n++) {
        for (int64_t r = 0; r < s.m && with_bias; r++) dbias.d[n] += dy.d[r * s.n + n];
        for (int64_t k = 0; k < s.k && with_weight; k++)
            for (int64_t r = 0; r < s.m; r++) dw.d[n * s.k + k] += dy.d[r * s.n + n] * x.d[r * s.k + k];
    }
    /* the tolerance is fp32's but for native bf16 products, whose inputs are exact: both accumulate in fp32 */
    CHECK_CLOSE(&dw.t, dw.d, tolerance(HN_F32));
    CHECK_CLOSE(&dbias.t, dbias.d, tolerance(HN_F32));
    matrix_free(&dy), matrix_free(&x), matrix_free(&dw), matrix_free(&dbias);
}

static void backward_weight_all(hn_dtype type)
{
    static const sizes cases[] = {{0, 8, 8, 0},    {1, 1, 1, 0},     {31, 33, 31, 5},  {33, 257, 31, 0},
                                  {257, 33, 64, 3}, {64, 65, 16, 0}, {1025, 3, 48, 0}, {512, 64, 64, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) backward_weight_case(type, cases[i], true, i % 2);
    backward_weight_case(type, cases[2], false, true);
}

/* A head in bf16 has fp32 logits: every tensor has its own type. */
static void mixed_types(hn_dtype type)
{
    hn_dtype other = type == HN_F32 ? HN_BF16 : HN_F32;
    matrix x = matrix_random(type, 5, 40, 1), w = matrix_random(type, 3, 40, 0.2), y = matrix_random(other, 5, 3, 1);
    hn_tensor none = {0};
    ops_now->linear_forward(&context_now, &y.t, &none, &x.t, &w.t, &none, HN_ACT_NONE);
    for (int r = 0; r < 5; r++)
        for (int n = 0; n < 3; n++) {
            double sum = 0;
            for (int k = 0; k < 40; k++) sum += x.d[r * 40 + k] * w.d[n * 40 + k];
            y.d[r * 3 + n] = sum;
        }
    CHECK_CLOSE(&y.t, y.d, tolerance(HN_BF16));
    matrix dw = matrix_random(HN_F32, 3, 40, 1);
    matrix_sync(&y);
    ops_now->linear_backward_weight(&context_now, &dw.t, NULL, &y.t, &x.t);
    for (int n = 0; n < 3; n++)
        for (int k = 0; k < 40; k++)
            for (int r = 0; r < 5; r++) dw.d[n * 40 + k] += y.d[r * 3 + n] * x.d[r * 40 + k];
    CHECK_CLOSE(&dw.t, dw.d, tolerance(hnp_products_bf16() ? HN_BF16 : HN_F32));
    matrix_free(&x), matrix_free(&w), matrix_free(&y), matrix_free(&dw);
}

/* Bytes of all three operations on M rows of a fixed problem, with the given threads. */
static void all_bits(hn_dtype type, int64_t m, int threads, matrix out[4], const matrix *x, const matrix *w, const matrix *z)
{
    int64_t n = w->t.shape[0], k = w->t.shape[1];
    int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    out[0] = matrix_random(type, m, n, 0), out[1] = matrix_random(type, m, k, 0);
    out[2] = matrix_random(HN_F32, n, k, 0), out[3] = matrix_random(HN_F32, 1, n, 0);
    hn_tensor rows = hn_tensor_rows(&x->t, 0, m), z_rows = hn_tensor_rows(&z->t, 0, m);
    hn_tensor b = hn_tensor_1d(out[3].block, HN_F32, n);
    ops_now->linear_forward(&context_now, &out[0].t, NULL, &rows, &w->t, NULL, HN_ACT_GELU);
    ops_now->linear_backward_input(&context_now, &out[1].t, &out[0].t, &w->t, &z_rows, HN_ACT_GELU, false);
    ops_now->linear_backward_weight(&context_now, &out[2].t, &b, &out[0].t, &rows);
    omp_set_num_threads(before);
}

static void same_bits(hn_dtype type)
{
    matrix x = matrix_random(type, 600, 96, 1), w = matrix_random(type, 160, 96, 0.1), z = matrix_random(type, 600, 96, 1);
    matrix one[4], two[4], few[4];
    all_bits(type, 600, 1, one, &x, &w, &z);
    all_bits(type, 600, 2, two, &x, &w, &z);
    all_bits(type, 77, 2, few, &x, &w, &z);
    size_t size = hn_dtype_size(type);
    CHECK(!memcmp(one[0].block, two[0].block, 600 * 160 * size));
    CHECK(!memcmp(one[1].block, two[1].block, 600 * 96 * size));
    CHECK(!memcmp(one[2].block, two[2].block, 160 * 96 * sizeof(float)));
    CHECK(!memcmp(one[3].block, two[3].block, 160 * sizeof(float)));
    CHECK(!memcmp(one[0].block, few[0].block, 77 * 160 * size)); /* a row does not know the others */
    CHECK(!memcmp(one[1].block, few[1].block, 77 * 96 * size));
    for (int i = 0; i < 4; i++) matrix_free(&one[i]), matrix_free(&two[i]), matrix_free(&few[i]);
    matrix_free(&x), matrix_free(&w), matrix_free(&z);
}

static void nan_stays_in_its_row(hn_dtype type)
{
    matrix x = matrix_random(type, 40, 32, 1), w = matrix_random(type, 16, 32, 1), y = matrix_random(type, 40, 16, 1);
    value_set(&x.t, 7, 3, NAN);
    ops_now->linear_forward(&context_now, &y.t, NULL, &x.t, &w.t, NULL, HN_ACT_GELU);
    for (int64_t r = 0; r < 40; r++)
        for (int64_t c = 0; c < 16; c++) CHECK_INT(isnan(value_at(&y.t, r, c)), r == 7);
    matrix_free(&x), matrix_free(&w), matrix_free(&y);
}

TEST(forward) { on_every_table(forward_all, 1100, 400, 0, 0); }
TEST(backward_input) { on_every_table(backward_input_all, 1100, 400, 0, 0); }
TEST(backward_weight) { on_every_table(backward_weight_all, 1100, 400, 0, 0); }
TEST(types) { on_every_table(mixed_types, 100, 100, 0, 0); }
TEST(bits) { on_every_table(same_bits, 600, 160, 0, 0); }
TEST(nan) { on_every_table(nan_stays_in_its_row, 100, 100, 0, 0); }

/* The override that lets a machine of one kind test the products of the other. */
TEST(product_types)
{
    setenv("HONE_CPU_PRODUCTS", "bf16", 1);
    bool narrow = hnp_products_bf16();
    CHECK_CONTAINS(hn_ops_cpu_isa(), narrow ? "bf16" : "fp32");
    if (narrow) {
        table_begin(hn_ops_cpu(), hn_ops_cpu()->workspace(1100, 400, 0, 0, HN_BF16));
        forward_all(HN_BF16);
        backward_input_all(HN_BF16);
        backward_weight_all(HN_BF16);
        same_bits(HN_BF16);
        table_end();
    }
    setenv("HONE_CPU_PRODUCTS", "fp32", 1);
    CHECK_CONTAINS(hn_ops_cpu_isa(), "fp32");
    unsetenv("HONE_CPU_PRODUCTS");
}

static void too_small(hn_dtype type)
{
    matrix x = matrix_random(type, 40, 32, 1), w = matrix_random(type, 16, 32, 1), y = matrix_random(type, 40, 16, 1);
    size_t size = context_now.workspace_size;
    context_now.workspace_size = 100;
    ops_now->linear_forward(&context_now, &y.t, NULL, &x.t, &w.t, NULL, HN_ACT_NONE);
    context_now.workspace_size = size;
    CHECK_INT(error_now.status, HN_ERR_MEMORY);
    CHECK_CONTAINS(error_now.message, "workspace too small");
    hn_error_reset(&error_now);
    matrix_free(&x), matrix_free(&w), matrix_free(&y);
}
TEST(small_workspace) { on_every_table(too_small, 100, 100, 0, 0); }

/* Up to 16 rows each row has the bits it has alone, whatever the number of rows. */
static void few_alone(const matrix *x, const matrix *w, const matrix *y, hn_dtype type, const hn_tensor *bias)
{
    matrix one = matrix_random(type, 1, w->t.shape[0], 1);
    for (int rows = 1; rows <= 16; rows++) {
        hn_tensor xs = hn_tensor_rows(&x->t, 0, rows), ys = hn_tensor_rows(&y->t, 0, rows);
        ops_now->linear_forward(&context_now, &ys, NULL, &xs, &w->t, bias, HN_ACT_GELU);
        for (int r = 0; r < rows; r++) {
            hn_tensor alone = hn_tensor_rows(&x->t, r, 1);
            ops_now->linear_forward(&context_now, &one.t, NULL, &alone, &w->t, bias, HN_ACT_GELU);
            hn_tensor row = hn_tensor_rows(&y->t, r, 1);
            if (memcmp(row.data, one.t.data, hn_tensor_bytes(&one.t))) TEST_FAIL("%s: row %d of %d differs", ops_now->name, r, rows);
        }
    }
    matrix_free(&one);
}

/* From 17 to 256 rows: those it has among any others, on any number of threads; and a NaN stays in its row. */
static void few_together(matrix *x, const matrix *w, const matrix *y, hn_dtype type, const hn_tensor *bias)
{
    static const int from[] = {0, 1, 100, 239}, count[] = {256, 31, 150, 17};
    matrix some = matrix_random(type, 256, w->t.shape[0], 1);
    int threads = omp_get_max_threads();
    omp_set_num_threads(3);
    ops_now->linear_forward(&context_now, &y->t, NULL, &x->t, &w->t, bias, HN_ACT_NONE);
    omp_set_num_threads(1);
    for (int i = 0; i < 4; i++) {
        hn_tensor xs = hn_tensor_rows(&x->t, from[i], count[i]), ys = hn_tensor_rows(&some.t, 0, count[i]);
        hn_tensor same = hn_tensor_rows(&y->t, from[i], count[i]);
        ops_now->linear_forward(&context_now, &ys, NULL, &xs, &w->t, bias, HN_ACT_NONE);
        if (memcmp(ys.data, same.data, hn_tensor_bytes(&ys))) TEST_FAIL("%s: rows from %d on differ", ops_now->name, from[i]);
    }
    if (type == HN_F32) {
        float *element = (float *)x->t.data + 5 * x->t.stride + 3, before = *element;
        *element = NAN;
        hn_tensor xs = hn_tensor_rows(&x->t, 0, 40), ys = hn_tensor_rows(&some.t, 0, 40);
        ops_now->linear_forward(&context_now, &ys, NULL, &xs, &w->t, bias, HN_ACT_NONE);
        for (int r = 0; r < 40; r++)
            for (int64_t n = 0; n < w->t.shape[0]; n++)
                CHECK_INT(isnan(((float *)some.t.data)[r * some.t.stride + n]) != 0, r == 5);
        *element = before;
    }
    omp_set_num_threads(threads);
    matrix_free(&some);
}

/* The formula at odd sizes, and what a row's bits depend on. */
static void few_rows_body(hn_dtype type)
{
    static const sizes cases[] = {{0, 8, 8, 0}, {1, 1, 1, 0}, {3, 3, 33, 2}, {7, 257, 31, 5}, {16, 65, 257, 0}, {9, 130, 64, 3},
                                  {17, 65, 129, 0}, {31, 1, 8, 0}, {64, 131, 260, 3}, {250, 33, 1, 0}, {256, 64, 128, 1}};
    context_now.few_rows = true;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        forward_case(type, cases[i], HN_ACT_NONE, false, i % 2);
        forward_case(type, cases[i], i % 2 ? HN_ACT_GELU_TANH : HN_ACT_SILU, true, true);
    }
    matrix x = matrix_strided(type, 256, 257, 260, 1), w = matrix_random(type, 131, 257, 0.1), y = matrix_random(type, 256, 131, 1);
    matrix bias = matrix_random(type, 1, 131, 1);
    hn_tensor b = hn_tensor_1d(bias.block, type, 131);
    few_alone(&x, &w, &y, type, &b);
    few_together(&x, &w, &y, type, &b);
    matrix_free(&x), matrix_free(&w), matrix_free(&y), matrix_free(&bias);
    context_now.few_rows = false;
}

TEST(few_rows)
{
    on_every_table(few_rows_body, 17, 260, 0, 1);
}

TEST_MAIN(RUN(few_rows); RUN(forward); RUN(backward_input); RUN(backward_weight); RUN(types); RUN(bits); RUN(nan); RUN(product_types);
          RUN(small_workspace))
