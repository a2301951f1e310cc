/* Where elements lie and who keeps which, for made-up models: every element of what trains has one place and, among any number of processes,
 * one keeper. */
#include "train/zero.h"

#include <stdlib.h>

#include "core/mem.h"
#include "tests/test.h"

enum { GROUPS = 7, MOST = 60 };

static hn_param params[MOST];
static int count;
static int64_t thaw[GROUPS];
static bool ever[GROUPS];
static const hn_freeze_plan plan = {.groups = GROUPS, .thaw = thaw, .ever = ever};

static uint32_t drawn;
static int64_t draw(int64_t below)
{
    drawn = drawn * 1664525u + 1013904223u;
    return (int64_t)((drawn >> 8) % (uint32_t)below);
}

/* Sizes of all kinds: a few large ones, many small, some frozen, groups that thaw later and groups that never do. */
static void make_model(uint32_t seed)
{
    drawn = seed;
    count = 20 + (int)draw(MOST - 20);
    for (int g = 0; g < GROUPS; g++) {
        int64_t kind = draw(6);
        ever[g] = kind != 0 || g == GROUPS - 1;
        thaw[g] = !ever[g] ? HN_NEVER : kind == 1 ? 10 * (GROUPS - g) : 0;
    }
    for (int p = 0; p < count; p++) {
        bool vector = draw(2), large = !vector && !draw(12);
        params[p] = (hn_param){.rank = vector ? 1 : 2,
                               .rows = 1 + draw(large ? 5000 : 90),
                               .columns = vector ? 1 : 1 + draw(large ? 5000 : 40),
                               .group = (int)draw(GROUPS),
                               .frozen = !draw(8)};
        params[p].frozen |= !ever[params[p].group];
    }
}

static int64_t size_of(int p)
{
    return params[p].rows * params[p].columns;
}

/* Marks [first, first + n) of an array of `length` elements, by blocks of 32; false where something stands already. */
static bool take(unsigned char *taken, int64_t length, int64_t first, int64_t n)
{
    if (first < 0 || first % 32 || first + n > length) return false;
    for (int64_t i = first / 32; i <= (first + n - 1) / 32; i++)
        if (taken[i]++) return false;
    return true;
}

/* No two parameters share a place, in none of the arrays. */
static bool places_hold(const hnp_zero *zero, bool narrow)
{
    unsigned char *value = hn_calloc((size_t)zero->values / 32 + 1, 1), *copy = hn_calloc((size_t)zero->copies / 32 + 1, 1);
    bool holds = zero->values >= zero->gradients;
    for (int p = 0; p < count; p++) {
        bool matrix = params[p].rank == 2, read_narrow = narrow && matrix;
        holds &= (zero->gradient[p] >= 0) == !params[p].frozen && (zero->copy[p] >= 0) == read_narrow;
        holds &= (zero->value[p] >= 0) == !(read_narrow && params[p].frozen);
        if (!params[p].frozen) holds &= zero->value[p] == zero->gradient[p] && (!read_narrow || zero->copy[p] == zero->gradient[p]);
        if (!params[p].frozen) holds &= zero->gradient[p] + size_of(p) <= zero->gradients;
        else if (zero->value[p] >= 0) holds &= zero->value[p] >= zero->gradients;
        if (zero->value[p] >= 0) holds &= take(value, zero->values, zero->value[p], size_of(p));
        if (read_narrow) holds &= take(copy, zero->copies, zero->copy[p], size_of(p));
    }
    hn_free(value);
    hn_free(copy);
    return holds;
}

static bool buckets_hold(const hnp_zero *zero, bool narrow)
{
    int64_t end = 0;
    bool holds = true, vectors = false;
    for (int b = 0; b < zero->buckets; b++) {
        const hnp_bucket *bucket = &zero->bucket[b];
        holds &= bucket->first == end && bucket->count > 0 && bucket->count % (HNP_ZERO_ALIGN * zero->parts) == 0;
        end += bucket->count;
        for (int p = 0; p < count; p++) {
            bool inside = zero->gradient[p] >= 0 && zero->gradient[p] < end && zero->gradient[p] + size_of(p) > bucket->first;
            if (!inside) continue;
            vectors |= params[p].rank == 1;
            holds &= params[p].group >= bucket->lowest && params[p].group <= bucket->highest && bucket->thaw <= thaw[params[p].group];
            holds &= bucket->narrow == (narrow && params[p].rank == 2);
            holds &= vectors == (params[p].rank == 1);               /* behind all matrices */
            if (!vectors) holds &= bucket->thaw == thaw[params[p].group];
        }
    }
    return holds && end == zero->gradients;
}

