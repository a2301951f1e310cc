/* What the tests of layer norm and RMS norm share: one case forward or backward against plain loops in double, and the sizes,
 * strides, aliases and absences to try. A test says which norm it is by norm_now. */
#ifndef HONE_TESTS_NORM_TEST_H
#define HONE_TESTS_NORM_TEST_H

#include "tests/cuda_on_cpu/device.h"

typedef struct norm_case {
    hn_dtype dtype, parameters;
    int64_t rows, columns; /* columns of a group */
    int groups;
    int64_t gap; /* stride = groups * columns + gap */
    bool residual, keep_h, dh_in, drop, same_gradient, in_place, frozen;
} norm_case;

/* The operation under test; mean and beta, where there are none, go unused. */
typedef struct norm_operation {
    bool centred;
    void (*forward)(device *d, int groups, const hn_tensor *y, const hn_tensor *h, float *mean, float *rstd, const hn_tensor *x,
                    const hn_tensor *residual, const hn_tensor *gamma, const hn_tensor *beta, float epsilon,
                    const hn_dropout *dropout);
    void (*backward)(device *d, int groups, const hn_tensor *dx, const hn_tensor *d_residual, float *dgamma, float *dbeta,
                     const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h, const float *mean, const float *rstd,
                     const hn_tensor *gamma, const hn_dropout *dropout);
} norm_operation;

static norm_operation norm_now;

typedef struct keys {
    hn_random random;
    uint32_t step;
    uint32_t *example;
    int32_t *position;
    hn_dropout dropout;
} keys; /* from malloc, as all that kernels read */

static keys *keys_new(int64_t rows, bool drop)
{
    keys *k = calloc(1, sizeof *k);
    k->step = 7;
    k->example = malloc((size_t)rows * sizeof *k->example);
    k->position = malloc((size_t)rows * sizeof *k->position);
    for (int64_t r = 0; r < rows; r++) {
        k->example[r] = (uint32_t)(r / 5);
        k->position[r] = (int32_t)(r % 5);
    }
    k->random = (hn_random){0x123456789abcdefu, &k->step, k->example, k->position};
    k->dropout = (hn_dropout){drop ? 0.3f : 0.0f, HN_SITE(2, HN_SITE_MLP_OUT, 0), &k->random};
    return k;
}

static void keys_free(keys *k)
{
    free(k->example);
    free(k->position);
    free(k);
}

/* y and h of group g of row r; returns the statistics. */
static void expect_row(const norm_case *c, double *y, double *h, double *mean, double *rstd, const hn_tensor *x,
                       const hn_tensor *residual, const hn_tensor *gamma, const hn_tensor *beta, double epsilon,
                       const hn_dropout *drop, int64_t r, int64_t g)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < c->columns; i++) {
        int64_t at = g * c->columns + i;
        double v = get(x, r, at) * drop_factor(drop, 0, r, (uint64_t)(r % 5 * c->columns + i));
        h[i] = rounded(c->dtype, v + (c->residual ? get(residual, r, at) : 0));
        sum += h[i];
    }
    *mean = norm_now.centred ? sum / (double)c->columns : 0;
    for (int64_t i = 0; i < c->columns; i++) squares += (h[i] - *mean) * (h[i] - *mean);
    *rstd = 1 / sqrt(squares / (double)c->columns + epsilon);
    for (int64_t i = 0; i < c->columns; i++)
        y[i] = (h[i] - *mean) * *rstd * get(gamma, 0, i) + (norm_now.centred ? get(beta, 0, i) : 0);
}

/* dx and d_residual of group g of row r, and its part of dgamma and dbeta. */
static void expect_gradients(const norm_case *c, double *dx, double *d_residual, double *dgamma, double *dbeta,
                             const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h, double mean, double rstd,
                             const hn_tensor *gamma, const hn_dropout *drop, int64_t r, int64_t g)
{
    double sum_g = 0, sum_gn = 0, columns = (double)c->columns;
    int64_t first = g * c->columns;
    for (int64_t i = 0; i < c->columns; i++) {
        double n = (get(h, r, first + i) - mean) * rstd, d = get(dy, r, first + i);
        sum_g += norm_now.centred ? d * get(gamma, 0, i) : 0;
        sum_gn += d * get(gamma, 0, i) * n;
        dgamma[i] += d * n;
        dbeta[i] += d;
    }
    for (int64_t i = 0; i < c->columns; i++) {
        double n = (get(h, r, first + i) - mean) * rstd, slope = get(dy, r, first + i) * get(gamma, 0, i);
        d_residual[i] = rstd * (slope - sum_g / columns - n * sum_gn / columns) + (c->dh_in ? get(dh_in, r, first + i) : 0);
        dx[i] = d_residual[i] * drop_factor(drop, 0, r, (uint64_t)(r % 5 * c->columns + i));
    }
}

