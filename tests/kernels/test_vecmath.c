/* exp, erf, tanh, log, GELU of vectors against libm in double: dense sweeps over all finite magnitudes, counted in units in the last
 * place of the fp32 result, and the special values. Philox against the scalar definition. This file is the widest instruction set
 * that the compiler's flags allow here; the other sets are reached through the operations. */
#define HN_ISA test
#include "kernels/vecmath.h"

#include "core/philox.h"
#include "tests/test.h"

static double ulps(float got, double expected)
{
    if (isnan(expected)) return isnan(got) ? 0 : INFINITY;
    if ((float)expected == got) return 0;
    if (isinf(got) || isinf((float)expected)) return INFINITY;
    double size = fabs(expected) < 0x1p-126 ? 0x1p-149 : ldexp(1, ilogb(expected) - 23);
    return fabs((double)got - expected) / size;
}

/* All fp32 numbers of a sign, every `step`-th bit pattern. */
typedef vf (*vector_function)(vf);

static double worst(vector_function f, double (*reference)(double), float low, float high, uint32_t step)
{
    double most = 0;
    for (uint64_t bits = 0; bits < 0x7f800000u; bits += step)
        for (int sign = 0; sign < 2; sign++) {
            union {
                uint32_t u;
                float f;
            } x = {.u = (uint32_t)bits | (uint32_t)sign << 31};
            if (x.f < low || x.f > high) continue;
            double apart = ulps(f(vf_all(x.f))[0], reference((double)x.f));
            if (!(apart <= most)) most = apart;
        }
    return most;
}

static vf exp_vector(vf x) { return vf_exp(x); }
static vf erf_vector(vf x) { return vf_erf(x); }
static vf tanh_vector(vf x) { return vf_tanh(x); }
static vf log_vector(vf x) { return vf_log(x); }

TEST(units_in_the_last_place)
{
    enum { STEP = 4999 };
    double e = worst(exp_vector, exp, -103.9f, 88.7f, STEP), r = worst(erf_vector, erf, -1e30f, 1e30f, STEP);
    double t = worst(tanh_vector, tanh, -1e30f, 1e30f, STEP), l = worst(log_vector, log, 0x1p-126f, 3e38f, STEP);
    printf("worst error in ulp: exp %.2f, erf %.2f, tanh %.2f, log %.2f\n", e, r, t, l);
    CHECK(e <= 2.5);
    CHECK(r <= 5);
    CHECK(t <= 2.5);
    CHECK(l <= 2.5);
}

TEST(special_values)
{
    CHECK(vf_exp(vf_all(-INFINITY))[0] == 0);
    CHECK(vf_exp(vf_all(-200))[0] == 0);
    CHECK(vf_exp(vf_all(INFINITY))[0] == INFINITY);
    CHECK(vf_exp(vf_all(100))[0] == INFINITY);
    CHECK(vf_exp(vf_all(0))[0] == 1);
    CHECK(isnan(vf_exp(vf_all(NAN))[0]));
    CHECK(vf_erf(vf_all(INFINITY))[0] == 1 && vf_erf(vf_all(-INFINITY))[0] == -1);
    CHECK(isnan(vf_erf(vf_all(NAN))[0]));
    CHECK(vf_tanh(vf_all(INFINITY))[0] == 1 && vf_tanh(vf_all(-INFINITY))[0] == -1);
    CHECK(isnan(vf_tanh(vf_all(NAN))[0]));
    CHECK(vf_log(vf_all(0))[0] == -INFINITY);
    CHECK(vf_log(vf_all(INFINITY))[0] == INFINITY);
    CHECK(isnan(vf_log(vf_all(-1))[0]) && isnan(vf_log(vf_all(NAN))[0]));
}

static double gelu(double x) { return 0.5 * x * (1 + erf(x / sqrt(2))); }
static double gelu_tanh(double x) { return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

/* Value and slope, absolute: 1 + erf cancels far to the left, as it does in every fp32 GELU. */
static void check_activation(vector_function f, vector_function slope, double (*reference)(double))
{
    for (double x = -40; x <= 40; x += 0.00371) {
        double expected = (reference(x + 1e-5) - reference(x - 1e-5)) / 2e-5;
        CHECK_NEAR(f(vf_all((float)x))[0], reference((double)(float)x), 1.5e-6);
        CHECK_NEAR(slope(vf_all((float)x))[0], expected, 2e-6);
    }
    CHECK(isnan(f(vf_all(NAN))[0]) && isnan(slope(vf_all(NAN))[0]));
    CHECK_NEAR(slope(vf_all(1e30f))[0], 1, 0);
    CHECK_NEAR(slope(vf_all(-1e30f))[0], 0, 0);
    CHECK(f(vf_all(1e30f))[0] == 1e30f && f(vf_all(-1e30f))[0] == 0);
}

static vf gelu_vector(vf x) { return vf_gelu(x); }
static vf gelu_slope_vector(vf x) { return vf_gelu_slope(x); }
static vf gelu_tanh_vector(vf x) { return vf_gelu_tanh(x); }
static vf gelu_tanh_slope_vector(vf x) { return vf_gelu_tanh_slope(x); }

TEST(activations)
{
    check_activation(gelu_vector, gelu_slope_vector, gelu);
    check_activation(gelu_tanh_vector, gelu_tanh_slope_vector, gelu_tanh);
}

TEST(philox_words_are_the_scalar_ones)
{
    hnp_stream stream = {0x0123456789abcdefull, 77, 0xfffffff0u, 5};
    static const uint64_t firsts[] = {0, 1, 6, 4096 * 384 + 3, 0xfffffffcull * 4};
    for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++) {
        uint32_t words[100 + 4 + 2 * HN_LANES];
        hnp_philox_fill(words, &stream, firsts[f], 100);
        for (uint64_t i = 0; i < 100; i++) {
            uint64_t element = firsts[f] + i;
            hn_philox4 expected = hn_philox(stream.seed, (uint32_t)(element / 4), 77, 0xfffffff0u, 5);
            CHECK_INT(words[firsts[f] % 4 + i], expected.word[element % 4]);
        }
    }
}

TEST(bf16_rounds_as_the_scalar)
{
    for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 65521) {
        union {
            uint32_t u;
            float f;
        } x = {.u = (uint32_t)bits};
        CHECK_INT(vf_narrow(vf_all(x.f))[0], hn_bf16_from_float(x.f));
    }
}

TEST_MAIN(RUN(units_in_the_last_place); RUN(special_values); RUN(activations); RUN(philox_words_are_the_scalar_ones);
          RUN(bf16_rounds_as_the_scalar))
