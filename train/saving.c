/* Checkpoints on their way to the disk. Weights and moments change with every step, so the writer's thread gets a copy of them as they
 * are after one step, and training goes on while that is written, read back, synced and renamed:
 *
 *     host     step N | copy | step N+1 | step N+2 | ...       one more step, or a line of the log, never waits for a disk
 *     writer          |      | write ... read back, fsync, rename, manifest, retention
 *
 * All of it is copied at once, at the memory's speed: 40 to 60 ms for MiniLM's 260 MiB, 0.2 s for SmolLM2-135M's 1.5 GiB on two cores,
 * where one step takes 0.1 and more than 1 s. Copying each segment just before AdamW changes it would hide that behind the step and
 * needs the same memory.
 *
 * The copy's memory is in the plan and there from the start, if a save is due before the last step and the memory is free; without it
 * (checkpoint.async=false, or not enough) the writer reads the weights themselves and training waits. The bits are the same. A save that is
 * due while another one is under way waits for it: what was asked for is saved, at every step that was asked for. */
#include <stdio.h>
#include <string.h>

#include "checkpoints/checkpoint.h"
#include "core/clock.h"
#include "core/mem.h"
#include "train/internal.h"

size_t hnp_saving_bytes(const hn_trainer *trainer)
{
    int params;
    const hn_param *param = hn_model_params(trainer->runner.model, &params);
    int64_t every = hn_interval_steps(trainer->config->checkpoint.every, trainer->job->epoch_batches[0]);
    size_t total = 0, moment = hn_dtype_size(trainer->optimizer.moments);
    if (every <= 0 || every >= trainer->job->total_steps) return 0;
    for (int p = 0; p < params; p++) {
        size_t count = (size_t)param[p].rows * (size_t)param[p].columns;
        if (!param[p].frozen) total += hn_mirror_room(count * sizeof(float)) + 2 * hn_mirror_room(count * moment);
    }
    return total;
}

hn_status hnp_saving_open(hn_trainer *trainer, hn_error *error)
{
    hnp_saving *saving = &trainer->saving;
    hn_status status = hnp_list_tensors(trainer->runner.model, &trainer->optimizer, NULL, &saving->tensors, &saving->count, error);
    saving->last = trainer->progress.step;
    if (status == HN_OK) status = hn_checkpoint_check_space(trainer->checkpoints, saving->tensors, saving->count, error);
    if (status == HN_OK)
        status = hn_checkpoint_writer_open(&saving->writer, trainer->checkpoints, (int)trainer->config->checkpoint.keep, error);
    if (status == HN_OK && saving->bytes) {
        status = hn_mirror_open_apart(&saving->copy, &trainer->runner.backend, saving->tensors, saving->count, error);
        HN_ASSERT(status != HN_OK || saving->copy.bytes == saving->bytes);
    }
    return status;
}

void hnp_saving_close(hnp_saving *saving)
{
    hn_checkpoint_writer_free(saving->writer); /* first: it reads the others */
    hn_mirror_close(&saving->copy);
    hn_free(saving->tensors);
    *saving = (hnp_saving){0};
}

/* Counts a save that is over, and tells one that failed. */
static hn_status conclude(hn_trainer *trainer, const hn_checkpoint_outcome *outcome, hn_error *error)
{
    trainer->saving.written += outcome->step >= 0 ? outcome->seconds : 0;
    if (outcome->error.status == HN_OK) return HN_OK;
    return hnp_trainer_warn(trainer, outcome->step, outcome->error.message, error);
}

hn_status hnp_saving_poll(hn_trainer *trainer, hn_error *error)
{
    hnp_saving *saving = &trainer->saving;
    hn_checkpoint_outcome outcome;
    hn_status status = hn_checkpoint_writer_poll(saving->writer, &outcome) ? conclude(trainer, &outcome, error) : HN_OK;
    if (saving->copy.memory && !saving->warmed) { /* behind the first step, which it would slow down */
        hn_checkpoint_writer_warm(saving->writer, saving->copy.memory, saving->copy.bytes);
        saving->warmed = true;
    }
    return status;
}

