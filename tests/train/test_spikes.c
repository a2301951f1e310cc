/* Spikes: limits by hand, what enters the window, what NaN and Inf do at each of its places, and the same limits after a resume. */
#include "train/spikes.h"

#include <math.h>

#include "core/json.h"
#include "tests/test.h"

static hn_error error;

/* The limits of the step behind the last one that was added, so many having been. */
static hn_spike_limits next(const hn_spikes *spikes, int64_t added)
{
    return hn_spikes_limits(spikes, added + 1);
}

TEST(limits_by_hand)
{
    static const double losses[] = {3, 1, 2, 5, 4};
    hn_spikes spikes;
    hn_spikes_init(&spikes, 5, 10);
    for (int i = 0; i < 5; i++) {
        CHECK(!hn_spikes_beyond(hn_spikes_limits(&spikes, i), 1e9, 1e9) || i >= 4);
        hn_spikes_add(&spikes, i, losses[i], pow(2, losses[i]));
    }
    /* median 3; distances 0 2 1 2 1: median 1 */
    CHECK(next(&spikes, 5).loss == 13);
    CHECK_NEAR(next(&spikes, 5).norm, 8192, 1e-8);
    CHECK(!hn_spikes_beyond(next(&spikes, 5), 13, 8191));
    CHECK(hn_spikes_beyond(next(&spikes, 5), 13.01, 1) && hn_spikes_beyond(next(&spikes, 5), 1, 8193));
    hn_spikes_add(&spikes, 5, 7, 7); /* 7 1 2 5 4: median 4, distances 3 3 2 1 0 */
    CHECK(next(&spikes, 6).loss == 24);
    CHECK(hn_spikes_limits(&spikes, 6).loss == 13); /* step 6 was on its way when 5 was read */
}

TEST(a_window_of_equal_values_has_room)
{
    hn_spikes spikes;
    hn_spikes_init(&spikes, 4, 10);
    for (int i = 0; i < 4; i++) hn_spikes_add(&spikes, i, 2, 3);
    CHECK_NEAR(next(&spikes, 4).loss, 2.2, 1e-12);
    CHECK_NEAR(next(&spikes, 4).norm, 3 * exp(0.1), 1e-12);
    for (int i = 4; i < 8; i++) hn_spikes_add(&spikes, i, 0, 0);
    CHECK(next(&spikes, 8).norm > 0 && next(&spikes, 8).loss == 0); /* a loss of 0 is no limit */
}

TEST(nothing_is_judged_when_off_or_before_half_a_window)
{
    hn_spikes spikes;
    hn_spikes_init(&spikes, 8, 3);
    for (int i = 0; i < 3; i++) hn_spikes_add(&spikes, i, 1, 1);
    CHECK(!hn_spikes_beyond(next(&spikes, 3), 100, 100));
    hn_spikes_add(&spikes, 3, 1, 1);
    CHECK(hn_spikes_beyond(next(&spikes, 4), 100, 1) && hn_spikes_beyond(next(&spikes, 4), 1, 100));
    hn_spikes_init(&spikes, 8, 0);
    for (int i = 0; i < 9; i++) hn_spikes_add(&spikes, i, 1, 1);
    CHECK(!hn_spikes_beyond(next(&spikes, 9), 100, 100));
}

/* A NaN or Inf at any place leaves the limits as if the step had not been, then and later. */
TEST(what_is_not_finite_leaves_no_trace)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    enum { WINDOW = 16, STEPS = 3 * WINDOW };
    for (int at = 0; at < STEPS; at++)
        for (int kind = 0; kind < 6; kind++) {
            hn_spikes with, without;
            hn_spikes_init(&with, WINDOW, 5);
            hn_spikes_init(&without, WINDOW, 5);
            for (int i = 0, step = 0; i < STEPS; i++, step++) {
                double loss = 2 + sin(i), norm = 1 + 0.5 * cos(3 * i);
                if (i == at) hn_spikes_add(&with, step++, kind % 2 ? bad[kind / 2] : loss, kind % 2 ? norm : bad[kind / 2]);
                hn_spikes_add(&with, step, loss, norm);
                hn_spikes_add(&without, i, loss, norm);
                CHECK(next(&with, step + 1).loss == next(&without, i + 1).loss);
                CHECK(next(&with, step + 1).norm == next(&without, i + 1).norm);
            }
            CHECK(hn_spikes_beyond(next(&with, STEPS + 1), 50, 1));
        }
}

