/* layernorm.cu on the emulator against plain loops in double precision, at odd sizes, strides, aliases and
 * absences. */
#include "tests/cuda_on_cpu/device.h"

typedef struct layer_case {
    hn_dtype dtype, parameters;
    int64_t rows, columns, gap; /* stride = columns + gap */
    bool residual, keep_h, dh_in, drop, same_gradient, in_place;
} layer_case;

typedef struct keys {
    hn_random random;
    uint32_t step;
    uint32_t *example;
    int32_t *position;
    hn_dropout dropout;
} keys;

static void keys_open(keys *k, int64_t rows, bool drop)
{
    memset(k, 0, sizeof *k);
    k->step = 7;
    k->example = malloc((size_t)rows * sizeof *k->example);
    k->position = malloc((size_t)rows * sizeof *k->position);
    for (int64_t r = 0; r < rows; r++) {
        k->example[r] = (uint32_t)(r / 5);
        k->position[r] = (int32_t)(r % 5);
    }
    k->random = (hn_random){0x123456789abcdefu, &k->step, k->example, k->position};
    k->dropout = (hn_dropout){drop ? 0.3f : 0.0f, HN_SITE(2, HN_SITE_MLP_OUT, 0), &k->random};
}

static void keys_close(keys *k)
{
    free(k->example);
    free(k->position);
}

/* y and h of row r; returns the statistics. */
static void expect_row(const layer_case *c, double *y, double *h, double *mean, double *rstd,
                       const hn_tensor *x, const hn_tensor *residual, const hn_tensor *gamma,
                       const hn_tensor *beta, double epsilon, const hn_dropout *drop, int64_t r)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < c->columns; i++) {
        uint64_t element = (uint64_t)(r % 5 * c->columns + i);
        double v = get(x, r, i) * drop_factor(drop, 0, r, element) + (c->residual ? get(residual, r, i) : 0);
        h[i] = rounded(c->dtype, v);
        sum += h[i];
    }
    *mean = sum / (double)c->columns;
    for (int64_t i = 0; i < c->columns; i++) squares += (h[i] - *mean) * (h[i] - *mean);
    *rstd = 1 / sqrt(squares / (double)c->columns + epsilon);
    for (int64_t i = 0; i < c->columns; i++)
        y[i] = (h[i] - *mean) * *rstd * get(gamma, 0, i) + get(beta, 0, i);
}

static void check_forward(const layer_case *c)
{
    if (!case_wanted()) return;
    int64_t stride = c->columns + c->gap;
    device d;
    keys k;
    keys_open(&k, c->rows, c->drop);
    device_open(&d, 0);
    hn_tensor x = matrix_random(c->dtype, c->rows, c->columns, stride, 1),
              residual = matrix_random(c->dtype, c->rows, c->columns, stride, 2);
    hn_tensor gamma = matrix_random(c->parameters, 1, c->columns, c->columns, 1),
              beta = matrix_random(c->parameters, 1, c->columns, c->columns, 1);
    hn_tensor y = matrix_new(c->dtype, c->rows, c->columns, stride),
              h = matrix_new(c->dtype, c->rows, c->columns, stride);
    float *mean = floats_new(c->rows), *rstd = floats_new(c->rows);
    size_t count = (size_t)(c->rows * c->columns);
    double *ey = malloc(count * sizeof *ey + 8), *eh = malloc(count * sizeof *eh + 8),
           *em = malloc((size_t)c->rows * 16 + 8);
    for (int64_t r = 0; r < c->rows; r++)
        expect_row(c, ey + r * c->columns, eh + r * c->columns, em + 2 * r, em + 2 * r + 1, &x, &residual,
                   &gamma, &beta, 1e-5, &k.dropout, r);
    hn_tensor *to_h = c->in_place ? &residual : &h, *to_y = c->in_place ? &x : &y;
    d.ops->layernorm_forward(&d.ctx, to_y, c->keep_h ? to_h : NULL, c->keep_h ? mean : NULL,
                              c->keep_h ? rstd : NULL, &x, c->residual ? &residual : NULL, &gamma, &beta,
                              1e-5f, &k.dropout);
    CHECK_TEXT(d.error.message, "");
    CHECK_MATRIX(to_y, ey, tolerance(c->dtype) * (c->columns == 1 ? 1 : 2));
    CHECK(gaps_untouched(to_y));
    if (c->keep_h) {
        CHECK_MATRIX(to_h, eh, tolerance(c->dtype));
        CHECK(gaps_untouched(to_h));
        for (int64_t r = 0; r < c->rows; r++) {
            CHECK_NEAR(mean[r], em[2 * r], c->dtype == HN_F32 ? 1e-6 : 1e-4);
            CHECK_NEAR(rstd[r], em[2 * r + 1], c->dtype == HN_F32 ? 1e-5 : 1e-3);
        }
    }
    void *all[] = {x.data, residual.data, gamma.data, beta.data, y.data, h.data, mean, rstd, ey, eh, em};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    device_close(&d);
    keys_close(&k);
}

