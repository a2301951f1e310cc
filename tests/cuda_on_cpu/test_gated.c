/* gated.cu on the emulator against the formulas in double and against the CPU's table: every activation, both types, the halves of one
 * matrix as models have them, aliases that the header allows, odd sizes. */
#include "tests/cuda_on_cpu/device.h"

typedef struct gated_case {
    hn_dtype type;
    hn_activation activation;
    int64_t rows, columns, gap;
    bool in_place;
} gated_case;

/* act(z) and its slope */
static double activated(double z, hn_activation activation, double *slope)
{
    double u = sqrt(2 / M_PI) * (z + 0.044715 * z * z * z), w = 1, w_slope = 0;
    switch (activation) {
    case HN_ACT_GELU:
        w = 0.5 * erfc(-z / sqrt(2));
        w_slope = exp(-z * z / 2) / sqrt(2 * M_PI);
        break;
    case HN_ACT_GELU_TANH:
        w = 0.5 * (1 + tanh(u));
        w_slope = 0.5 / pow(cosh(u), 2) * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * z * z);
        break;
    case HN_ACT_RELU: w = z > 0; break;
    case HN_ACT_SILU:
        w = 1 / (1 + exp(-z));
        w_slope = w * (1 - w);
        break;
    default: break;
    }
    *slope = w + z * w_slope;
    return z * w;
}

/* [rows, 2 I + gap] and its halves, as a product leaves gate and up. */
typedef struct halves {
    hn_tensor whole, gate, up;
} halves;

static halves halves_random(const gated_case *c, int64_t gap, double spread)
{
    halves h = {.whole = matrix_random(c->type, c->rows, 2 * c->columns, 2 * c->columns + gap, spread)};
    h.gate = hn_tensor_columns(&h.whole, 0, c->columns);
    h.up = hn_tensor_columns(&h.whole, c->columns, c->columns);
    return h;
}

static double (*expectations(const gated_case *c, const hn_tensor *dy, const halves *x))[3] /* y, dgate, dup */
{
    double(*expected)[3] = malloc((size_t)(c->rows * c->columns) * sizeof *expected + 8);
    for (int64_t i = 0; i < c->rows * c->columns; i++) {
        double slope, g = activated(get(&x->gate, i / c->columns, i % c->columns), c->activation, &slope);
        double up = get(&x->up, i / c->columns, i % c->columns), d = get(dy, i / c->columns, i % c->columns);
        expected[i][0] = g * up;
        expected[i][1] = d * up * slope;
        expected[i][2] = d * g;
    }
    return expected;
}

/* `got` against column `which` of the expectations and against the CPU's tensor. */
static void compare(const gated_case *c, const hn_tensor *got, double (*expected)[3], int which, const hn_tensor *by_cpu)
{
    double *one = malloc((size_t)(c->rows * c->columns) * sizeof *one + 8), off = apart(by_cpu, got);
    for (int64_t i = 0; i < c->rows * c->columns; i++) one[i] = expected[i][which];
    CHECK_MATRIX(got, one, tolerance(c->type));
    CHECK(off <= tolerance(c->type));
    free(one);
}

static void check(const gated_case *c)
{
    if (!case_wanted()) return;
    device d;
    table cpu;
    device_open(&d, 0);
    cpu_open(&cpu);
    halves x = halves_random(c, c->gap, 3), dx = halves_random(c, 16, 1), dx_cpu = halves_random(c, 0, 1);
    hn_tensor dy = matrix_random(c->type, c->rows, c->columns, c->columns, 2);
    hn_tensor y = matrix_new(c->type, c->rows, c->columns, c->columns + 16),
              y_cpu = matrix_new(c->type, c->rows, c->columns, c->columns);
    double(*expected)[3] = expectations(c, &dy, &x);
    hn_ops_cpu()->gated_forward(&cpu.ctx, &y_cpu, &x.gate, &x.up, c->activation);
    hn_ops_cpu()->gated_backward(&cpu.ctx, &dx_cpu.gate, &dx_cpu.up, &dy, &x.gate, &x.up, c->activation);
    d.ops->gated_forward(&d.ctx, &y, &x.gate, &x.up, c->activation);
    halves *to = c->in_place ? &x : &dx;
    d.ops->gated_backward(&d.ctx, &to->gate, &to->up, &dy, &x.gate, &x.up, c->activation);
    CHECK_TEXT(d.error.message, "");
    compare(c, &y, expected, 0, &y_cpu);
    compare(c, &to->gate, expected, 1, &dx_cpu.gate);
    compare(c, &to->up, expected, 2, &dx_cpu.up);
    CHECK(gaps_untouched(&y));
    CHECK(c->in_place || gaps_untouched(&dx.whole));
    void *all[] = {x.whole.data, dx.whole.data, dx_cpu.whole.data, dy.data, y.data, y_cpu.data, expected};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    cpu_close(&cpu);
    device_close(&d);
}

