/* RMS norm against the formula in double: whole rows with dropout and residual, heads inside a wider buffer; slopes by finite
 * differences; a NaN; bits on one thread and on two. */
#include "tests/kernels/keys_test.h"

#define EPSILON 1e-5

typedef struct setup {
    int64_t rows, columns; /* of a group */
    int groups;
    int64_t pad;
    bool residual, keep, drop, dh_in;
} setup;

static double rstd_of(const double *h, int64_t columns)
{
    double sum = 0;
    for (int64_t c = 0; c < columns; c++) sum += h[c] * h[c];
    return 1 / sqrt(sum / (double)columns + EPSILON);
}

/* What backward gives, of the h that forward kept. */
static void backward_reference(const setup *s, const hn_dropout *drop, const matrix *h, const matrix *dy, const matrix *in,
                               const matrix *gamma, matrix *dx, matrix *dres, matrix *dgamma)
{
    int64_t W = s->columns, C = W * s->groups;
    for (int64_t i = 0; i < s->rows * s->groups; i++) {
        const double *row = h->d + i * W, *d = dy->d + i * W;
        double scale = rstd_of(row, W), mean = 0;
        for (int64_t c = 0; c < W; c++) {
            mean += d[c] * gamma->d[c] * row[c] * scale / (double)W;
            dgamma->d[c] += d[c] * row[c] * scale;
        }
        for (int64_t c = 0; c < W; c++) {
            double dh = scale * (d[c] * gamma->d[c] - row[c] * scale * mean) + (s->dh_in ? in->d[i * W + c] : 0);
            dres->d[i * W + c] = dh;
            dx->d[i * W + c] = dh * kept(drop, i / s->groups, c, C);
        }
    }
}

static void backward_case(hn_dtype type, setup s, const hn_dropout *drop, matrix *h, const float *rstd, const matrix *gamma)
{
    int64_t C = s.columns * s.groups;
    hn_tensor g = hn_tensor_1d(gamma->block, type, s.columns);
    matrix dy = matrix_strided(type, s.rows, C, C + s.pad, 1), in = matrix_random(type, s.rows, C, 1);
    matrix dx = matrix_strided(type, s.rows, C, C + s.pad, 1), dres = matrix_random(type, s.rows, C, 1);
    matrix dgamma = matrix_random(HN_F32, 1, s.columns, 1);
    ops_now->rmsnorm_backward(&context_now, &dx.t, &dres.t, dgamma.block, &dy.t, s.dh_in ? &in.t : NULL, &h->t, rstd, &g,
                              s.groups, drop);
    matrix_sync(h);
    backward_reference(&s, drop, h, &dy, &in, gamma, &dx, &dres, &dgamma);
    CHECK_CLOSE(&dres.t, dres.d, tolerance(type));
    CHECK_CLOSE(&dx.t, dx.d, tolerance(type));
    CHECK_CLOSE(&dgamma.t, dgamma.d, tolerance(HN_F32));
    /* in place, and without a gradient of gamma */
    ops_now->rmsnorm_backward(&context_now, &dy.t, NULL, NULL, &dy.t, s.dh_in ? &in.t : NULL, &h->t, rstd, &g, s.groups, drop);
    CHECK_CLOSE(&dy.t, dx.d, tolerance(type));
    matrix_free(&dy), matrix_free(&in), matrix_free(&dx), matrix_free(&dres), matrix_free(&dgamma);
}

