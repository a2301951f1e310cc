/* Learning-rate schedules against values worked out by hand. */
#include "train/schedule.h"

#include "tests/test.h"

static hn_schedule make(hn_schedule_kind kind, double warmup, double final, double decay)
{
    hn_train_config config = {.optim = {.lr = 2, .warmup = warmup, .final = final, .decay = decay, .schedule = (int)kind}};
    hn_schedule schedule;
    hn_schedule_init(&schedule, &config, 100);
    return schedule;
}

TEST(linear)
{
    hn_schedule s = make(HN_SCHEDULE_LINEAR, 10, 0, 0);
    CHECK_NEAR(hn_schedule_rate(&s, 0), 0, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 5), 1, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 10), 2, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 55), 1, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 100), 0, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 1000), 0, 1e-12);
}

TEST(a_warmup_below_one_is_a_share)
{
    hn_schedule s = make(HN_SCHEDULE_CONSTANT, 0.06, 0, 0);
    CHECK_INT(s.warmup, 6);
    CHECK_NEAR(hn_schedule_rate(&s, 3), 1, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 99), 2, 1e-12);
    s = make(HN_SCHEDULE_CONSTANT, 0, 0, 0);
    CHECK_NEAR(hn_schedule_rate(&s, 0), 2, 1e-12);
}

TEST(cosine)
{
    hn_schedule s = make(HN_SCHEDULE_COSINE, 0, 0.1, 0);
    CHECK_NEAR(hn_schedule_rate(&s, 0), 2, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 50), 1.1, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 100), 0.2, 1e-12);
}

TEST(inverse_sqrt)
{
    hn_schedule s = make(HN_SCHEDULE_INVERSE_SQRT, 4, 0, 0);
    CHECK_NEAR(hn_schedule_rate(&s, 4), 2, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 16), 1, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 64), 0.5, 1e-12);
}

TEST(warmup_stable_decay)
{
    hn_schedule s = make(HN_SCHEDULE_WSD, 10, 0.5, 0.2);
    CHECK_NEAR(hn_schedule_rate(&s, 79), 2, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 80), 2, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 90), 1.5, 1e-12);
    CHECK_NEAR(hn_schedule_rate(&s, 100), 1, 1e-12);
}

TEST(a_warmup_longer_than_the_run)
{
    hn_schedule s = make(HN_SCHEDULE_LINEAR, 500, 0, 0);
    CHECK_NEAR(hn_schedule_rate(&s, 99), 2 * 0.99, 1e-12);
}

TEST_MAIN(RUN(linear); RUN(a_warmup_below_one_is_a_share); RUN(cosine); RUN(inverse_sqrt); RUN(warmup_stable_decay);
          RUN(a_warmup_longer_than_the_run))