static void check_forward(const norm_case *c)
{
    if (!case_wanted()) return;
    int64_t width = c->columns * c->groups, stride = width + c->gap, count = c->rows * c->groups;
    device d;
    keys *k = keys_new(c->rows, c->drop);
    device_open(&d, 0);
    hn_tensor x = matrix_random(c->dtype, c->rows, width, stride, 1), residual = matrix_random(c->dtype, c->rows, width, stride, 2);
    hn_tensor gamma = matrix_random(c->parameters, 1, c->columns, c->columns, 1),
              beta = matrix_random(c->parameters, 1, c->columns, c->columns, 1);
    hn_tensor y = matrix_new(c->dtype, c->rows, width, stride), h = matrix_new(c->dtype, c->rows, width, stride);
    float *mean = floats_new(count), *rstd = floats_new(count);
    size_t elements = (size_t)(c->rows * width);
    double *ey = malloc(elements * sizeof *ey + 8), *eh = malloc(elements * sizeof *eh + 8), *es = malloc((size_t)count * 16 + 8);
    for (int64_t i = 0; i < count; i++)
        expect_row(c, ey + i * c->columns, eh + i * c->columns, es + 2 * i, es + 2 * i + 1, &x, &residual, &gamma, &beta, 1e-5,
                   &k->dropout, i / c->groups, i % c->groups);
    hn_tensor *to_h = c->in_place ? &residual : &h, *to_y = c->in_place ? &x : &y;
    norm_now.forward(&d, c->groups, to_y, c->keep_h ? to_h : NULL, c->keep_h ? mean : NULL, c->keep_h ? rstd : NULL, &x,
                     c->residual ? &residual : NULL, &gamma, &beta, 1e-5f, &k->dropout);
    CHECK_TEXT(d.error.message, "");
    CHECK_MATRIX(to_y, ey, tolerance(c->dtype) * (c->columns == 1 ? 1 : 2));
    CHECK(gaps_untouched(to_y));
    if (c->keep_h) {
        CHECK_MATRIX(to_h, eh, tolerance(c->dtype));
        CHECK(gaps_untouched(to_h));
        for (int64_t i = 0; i < count; i++) {
            if (norm_now.centred) CHECK_NEAR(mean[i], es[2 * i], c->dtype == HN_F32 ? 1e-6 : 1e-4);
            CHECK_NEAR(rstd[i], es[2 * i + 1], (c->dtype == HN_F32 ? 1e-5 : 1e-3) * fmax(1, es[2 * i + 1]));
        }
    }
    void *all[] = {x.data, residual.data, gamma.data, beta.data, y.data, h.data, mean, rstd, ey, eh, es};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    device_close(&d);
    keys_free(k);
}