static void forward_backward(hn_dtype type, setup s)
{
    int64_t W = s.columns, C = W * s.groups;
    const hn_dropout *drop = keys_make(s.rows, 0.2f);
    if (!s.drop) drop = NULL;
    matrix x = matrix_strided(type, s.rows, C, C + s.pad, 1), res = matrix_strided(type, s.rows, C, C + 3, 1);
    matrix y = matrix_strided(type, s.rows, C, C + s.pad, 1), h = matrix_random(type, s.rows, C, 1);
    matrix gamma = matrix_random(type, 1, W, 1);
    float *rstd = calloc((size_t)(s.rows * s.groups) + 1, sizeof *rstd);
    hn_tensor g = hn_tensor_1d(gamma.block, type, W);
    ops_now->rmsnorm_forward(&context_now, &y.t, s.keep ? &h.t : NULL, rstd, &x.t, s.residual ? &res.t : NULL, &g, s.groups,
                             (float)EPSILON, drop);
    for (int64_t i = 0; i < s.rows * C; i++)
        h.d[i] = x.d[i] * kept(drop, i / (C ? C : 1), i % (C ? C : 1), C) + (s.residual ? res.d[i] : 0);
    for (int64_t i = 0; i < s.rows * s.groups; i++)
        for (int64_t c = 0; c < W; c++) y.d[i * W + c] = h.d[i * W + c] * rstd_of(h.d + i * W, W) * gamma.d[c];
    CHECK_CLOSE(&y.t, y.d, tolerance(type));
    if (s.keep) {
        CHECK_CLOSE(&h.t, h.d, tolerance(type));
        backward_case(type, s, drop, &h, rstd, &gamma);
    } else { /* in place */
        ops_now->rmsnorm_forward(&context_now, &x.t, NULL, NULL, &x.t, s.residual ? &res.t : NULL, &g, s.groups,
                                 (float)EPSILON, drop);
        CHECK_CLOSE(&x.t, y.d, tolerance(type));
    }
    matrix_free(&x), matrix_free(&res), matrix_free(&y), matrix_free(&h), matrix_free(&gamma);
    free(rstd);
    keys_free();
}

