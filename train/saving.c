/* Checkpoints on their way to the disk. On the host nothing is copied for that: weights and moments change in the optimizer alone, at the end
 * of a step. So the writer's thread reads them where they are while the next step's forward and backward run, and the optimizer waits at
 * its gate (hnp_saving_release) until they were read: digested, and written into the kernel's page cache. All that takes long on a disk,
 * reading back, fsync, renames, the manifest and retention, needs them no more:
 *
 *     training  step N | forward, backward of N+1 | gate | AdamW | step N+2 | ...
 *     writer           | digests, write ................ | read back, fsync, rename, manifest, retention
 *
 * What a save holds up is the time until the state is in the page cache, less a forward and backward: nothing for models whose step takes
 * longer than that. It is not bounded by the memory's speed alone: where more pages are dirty than the kernel allows, write() waits for
 * the disk, and the gate with it. And the thread takes processor time and bandwidth from the steps beside it. A copy would bound
 * the wait, for as much memory as a checkpoint has bytes, more than half of what else a run takes; it is not worth that.
 *
 * A GPU's tensors come to pinned memory first, which is there from the start: that copy is what training waits for, and its
 * optimizer finds the gate open. A save that is due while another one is under way waits for its end: what was asked for is saved, at
 * every step that was asked for. */
#include <stdio.h>
#include <string.h>

#include "checkpoints/checkpoint.h"
#include "core/clock.h"
#include "core/mem.h"
#include "train/internal.h"

/* Of weights and moments, all ranks' together. */
static size_t state_bytes(const hn_trainer *trainer)
{
    int params;
    const hn_param *param = hn_model_params(trainer->runner.model, &params);
    size_t total = 0, moment = hn_dtype_size(trainer->optimizer.moments);
    for (int p = 0; p < params; p++)
        if (!param[p].frozen) total += (size_t)param[p].rows * (size_t)param[p].columns * (sizeof(float) + 2 * moment);
    return total;
}

size_t hnp_saving_bytes(const hn_trainer *trainer)
{
    return trainer->runner.backend.host ? 0 : state_bytes(trainer);
}

/* With other ranks there is no writer: all of them save while training waits. */
static hn_status open_together(hn_trainer *trainer, hn_error *error)
{
    hnp_saving *saving = &trainer->saving;
    hn_status status = hnp_list_pieces(trainer->runner.model, &trainer->optimizer, &trainer->reduce.zero, NULL, &saving->pieces, &saving->count, error);
    saving->bytes = state_bytes(trainer);
    const hn_named_tensor all = {"", hn_tensor_1d(NULL, HN_U8, (int64_t)saving->bytes)};
    if (status == HN_OK && hnp_world_first(trainer)) status = hn_checkpoint_check_space(trainer->checkpoints, &all, 1, error);
    return hnp_world_agree(trainer, "the list of what is saved", status, error);
}

hn_status hnp_saving_open(hn_trainer *trainer, hn_error *error)
{
    hnp_saving *saving = &trainer->saving;
    saving->last = trainer->progress.step;
    saving->safe = trainer->resumed ? trainer->progress.good : -1;
    if (trainer->options->ranks) return open_together(trainer, error);
    hn_status status = hnp_list_tensors(trainer->runner.model, &trainer->optimizer, NULL, &saving->tensors, &saving->count, error);
    for (size_t i = 0; status == HN_OK && i < saving->count; i++) saving->bytes += hn_tensor_bytes(&saving->tensors[i].tensor);
    if (status == HN_OK) status = hn_checkpoint_check_space(trainer->checkpoints, saving->tensors, saving->count, error);
    if (status == HN_OK)
        status = hn_checkpoint_writer_open(&saving->writer, trainer->checkpoints, (int)trainer->config->checkpoint.keep, error);
    if (status == HN_OK) status = hn_mirror_open(&saving->mirror, &trainer->runner.backend, saving->tensors, saving->count, error);
    return status;
}

