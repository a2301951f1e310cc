/* A value an example becomes one a token. */
#include "kernels/ops.h"
#include "tests/test.h"

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

TEST_MAIN(RUN(values))