static void check_backward(const norm_case *c)
{
    if (!case_wanted()) return;
    int64_t width = c->columns * c->groups, stride = width + c->gap, count = c->rows * c->groups;
    device d;
    keys *k = keys_new(c->rows, c->drop);
    device_open(&d, c->frozen ? 0 : hnp_cuda_norm_workspace(c->columns));
    hn_tensor dy = matrix_random(c->dtype, c->rows, width, stride, 1), dh_in = matrix_random(c->dtype, c->rows, width, stride, 1);
    hn_tensor h = matrix_random(c->dtype, c->rows, width, stride, 2),
              gamma = matrix_random(c->parameters, 1, c->columns, c->columns, 1);
    hn_tensor dx = matrix_new(c->dtype, c->rows, width, stride), d_residual = matrix_new(c->dtype, c->rows, width, stride);
    hn_tensor dgamma = matrix_random(HN_F32, 1, c->columns, c->columns, 1), dbeta = matrix_random(HN_F32, 1, c->columns, c->columns, 1);
    float *mean = floats_new(count), *rstd = floats_new(count);
    size_t elements = (size_t)(c->rows * width), columns = (size_t)c->columns;
    double *ex = malloc(elements * sizeof *ex + 8), *er = malloc(elements * sizeof *er + 8), *eg = malloc(columns * sizeof *eg),
           *eb = malloc(columns * sizeof *eb);
    for (size_t i = 0; i < columns; i++) {
        eg[i] = get(&dgamma, 0, (int64_t)i);
        eb[i] = get(&dbeta, 0, (int64_t)i);
    }
    for (int64_t i = 0; i < count; i++) {
        mean[i] = norm_now.centred ? (float)(0.2 * uniform()) : 0;
        rstd[i] = (float)(1 + 0.3 * uniform());
        expect_gradients(c, ex + i * c->columns, er + i * c->columns, eg, eb, &dy, &dh_in, &h, mean[i], rstd[i], &gamma,
                         &k->dropout, i / c->groups, i % c->groups);
    }
    hn_tensor *to_x = c->in_place ? &dy : c->same_gradient ? &d_residual : &dx;
    norm_now.backward(&d, c->groups, to_x, c->in_place && c->drop ? NULL : c->in_place ? to_x : &d_residual,
                      c->frozen ? NULL : dgamma.data, c->frozen || !c->keep_h ? NULL : dbeta.data, &dy, c->dh_in ? &dh_in : NULL,
                      &h, mean, rstd, &gamma, &k->dropout);
    CHECK_TEXT(d.error.message, "");
    CHECK_MATRIX(to_x, ex, tolerance(c->dtype));
    CHECK(gaps_untouched(to_x));
    if (!c->in_place) CHECK_MATRIX(&d_residual, er, tolerance(c->dtype));
    if (!c->frozen) CHECK_MATRIX(&dgamma, eg, 1e-5);
    if (!c->frozen && c->keep_h && norm_now.centred) CHECK_MATRIX(&dbeta, eb, 1e-5);
    void *all[] = {dy.data, dh_in.data, h.data, gamma.data, dx.data, d_residual.data, dgamma.data, dbeta.data, mean, rstd, ex, er, eg, eb};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    device_close(&d);
    keys_free(k);
}

/* Every number of rows with every width that takes another path: one element, vectors with a tail of lanes, widths that no
 * vector divides, the last width of a shape and the first of the next. */
static void sweep(void (*check)(const norm_case *))
{
    static const int64_t rows[] = {0, 1, 31, 33, 257},
                         columns[] = {1, 8, 31, 96, 128, 136, 384, 512, 768, 776, 1024, 1025, 1032, 2056, 4104, 8192};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t k = 0; k < sizeof columns / sizeof *columns; k++)
            for (int type = 0; type < 2; type++) {
                if (rows[i] * columns[k] > 33 * 600 && !(columns[k] == 96)) continue;
                hn_dtype dtype = type ? HN_BF16 : HN_F32;
                check(&(norm_case){.dtype = dtype,
                                   .parameters = (i + k) % 2 ? HN_F32 : dtype,
                                   .rows = rows[i],
                                   .columns = columns[k],
                                   .groups = 1,
                                   .residual = true,
                                   .keep_h = true,
                                   .drop = (i + k) % 2 == 0,
                                   .dh_in = k % 2});
            }
}

static void variants(void (*check)(const norm_case *))
{
    for (int bits = 0; bits < 256; bits++) {
        norm_case c = {.rows = 9, .columns = 48, .groups = 1};
        c.dtype = bits & 1 ? HN_BF16 : HN_F32;
        c.parameters = bits & 2 ? HN_BF16 : HN_F32;
        c.residual = bits & 4;
        c.keep_h = bits & 8;
        c.drop = bits & 16;
        c.gap = bits & 32 ? (bits & 64 ? 3 : 8) : 0; /* 3: rows that no vector fits */
        c.in_place = bits & 128;
        c.dh_in = bits & 4;
        c.same_gradient = !c.drop && bits & 64;
        c.frozen = bits & 2 && bits & 16;
        check(&c);
    }
}