static void norm_all(hn_dtype type)
{
    static const setup cases[] = {
        {0, 8, 1, 0, true, true, true, true},       {3, 33, 1, 5, true, true, true, true},
        {31, 257, 1, 0, false, true, false, false}, {1, 384, 1, 1, true, true, true, false},
        {257, 31, 1, 0, false, true, true, true},   {5, 600, 1, 0, true, true, true, true},
        {33, 32, 1, 0, true, false, true, false},   {4, 5, 1, 7, true, false, false, false},
        {33, 64, 3, 50, false, true, false, false}, {65, 9, 5, 4, false, false, false, false},
        {31, 33, 2, 8, true, true, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) forward_backward(type, cases[i]);
}

/* (3, 4): mean of squares 12.5. */
static void by_hand(hn_dtype type)
{
    matrix x = matrix_random(type, 1, 4, 0), g = matrix_random(type, 1, 2, 0);
    value_set(&x.t, 0, 0, 3), value_set(&x.t, 0, 1, 4), value_set(&x.t, 0, 2, -5), value_set(&x.t, 0, 3, 5);
    value_set(&g.t, 0, 0, 2), value_set(&g.t, 0, 1, 4);
    hn_tensor gamma = hn_tensor_1d(g.block, type, 2);
    float rstd[2];
    ops_now->rmsnorm_forward(&context_now, &x.t, NULL, rstd, &x.t, NULL, &gamma, 2, 0, NULL);
    CHECK_NEAR(rstd[0], 1 / sqrt(12.5), 1e-6);
    CHECK_NEAR(rstd[1], 0.2, 1e-6);
    CHECK_NEAR(value_at(&x.t, 0, 1), 16 / sqrt(12.5), type == HN_F32 ? 1e-6 : 2e-2);
    CHECK_NEAR(value_at(&x.t, 0, 2), -2, 1e-6);
    CHECK_NEAR(value_at(&x.t, 0, 3), 4, 1e-6);
    matrix_free(&x), matrix_free(&g);
}

/* sum of dy * y, in double */
static double objective(const matrix *x, const matrix *dy, const matrix *gamma, int64_t rows, int64_t columns)
{
    matrix y = matrix_random(HN_F32, rows, columns, 0);
    hn_tensor g = hn_tensor_1d(gamma->block, HN_F32, columns);
    ops_now->rmsnorm_forward(&context_now, &y.t, NULL, NULL, &x->t, NULL, &g, 1, (float)EPSILON, NULL);
    double sum = 0;
    for (int64_t i = 0; i < rows * columns; i++) sum += value_at(&y.t, i / columns, i % columns) * dy->d[i];
    matrix_free(&y);
    return sum;
}

static void slopes(hn_dtype type)
{
    enum { T = 2, C = 19 };
    const double step = 1e-2;
    if (type != HN_F32) return; /* the same body */
    matrix x = matrix_random(type, T, C, 1), dy = matrix_random(type, T, C, 1), gamma = matrix_random(type, 1, C, 1);
    matrix dx = matrix_random(type, T, C, 0), dgamma = matrix_random(type, 1, C, 0), y = matrix_random(type, T, C, 0);
    hn_tensor g = hn_tensor_1d(gamma.block, type, C);
    float rstd[T];
    ops_now->rmsnorm_forward(&context_now, &y.t, NULL, rstd, &x.t, NULL, &g, 1, (float)EPSILON, NULL);
    ops_now->rmsnorm_backward(&context_now, &dx.t, NULL, dgamma.block, &dy.t, NULL, &x.t, rstd, &g, 1, NULL);
    matrix *inputs[] = {&x, &gamma}, *gradients[] = {&dx, &dgamma};
    for (int i = 0; i < 2; i++)
        for (int64_t c = 0; c < C; c += 3) {
            value_set(&inputs[i]->t, 0, c, inputs[i]->d[c] + step);
            double up = objective(&x, &dy, &gamma, T, C);
            value_set(&inputs[i]->t, 0, c, inputs[i]->d[c] - step);
            double down = objective(&x, &dy, &gamma, T, C);
            value_set(&inputs[i]->t, 0, c, inputs[i]->d[c]);
            CHECK_NEAR(value_at(&gradients[i]->t, 0, c), (up - down) / (2 * step), 1e-3);
        }
    matrix_free(&x), matrix_free(&dy), matrix_free(&gamma), matrix_free(&dx), matrix_free(&dgamma), matrix_free(&y);
}

/* A NaN stays in its head. */
static void nan_stays(hn_dtype type)
{
    matrix x = matrix_random(type, 3, 20, 1), gamma = matrix_random(type, 1, 10, 1);
    hn_tensor g = hn_tensor_1d(gamma.block, type, 10);
    value_set(&x.t, 1, 13, NAN);
    ops_now->rmsnorm_forward(&context_now, &x.t, NULL, NULL, &x.t, NULL, &g, 2, (float)EPSILON, NULL);
    for (int64_t r = 0; r < 3; r++)
        for (int64_t c = 0; c < 20; c++) CHECK_INT(isnan(value_at(&x.t, r, c)), r == 1 && c >= 10);
    matrix_free(&x), matrix_free(&gamma);
}

static void same_bits(hn_dtype type)
{
    enum { T = 300, C = 70 };
    matrix h = matrix_random(type, T, C, 1), dy = matrix_random(type, T, C, 1), gamma = matrix_random(type, 1, C / 2, 1), dx[2];
    float rstd[T][2], sums[2][C / 2] = {{0}};
    hn_tensor g = hn_tensor_1d(gamma.block, type, C / 2);
    for (int i = 0; i < T; i++) rstd[i][0] = 1.3f, rstd[i][1] = 0.7f;
    int threads = omp_get_max_threads();
    for (int i = 0; i < 2; i++) {
        omp_set_num_threads(i + 1);
        dx[i] = matrix_random(type, T, C, 0);
        ops_now->rmsnorm_backward(&context_now, &dx[i].t, NULL, sums[i], &dy.t, NULL, &h.t, rstd[0], &g, 2, NULL);
    }
    omp_set_num_threads(threads);
    CHECK(!memcmp(sums[0], sums[1], sizeof sums[0]));
    CHECK(!memcmp(dx[0].block, dx[1].block, hn_tensor_bytes(&dx[0].t)));
    matrix_free(&h), matrix_free(&dy), matrix_free(&gamma), matrix_free(&dx[0]), matrix_free(&dx[1]);
}

TEST(values) { on_every_table(norm_all, 300, 600, 0, 0); }
TEST(hand) { on_every_table(by_hand, 300, 600, 0, 0); }
TEST(finite_differences) { on_every_table(slopes, 300, 600, 0, 0); }
TEST(nan) { on_every_table(nan_stays, 300, 600, 0, 0); }
TEST(bits) { on_every_table(same_bits, 300, 600, 0, 0); }

TEST_MAIN(RUN(values); RUN(hand); RUN(finite_differences); RUN(nan); RUN(bits))
