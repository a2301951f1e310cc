/* Layer norm and dropout against the formula in double. */
#include "tests/kernels/keys_test.h"

typedef struct setup {
    int64_t rows, columns;
    bool residual, keep, drop, dh_in;
} setup;

/* n and rstd of a row in double */
static void normal_row(const double *h, int64_t columns, double *n, double *rstd)
{
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < columns; c++) mean += h[c] / (double)columns;
    for (int64_t c = 0; c < columns; c++) variance += (h[c] - mean) * (h[c] - mean) / (double)columns;
    *rstd = 1 / sqrt(variance + 1e-5);
    for (int64_t c = 0; c < columns; c++) n[c] = (h[c] - mean) * *rstd;
}

static void forward_backward(hn_dtype type, setup s)
{
    int64_t C = s.columns;
    const hn_dropout *drop = keys_make(s.rows, 0.2f);
    if (!s.drop) drop = NULL;
    matrix x = matrix_random(type, s.rows, C, 1), res = matrix_strided(type, s.rows, C, C + 3, 1);
    matrix y = matrix_random(type, s.rows, C, 1), h = matrix_random(type, s.rows, C, 1);
    matrix gamma = matrix_random(type, 1, C, 1), beta = matrix_random(HN_F32, 1, C, 1);
    float *mean = calloc((size_t)s.rows + 1, 4), *rstd = calloc((size_t)s.rows + 1, 4);
    hn_tensor g = hn_tensor_1d(gamma.block, type, C), b = hn_tensor_1d(beta.block, HN_F32, C);
    ops_now->layernorm_forward(&context_now, &y.t, s.keep ? &h.t : NULL, mean, rstd, &x.t, s.residual ? &res.t : NULL,
                               &g, &b, 1e-5f, drop);
    double *n = calloc((size_t)(s.rows * C) + 1, 8);
    for (int64_t r = 0; r < s.rows; r++) {
        double *row = h.d + r * C, scale;
        for (int64_t c = 0; c < C; c++)
            row[c] = x.d[r * C + c] * kept(drop, r, c, C) + (s.residual ? res.d[r * C + c] : 0);
        normal_row(row, C, n + r * C, &scale);
        for (int64_t c = 0; c < C; c++) y.d[r * C + c] = n[r * C + c] * gamma.d[c] + beta.d[c];
    }
    if (s.keep) CHECK_CLOSE(&h.t, h.d, tolerance(type));
    CHECK_CLOSE(&y.t, y.d, (C == 1 ? 2 : 1) * tolerance(type));
    if (s.keep) {
        matrix dy = matrix_random(type, s.rows, C, 1), in = matrix_random(type, s.rows, C, 1);
        matrix dx = matrix_random(type, s.rows, C, 1), dres = matrix_random(type, s.rows, C, 1);
        matrix dgamma = matrix_random(HN_F32, 1, C, 1), dbeta = matrix_random(HN_F32, 1, C, 1);
        ops_now->layernorm_backward(&context_now, &dx.t, &dres.t, dgamma.block, dbeta.block, &dy.t,
                                    s.dh_in ? &in.t : NULL, &h.t, mean, rstd, &g, drop);
        matrix_sync(&h);
        for (int64_t r = 0; r < s.rows; r++) {
            double scale, mean_g = 0, mean_gn = 0, *nr = n + r * C, *d = dy.d + r * C;
            normal_row(h.d + r * C, C, nr, &scale);
            for (int64_t c = 0; c < C; c++) {
                mean_g += d[c] * gamma.d[c] / (double)C;
                mean_gn += d[c] * gamma.d[c] * nr[c] / (double)C;
                dgamma.d[c] += d[c] * nr[c];
                dbeta.d[c] += d[c];
            }
            for (int64_t c = 0; c < C; c++) {
                double dh = scale * (d[c] * gamma.d[c] - mean_g - nr[c] * mean_gn) + (s.dh_in ? in.d[r * C + c] : 0);
                dres.d[r * C + c] = dh;
                dx.d[r * C + c] = dh * kept(drop, r, c, C);
            }
        }
        CHECK_CLOSE(&dres.t, dres.d, tolerance(type));
        CHECK_CLOSE(&dx.t, dx.d, tolerance(type));
        CHECK_CLOSE(&dgamma.t, dgamma.d, tolerance(HN_F32));
        CHECK_CLOSE(&dbeta.t, dbeta.d, tolerance(HN_F32));
        matrix_free(&dy), matrix_free(&in), matrix_free(&dx), matrix_free(&dres), matrix_free(&dgamma), matrix_free(&dbeta);
    }
    matrix_free(&x), matrix_free(&res), matrix_free(&y), matrix_free(&h), matrix_free(&gamma), matrix_free(&beta);
    free(mean), free(rstd), free(n);
    keys_free();
}

