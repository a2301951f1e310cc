/* rmsnorm.cu on the emulator (norm_test.h), with the heads of a query as groups, and against the CPU's table. */
#include "tests/cuda_on_cpu/norm_test.h"

static void forward(device *d, int groups, const hn_tensor *y, const hn_tensor *h, float *mean, float *rstd, const hn_tensor *x,
                    const hn_tensor *residual, const hn_tensor *gamma, const hn_tensor *beta, float epsilon,
                    const hn_dropout *dropout)
{
    (void)mean, (void)beta;
    d->ops->rmsnorm_forward(&d->ctx, y, h, rstd, x, residual, gamma, groups, epsilon, dropout);
}

static void backward(device *d, int groups, const hn_tensor *dx, const hn_tensor *d_residual, float *dgamma, float *dbeta,
                     const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h, const float *mean, const float *rstd,
                     const hn_tensor *gamma, const hn_dropout *dropout)
{
    (void)mean, (void)dbeta;
    d->ops->rmsnorm_backward(&d->ctx, dx, d_residual, dgamma, dy, dh_in, h, rstd, gamma, groups, dropout);
}

TEST(forward_at_odd_sizes)
{
    sweep(check_forward);
}
TEST(backward_at_odd_sizes)
{
    sweep(check_backward);
}
TEST(forward_variants)
{
    variants(check_forward);
}
TEST(backward_variants)
{
    variants(check_backward);
}

/* Heads on a view of a wider buffer: widths of every shape that heads have, and some that no vector fits. */
TEST(groups)
{
    static const norm_case cases[] = {{.rows = 33, .columns = 64, .groups = 3, .gap = 64},
                                      {.rows = 31, .columns = 128, .groups = 2, .gap = 128, .residual = true, .keep_h = true},
                                      {.rows = 257, .columns = 8, .groups = 5, .keep_h = true, .dh_in = true},
                                      {.rows = 1, .columns = 256, .groups = 7, .keep_h = true, .in_place = true},
                                      {.rows = 0, .columns = 64, .groups = 2},
                                      {.rows = 9, .columns = 33, .groups = 2, .gap = 5, .keep_h = true, .frozen = true},
                                      {.rows = 3, .columns = 1028, .groups = 2, .keep_h = true},
                                      {.rows = 65, .columns = 9, .groups = 5, .gap = 3, .residual = true, .in_place = true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int type = 0; type < 2; type++) {
            norm_case c = cases[i];
            c.dtype = c.parameters = type ? HN_BF16 : HN_F32;
            check_forward(&c);
            check_backward(&c);
        }
}

TEST(backward_gives_the_same_bits)
{
    check_bits(2311, 8, 1, 2);
    check_bits(2311, 8, 1, 20);
    check_bits(301, 64, 9, 2);
    check_bits(37, 1032, 1, 2);
}
TEST(a_nan_stays_in_its_row)
{
    check_nan(HN_F32, 40);
    check_nan(HN_BF16, 136);
}
TEST(refusals)
{
    check_refusals("rmsnorm", "rmsnorm_backward: needs 32 bytes of workspace, has 16");
}

/* Two groups of a row: (3, 4), mean of squares 12.5; (-5, 5), 25. */
TEST(forward_by_hand)
{
    static const float numbers[] = {3, 4, -5, 5, 2, 4};
    device d;
    device_open(&d, 0);
    float *f = malloc(sizeof numbers), *y = floats_new(4), *rstd = floats_new(2);
    memcpy(f, numbers, sizeof numbers);
    hn_tensor tx = hn_tensor_2d(f, HN_F32, 1, 4), ty = hn_tensor_2d(y, HN_F32, 1, 4), tg = hn_tensor_1d(f + 4, HN_F32, 2);
    d.ops->rmsnorm_forward(&d.ctx, &ty, NULL, rstd, &tx, NULL, &tg, 2, 0, NULL);
    CHECK_NEAR(rstd[0], 1 / sqrt(12.5), 1e-7);
    CHECK_NEAR(rstd[1], 0.2, 1e-7);
    CHECK_NEAR(y[1], 16 / sqrt(12.5), 1e-6);
    CHECK_NEAR(y[2], -2, 1e-6);
    CHECK_NEAR(y[3], 4, 1e-6);
    free(f), free(y), free(rstd);
    device_close(&d);
}

/* The same call on both tables, dropout's mask included. */
static void agrees(hn_dtype type)
{
    enum { X, RESIDUAL, DY, IN, Y, H, DX, DR, TENSORS, ROWS = 37, COLUMNS = 144 };
    device d;
    table cpu;
    keys *k = keys_new(ROWS, true);
    hn_tensor t[2][TENSORS], gamma = matrix_random(type, 1, COLUMNS, COLUMNS, 1);
    float *rstd = floats_new(ROWS), *dgamma[2];
    gamma.rank = 1, gamma.shape[0] = COLUMNS;
    cpu_open(&cpu);
    device_open(&d, hnp_cuda_norm_workspace(COLUMNS));
    for (int side = 0; side < 2; side++) {
        const hn_ops *ops = side ? d.ops : hn_ops_cpu();
        hn_ops_context *ctx = side ? &d.ctx : &cpu.ctx;
        hn_tensor *s = t[side];
        test_random = 44;
        dgamma[side] = calloc(COLUMNS, sizeof(float));
        for (int i = 0; i < TENSORS; i++) s[i] = matrix_random(type, ROWS, COLUMNS, COLUMNS + 8, 1);
        ops->rmsnorm_forward(ctx, &s[Y], &s[H], rstd, &s[X], &s[RESIDUAL], &gamma, 1, 1e-6f, &k->dropout);
        ops->rmsnorm_backward(ctx, &s[DX], &s[DR], dgamma[side], &s[DY], &s[IN], &s[H], rstd, &gamma, 1, &k->dropout);
    }
    CHECK_TEXT(cpu.error.message, "");
    CHECK_TEXT(d.error.message, "");
    for (int i = Y; i < TENSORS; i++)
        if (!(apart(&t[0][i], &t[1][i]) <= tolerance(type))) TEST_FAIL("%s tensor %d", hn_dtype_name(type), i);
    for (int i = 0; i < COLUMNS; i++) CHECK_NEAR(dgamma[1][i], dgamma[0][i], 10 * tolerance(type));
    for (int i = 0; i < 2 * TENSORS; i++) free(t[i / TENSORS][i % TENSORS].data);
    free(gamma.data), free(rstd), free(dgamma[0]), free(dgamma[1]);
    cpu_close(&cpu);
    device_close(&d);
    keys_free(k);
}

TEST(agrees_with_the_cpu)
{
    agrees(HN_F32);
    agrees(HN_BF16);
}

TEST_MAIN(norm_now = (norm_operation){false, forward, backward}; RUN(forward_by_hand); RUN(forward_at_odd_sizes);
          RUN(backward_at_odd_sizes); RUN(forward_variants); RUN(backward_variants); RUN(groups); RUN(backward_gives_the_same_bits);
          RUN(a_nan_stays_in_its_row); RUN(refusals); RUN(agrees_with_the_cpu))