TEST(every_activation)
{
    for (int activation = 0; activation <= HN_ACT_SILU; activation++)
        for (int bits = 0; bits < 8 && activation != HN_ACT_TANH; bits++)
            check(&(gated_case){bits & 1 ? HN_BF16 : HN_F32, (hn_activation)activation, 5, bits & 4 ? 21 : 40, bits & 4 ? 3 : 8,
                                bits & 2});
    check(&(gated_case){HN_BF16, HN_ACT_SILU, 3, 40, 3, false}); /* y and the gradients allow vectors, gate and up do not */
}

TEST(odd_sizes)
{
    static const int64_t rows[] = {0, 1, 31, 33, 257}, columns[] = {1, 8, 24, 31, 96, 1544};
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < 6; k++) {
            if (rows[i] * columns[k] > 33 * 96) continue;
            check(&(gated_case){HN_F32, HN_ACT_SILU, rows[i], columns[k], 0, i % 2});
            check(&(gated_case){HN_BF16, HN_ACT_SILU, rows[i], columns[k], 8, i % 2 == 0});
        }
}

/* dgate and dup may lie where dy and up, y where gate or up: models write over what they no longer need. */
TEST(other_aliases)
{
    enum { ROWS = 3, COLUMNS = 24 };
    for (int which = 0; which < 4; which++) {
        gated_case c = {HN_F32, HN_ACT_GELU, ROWS, COLUMNS, 0, false};
        device d;
        device_open(&d, 0);
        halves x = halves_random(&c, 0, 2);
        hn_tensor dy = matrix_random(HN_F32, ROWS, COLUMNS, COLUMNS, 1), other = matrix_new(HN_F32, ROWS, COLUMNS, COLUMNS);
        double(*expected)[3] = expectations(&c, &dy, &x);
        if (which < 2) {
            hn_tensor *y = which ? &x.gate : &x.up;
            d.ops->gated_forward(&d.ctx, y, &x.gate, &x.up, HN_ACT_GELU);
            compare(&c, y, expected, 0, y);
        } else {
            hn_tensor *dgate = which == 2 ? &dy : &other, *dup = which == 2 ? &other : &dy;
            d.ops->gated_backward(&d.ctx, dgate, dup, &dy, &x.gate, &x.up, HN_ACT_GELU);
            compare(&c, dgate, expected, 1, dgate);
            compare(&c, dup, expected, 2, dup);
        }
        CHECK_TEXT(d.error.message, "");
        void *all[] = {x.whole.data, dy.data, other.data, expected};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
        device_close(&d);
    }
}

/* silu(1) = 0.7310586, its slope 0.9276705; a NaN in gate or up comes out in its own place only. */
TEST(by_hand)
{
    float gate[4] = {1, NAN, 2, -1}, up[4] = {10, 1, 1, NAN}, dy[4] = {2, 1, 1, 1}, y[4], dgate[4], dup[4];
    hn_tensor tg = hn_tensor_2d(gate, HN_F32, 1, 4), tu = hn_tensor_2d(up, HN_F32, 1, 4), ty = hn_tensor_2d(y, HN_F32, 1, 4),
              td = hn_tensor_2d(dy, HN_F32, 1, 4), to = hn_tensor_2d(dgate, HN_F32, 1, 4), tp = hn_tensor_2d(dup, HN_F32, 1, 4);
    device d;
    device_open(&d, 0);
    d.ops->gated_forward(&d.ctx, &ty, &tg, &tu, HN_ACT_SILU);
    d.ops->gated_backward(&d.ctx, &to, &tp, &td, &tg, &tu, HN_ACT_SILU);
    CHECK_NEAR(y[0], 7.310585786, 1e-6);
    CHECK_NEAR(dgate[0], 2 * 10 * 0.9276705118714869, 1e-6);
    CHECK_NEAR(dup[0], 2 * 0.7310585786, 1e-6);
    CHECK(isnan(y[1]) && isnan(dgate[1]) && isnan(dup[1]) && isnan(y[3]) && isnan(dgate[3]));
    CHECK(isfinite(y[2]) && isfinite(dgate[2]) && isfinite(dup[2]) && isfinite(dup[3]));
    device_close(&d);
}

TEST_MAIN(RUN(by_hand); RUN(every_activation); RUN(odd_sizes); RUN(other_aliases))
