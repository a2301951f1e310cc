/* See early_stopping.h. Doubles are saved as hexadecimal text, so that a resumed run compares with the same bits. */
#include "eval/early_stopping.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/json.h"

void hn_early_stopping_init(hn_early_stopping *state, bool lower_is_better, double min_delta, int64_t patience)
{
    *state = (hn_early_stopping){.lower_is_better = lower_is_better, .min_delta = min_delta, .patience = patience,
                                 .best_step = -1};
}

static double gain(const hn_early_stopping *state, double value, double over)
{
    return state->lower_is_better ? over - value : value - over;
}

bool hn_early_stopping_update(hn_early_stopping *state, double value, int64_t step)
{
    bool usable = !isnan(value);
    bool best = usable && (!state->any || gain(state, value, state->best) > 0);
    bool enough = usable && (!state->any || gain(state, value, state->reference) > state->min_delta);
    if (best) {
        state->best = value;
        state->best_step = step;
    }
    if (enough) {
        state->reference = value;
        state->since = 0;
    } else {
        state->since++;
    }
    state->any |= usable;
    return best;
}

bool hn_early_stopping_done(const hn_early_stopping *state)
{
    return state->patience > 0 && state->since >= state->patience;
}

void hn_early_stopping_restart(hn_early_stopping *state)
{
    state->since = 0;
}

json_t *hn_early_stopping_save(const hn_early_stopping *state)
{
    char best[32], reference[32];
    snprintf(best, sizeof best, "%a", state->best);
    snprintf(reference, sizeof reference, "%a", state->reference);
    return json_pack("{s:b, s:s, s:I, s:s, s:I}", "any", state->any, "best", best, "best_step",
                     (json_int_t)state->best_step, "reference", reference, "since", (json_int_t)state->since);
}

static hn_status get_hex(double *out, const json_t *object, const char *key, hn_error *error)
{
    const char *text = NULL;
    char *end = NULL;
    hn_status status = hn_json_get_string(&text, object, key, "early_stopping", error);
    if (status != HN_OK) return status;
    double value = text ? strtod(text, &end) : NAN;
    if (!text || end == text || *end)
        return hn_fail(error, HN_ERR_FORMAT, "early_stopping: %s: expected a number as text, got %s", key,
                       text ? text : "nothing");
    *out = value;
    return HN_OK;
}

hn_status hn_early_stopping_load(hn_early_stopping *state, const json_t *object, hn_error *error)
{
    hn_early_stopping loaded = *state;
    hn_status status = hn_json_get_bool(&loaded.any, object, "any", "early_stopping", error);
    if (status == HN_OK) status = get_hex(&loaded.best, object, "best", error);
    if (status == HN_OK) status = get_hex(&loaded.reference, object, "reference", error);
    if (status == HN_OK)
        status = hn_json_get_int(&loaded.best_step, object, "best_step", -1, INT64_MAX, "early_stopping", error);
    if (status == HN_OK) status = hn_json_get_int(&loaded.since, object, "since", 0, INT64_MAX, "early_stopping", error);
    if (status == HN_OK) *state = loaded;
    return status;
}
