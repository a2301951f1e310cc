/* activation.cu on the emulator against the formulas in double and against the CPU's table: every activation,
 * all mixtures of types, widths that take vectors, two vectors a thread, single elements, and more rows than
 * a wave of blocks. */
#include "tests/cuda_on_cpu/device.h"

typedef struct slope_case {
    hn_dtype dz, dy, z;
    hn_activation activation;
    int64_t rows, columns, gap;
    bool in_place;
} slope_case;

static double slope_of(double z, hn_activation activation)
{
    double t = tanh(sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)), s = 1 / (1 + exp(-z));
    switch (activation) {
    case HN_ACT_GELU: return 0.5 * erfc(-z / sqrt(2)) + z * exp(-z * z / 2) / sqrt(2 * M_PI);
    case HN_ACT_GELU_TANH:
        return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * z * z);
    case HN_ACT_TANH: return 1 - z * z;
    case HN_ACT_RELU: return z > 0;
    case HN_ACT_SILU: return s + z * s * (1 - s);
    case HN_ACT_NONE: break;
    }
    return 1;
}

static void check(const slope_case *c)
{
    if (!case_wanted()) return;
    int64_t stride = c->columns + c->gap, count = c->rows * c->columns;
    device d;
    table cpu;
    device_open(&d, 0);
    cpu_open(&cpu);
    hn_tensor dy = matrix_random(c->dy, c->rows, c->columns, stride, 2),
              z = matrix_random(c->z, c->rows, c->columns, stride, c->activation == HN_ACT_TANH ? 1 : 6);
    hn_tensor dz = matrix_new(c->dz, c->rows, c->columns, stride),
              by_cpu = matrix_new(c->dz, c->rows, c->columns, stride), *to = c->in_place ? &dy : &dz;
    double *expected = malloc((size_t)count * sizeof *expected + 8);
    for (int64_t i = 0; i < count; i++) {
        int64_t row = i / c->columns, column = i % c->columns;
        expected[i] = get(&dy, row, column) * slope_of(get(&z, row, column), c->activation);
    }
    hn_ops_cpu()->activation_backward(&cpu.ctx, &by_cpu, &dy, &z, c->activation);
    d.ops->activation_backward(&d.ctx, to, &dy, &z, c->activation);
    CHECK_TEXT(d.error.message, "");
    CHECK_MATRIX(to, expected, tolerance(c->dz));
    CHECK(gaps_untouched(to));
    double off = apart(&by_cpu, to);
    if (!(off <= tolerance(c->dz)))
        TEST_FAIL("%s, activation %d: %g from the CPU's", hn_dtype_name(c->dz), c->activation, off);
    void *all[] = {dy.data, z.data, dz.data, by_cpu.data, expected};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    cpu_close(&cpu);
    device_close(&d);
}

TEST(every_activation_and_type)
{
    for (int activation = 0; activation <= HN_ACT_SILU; activation++)
        for (int types = 0; types < 8; types++) {
            slope_case c = {types & 1 ? HN_BF16 : HN_F32,
                            types & 2 ? HN_BF16 : HN_F32,
                            types & 4 ? HN_BF16 : HN_F32,
                            (hn_activation)activation,
                            5,
                            48,
                            0,
                            false};
            check(&c);
            c.columns = 13;
            check(&c);
        }
}

/* Single elements, one vector, two and three a thread, a width that no vector divides, more vectors than
 * threads. */
TEST(odd_sizes)
{
    static const int64_t rows[] = {0, 1, 31, 33, 257}, columns[] = {1, 8, 24, 31, 96, 264, 2568};
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < 7; k++)
            for (int type = 0; type < 2; type++) {
                if (rows[i] * columns[k] > 33 * 300) continue;
                hn_dtype t = type ? HN_BF16 : HN_F32;
                check(&(slope_case){t, t, t, HN_ACT_GELU, rows[i], columns[k], k % 3 * 8, i % 2});
                check(&(slope_case){t, t, t, HN_ACT_SILU, rows[i], columns[k], 3, i % 2 == 0});
            }
    check(&(slope_case){HN_F32, HN_F32, HN_F32, HN_ACT_RELU, 70, 1024, 4, false}); /* more rows than blocks */
}

TEST(values_by_hand)
{
    float z[4] = {0, -1, 1, 0.5f}, dy[4] = {1, 2, 2, -4}, dz[4];
    hn_tensor tz = hn_tensor_2d(z, HN_F32, 1, 4), ty = hn_tensor_2d(dy, HN_F32, 1, 4),
              to = hn_tensor_2d(dz, HN_F32, 1, 4);
    device d;
    device_open(&d, 0);
    d.ops->activation_backward(&d.ctx, &to, &ty, &tz, HN_ACT_RELU);
    CHECK(dz[0] == 0 && dz[1] == 0 && dz[2] == 2 && dz[3] == -4);
    d.ops->activation_backward(&d.ctx, &to, &ty, &tz, HN_ACT_TANH);
    CHECK(dz[0] == 1 && dz[1] == 0 && dz[2] == 0 && dz[3] == -3);
    d.ops->activation_backward(&d.ctx, &to, &ty, &tz, HN_ACT_GELU);
    CHECK_NEAR(dz[0], 0.5, 1e-7);
    CHECK_NEAR(dz[2], 2 * 1.0833154705876864, 1e-6);
    d.ops->activation_backward(&d.ctx, &to, &ty, &tz, HN_ACT_SILU);
    CHECK_NEAR(dz[2], 2 * 0.9276705118714869, 1e-6);
    device_close(&d);
}

/* Far from zero a slope is 0 or 1 and nothing overflows; a NaN stays where it is. */
TEST(extremes)
{
    static const float z[8] = {-INFINITY, -1e20f, -200, 200, 1e20f, INFINITY, NAN, 0.5f};
    for (int activation = HN_ACT_GELU; activation <= HN_ACT_SILU; activation++) {
        if (activation == HN_ACT_TANH) continue;
        float dy[8] = {1, 1, 1, 1, 1, 1, 1, 1}, dz[8];
        hn_tensor tz = hn_tensor_2d((void *)z, HN_F32, 1, 8), ty = hn_tensor_2d(dy, HN_F32, 1, 8),
                  to = hn_tensor_2d(dz, HN_F32, 1, 8);
        device d;
        device_open(&d, 0);
        d.ops->activation_backward(&d.ctx, &to, &ty, &tz, (hn_activation)activation);
        CHECK_TEXT(d.error.message, "");
        for (int i = 0; i < 6; i++) CHECK_NEAR(dz[i], i < 3 ? 0 : 1, 1e-7);
        CHECK(activation == HN_ACT_RELU ? dz[6] == 0 : isnan(dz[6]));
        CHECK(isfinite(dz[7]));
        device_close(&d);
    }
}

TEST_MAIN(RUN(every_activation_and_type); RUN(odd_sizes); RUN(values_by_hand); RUN(extremes))
