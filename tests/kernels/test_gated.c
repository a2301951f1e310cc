/* Gated units against the formula in double, their slopes by central differences of it; halves of one buffer; far arguments. */
#include "tests/kernels/ops_test.h"

static double act(double z, hn_activation a)
{
    switch (a) {
    case HN_ACT_GELU: return 0.5 * z * (1 + erf(z / sqrt(2)));
    case HN_ACT_GELU_TANH: return 0.5 * z * (1 + tanh(sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
    case HN_ACT_SILU: return z / (1 + exp(-z));
    case HN_ACT_RELU: return z > 0 ? z : 0;
    default: return z;
    }
}

static double slope(double z, hn_activation a)
{
    if (a == HN_ACT_RELU) return z > 0;
    return (act(z + 1e-5, a) - act(z - 1e-5, a)) / 2e-5;
}

static void gated_case(hn_dtype type, int64_t rows, int64_t columns, int64_t pad, hn_activation a)
{
    int64_t wide = 2 * columns + pad;
    matrix both = matrix_strided(type, rows, 2 * columns, wide, 3), y = matrix_strided(type, rows, columns, columns + pad, 1);
    matrix d_both = matrix_strided(type, rows, 2 * columns, wide, 1), dy = matrix_random(type, rows, columns, 1);
    hn_tensor gate = hn_tensor_columns(&both.t, 0, columns), up = hn_tensor_columns(&both.t, columns, columns);
    hn_tensor dgate = hn_tensor_columns(&d_both.t, 0, columns), dup = hn_tensor_columns(&d_both.t, columns, columns);
    ops_now->gated_forward(&context_now, &y.t, &gate, &up, a);
    ops_now->gated_backward(&context_now, &dgate, &dup, &dy.t, &gate, &up, a);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            const double *row = both.d + r * 2 * columns;
            double d = dy.d[r * columns + c];
            y.d[r * columns + c] = act(row[c], a) * row[columns + c];
            d_both.d[r * 2 * columns + c] = d * row[columns + c] * slope(row[c], a);
            d_both.d[r * 2 * columns + columns + c] = d * act(row[c], a);
        }
    CHECK_CLOSE(&y.t, y.d, tolerance(type));
    CHECK_CLOSE(&d_both.t, d_both.d, tolerance(type));
    /* in place: the gradients take the place of the inputs, y that of up */
    matrix again = matrix_strided(type, rows, 2 * columns, wide, 1);
    for (int64_t i = 0; i < rows * 2 * columns; i++)
        value_set(&again.t, i / (2 * columns), i % (2 * columns), both.d[i]);
    hn_tensor low = hn_tensor_columns(&again.t, 0, columns), high = hn_tensor_columns(&again.t, columns, columns);
    ops_now->gated_backward(&context_now, &low, &high, &dy.t, &low, &high, a);
    CHECK_CLOSE(&again.t, d_both.d, tolerance(type));
    ops_now->gated_forward(&context_now, &up, &gate, &up, a);
    CHECK_CLOSE(&up, y.d, tolerance(type));
    matrix_free(&both), matrix_free(&y), matrix_free(&d_both), matrix_free(&dy), matrix_free(&again);
}

static void gated_all(hn_dtype type)
{
    static const hn_activation kinds[] = {HN_ACT_SILU, HN_ACT_GELU, HN_ACT_GELU_TANH, HN_ACT_RELU, HN_ACT_NONE};
    static const int64_t sizes[][3] = {{0, 8, 0}, {1, 1, 0}, {31, 33, 5}, {33, 31, 0}, {3, 257, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            gated_case(type, sizes[i][0], sizes[i][1], sizes[i][2], kinds[k]);
}

/* silu(0) = 0 with slope 1/2; far out it is 0 and z, with slopes 0 and 1. A NaN stays where it is. */
static void by_hand(hn_dtype type)
{
    static const double z[] = {0, -200, 200, -1e38, 1e38, INFINITY, NAN}, value[] = {0, 0, 200, 0, 1e38, INFINITY, NAN};
    static const double steep[] = {0.5, 0, 1, 0, 1, 1, NAN};
    enum { C = 7 };
    matrix gate = matrix_random(type, 1, C, 1), up = matrix_random(type, 1, C, 1), y = matrix_random(type, 1, C, 1);
    matrix dgate = matrix_random(type, 1, C, 1);
    for (int c = 0; c < C; c++) value_set(&gate.t, 0, c, z[c]), value_set(&up.t, 0, c, 1);
    ops_now->gated_forward(&context_now, &y.t, &gate.t, &up.t, HN_ACT_SILU);
    ops_now->gated_backward(&context_now, &dgate.t, &y.t, &up.t, &gate.t, &up.t, HN_ACT_SILU); /* dup is y again */
    for (int c = 0; c < C; c++) {
        double got = value_at(&y.t, 0, c);
        CHECK(isnan(value[c]) ? isnan(got) : got == value[c] || fabs(got - value[c]) <= 1e-2 * fabs(value[c]));
        CHECK(isnan(steep[c]) ? isnan(value_at(&dgate.t, 0, c)) : value_at(&dgate.t, 0, c) == steep[c]);
    }
    matrix_free(&gate), matrix_free(&up), matrix_free(&y), matrix_free(&dgate);
}

static void same_bits(hn_dtype type)
{
    enum { T = 65, C = 70 };
    matrix both = matrix_random(type, T, 2 * C, 1), dy = matrix_random(type, T, C, 1), d[2];
    hn_tensor gate = hn_tensor_columns(&both.t, 0, C), up = hn_tensor_columns(&both.t, C, C);
    int threads = omp_get_max_threads();
    for (int i = 0; i < 2; i++) {
        omp_set_num_threads(i + 1);
        d[i] = matrix_random(type, T, 2 * C, 0);
        hn_tensor dgate = hn_tensor_columns(&d[i].t, 0, C), dup = hn_tensor_columns(&d[i].t, C, C);
        ops_now->gated_backward(&context_now, &dgate, &dup, &dy.t, &gate, &up, HN_ACT_SILU);
    }
    omp_set_num_threads(threads);
    CHECK(!memcmp(d[0].block, d[1].block, hn_tensor_bytes(&d[0].t)));
    matrix_free(&both), matrix_free(&dy), matrix_free(&d[0]), matrix_free(&d[1]);
}

TEST(values) { on_every_table(gated_all, 300, 600, 0, 0); }
TEST(hand) { on_every_table(by_hand, 300, 600, 0, 0); }
TEST(bits) { on_every_table(same_bits, 300, 600, 0, 0); }

TEST_MAIN(RUN(values); RUN(hand); RUN(bits))
