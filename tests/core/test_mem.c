/* Memory: checked sizes, growing, the failing allocator. */
#include "core/mem.h"

#include "tests/test.h"

TEST(sizes_are_checked)
{
    size_t out = 7;
    CHECK(hn_size_mul(6, 7, &out));
    CHECK_INT(out, 42);
    CHECK(!hn_size_add(SIZE_MAX, 1, &out));
    CHECK(!hn_size_mul(SIZE_MAX / 2 + 1, 2, &out));
    CHECK_INT(out, 42); /* untouched */
    CHECK(hn_size_add(SIZE_MAX - 1, 1, &out));
    CHECK(out == SIZE_MAX);
    CHECK(hn_calloc(SIZE_MAX, 2) == NULL);
    CHECK(hn_reallocarray(NULL, SIZE_MAX / 2, 3) == NULL);
}

TEST(nothing_is_something)
{
    void *pieces[] = {hn_malloc(0), hn_calloc(0, 8), hn_calloc(8, 0), hn_realloc(NULL, 0),
                      hn_memdup(NULL, 0)};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        CHECK(pieces[i] != NULL);
        hn_free(pieces[i]);
    }
    hn_free(NULL);
}

TEST(copies)
{
    char *a = hn_strdup("text"), *b = hn_strndup("text", 2), *c = hn_strndup("te", 9),
         *d = hn_memdup("a\0b", 4);
    CHECK_TEXT(a, "text");
    CHECK_TEXT(b, "te");
    CHECK_TEXT(c, "te");
    CHECK(!memcmp(d, "a\0b", 4));
    hn_free(a);
    hn_free(b);
    hn_free(c);
    hn_free(d);
}

TEST(grows_by_doubling)
{
    int *items = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 1000; i++) {
        CHECK(hn_grow((void **)&items, &capacity, (size_t)i + 1, sizeof *items));
        items[i] = i;
    }
    CHECK_INT(capacity, 1024);
    CHECK_INT(items[999], 999);
    hn_mem_fail_at(1);
    bool grown = hn_grow((void **)&items, &capacity, 1025, sizeof *items);
    hn_mem_fail_at(0);
    CHECK(!grown);
    CHECK_INT(capacity, 1024); /* nothing changed */
    CHECK_INT(items[999], 999);
    CHECK(!hn_grow((void **)&items, &capacity, SIZE_MAX, sizeof *items));
    hn_free(items);
    items = NULL;
    capacity = 0;
    bool exact =
        hn_grow((void **)&items, &capacity, 32, sizeof *items) && capacity == 32; /* no more than needed */
    hn_free(items);
    CHECK(exact);
}

TEST(the_nth_allocation_fails)
{
    hn_mem_fail_at(2);
    void *first = hn_malloc(1), *second = hn_malloc(1), *third = hn_calloc(1, 1);
    CHECK_INT(hn_mem_fail_at(0), 3); /* as many as were asked for */
    void *fourth = hn_malloc(1);
    CHECK(first && !second && !third && fourth);
    hn_free(first);
    hn_free(fourth);
}

TEST_MAIN(RUN(sizes_are_checked); RUN(nothing_is_something); RUN(copies); RUN(grows_by_doubling);
          RUN(the_nth_allocation_fails))
