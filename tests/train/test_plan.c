/* Which setting of train.recompute is chosen for the memory that is free, and what is said when none was. */
#include "train/plan.h"

#include "tests/test.h"

#define MIB (size_t)1048576

TEST(the_first_that_fits)
{
    const size_t totals[] = {300 * MIB, 200 * MIB, 100 * MIB};
    CHECK_INT(hn_plan_recompute(totals, 300 * MIB), HN_RECOMPUTE_NONE);
    CHECK_INT(hn_plan_recompute(totals, 300 * MIB - 1), HN_RECOMPUTE_SELECTIVE);
    CHECK_INT(hn_plan_recompute(totals, 200 * MIB), HN_RECOMPUTE_SELECTIVE);
    CHECK_INT(hn_plan_recompute(totals, 200 * MIB - 1), HN_RECOMPUTE_FULL);
    CHECK_INT(hn_plan_recompute(totals, 1), HN_RECOMPUTE_FULL);
    CHECK_INT(hn_plan_recompute(totals, 0), HN_RECOMPUTE_NONE); /* unknown */
}

/* A model of few layers may take more when it shares. */
TEST(the_least_when_none_fits)
{
    const size_t one_layer[] = {100 * MIB, 110 * MIB, 105 * MIB}, equal[] = {100 * MIB, 100 * MIB, 100 * MIB};
    CHECK_INT(hn_plan_recompute(one_layer, 10), HN_RECOMPUTE_NONE);
    CHECK_INT(hn_plan_recompute(equal, 10), HN_RECOMPUTE_NONE);
    CHECK_INT(hn_plan_recompute((const size_t[]){SIZE_MAX, SIZE_MAX, 7}, SIZE_MAX - 1), HN_RECOMPUTE_FULL);
}

static void check_advice(const size_t totals[HN_PLAN_RECOMPUTES], hn_recompute now, size_t available, const char *beginning)
{
    hn_strbuf text;
    hn_strbuf_init(&text);
    hn_plan_advise(&text, totals, now, available);
    bool begins = !text.failed && !strncmp(text.text, beginning, strlen(beginning));
    if (!begins) fprintf(stderr, "%s\n", text.text);
    hn_strbuf_close(&text);
    CHECK(begins);
}

TEST(advice)
{
    const size_t totals[] = {300 * MIB, 200 * MIB, 100 * MIB}, alike[] = {100 * MIB, 110 * MIB, 120 * MIB};
    check_advice(totals, HN_RECOMPUTE_NONE, 250 * MIB,
                 "this run takes 300 MiB and 250 MiB are free: set train.recompute=selective, with which it takes 200 MiB, or lower");
    check_advice(totals, HN_RECOMPUTE_SELECTIVE, 150 * MIB,
                 "this run takes 200 MiB and 150 MiB are free: set train.recompute=full, with which it takes 100 MiB, or lower");
    check_advice(totals, HN_RECOMPUTE_NONE, 50 * MIB,
                 "this run takes 300 MiB and 50 MiB are free: set train.recompute=full, with which it takes 100 MiB, and lower");
    check_advice(totals, HN_RECOMPUTE_FULL, 50 * MIB,
                 "this run takes 100 MiB, even with train.recompute=full, and 50 MiB are free: lower");
    check_advice(alike, HN_RECOMPUTE_NONE, 50 * MIB, "this run takes 100 MiB and 50 MiB are free: lower");
}

TEST(names)
{
    CHECK_TEXT(hn_recompute_name(HN_RECOMPUTE_NONE), "none");
    CHECK_TEXT(hn_recompute_name(HN_RECOMPUTE_SELECTIVE), "selective");
    CHECK_TEXT(hn_recompute_name(HN_RECOMPUTE_FULL), "full");
}

TEST_MAIN(RUN(the_first_that_fits); RUN(the_least_when_none_fits); RUN(advice); RUN(names))
