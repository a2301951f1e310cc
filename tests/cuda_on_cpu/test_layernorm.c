/* layernorm.cu on the emulator (norm_test.h). */
#include "tests/cuda_on_cpu/norm_test.h"

static void forward(device *d, int groups, const hn_tensor *y, const hn_tensor *h, float *mean, float *rstd, const hn_tensor *x,
                    const hn_tensor *residual, const hn_tensor *gamma, const hn_tensor *beta, float epsilon,
                    const hn_dropout *dropout)
{
    (void)groups;
    d->ops->layernorm_forward(&d->ctx, y, h, mean, rstd, x, residual, gamma, beta, epsilon, dropout);
}

static void backward(device *d, int groups, const hn_tensor *dx, const hn_tensor *d_residual, float *dgamma, float *dbeta,
                     const hn_tensor *dy, const hn_tensor *dh_in, const hn_tensor *h, const float *mean, const float *rstd,
                     const hn_tensor *gamma, const hn_dropout *dropout)
{
    (void)groups;
    d->ops->layernorm_backward(&d->ctx, dx, d_residual, dgamma, dbeta, dy, dh_in, h, mean, rstd, gamma, dropout);
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
TEST(backward_gives_the_same_bits)
{
    check_bits(2311, 8, 1, 2);
    check_bits(2311, 8, 1, 20);
    check_bits(37, 1032, 1, 2);
}
TEST(a_nan_stays_in_its_row)
{
    check_nan(HN_F32, 40);
    check_nan(HN_BF16, 136);
}
TEST(refusals)
{
    check_refusals("layernorm", "layernorm_backward: needs 64 bytes of workspace, has 16");
}

/* y of one row worked out by hand: h = (1, 3), mean 2, variance 1. */
TEST(forward_by_hand)
{
    static const float numbers[] = {1, 3, 2, 10, 0.5f, -1};
    device d;
    device_open(&d, 0);
    float *f = malloc(sizeof numbers), *y = floats_new(2), *statistics = floats_new(2);
    memcpy(f, numbers, sizeof numbers);
    hn_tensor tx = hn_tensor_2d(f, HN_F32, 1, 2), ty = hn_tensor_2d(y, HN_F32, 1, 2);
    hn_tensor tg = hn_tensor_1d(f + 2, HN_F32, 2), tb = hn_tensor_1d(f + 4, HN_F32, 2);
    d.ops->layernorm_forward(&d.ctx, &ty, NULL, statistics, statistics + 1, &tx, NULL, &tg, &tb, 0, NULL);
    CHECK_NEAR(statistics[0], 2, 1e-7);
    CHECK_NEAR(statistics[1], 1, 1e-7);
    CHECK_NEAR(y[0], -1.5, 1e-6);
    CHECK_NEAR(y[1], 9, 1e-6);
    free(f), free(y), free(statistics);
    device_close(&d);
}

TEST_MAIN(norm_now = (norm_operation){true, forward, backward}; RUN(forward_by_hand); RUN(forward_at_odd_sizes);
          RUN(backward_at_odd_sizes); RUN(forward_variants); RUN(backward_variants); RUN(backward_gives_the_same_bits);
          RUN(a_nan_stays_in_its_row); RUN(refusals))