void hnp_saving_close(hnp_saving *saving)
{
    hn_checkpoint_writer_free(saving->writer); /* first: it reads the others */
    hn_mirror_close(&saving->mirror);
    hn_free(saving->tensors);
    hn_free(saving->pieces);
    *saving = (hnp_saving){0};
}

/* Counts a save that is over, and tells what came of it: a rollback goes to the one before a save that failed. */
static hn_status conclude(hn_trainer *trainer, const hn_checkpoint_outcome *outcome, hn_error *error)
{
    hnp_saving *saving = &trainer->saving;
    hn_progress *p = &trainer->progress;
    saving->written += outcome->seconds;
    if (saving->good && outcome->safe) saving->safe = outcome->step;
    if (outcome->error.status == HN_OK) return hnp_trainer_show_save(trainer, outcome, error);
    if (saving->good && !outcome->safe && p->good == outcome->step) p->good = saving->safe;
    return hnp_trainer_warn(trainer, outcome->step, outcome->error.message, error);
}

hn_status hnp_saving_poll(hn_trainer *trainer, hn_error *error)
{
    hn_checkpoint_outcome outcome;
    bool over = trainer->saving.writer && hn_checkpoint_writer_poll(trainer->saving.writer, &outcome);
    return over ? conclude(trainer, &outcome, error) : HN_OK;
}

/* The disk is slower than somebody may expect; said once. */
static void tell_wait(hn_trainer *trainer, int64_t step, double waited)
{
    char text[120];
    if (waited <= 1 || trainer->saving.told) return;
    snprintf(text, sizeof text, "saving step %lld: training waited %.1f s for the disk", (long long)step, waited);
    trainer->options->notice(text);
    trainer->saving.told = true;
}

/* Counts what the last save held training up. */
static void count_held(hn_trainer *trainer, double seconds)
{
    hnp_saving *saving = &trainer->saving;
    trainer->window_started += seconds; /* rates are of training alone */
    saving->held += seconds;
    saving->last_held += seconds;
    saving->window_held += seconds;
    if (saving->last_held > saving->most_held) saving->most_held = saving->last_held;
}

void hnp_saving_release(hn_trainer *trainer)
{
    if (!trainer->saving.writer || trainer->saving.mirror.memory) return; /* nobody reads them, or the writer reads the copy */
    double before = hn_clock();
    hn_checkpoint_writer_wait_read(trainer->saving.writer);
    double waited = hn_clock() - before;
    count_held(trainer, waited);
    tell_wait(trainer, trainer->saving.last, waited);
}

hn_status hnp_saving_wait(hn_trainer *trainer, hn_error *error)
{
    hn_checkpoint_outcome outcome;
    double before = hn_clock();
    if (!trainer->saving.writer || !hn_checkpoint_writer_wait(trainer->saving.writer, &outcome)) return HN_OK;
    double waited = hn_clock() - before;
    count_held(trainer, waited);
    tell_wait(trainer, outcome.step, waited);
    return conclude(trainer, &outcome, error);
}

/* On the writer's thread: no checkpoint is ahead of its log. */
static hn_status flush_log(void *context, hn_error *error)
{
    return hn_sinks_flush(context, error);
}

static void nobody_waits(void *context)
{
    (void)context;
}

/* The current state of all ranks; *outcome is the same on all of them. */
static void save_together(hn_trainer *trainer, const hn_checkpoint_job *job, hn_checkpoint_outcome *outcome)
{
    double before = hn_clock();
    const hn_checkpoint_release release = {.call = nobody_waits, .context = job->context, .then = job->state ? job->before : NULL};
    const hn_checkpoint_party party = hnp_world_party(trainer, trainer->saving.bytes);
    hn_checkpoint_retention retention = {.keep = (int)trainer->config->checkpoint.keep};
    memcpy(retention.stay, job->stay, sizeof retention.stay);
    *outcome = (hn_checkpoint_outcome){.step = job->step};
    hnp_world_enter(trainer, HN_ACTIVITY_DISK, "a checkpoint");
    hn_checkpoint_save_pieces(trainer->checkpoints, job->step, trainer->saving.pieces, trainer->saving.count, job->state, &release, &party,
                              &retention, &outcome->safe, &outcome->error);
    hnp_world_enter(trainer, HN_ACTIVITY_COMPUTE, "between steps");
    outcome->seconds = hn_clock() - before;
    json_decref(job->state);
}

