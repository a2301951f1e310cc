/* Plans: made once a shape, refused beyond their number, and every failed allocation is an error and leaks nothing. */
#include "kernels/product.h"

#include "core/mem.h"
#include "tests/test.h"

static hnp_product shape_of(int64_t m)
{
    return (hnp_product){.m = m, .n = 8, .k = 4, .a_row = 4, .a_column = 1, .b_row = 8, .b_column = 1, .c_row = 8};
}

TEST(by_hand)
{
    hn_error error = {0};
    hnp_products *products;
    CHECK_OK(hnp_products_open(&products, 1, &error));
    hnp_product shape = {.m = 2, .n = 1, .k = 2, .a_row = 1, .a_column = 2, .b_row = 1, .b_column = 1, .c_row = 3, .add = true};
    hnp_plan *plan = hnp_plan_get(products, &shape, &error);
    CHECK(plan && plan == hnp_plan_get(products, &shape, &error));
    CHECK_INT(hnp_products_count(products), 1);
    float a[] = {1, 2, 3, 4}, b[] = {10, 100}, c[] = {1000, -1, -1, 2000}; /* a is read transposed */
    CHECK(hnp_plan_run(plan, 0, c, a, b));
    CHECK(c[0] == 1310 && c[1] == -1 && c[2] == -1 && c[3] == 2420);
    hnp_products_free(products);
}

TEST(allocation_failures)
{
    for (size_t nth = 1;; nth++) {
        hn_error error = {0};
        hnp_products *products = NULL;
        hnp_plan *plan = NULL;
        hnp_product shape = shape_of(16);
        hn_mem_fail_at(nth);
        if (hnp_products_open(&products, 2, &error) == HN_OK) plan = hnp_plan_get(products, &shape, &error);
        hn_mem_fail_at(0);
        if (!plan) {
            CHECK(error.status == HN_ERR_MEMORY || error.status == HN_ERR_DEVICE);
            CHECK(error.message[0]);
        }
        hnp_products_free(products);
        if (!plan) continue;
        CHECK(nth > 4);
        return;
    }
}

TEST(no_more_than_there_is_room_for)
{
    hn_error error = {0};
    hnp_products *products;
    CHECK_OK(hnp_products_open(&products, 1, &error));
    for (int64_t m = 1; m <= HNP_PRODUCT_PLANS; m++) {
        hnp_product shape = shape_of(m);
        CHECK(hnp_plan_get(products, &shape, &error));
    }
    hnp_product shape = shape_of(HNP_PRODUCT_PLANS + 1);
    CHECK(!hnp_plan_get(products, &shape, &error));
    CHECK_INT(error.status, HN_ERR_UNSUPPORTED);
    CHECK_CONTAINS(error.message, "more than 256 different matrix products");
    hnp_products_free(products);
}

TEST(what_onednn_refuses_is_named)
{
    hn_error error = {0};
    hnp_products *products;
    CHECK_OK(hnp_products_open(&products, 1, &error));
    hnp_product shape = shape_of(4);
    shape.k = -1;
    CHECK(!hnp_plan_get(products, &shape, &error));
    CHECK_INT(error.status, HN_ERR_DEVICE);
    CHECK_CONTAINS(error.message, "oneDNN refused a fp32 matrix product [4, -1] x [-1, 8]");
    hnp_products_free(products);
}

TEST_MAIN(RUN(by_hand); RUN(allocation_failures); RUN(no_more_than_there_is_room_for); RUN(what_onednn_refuses_is_named))
