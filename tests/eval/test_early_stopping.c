/* Early stopping: patience, min_delta, direction, NaN, restart, and a state that survives being saved. */
#include "eval/early_stopping.h"

#include "tests/test.h"

TEST(stops_after_patience)
{
    hn_early_stopping state;
    hn_early_stopping_init(&state, false, 0, 2);
    CHECK(hn_early_stopping_update(&state, 0.5, 10));
    CHECK(!hn_early_stopping_update(&state, 0.5, 20));
    CHECK(!hn_early_stopping_done(&state));
    CHECK(hn_early_stopping_update(&state, 0.6, 30));
    CHECK(!hn_early_stopping_update(&state, 0.4, 40));
    CHECK(!hn_early_stopping_update(&state, NAN, 50));
    CHECK(hn_early_stopping_done(&state));
    CHECK_INT(state.best_step, 30);
    hn_early_stopping_restart(&state);
    CHECK(!hn_early_stopping_done(&state));
}

TEST(small_gains_are_best_but_do_not_reset_patience)
{
    hn_early_stopping state;
    hn_early_stopping_init(&state, true, 0.1, 2);
    CHECK(hn_early_stopping_update(&state, 1.0, 1));
    CHECK(hn_early_stopping_update(&state, 0.95, 2));
    CHECK(hn_early_stopping_update(&state, 0.92, 3));
    CHECK(hn_early_stopping_done(&state));
    CHECK(hn_early_stopping_update(&state, 0.85, 4));
    CHECK(!hn_early_stopping_done(&state));
}

TEST(no_patience_never_stops)
{
    hn_early_stopping state;
    hn_early_stopping_init(&state, false, 0, 0);
    for (int i = 0; i < 100; i++) hn_early_stopping_update(&state, 0, i);
    CHECK(!hn_early_stopping_done(&state));
}

TEST(state_survives_saving)
{
    hn_early_stopping state, again;
    hn_error error = {0};
    hn_early_stopping_init(&state, true, 0.1, 3);
    hn_early_stopping_update(&state, 1.0 / 3, 7);
    hn_early_stopping_update(&state, 0.3, 8);
    json_t *saved = hn_early_stopping_save(&state);
    hn_early_stopping_init(&again, true, 0.1, 3);
    hn_status status = hn_early_stopping_load(&again, saved, &error);
    json_decref(saved);
    CHECK_INT(status, HN_OK);
    CHECK(!memcmp(&state.best, &again.best, sizeof state.best));
    CHECK(state.reference == again.reference && state.since == again.since && state.best_step == again.best_step);
}

TEST(a_damaged_state_is_refused)
{
    hn_early_stopping state;
    hn_error error = {0};
    hn_early_stopping_init(&state, true, 0.1, 3);
    json_t *damaged = json_pack("{s:b, s:s, s:s}", "any", 1, "best", "x", "reference", "1");
    hn_status status = hn_early_stopping_load(&state, damaged, &error);
    json_decref(damaged);
    CHECK_INT(status, HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "best");
    CHECK(!state.any);
}

TEST_MAIN(RUN(stops_after_patience); RUN(small_gains_are_best_but_do_not_reset_patience);
          RUN(no_patience_never_stops); RUN(state_survives_saving); RUN(a_damaged_state_is_refused))