/* Fixed order, same bits: with few processors there are more rows than all groups have in one turn, with many more blocks than runs that
 * add them. */
static void check_bits(int64_t rows, int64_t columns, int groups, int processors)
{
    int64_t width = columns * groups, count = rows * groups;
    hn_tensor dy = matrix_random(HN_F32, rows, width, width, 100), h = matrix_random(HN_F32, rows, width, width, 1);
    hn_tensor gamma = matrix_random(HN_F32, 1, columns, columns, 1), dx = matrix_new(HN_F32, rows, width, width);
    float *mean = calloc((size_t)count, 4), *rstd = floats_new(count), *sums = calloc((size_t)columns * 4, sizeof *sums);
    for (int64_t r = 0; r < count; r++) rstd[r] = 1;
    for (int run = 0; run < 2; run++) {
        device d;
        emu_seed(100 + (uint64_t)run); /* another order of blocks and warps */
        device_open(&d, hnp_cuda_norm_workspace(columns));
        hn_cuda_device_of(&d.backend)->multiprocessors = processors;
        norm_now.backward(&d, groups, &dx, NULL, sums + run * columns, sums + (2 + run) * columns, &dy, NULL, &h, mean, rstd, &gamma,
                          NULL);
        CHECK_TEXT(d.error.message, "");
        device_close(&d);
    }
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = i % groups * columns + 3;
        sum += get(&dy, i / groups, at) * get(&h, i / groups, at);
    }
    CHECK_NEAR(sums[3], sum, 1e-5 * (double)count);
    CHECK_INT(memcmp(sums, sums + columns, (size_t)columns * 4), 0);
    CHECK_INT(memcmp(sums + 2 * columns, sums + 3 * columns, (size_t)columns * 4), 0);
    void *all[] = {dy.data, h.data, gamma.data, dx.data, mean, rstd, sums};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* A NaN in a row: that row's y is all NaN, the others' is as without it. */
static void check_nan(hn_dtype dtype, int64_t columns)
{
    enum { ROWS = 6, BAD = 2 };
    device d;
    device_open(&d, 0);
    hn_tensor x = matrix_random(dtype, ROWS, columns, columns, 1), gamma = matrix_random(HN_F32, 1, columns, columns, 1);
    hn_tensor y = matrix_new(dtype, ROWS, columns, columns);
    put(&x, BAD, columns - 1, (double)NAN);
    norm_now.forward(&d, 1, &y, NULL, NULL, NULL, &x, NULL, &gamma, &gamma, 1e-5f, NULL);
    for (int64_t i = 0; i < ROWS * columns; i++) CHECK(isnan(get(&y, i / columns, i % columns)) == (i / columns == BAD));
    free(x.data), free(y.data), free(gamma.data);
    device_close(&d);
}

static void check_refusals(const char *name, const char *scratch)
{
    char text[200];
    device d;
    float f[16] = {0}, statistic = 1; /* no kernel runs */
    hn_tensor t = hn_tensor_2d(f, HN_F32, 1, 8), gamma = hn_tensor_1d(f, HN_F32, 8), wide = hn_tensor_2d(f, HN_F32, 1, 8193);
    device_open(&d, 16);
    norm_now.backward(&d, 1, &t, NULL, f, f + 8, &t, NULL, &t, &statistic, &statistic, &gamma, NULL);
    CHECK_TEXT(d.error.message, scratch);
    d.error = (hn_error){0};
    norm_now.forward(&d, 1, &wide, NULL, NULL, NULL, &wide, NULL, &gamma, &gamma, 0, NULL);
    snprintf(text, sizeof text, "%s_forward: rows of 8193 columns, the GPU's kernels take up to 8192", name);
    CHECK_TEXT(d.error.message, text);
    d.error = (hn_error){0};
    norm_now.backward(&d, 1, &wide, NULL, NULL, NULL, &wide, NULL, &wide, &statistic, &statistic, &gamma, NULL);
    snprintf(text, sizeof text, "%s_backward: rows of 8193 columns, the GPU's kernels take up to 8192", name);
    CHECK_TEXT(d.error.message, text);
    device_close(&d);
}

#endif