TEST(a_level_that_stays_is_no_spike_for_long)
{
    hn_spikes spikes;
    int beyond = 0;
    hn_spikes_init(&spikes, 16, 5);
    for (int i = 0; i < 64; i++) {
        double loss = i < 32 ? 1 : 10;
        beyond += hn_spikes_beyond(hn_spikes_limits(&spikes, i), loss, 1);
        hn_spikes_add(&spikes, i, loss, 1);
    }
    CHECK_INT(beyond, 9);
}

TEST(saved_and_loaded)
{
    hn_spikes untouched;
    hn_spikes_init(&untouched, 5, 4);
    CHECK_OK(hn_spikes_load(&untouched, NULL, &error));
    for (int steps = 0; steps < 12; steps++) {
        hn_spikes one, other;
        hn_spikes_init(&one, 5, 4);
        for (int i = 0; i < steps; i++) hn_spikes_add(&one, i, 1.0 / (i + 3), 3 + sqrt(i));
        json_t *state = hn_spikes_save(&one);
        hn_spikes_init(&other, 5, 4);
        CHECK_OK(hn_spikes_load(&other, state, &error));
        json_decref(state);
        for (int i = steps; i < steps + 7; i++) {
            CHECK(hn_spikes_limits(&one, i).loss == hn_spikes_limits(&other, i).loss);
            CHECK(hn_spikes_limits(&one, i).norm == hn_spikes_limits(&other, i).norm);
            hn_spikes_add(&one, i, 1.0 / (i + 3), 3);
            hn_spikes_add(&other, i, 1.0 / (i + 3), 3);
        }
    }
}

TEST(a_damaged_state_is_refused)
{
    static const char *const texts[] = {
        "{\"seen\": -1, \"loss\": \"\", \"norm\": \"\", \"limits\": \"0 0 0 0\"}",
        "{\"seen\": 2, \"loss\": \"1\", \"norm\": \"1 2\", \"limits\": \"0 0 0 0\"}",
        "{\"seen\": 2, \"loss\": \"1 2\", \"norm\": \"1 2 3\", \"limits\": \"0 0 0 0\"}",
        "{\"seen\": 2, \"loss\": \"1 nan\", \"norm\": \"1 2\", \"limits\": \"0 0 0 0\"}",
        "{\"seen\": 2, \"loss\": \"1 x\", \"norm\": \"1 2\", \"limits\": \"0 0 0 0\"}",
        "{\"seen\": 2, \"loss\": \"1 2\", \"norm\": \"1 2\", \"limits\": \"0 0 0\"}",
        "{\"seen\": 2, \"loss\": 5, \"norm\": \"1 2\", \"limits\": \"0 0 0 0\"}",
        "{}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        hn_spikes spikes;
        json_t *state = NULL;
        hn_error_reset(&error);
        hn_spikes_init(&spikes, 5, 4);
        CHECK_OK(hn_json_parse(&state, texts[i], strlen(texts[i]), "test", HN_JSON_LIMITS_SMALL, &error));
        bool refused = hn_spikes_load(&spikes, state, &error) == HN_ERR_FORMAT && strstr(error.message, "spikes");
        if (!refused) TEST_FAIL("%s: \"%s\"", texts[i], error.message);
        CHECK_INT(spikes.seen, 0);
        json_decref(state);
    }
}

TEST_MAIN(hn_json_init(); RUN(limits_by_hand); RUN(a_window_of_equal_values_has_room); RUN(nothing_is_judged_when_off_or_before_half_a_window);
          RUN(what_is_not_finite_leaves_no_trace); RUN(a_level_that_stays_is_no_spike_for_long); RUN(saved_and_loaded);
          RUN(a_damaged_state_is_refused))