/* dx and d_residual of row r, and its part of dgamma and dbeta. */
static void expect_gradients(const layer_case *c, double *dx, double *d_residual, double *dgamma,
                             double *dbeta, const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h,
                             double mean, double rstd, const hn_tensor *gamma, const hn_dropout *drop,
                             int64_t r)
{
    double sum_g = 0, sum_gn = 0, columns = (double)c->columns;
    for (int64_t i = 0; i < c->columns; i++) {
        double n = (get(h, r, i) - mean) * rstd, g = get(dy, r, i) * get(gamma, 0, i);
        sum_g += g;
        sum_gn += g * n;
        dgamma[i] += get(dy, r, i) * n;
        dbeta[i] += get(dy, r, i);
    }
    for (int64_t i = 0; i < c->columns; i++) {
        double n = (get(h, r, i) - mean) * rstd, g = get(dy, r, i) * get(gamma, 0, i);
        d_residual[i] =
            rstd * (g - sum_g / columns - n * sum_gn / columns) + (c->dh_in ? get(dh_in, r, i) : 0);
        dx[i] = d_residual[i] * drop_factor(drop, 0, r, (uint64_t)(r % 5 * c->columns + i));
    }
}

static void check_backward(const layer_case *c)
{
    if (!case_wanted()) return;
    int64_t stride = c->columns + c->gap;
    device d;
    keys k;
    keys_open(&k, c->rows, c->drop);
    device_open(&d, hnp_cuda_layernorm_workspace(c->columns));
    hn_tensor dy = matrix_random(c->dtype, c->rows, c->columns, stride, 1),
              dh_in = matrix_random(c->dtype, c->rows, c->columns, stride, 1);
    hn_tensor h = matrix_random(c->dtype, c->rows, c->columns, stride, 2),
              gamma = matrix_random(c->parameters, 1, c->columns, c->columns, 1);
    hn_tensor dx = matrix_new(c->dtype, c->rows, c->columns, stride),
              d_residual = matrix_new(c->dtype, c->rows, c->columns, stride);
    hn_tensor dgamma = matrix_random(HN_F32, 1, c->columns, c->columns, 1),
              dbeta = matrix_random(HN_F32, 1, c->columns, c->columns, 1);
    float *mean = floats_new(c->rows), *rstd = floats_new(c->rows);
    size_t count = (size_t)(c->rows * c->columns), width = (size_t)c->columns;
    double *ex = malloc(count * sizeof *ex + 8), *er = malloc(count * sizeof *er + 8),
           *eg = malloc(width * sizeof *eg), *eb = malloc(width * sizeof *eb);
    for (size_t i = 0; i < width; i++) {
        eg[i] = get(&dgamma, 0, (int64_t)i);
        eb[i] = get(&dbeta, 0, (int64_t)i);
    }
    for (int64_t r = 0; r < c->rows; r++) {
        mean[r] = (float)(0.2 * uniform());
        rstd[r] = (float)(1 + 0.3 * uniform());
        expect_gradients(c, ex + r * c->columns, er + r * c->columns, eg, eb, &dy, &dh_in, &h, mean[r],
                         rstd[r], &gamma, &k.dropout, r);
    }
    hn_tensor *to_x = c->in_place ? &dy : c->same_gradient ? &d_residual : &dx;
    d.ops->layernorm_backward(&d.ctx, to_x,
                               c->in_place && c->drop ? NULL
                               : c->in_place          ? to_x
                                                      : &d_residual,
                               dgamma.data, c->keep_h ? dbeta.data : NULL, &dy, c->dh_in ? &dh_in : NULL, &h,
                               mean, rstd, &gamma, &k.dropout);
    CHECK_TEXT(d.error.message, "");
    CHECK_MATRIX(to_x, ex, tolerance(c->dtype));
    CHECK(gaps_untouched(to_x));
    if (!c->in_place) CHECK_MATRIX(&d_residual, er, tolerance(c->dtype));
    CHECK_MATRIX(&dgamma, eg, 1e-5);
    if (c->keep_h) CHECK_MATRIX(&dbeta, eb, 1e-5);
    void *all[] = {dy.data,     dh_in.data, h.data, gamma.data, dx.data, d_residual.data,
                   dgamma.data, dbeta.data, mean,   rstd,       ex,      er,
                   eg,          eb};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    device_close(&d);
    keys_close(&k);
}

/* Every number of rows with every width that takes another path: one element, vectors with a tail of lanes,
 * widths that no vector divides, the last width of a warp and the first of a block. */
static void sweep(void (*check)(const layer_case *))
{
    static const int64_t rows[] = {0, 1, 31, 33, 257},
                         columns[] = {1, 8, 31, 96, 384, 1024, 1025, 1032, 2056};
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < 9; k++)
            for (int type = 0; type < 2; type++) {
                if (rows[i] * columns[k] > 33 * 1100 && !(columns[k] == 96)) continue;
                hn_dtype dtype = type ? HN_BF16 : HN_F32;
                layer_case c = {.dtype = dtype,
                                .parameters = (i + k) % 2 ? HN_F32 : dtype,
                                .rows = rows[i],
                                .columns = columns[k],
                                .residual = true,
                                .keep_h = true,
                                .drop = (i + k) % 2 == 0,
                                .dh_in = k % 2};
                check(&c);
            }
}