/* Hands the current state to the writer, or saves it; *over: that was done, and *outcome is what it came to. */
static hn_status start(hn_trainer *trainer, bool *over, hn_checkpoint_outcome *outcome, hn_error *error)
{
    hnp_saving *saving = &trainer->saving;
    HN_ASSERT(!trainer->pending);
    hn_status status = hnp_trainer_settle_log(trainer, error);
    if (status == HN_OK) status = hn_optimizer_fetch(&trainer->optimizer, error);
    if (status == HN_OK && saving->writer) status = hn_mirror_fetch(&saving->mirror, error);
    if (status != HN_OK) return status;
    bool packs = hnp_world_first(trainer);
    hn_checkpoint_job job = {.step = trainer->progress.step,
                             .tensors = saving->mirror.tensors,
                             .count = saving->mirror.count,
                             .stay = {trainer->config->train.spike_action == HN_SPIKE_ROLL_BACK ? trainer->progress.good : -1,
                                      trainer->progress.best_lost ? trainer->progress.best_lost : -1},
                             .state = packs ? hnp_state_pack(trainer) : NULL,
                             .before = flush_log,
                             .context = &trainer->sinks};
    if (packs && !job.state) status = hn_fail(error, HN_ERR_MEMORY, "out of memory for the checkpoint's state");
    status = hnp_world_agree(trainer, "the checkpoint's state", status, error);
    if (status != HN_OK) return status;
    saving->last = job.step;
    saving->good = trainer->progress.good == job.step;
    *over = !saving->writer;
    if (saving->writer) hn_checkpoint_writer_start(saving->writer, &job);
    else save_together(trainer, &job, outcome);
    return HN_OK;
}

hn_status hnp_trainer_save(hn_trainer *trainer, hn_error *error)
{
    hn_checkpoint_outcome outcome;
    bool over = false;
    hn_status status = hnp_saving_wait(trainer, error);
    double before = hn_clock();
    if (status == HN_OK) status = start(trainer, &over, &outcome, error);
    trainer->saving.saves++;
    trainer->saving.last_held = 0;
    count_held(trainer, hn_clock() - before);
    return status == HN_OK && over ? conclude(trainer, &outcome, error) : status;
}

hn_status hnp_trainer_save_last(hn_trainer *trainer, hn_error *error)
{
    hn_checkpoint_outcome outcome;
    bool over = false;
    hn_status status = hnp_saving_wait(trainer, error);
    double before = hn_clock();
    if (status == HN_OK) status = start(trainer, &over, &outcome, error);
    if (status != HN_OK) return status;
    if (!over) hn_checkpoint_writer_wait(trainer->saving.writer, &outcome);
    trainer->saving.last_held = hn_clock() - before;
    if (outcome.error.status == HN_OK) return hnp_trainer_show_save(trainer, &outcome, error);
    return hn_fail(error, outcome.error.status, "%s", outcome.error.message);
}

void hnp_saving_end(hn_trainer *trainer)
{
    hn_checkpoint_outcome outcome;
    if (!trainer->saving.writer || !hn_checkpoint_writer_wait(trainer->saving.writer, &outcome)) return;
    trainer->saving.written += outcome.seconds;
    if (outcome.error.status != HN_OK) trainer->options->notice(outcome.error.message);
    else hnp_trainer_show_save(trainer, &outcome, &(hn_error){0});
}
