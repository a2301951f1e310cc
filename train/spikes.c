/* See spikes.h. Medians are found by sorting a copy of the window: 64 values, four times a step. Saved numbers are hexadecimal
 * text, so that a resumed run judges with the same bits. */
#include "train/spikes.h"

#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/strbuf.h"

#define WHERE "checkpoint state: spikes"
#define LEAST_MAD 0.01 /* a hundredth: what hardly moves has no spike in a small step */
#define LEAST_NORM 1e-30

void hn_spikes_init(hn_spikes *spikes, int window, double threshold)
{
    HN_ASSERT(window > 0 && window <= HN_SPIKE_WINDOW_MOST);
    *spikes = (hn_spikes){.window = window, .threshold = threshold};
}

hn_spike_limits hn_spikes_limits(const hn_spikes *spikes, int64_t step)
{
    return spikes->limits[step % 2];
}

bool hn_spikes_beyond(hn_spike_limits limits, double loss, double norm)
{
    return (limits.loss > 0 && loss > limits.loss) || (limits.norm > 0 && norm > limits.norm);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts. */
static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : 0.5 * values[count / 2 - 1] + 0.5 * values[count / 2];
}

/* Of `count` values, which are used up. */
static double limit(double *values, int count, double threshold, bool logarithms)
{
    double middle = median(values, count);
    for (int i = 0; i < count; i++) values[i] = fabs(values[i] - middle);
    return middle + threshold * fmax(median(values, count), logarithms ? LEAST_MAD : LEAST_MAD * fabs(middle));
}

static hn_spike_limits make_limits(const hn_spikes *spikes, int count)
{
    double values[HN_SPIKE_WINDOW_MOST];
    hn_spike_limits out;
    memcpy(values, spikes->loss, (size_t)count * sizeof *values);
    out.loss = limit(values, count, spikes->threshold, false);
    for (int i = 0; i < count; i++) values[i] = log(fmax(spikes->norm[i], LEAST_NORM));
    out.norm = fmin(exp(limit(values, count, spikes->threshold, true)), DBL_MAX);
    return out;
}

static int held(const hn_spikes *spikes)
{
    return spikes->seen < spikes->window ? (int)spikes->seen : spikes->window;
}

void hn_spikes_add(hn_spikes *spikes, int64_t step, double loss, double norm)
{
    if (isfinite(loss) && isfinite(norm)) {
        int64_t place = spikes->seen++ % spikes->window;
        spikes->loss[place] = loss;
        spikes->norm[place] = norm;
    }
    int count = held(spikes);
    bool judges = spikes->threshold > 0 && 2 * count >= spikes->window;
    spikes->limits[step % 2] = judges ? make_limits(spikes, count) : (hn_spike_limits){0, 0};
}

static json_t *pack(const double *values, int count)
{
    hn_strbuf text;
    hn_strbuf_init(&text);
    for (int i = 0; i < count; i++) hn_strbuf_printf(&text, i ? " %a" : "%a", values[i]);
    json_t *out = text.failed ? NULL : json_string(count ? text.text : "");
    hn_strbuf_close(&text);
    return out;
}

json_t *hn_spikes_save(const hn_spikes *spikes)
{
    const double limits[] = {spikes->limits[0].loss, spikes->limits[0].norm, spikes->limits[1].loss, spikes->limits[1].norm};
    return json_pack("{s:I, s:o, s:o, s:o}", "seen", (json_int_t)spikes->seen, "loss", pack(spikes->loss, held(spikes)), "norm",
                     pack(spikes->norm, held(spikes)), "limits", pack(limits, 4));
}

static hn_status unpack(double *out, int count, const json_t *object, const char *key, hn_error *error)
{
    const char *text = NULL;
    int found = 0;
    hn_status status = hn_json_get_string(&text, object, key, WHERE, error);
    if (status != HN_OK) return status;
    for (const char *at = text ? text : ""; *at; found++) {
        char *end;
        double value = strtod(at, &end);
        if (end == at || !isfinite(value) || found == count)
            return hn_fail(error, HN_ERR_FORMAT, WHERE ": %s: expected %d finite numbers, number %d is not one", key, count, found + 1);
        out[found] = value;
        for (at = end; isspace((unsigned char)*at); at++);
    }
    return found == count ? HN_OK : hn_fail(error, HN_ERR_FORMAT, WHERE ": %s: expected %d numbers, got %d", key, count, found);
}

hn_status hn_spikes_load(hn_spikes *spikes, const json_t *object, hn_error *error)
{
    if (!object) return HN_OK;
    hn_spikes loaded = {.window = spikes->window, .threshold = spikes->threshold};
    double limits[4];
    hn_status status = hn_json_get_int(&loaded.seen, object, "seen", 0, INT64_MAX, WHERE, error);
    if (status == HN_OK) status = unpack(loaded.loss, held(&loaded), object, "loss", error);
    if (status == HN_OK) status = unpack(loaded.norm, held(&loaded), object, "norm", error);
    if (status == HN_OK) status = unpack(limits, 4, object, "limits", error);
    if (status != HN_OK) return status;
    loaded.limits[0] = (hn_spike_limits){limits[0], limits[1]};
    loaded.limits[1] = (hn_spike_limits){limits[2], limits[3]};
    *spikes = loaded;
    return HN_OK;
}