hn_status hnp_saving_wait(hn_trainer *trainer, hn_error *error)
{
    hnp_saving *saving = &trainer->saving;
    hn_checkpoint_outcome outcome;
    char text[160];
    double before = hn_clock();
    if (!hn_checkpoint_writer_wait(saving->writer, &outcome)) return HN_OK;
    double waited = hn_clock() - before;
    if (waited > 1 && !saving->told && saving->copy.memory && outcome.step >= 0) {
        snprintf(text, sizeof text, "saving step %lld took longer than checkpoint.every: training waited %.1f s for it",
                 (long long)outcome.step, waited);
        trainer->options->notice(text);
        saving->told = true;
    }
    return conclude(trainer, &outcome, error);
}

/* On the writer's thread: no checkpoint is ahead of its log. */
static hn_status flush_log(void *context, hn_error *error)
{
    return hn_sinks_flush(context, error);
}

/* Hands the current state to the writer, by way of `mirror`. */
static hn_status start(hn_trainer *trainer, hn_mirror *mirror, hn_error *error)
{
    HN_ASSERT(!trainer->pending);
    hn_status status = hn_optimizer_fetch(&trainer->optimizer, error);
    if (status == HN_OK) status = hn_mirror_fetch(mirror, error);
    if (status != HN_OK) return status;
    hn_checkpoint_job job = {.step = trainer->progress.step,
                             .tensors = mirror->tensors,
                             .count = mirror->count,
                             .stay = trainer->config->train.spike_action == HN_SPIKE_ROLL_BACK ? trainer->progress.good : -1,
                             .state = hnp_state_pack(trainer),
                             .before = flush_log,
                             .context = &trainer->sinks};
    if (!job.state) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the checkpoint's state");
    trainer->saving.last = job.step;
    trainer->saving.warmed = true;
    hn_checkpoint_writer_start(trainer->saving.writer, &job);
    return HN_OK;
}

/* Saves and waits; the tensors may be the run's own. */
static hn_status save_and_wait(hn_trainer *trainer, hn_checkpoint_outcome *outcome, hn_error *error)
{
    hnp_saving *saving = &trainer->saving;
    hn_mirror own = {0}, *mirror = saving->copy.memory ? &saving->copy : &own;
    hn_status status = HN_OK;
    *outcome = (hn_checkpoint_outcome){0};
    if (mirror == &own) status = hn_mirror_open(&own, &trainer->runner.backend, saving->tensors, saving->count, error);
    if (status == HN_OK) status = start(trainer, mirror, error);
    if (status == HN_OK) hn_checkpoint_writer_wait(saving->writer, outcome);
    if (mirror == &own) hn_mirror_close(&own);
    return status;
}

hn_status hnp_trainer_save(hn_trainer *trainer, hn_error *error)
{
    hnp_saving *saving = &trainer->saving;
    hn_checkpoint_outcome outcome;
    double before = hn_clock();
    hn_status status = hnp_saving_wait(trainer, error);
    if (status == HN_OK && saving->copy.memory) {
        status = start(trainer, &saving->copy, error);
    } else if (status == HN_OK) {
        status = save_and_wait(trainer, &outcome, error);
        if (status == HN_OK) status = conclude(trainer, &outcome, error);
    }
    double held = hn_clock() - before;
    trainer->window_started += held; /* rates are of training alone */
    saving->saves++;
    saving->held += held;
    if (held > saving->most_held) saving->most_held = held;
    return status;
}

hn_status hnp_trainer_save_last(hn_trainer *trainer, hn_error *error)
{
    hn_checkpoint_outcome outcome;
    hn_status status = hnp_saving_wait(trainer, error);
    if (status == HN_OK) status = save_and_wait(trainer, &outcome, error);
    if (status != HN_OK || outcome.error.status == HN_OK) return status;
    return hn_fail(error, outcome.error.status, "%s", outcome.error.message);
}

void hnp_saving_end(hn_trainer *trainer)
{
    hn_checkpoint_outcome outcome;
    if (!trainer->saving.writer || !hn_checkpoint_writer_wait(trainer->saving.writer, &outcome)) return;
    trainer->saving.written += outcome.step >= 0 ? outcome.seconds : 0;
    if (outcome.error.status != HN_OK) trainer->options->notice(outcome.error.message);
}