static void norm_all(hn_dtype type)
{
    static const setup cases[] = {
        {0, 8, true, true, true, true},     {3, 33, true, true, true, true},    {31, 257, false, true, false, false},
        {1, 384, true, true, true, false},  {257, 31, false, true, true, true}, {5, 600, true, true, true, true},
        {33, 32, true, false, true, false}, {4, 5, true, true, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) forward_backward(type, cases[i]);
}

/* (1, 3): mean 2, variance 1. */
static void by_hand(hn_dtype type)
{
    matrix x = matrix_random(type, 1, 2, 0), y = matrix_random(type, 1, 2, 0), g = matrix_random(type, 1, 2, 0);
    value_set(&x.t, 0, 0, 1), value_set(&x.t, 0, 1, 3), value_set(&g.t, 0, 0, 2), value_set(&g.t, 0, 1, 4);
    hn_tensor gamma = hn_tensor_1d(g.block, type, 2);
    float mean, rstd;
    ops_now->layernorm_forward(&context_now, &y.t, NULL, &mean, &rstd, &x.t, NULL, &gamma, &gamma, 0, NULL);
    CHECK_NEAR(mean, 2, 1e-6);
    CHECK_NEAR(rstd, 1, 1e-6);
    CHECK_NEAR(value_at(&y.t, 0, 0), 0, 1e-6);
    CHECK_NEAR(value_at(&y.t, 0, 1), 8, 1e-6);
    matrix_free(&x), matrix_free(&y), matrix_free(&g);
}

static void drop_rows(hn_dtype type)
{
    const hn_dropout *drop = keys_make(50, 0.4f);
    matrix x = matrix_random(type, 50, 301, 1), y = matrix_random(type, 50, 301, 1);
    for (int64_t i = 0; i < 50 * 301; i++) value_set(&x.t, i / 301, i % 301, 1);
    ops_now->dropout(&context_now, &y.t, &x.t, drop);
    int64_t zeros = 0;
    for (int64_t r = 0; r < 50; r++)
        for (int64_t c = 0; c < 301; c++) {
            double expected = kept(drop, r, c, 301);
            CHECK_NEAR(value_at(&y.t, r, c), expected, tolerance(type));
            zeros += expected == 0;
        }
    CHECK_NEAR((double)zeros / (50 * 301), 0.4, 0.02);
    ops_now->dropout(&context_now, &y.t, &x.t, NULL);
    CHECK(!memcmp(y.block, x.block, hn_tensor_bytes(&x.t)));
    matrix_free(&x), matrix_free(&y);
    keys_free();
}

/* dgamma and dbeta, the only sums over rows, on one and on two threads. */
static void same_bits(hn_dtype type)
{
    enum { T = 300, C = 70 };
    matrix h = matrix_random(type, T, C, 1), dy = matrix_random(type, T, C, 1), dx[2], gamma = matrix_random(type, 1, C, 1);
    float mean[T], rstd[T], sums[2][2][C] = {0};
    hn_tensor g = hn_tensor_1d(gamma.block, type, C);
    for (int i = 0; i < T; i++) mean[i] = 0.1f, rstd[i] = 1.3f;
    int threads = omp_get_max_threads();
    for (int i = 0; i < 2; i++) {
        omp_set_num_threads(i + 1);
        dx[i] = matrix_random(type, T, C, 0);
        ops_now->layernorm_backward(&context_now, &dx[i].t, NULL, sums[i][0], sums[i][1], &dy.t, NULL, &h.t, mean, rstd, &g, NULL);
    }
    omp_set_num_threads(threads);
    CHECK(!memcmp(sums[0], sums[1], sizeof sums[0]));
    CHECK(!memcmp(dx[0].block, dx[1].block, hn_tensor_bytes(&dx[0].t)));
    matrix_free(&h), matrix_free(&dy), matrix_free(&gamma), matrix_free(&dx[0]), matrix_free(&dx[1]);
}

TEST(values) { on_every_table(norm_all, 300, 600, 0, 0); }
TEST(hand) { on_every_table(by_hand, 300, 600, 0, 0); }
TEST(dropout) { on_every_table(drop_rows, 300, 600, 0, 0); }
TEST(bits) { on_every_table(same_bits, 300, 600, 0, 0); }

TEST_MAIN(RUN(values); RUN(hand); RUN(dropout); RUN(bits))