TEST(forward_at_odd_sizes)
{
    sweep(check_forward);
}
TEST(backward_at_odd_sizes)
{
    sweep(check_backward);
}

static void variants(void (*check)(const layer_case *))
{
    static const layer_case base = {.dtype = HN_F32, .parameters = HN_F32, .rows = 9, .columns = 48};
    for (int bits = 0; bits < 256; bits++) {
        layer_case c = base;
        c.dtype = bits & 1 ? HN_BF16 : HN_F32;
        c.parameters = bits & 2 ? HN_BF16 : HN_F32;
        c.residual = bits & 4;
        c.keep_h = bits & 8;
        c.drop = bits & 16;
        c.gap = bits & 32 ? (bits & 64 ? 3 : 8) : 0; /* 3: rows that no vector fits */
        c.in_place = bits & 128;
        c.dh_in = bits & 4;
        c.same_gradient = !c.drop && bits & 64;
        check(&c);
    }
}

TEST(forward_variants)
{
    variants(check_forward);
}
TEST(backward_variants)
{
    variants(check_backward);
}

/* y of one row worked out by hand: h = (1, 3), mean 2, variance 1. */
TEST(forward_by_hand)
{
    device d;
    device_open(&d, 0);
    float x[2] = {1, 3}, y[2], gamma[2] = {2, 10}, beta[2] = {0.5f, -1}, mean, rstd;
    hn_tensor tx = hn_tensor_2d(x, HN_F32, 1, 2), ty = hn_tensor_2d(y, HN_F32, 1, 2);
    hn_tensor tg = hn_tensor_1d(gamma, HN_F32, 2), tb = hn_tensor_1d(beta, HN_F32, 2);
    d.ops->layernorm_forward(&d.ctx, &ty, NULL, &mean, &rstd, &tx, NULL, &tg, &tb, 0, NULL);
    CHECK_NEAR(mean, 2, 1e-7);
    CHECK_NEAR(rstd, 1, 1e-7);
    CHECK_NEAR(y[0], -1.5, 1e-6);
    CHECK_NEAR(y[1], 9, 1e-6);
    device_close(&d);
}

/* More rows than BLOCKS * 8, so that a group has several, and rows that are large: fixed order, same bits. */
TEST(backward_gives_the_same_bits)
{
    enum { ROWS = 2311, COLUMNS = 8 };
    hn_tensor dy = matrix_random(HN_F32, ROWS, COLUMNS, COLUMNS, 100),
              h = matrix_random(HN_F32, ROWS, COLUMNS, COLUMNS, 1);
    hn_tensor gamma = matrix_random(HN_F32, 1, COLUMNS, COLUMNS, 1),
              dx = matrix_new(HN_F32, ROWS, COLUMNS, COLUMNS);
    float *mean = calloc(ROWS, 4), *rstd = floats_new(ROWS), dgamma[2][COLUMNS] = {{0}},
          dbeta[2][COLUMNS] = {{0}};
    for (int r = 0; r < ROWS; r++) rstd[r] = 1;
    for (int run = 0; run < 2; run++) {
        device d;
        emu_seed(100 + (uint64_t)run); /* another order of blocks and warps */
        device_open(&d, hnp_cuda_layernorm_workspace(COLUMNS));
        d.ops->layernorm_backward(&d.ctx, &dx, NULL, dgamma[run], dbeta[run], &dy, NULL, &h, mean, rstd,
                                   &gamma, NULL);
        CHECK_TEXT(d.error.message, "");
        device_close(&d);
    }
    double sum = 0;
    for (int r = 0; r < ROWS; r++) sum += get(&dy, r, 3);
    CHECK_NEAR(dbeta[0][3], sum, 1e-5);
    CHECK_INT(memcmp(dgamma[0], dgamma[1], sizeof dgamma[0]), 0);
    CHECK_INT(memcmp(dbeta[0], dbeta[1], sizeof dbeta[0]), 0);
    void *all[] = {dy.data, h.data, gamma.data, dx.data, mean, rstd};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

TEST(workspace_too_small_is_an_error)
{
    device d;
    float f[8] = {0}, statistic = 1;
    hn_tensor t = hn_tensor_2d(f, HN_F32, 1, 8), gamma = hn_tensor_1d(f, HN_F32, 8);
    device_open(&d, 64);
    d.ops->layernorm_backward(&d.ctx, &t, NULL, f, f, &t, NULL, &t, &statistic, &statistic, &gamma, NULL);
    CHECK_CONTAINS(d.error.message, "layernorm_backward: needs 16384 bytes of workspace, has 64");
    device_close(&d);
}

TEST_MAIN(RUN(forward_by_hand); RUN(forward_at_odd_sizes); RUN(backward_at_odd_sizes); RUN(forward_variants);
          RUN(backward_variants); RUN(backward_gives_the_same_bits); RUN(workspace_too_small_is_an_error))
