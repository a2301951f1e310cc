/* Spikes: steps whose loss or gradient norm stands far above those of the last steps.
 *
 *     limit of the loss        median + threshold * MAD         MAD: the median distance from the median, at least a hundredth of it
 *     limit of the norm        the same of the logarithms of the norms, whose distances are factors
 *
 * over a window of the last `window` steps whose loss and norm were both finite. Half of a window may be anything before its median
 * is; so spikes enter it like other values, and a level that stays is no spike for longer than half a window. NaN and Inf never enter.
 * Norms of small batches vary by factors: of 1,440 steps of a tiny classifier, batches of 8, 1 in 100 was beyond 20 MADs of its norms, and
 * 1 in 100 beyond 5 of their logarithms; of the losses 1 in 100 beyond 7, and none beyond 19.
 *
 * What a step came to is read one step late (step.c). So that limits depend on the steps alone, and not on when somebody read them,
 * those of step N come from the steps before N - 1. Nothing is judged before half of the window is there. */
#ifndef HONE_TRAIN_SPIKES_H
#define HONE_TRAIN_SPIKES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

#define HN_SPIKE_WINDOW_MOST 1024

/* The most that is no spike; 0: anything. */
typedef struct hn_spike_limits {
    double loss, norm;
} hn_spike_limits;

typedef struct hn_spikes {
    int window;
    double threshold;
    int64_t seen; /* values that entered; the next one goes to place seen % window */
    double loss[HN_SPIKE_WINDOW_MOST], norm[HN_SPIKE_WINDOW_MOST];
    hn_spike_limits limits[2]; /* of the next steps with even and with odd numbers */
} hn_spikes;

void hn_spikes_init(hn_spikes *spikes, int window, double threshold);
/* Of step `step` (0, 1, 2, ...), all before step - 1 having been added. */
hn_spike_limits hn_spikes_limits(const hn_spikes *spikes, int64_t step);
/* Whether a step that was finite went beyond them. */
bool hn_spikes_beyond(hn_spike_limits limits, double loss, double norm);
/* What steps came to, one after the other: mean loss and norm. Makes the limits of step + 2. */
void hn_spikes_add(hn_spikes *spikes, int64_t step, double loss, double norm);

json_t *hn_spikes_save(const hn_spikes *spikes); /* new reference, NULL: out of memory */
/* `object` NULL: of a run that had none; nothing changes. */
hn_status hn_spikes_load(hn_spikes *spikes, const json_t *object, hn_error *error);

#endif
