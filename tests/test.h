/* The test header: a test is a function, CHECK stops it and says where and what. A program returns 0, 1, or 77 (skipped).
 *
 *     TEST(adds) { CHECK_INT(1 + 1, 2); }
 *     TEST_MAIN(RUN(adds)) */
#ifndef HONE_TESTS_TEST_H
#define HONE_TESTS_TEST_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_failures, test_ran;

#define TEST(name) static void test_##name(void)
#define RUN(name)                                                                                                      \
    do {                                                                                                               \
        int before_ = test_failures;                                                                                   \
        test_##name();                                                                                                 \
        test_ran++;                                                                                                    \
        if (test_failures != before_) fprintf(stderr, "FAILED %s\n", #name);                                           \
    } while (0)
#define TEST_FAIL(...)                                                                                                 \
    do {                                                                                                               \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                                                \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fputc('\n', stderr);                                                                                           \
        test_failures++;                                                                                               \
        return;                                                                                                        \
    } while (0)
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) TEST_FAIL("%s does not hold", #condition);                                                   \
    } while (0)
#define CHECK_INT(got, expected)                                                                                       \
    do {                                                                                                               \
        long long got_ = (long long)(got), expected_ = (long long)(expected);                                          \
        if (got_ != expected_) TEST_FAIL("%s: got %lld, expected %lld", #got, got_, expected_);                        \
    } while (0)
#define CHECK_TEXT(got, expected)                                                                                      \
    do {                                                                                                               \
        const char *got_ = (got), *expected_ = (expected);                                                             \
        if (!got_ || strcmp(got_, expected_)) TEST_FAIL("%s: got \"%s\", expected \"%s\"", #got, got_ ? got_ : "(null)", expected_); \
    } while (0)
/* The text contains the part. */
#define CHECK_CONTAINS(got, part)                                                                                      \
    do {                                                                                                               \
        const char *got_ = (got), *part_ = (part);                                                                     \
        if (!strstr(got_, part_)) TEST_FAIL("%s: got \"%s\", which lacks \"%s\"", #got, got_, part_);                  \
    } while (0)
/* |got - expected| <= tolerance * max(1, |expected|); a NaN fails. */
#define CHECK_NEAR(got, expected, tolerance)                                                                           \
    do {                                                                                                               \
        double got_ = (got), expected_ = (expected), limit_ = (tolerance) * fmax(1.0, fabs(expected_));                \
        if (!(fabs(got_ - expected_) <= limit_)) TEST_FAIL("%s: got %.9g, expected %.9g", #got, got_, expected_);      \
    } while (0)
#define CHECK_OK(call)                                                                                                 \
    do {                                                                                                               \
        if ((call) != HN_OK) TEST_FAIL("%s: %s", #call, error.message);                                                \
    } while (0)
/* The result of a promise that was tried many times, in the words that tools/torture.py gathers. */
static inline void test_promise(const char *promise, size_t tried, size_t held)
{
    printf("%s: tried %zu, held %zu\n", promise, tried, held);
}
#define TEST_SKIP(reason)                                                                                              \
    do {                                                                                                               \
        printf("SKIP: %s\n", reason);                                                                                  \
        exit(77);                                                                                                      \
    } while (0)
#define TEST_MAIN(...)                                                                                                 \
    int main(void)                                                                                                     \
    {                                                                                                                  \
        __VA_ARGS__;                                                                                                   \
        printf("%d tests, %d failures\n", test_ran, test_failures);                                                    \
        return test_failures || !test_ran;                                                                             \
    }

/* Whether the next case of a sweep runs: all do, or with HONE_TEST_SMALL=N every N-th, for what makes each a hundred times slower (an
 * emulated GPU, compute-sanitizer). */
static inline bool case_wanted(void)
{
    static int number;
    const char *small = getenv("HONE_TEST_SMALL");
    return !small || number++ % (atoi(small) > 0 ? atoi(small) : 1) == 0;
}

#endif
