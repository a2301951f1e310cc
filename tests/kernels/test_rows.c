/* A value an example becomes one a token; sums of rows that were taken many times. */
#include "tests/kernels/ops_test.h"

TEST(values)
{
    const uint32_t value[] = {7, 4000000000u, 9};
    const int32_t cu[] = {0, 3, 4, 6};
    uint32_t row[7] = {0, 0, 0, 0, 0, 0, 1};
    hn_error error = {0};
    hn_ops_context ctx = {.error = &error};
    hn_ops_cpu()->expand_rows(&ctx, row, value, cu, 3);
    const uint32_t expected[7] = {7, 7, 7, 4000000000u, 9, 9, 1};
    CHECK(!memcmp(row, expected, sizeof row));
    hn_ops_cpu()->expand_rows(&ctx, row, value, cu, 0);
    CHECK(!memcmp(row, expected, sizeof row));
}

/* Rows of x that are one row of y, the sum of three, and of none. */
static void sums(hn_dtype type)
{
    enum { COLUMNS = 37 };
    static const int32_t cu[] = {0, 1, 4, 4, 6}, index[] = {5, 0, 3, 1, 4, 4};
    matrix y = matrix_strided(type, 6, COLUMNS, 40, 1), x = matrix_strided(type, 4, COLUMNS, 50, 1);
    ops_now->sum_rows(&context_now, &x.t, &y.t, cu, index);
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < COLUMNS; c++) {
            x.d[r * COLUMNS + c] = 0;
            for (int32_t e = cu[r]; e < cu[r + 1]; e++) x.d[r * COLUMNS + c] += y.d[index[e] * COLUMNS + c];
        }
    CHECK_CLOSE(&x.t, x.d, tolerance(type));
    for (int c = 0; c < COLUMNS; c++) CHECK_NEAR(value_at(&x.t, 0, c), y.d[5 * COLUMNS + c], 0);
    matrix_free(&x), matrix_free(&y);
}

TEST(sums_of_rows)
{
    on_every_table(sums, 300, 300, 0, 0);
}

TEST_MAIN(RUN(values); RUN(sums_of_rows))
