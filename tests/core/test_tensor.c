/* Tensor views, and the 16-bit types over every value they have: both ways, and rounding at every border. */
#include "core/tensor.h"

#include "tests/test.h"

/* The number that 16 bits mean, from the definition (IEEE 754 section 3.4): `e` exponent bits, `m` fraction
 * bits. */
static double meaning(unsigned bits, int e, int m)
{
    int bias = (1 << (e - 1)) - 1, exponent = (int)(bits >> m) & ((1 << e) - 1);
    double fraction = bits & ((1u << m) - 1), sign = bits >> 15 ? -1 : 1;
    if (exponent == (1 << e) - 1) return fraction ? NAN : sign * INFINITY;
    if (!exponent) return sign * ldexp(fraction, 1 - bias - m);
    return sign * ldexp(fraction + ldexp(1, m), exponent - bias - m);
}

static bool same(float a, double b)
{
    return isnan(b) ? isnan(a) : a == b && !signbit(a) == !signbit(b);
}

typedef float widen(uint16_t);
typedef uint16_t narrow(float);

static void check_all(int e, int m, widen *wide, narrow *small)
{
    for (unsigned bits = 0; bits < 65536; bits++) {
        float value = wide((uint16_t)bits);
        if (!same(value, meaning(bits, e, m))) TEST_FAIL("%04x reads as %a", bits, value);
        unsigned back = small(value);
        if (isnan(value) ? !isnan(wide((uint16_t)back)) : back != bits)
            TEST_FAIL("%04x comes back as %04x", bits, back);
    }
}

/* Between every two neighbours: below the middle goes down, above goes up, the middle goes to the even one.
 * The last middle is the border to infinity. */
static void check_rounding(unsigned infinity, widen *wide, narrow *small)
{
    for (unsigned bits = 0; bits < infinity; bits++) {
        double low = wide((uint16_t)bits), high = wide((uint16_t)(bits + 1));
        if (isinf(high)) high = low + (low - wide((uint16_t)(bits - 1)));
        float middle = (float)((low + high) / 2);
        unsigned even = bits & 1 ? bits + 1 : bits;
        for (unsigned sign = 0; sign <= 0x8000; sign += 0x8000) {
            float s = sign ? -1 : 1;
            if (small(s * middle) != (sign | even))
                TEST_FAIL("the middle above %04x: %04x", bits, small(s * middle));
            if (small(s * nextafterf(middle, 0)) != (sign | bits))
                TEST_FAIL("below the middle above %04x", bits);
            if (small(s * nextafterf(middle, INFINITY)) != (sign | (bits + 1)))
                TEST_FAIL("above the middle above %04x", bits);
        }
    }
}

TEST(f16_exhaustively)
{
    check_all(5, 10, hn_f16_to_float, hn_f16_from_float);
    check_rounding(0x7c00, hn_f16_to_float, hn_f16_from_float);
    CHECK_INT(hn_f16_from_float(INFINITY), 0x7c00);
    CHECK_INT(hn_f16_from_float(-1e30f), 0xfc00);
    CHECK_INT(hn_f16_from_float(1e-30f), 0);
    CHECK_INT(hn_f16_from_float(-1e-30f), 0x8000);
}

TEST(bf16_exhaustively)
{
    check_all(8, 7, hn_bf16_to_float, hn_bf16_from_float);
    check_rounding(0x7f80, hn_bf16_to_float, hn_bf16_from_float);
    union {
        uint32_t u;
        float f;
    } nan = {.u = 0x7f800001}; /* its upper half alone would be infinity */
    CHECK(isnan(hn_bf16_to_float(hn_bf16_from_float(nan.f))));
    nan.u = 0xffffffff; /* rounding it up would wrap around */
    CHECK(isnan(hn_bf16_to_float(hn_bf16_from_float(nan.f))));
}

TEST(types)
{
    static const size_t sizes[HN_DTYPES] = {4, 2, 2, 8, 8, 4, 2, 1, 1, 1};
    for (int i = 0; i < HN_DTYPES; i++) CHECK_INT(hn_dtype_size((hn_dtype)i), sizes[i]);
    CHECK_TEXT(hn_dtype_name(HN_BF16), "bf16");
    CHECK_TEXT(hn_dtype_name(HN_BOOL), "bool");
}

TEST(views)
{
    float values[24];
    for (int i = 0; i < 24; i++) values[i] = (float)i;
    hn_tensor all = hn_tensor_2d(values, HN_F32, 4, 6);
    CHECK_INT(hn_tensor_count(&all), 24);
    CHECK_INT(hn_tensor_bytes(&all), 96);
    CHECK(hn_tensor_dense(&all));
    hn_tensor rows = hn_tensor_rows(&all, 1, 2);
    CHECK_NEAR(((float *)rows.data)[0], 6, 0);
    CHECK_INT(rows.shape[0], 2);
    CHECK(hn_tensor_dense(&rows));
    hn_tensor columns = hn_tensor_columns(&all, 2, 3);
    CHECK_NEAR(((float *)columns.data)[columns.stride], 8, 0);
    CHECK_INT(columns.stride, 6);
    CHECK_INT(columns.shape[1], 3);
    CHECK(!hn_tensor_dense(&columns));
    hn_tensor corner = hn_tensor_rows(&columns, 3, 1);
    CHECK_NEAR(((float *)corner.data)[0], 20, 0);
    CHECK(hn_tensor_dense(&corner)); /* one row */
    hn_tensor none = hn_tensor_rows(&all, 4, 0);
    CHECK_INT(hn_tensor_count(&none), 0);
    hn_tensor counted = hn_tensor_2d(NULL, HN_F32, 4, 6); /* while an arena counts */
    CHECK(hn_tensor_rows(&counted, 2, 1).data == NULL);
    CHECK(hn_tensor_columns(&counted, 2, 1).data == NULL);
    hn_tensor line = hn_tensor_1d(values, HN_F32, 24);
    CHECK_NEAR(((float *)hn_tensor_rows(&line, 5, 1).data)[0], 5, 0);
}

TEST_MAIN(RUN(f16_exhaustively); RUN(bf16_exhaustively); RUN(types); RUN(views))
