/* A model with everything it runs on: backend, operation table, arenas. Training, evaluation and prediction all stand on this.
 *
 *     hn_runner_init        sizes are known: the arenas are counted (this is all that `hone plan` needs)
 *     hn_runner_plan        the same, once it is known from which group up it trains
 *     hn_runner_alloc       one allocation an arena
 *     hn_runner_load        parameters from a checkpoint
 *     hn_runner_use         lays the activations out for training or for evaluation; both share one arena
 *
 * Arenas: parameters, batch, activations (the larger of training's and evaluation's), workspace. */
#ifndef HONE_INFER_RUNNER_H
#define HONE_INFER_RUNNER_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/backend.h"
#include "infer/device_batch.h"
#include "infer/source.h"
#include "kernels/device.h"
#include "models/model.h"

typedef struct hn_runner_options {
    hn_dtype precision;    /* HN_F32 or HN_BF16 */
    int threads;           /* of the CPU backend; 0: one a core */
    hn_device device;
    bool counting;         /* nothing will be allocated or run: sizes are counted for the device though it may be absent */
    hn_bounds evaluation;  /* of one batch; tokens 0: never evaluates */
    hn_bounds training;    /* of one slice; tokens 0: never trains */
    bool frozen;           /* weights are only read: those in bf16 have no masters */
} hn_runner_options;

typedef struct hn_runner {
    hn_runner_options options;
    hn_backend backend;
    const hn_ops *ops;
    hn_error device_note;  /* why HN_DEVICE_AUTO took the CPU, if it needs saying */
    hn_error step_error; /* what operations record; checked once a forward, backward or step */
    hn_ops_context ctx;
    hn_model *model;
    hn_arena parameters, batches, activations, workspace;
    hn_device_batch batch;
    hn_recompute recompute; /* of training */
    /* In the backend's memory: */
    double *loss;
    int64_t *count, *correct;
    float *logits; /* host, [examples, labels] (hn_free) */
} hn_runner;

hn_status hn_runner_init(hn_runner *runner, const hn_model_config *config, const hn_runner_options *options,
                         hn_error *error);
/* Counts everything anew, as after hn_model_freeze or for other bounds in `options`; the activations for training from any of the
 * groups `lowest` to `highest` up, with what backward makes again. Before hn_runner_alloc. */
void hn_runner_plan(hn_runner *runner, int lowest, int highest, hn_recompute recompute);
hn_status hn_runner_alloc(hn_runner *runner, hn_error *error);
hn_status hn_runner_load(hn_runner *runner, const hn_source *source, uint64_t seed, hn_strbuf *initialised,
                         hn_strbuf *ignored, hn_error *error);
/* Parameters by the family's rule instead. */
hn_status hn_runner_initialise(hn_runner *runner, uint64_t seed, hn_error *error);
void hn_runner_use(hn_runner *runner, bool training, int first);
void hn_runner_close(hn_runner *runner);

#endif