/* Among `shares` processes every element has one keeper, who has one place for it. */
static bool shares_hold(hnp_zero *zero, int shares)
{
    int64_t kept = -1, sum = 0, wanted = 0;
    bool holds = true;
    unsigned char *element = hn_calloc((size_t)zero->gradients / 32 + 1, 1);
    for (int p = 0; p < count; p++) wanted += params[p].frozen ? 0 : size_of(p);
    for (int share = 0; share < shares && holds; share++) {
        if (hnp_zero_own(zero, params, count, share, shares, NULL) != HN_OK) abort();
        unsigned char *place = hn_calloc((size_t)zero->kept / 32 + 1, 1);
        holds &= kept < 0 || kept == zero->kept; /* all take the same memory */
        kept = zero->kept;
        for (int64_t r = 0; r < zero->runs && holds; r++) {
            const hnp_run *run = &zero->run[r];
            const hnp_bucket *bucket = &zero->bucket[run->bucket];
            int64_t at = zero->gradient[run->param] + run->element, piece = bucket->count / shares;
            holds &= run->count > 0 && run->element % 32 == 0 && run->element + run->count <= size_of(run->param);
            holds &= at >= bucket->first + share * piece && at + run->count <= bucket->first + (share + 1) * piece;
            holds &= take(element, zero->gradients, at, run->count) && take(place, zero->kept, run->at, run->count);
            sum += run->count;
        }
        hn_free(place);
    }
    hn_free(element);
    return holds && sum == wanted && kept * shares == zero->gradients;
}

TEST(every_element_has_one_place_and_one_keeper)
{
    static const int parts[] = {1, 2, 3, 8, 64};
    for (uint32_t seed = 1; seed <= 40; seed++) {
        make_model(seed);
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            hnp_zero zero;
            hn_error error = {0};
            bool narrow = seed % 2;
            CHECK_OK(hnp_zero_init(&zero, params, count, &plan, narrow, parts[i], &error));
            bool holds = places_hold(&zero, narrow) && buckets_hold(&zero, narrow);
            for (int shares = 1; shares <= parts[i]; shares++)
                if (parts[i] % shares == 0) holds &= shares_hold(&zero, shares);
            hnp_zero_close(&zero);
            if (!holds) TEST_FAIL("seed %u, %d parts", seed, parts[i]);
        }
    }
}

/* A table of 40 million elements is cut, small groups are put together, and one that thaws later is not. */
TEST(sizes_of_buckets)
{
    hnp_zero zero;
    hn_error error = {0};
    count = GROUPS;
    for (int p = 0; p < count; p++) {
        ever[p] = true;
        thaw[p] = p == 3 ? 100 : 0;
        params[p] = (hn_param){.rank = 2, .rows = p ? 64 : 40000, .columns = p ? 64 : 1000, .group = p};
    }
    CHECK_OK(hnp_zero_init(&zero, params, count, &plan, false, 8, &error));
    int64_t most = 0;
    for (int b = 0; b < zero.buckets; b++)
        if (zero.bucket[b].count > most) most = zero.bucket[b].count;
    int first_small = 3;
    bool holds = zero.buckets == 6 && most == (int64_t)1 << 24 && zero.bucket[first_small].lowest == 1 && zero.bucket[first_small].highest == 2 &&
                 zero.bucket[4].lowest == 3 && zero.bucket[4].highest == 3 && zero.bucket[4].thaw == 100 && zero.bucket[5].highest == 6;
    hnp_zero_close(&zero);
    CHECK(holds);
}

TEST(memory_runs_out)
{
    make_model(3);
    for (int64_t n = 1; n < 100; n++) {
        hnp_zero zero;
        hn_error error = {0};
        hn_mem_fail_at(n);
        hn_status status = hnp_zero_init(&zero, params, count, &plan, true, 8, &error);
        if (status == HN_OK) {
            status = hnp_zero_own(&zero, params, count, 1, 2, &error);
            hnp_zero_close(&zero);
        }
        hn_mem_fail_at(0);
        if (status == HN_OK) return;
        CHECK_INT(status, HN_ERR_MEMORY);
    }
    TEST_FAIL("%s", "it never passed");
}

TEST_MAIN(RUN(every_element_has_one_place_and_one_keeper); RUN(sizes_of_buckets); RUN(memory_runs_out))
