/* The loop. Between two steps stands `turn`: everything that is due after step N (a line of metrics, a thaw, an evaluation, a
 * checkpoint). Each kind remembers the last step whose turn is over, and that is part of the saved state; so a run that is
 * killed anywhere does on resume just what is left, and its metrics are those of a run that was never killed. */
#include "train/trainer.h"

#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "train/internal.h"

static bool is_last(const hn_trainer *trainer)
{
    return trainer->progress.step >= trainer->job->total_steps;
}

/* Whether something that happens every `interval` is due after the current step. */
static bool is_due(const hn_trainer *trainer, hn_interval interval)
{
    int64_t every = hn_interval_steps(interval, trainer->job->epoch_batches[0]);
    return every > 0 && trainer->progress.step > 0 && trainer->progress.step % every == 0;
}

static hn_status evaluate_sets(hn_trainer *trainer, hn_metrics *metrics, hn_error *error)
{
    hn_job *job = trainer->job;
    for (size_t d = 0; d < job->dev_count; d++) {
        hn_status status = hn_metrics_init(&metrics[d], hn_job_measured(job), hn_dataset_count(job->dev[d].dataset), error);
        status = hnp_world_agree(trainer, "metrics", status, error);
        if (status == HN_OK)
            status = hn_evaluate(&trainer->runner, &trainer->buffer, job->dev[d].dataset, &metrics[d], NULL, NULL, hnp_world_share(trainer),
                                 trainer->options->stop, error);
        if (status != HN_OK) return status;
    }
    return HN_OK;
}

/* Rank 0 alone: the others wait. */
static hn_status ask(hn_trainer *trainer, hn_error *error)
{
    hn_status status = hnp_world_first(trainer) ? hnp_trainer_ask(trainer, error) : HN_OK;
    return hnp_world_agree(trainer, "samples", status, error);
}

/* Evaluates every dev set, has samples answered, logs both, and keeps the weights when the first set's metric is the best so far. */
static hn_status evaluate(hn_trainer *trainer, hn_error *error)
{
    hn_job *job = trainer->job;
    hn_metrics *metrics = hn_calloc(job->dev_count, sizeof *metrics);
    if (!metrics) return hn_fail(error, HN_ERR_MEMORY, "out of memory for metrics");
    double before = hn_clock();
    hn_status status = evaluate_sets(trainer, metrics, error);
    if (status == HN_OK) status = ask(trainer, error);
    hn_runner_use(&trainer->runner, true, trainer->first);
    if (status == HN_OK) {
        double value = hn_metrics_value(&metrics[0], (hn_metric)job->config->eval.metric);
        bool best = hn_early_stopping_update(&trainer->stopping, value, trainer->progress.step);
        for (size_t d = 0; status == HN_OK && d < job->dev_count; d++)
            status = hnp_trainer_log_evaluation(trainer, job->dev[d].name, &metrics[d], best && d == 0, error);
        if (status == HN_OK && hnp_world_first(trainer)) status = hnp_trainer_log_answers(trainer, error);
        if (status == HN_OK && best) status = hnp_best_publish(trainer, error);
    }
    for (size_t d = 0; d < job->dev_count; d++) hn_metrics_close(&metrics[d]);
    hn_free(metrics);
    trainer->window_started += hn_clock() - before; /* rates are of training alone */
    return status;
}

/* With freeze.cache: the cache of the trunk below the lowest group that trains now. */
static hn_status open_cache(hn_trainer *trainer, hn_error *error)
{
    const hn_train_config *config = trainer->config;
    if (!config->freeze.cache || trainer->first == 0) return HN_OK;
    char name[32] = "trunk-cache.h5";
    if (trainer->options->ranks) snprintf(name, sizeof name, "trunk-cache-%d.h5", hn_ranks_rank(trainer->options->ranks));
    char *path = hn_path_join(config->output.dir, name);
    hn_hasher *hasher = hn_hasher_open();
    hn_status status = path && hasher ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory for the trunk cache");
    if (status == HN_OK) {
        const hn_digest parts[] = {trainer->job->weights, hn_dataset_digest(trainer->job->train)};
        bool first_only = hn_model_trunk_pooled(trainer->runner.model, trainer->first);
        int64_t facts[] = {trainer->first, config->train.precision};
        hn_hasher_add(hasher, parts, sizeof parts);
        hn_hasher_add(hasher, facts, sizeof facts);
        hn_hasher_add_text(hasher, trainer->runner.ops->products(&trainer->runner.ctx));
        hn_hasher_add_text(hasher, trainer->tuned);
        status = hn_trunk_cache_open(&trainer->cache, path, hn_hasher_digest(hasher), trainer->job->train,
                                     &trainer->trunk, &trainer->runner.backend, first_only,
                                     (uint64_t)(config->freeze.cache_budget * 1073741824.0), error);
    }
    const char *note = status == HN_OK ? hn_trunk_cache_note(trainer->cache) : NULL;
    if (note) trainer->options->notice(note);
    hn_hasher_free(hasher);
    hn_free(path);
    return status;
}

static hn_status thaw(hn_trainer *trainer, int group, hn_error *error)
{
    hn_early_stopping_restart(&trainer->stopping);
    hnp_trainer_select(trainer);
    hn_trunk_cache_free(trainer->cache);
    trainer->cache = NULL;
    hn_status status = open_cache(trainer, error);
    if (status != HN_OK) return status;
    return hnp_trainer_log_text(trainer, "unfreeze", "group", hn_model_group_name(trainer->runner.model, group), error);
}

/* What is due after the current step, most often nothing; whatever it is sees the run as of this step. */
static hn_status turn(hn_trainer *trainer, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    int group = hn_freeze_plan_thaws(&trainer->plan, p->step);
    bool stopping = hn_early_stopping_done(&trainer->stopping), last = is_last(trainer);
    bool log = p->logged != p->step && (p->step % trainer->config->train.log_every == 0 || last);
    bool thaws = group >= 0 && p->thawed != p->step && !stopping;
    bool evaluates = trainer->job->dev_count && p->evaluated != p->step && (is_due(trainer, trainer->config->eval.every) || last);
    bool due = is_due(trainer, trainer->config->checkpoint.every) && !last, saves = due && trainer->saving.last != p->step;
    hn_status status = log || thaws || evaluates || due || last ? hnp_trainer_settle(trainer, 0, error) : HN_OK;
    if (status == HN_OK && log) {
        status = hnp_trainer_log_step(trainer, error);
        if (status == HN_OK) p->logged = p->step;
    }
    if (status == HN_OK && thaws) {
        status = thaw(trainer, group, error);
        if (status == HN_OK) p->thawed = p->step;
    }
    if (status == HN_OK && evaluates) {
        status = evaluate(trainer, error);
        if (status == HN_OK) p->evaluated = p->step;
    }
    if (due && !p->spikes_in_a_row && !p->rollback_due) p->good = p->step;
    bool only_here = evaluates && p->best_lost == p->step && !last; /* the best weights: best.c */
    if (status == HN_OK && (saves || only_here)) status = hnp_trainer_save(trainer, error);
    return status;
}

/* The order of the epoch that the next step is in. */
static hn_status open_order(hn_trainer *trainer, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    if (p->batch >= trainer->job->epoch_batches[p->epoch]) {
        p->epoch++;
        p->batch = 0;
    }
    if (trainer->order_epoch == p->epoch) return HN_OK;
    hn_order_free(trainer->order);
    trainer->order = NULL;
    hn_order_options options = hn_job_order(trainer->job, p->epoch);
    hn_status status = hn_order_open(&trainer->order, trainer->job->train, &options, error);
    if (status == HN_OK) trainer->order_epoch = p->epoch;
    return status;
}

/* Enqueues one optimizer step and counts what the one before it came to. */
static hn_status advance(hn_trainer *trainer, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    int64_t tokens;
    int32_t count;
    hn_status status = open_order(trainer, error);
    if (status != HN_OK) return status;
    const uint32_t *examples = hn_order_examples(trainer->order, p->batch, &count);
    status = hnp_trainer_step(trainer, examples, count, &tokens, error);
    if (status != HN_OK) {
        hnp_trainer_settle(trainer, 0, &(hn_error){0}); /* what came before is counted and logged all the same */
        return status;
    }
    p->step++;
    p->batch++;
    trainer->window_tokens += tokens;
    trainer->window_examples += count;
    status = hnp_trainer_settle(trainer, 1, error);
    return status == HN_OK ? hnp_saving_poll(trainer, error) : status;
}

/* Ranks stop where all know that one of them was asked to; the last step told them. */
static bool is_stopped(const hn_trainer *trainer)
{
    if (!trainer->options->ranks) return *trainer->options->stop;
    return trainer->stopping_together;
}

/* Steps until nothing is left to do, early stopping, a signal or a failure. */
static hn_status run_steps(hn_trainer *trainer, hn_error *error)
{
    for (;;) {
        hn_status status = is_stopped(trainer) ? hn_fail(error, HN_ERR_INTERRUPTED, "stopped") : hnp_trainer_roll_back(trainer, error);
        if (status == HN_OK) status = turn(trainer, error);
        if (status == HN_ERR_INTERRUPTED) {
            hnp_world_stop_agreed(trainer);
            hn_error_reset(error);
            status = hnp_trainer_settle(trainer, 0, error);
            if (status == HN_OK) status = hnp_trainer_save_last(trainer, error);
            if (status != HN_OK) return status;
            return hn_fail(error, HN_ERR_INTERRUPTED,
                           "stopped after step %lld of %lld and saved; run the same command again to go on",
                           (long long)trainer->progress.step, (long long)trainer->job->total_steps);
        }
        if (status != HN_OK) return status;
        if (hn_early_stopping_done(&trainer->stopping)) {
            snprintf(trainer->progress.finished, sizeof trainer->progress.finished, "early stopping");
            return HN_OK;
        }
        if (is_last(trainer)) {
            snprintf(trainer->progress.finished, sizeof trainer->progress.finished, "all steps");
            return HN_OK;
        }
        status = advance(trainer, error);
        if (status != HN_OK) return status;
    }
}

/* final/ of the last weights, or of the best. */
static hn_status publish_final(hn_trainer *trainer, hn_error *error)
{
    bool from_best = trainer->config->eval.restore_best && trainer->stopping.any && !trainer->progress.best_lost;
    return from_best ? hnp_trainer_publish_best_as(trainer, "final", error) : hnp_trainer_publish(trainer, "final", error);
}

/* final/, the last event, the last checkpoint: in this order, so that a finished run has all of them. A final/ that the disk refuses
 * leaves a checkpoint of a run that is not finished: the same command writes it then. */
static hn_status finish(hn_trainer *trainer, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    hn_error failure = {0};
    hnp_world_stop_agreed(trainer); /* it ends here, signal or not */
    hn_status status = hnp_best_finish(trainer, error);
    if (status != HN_OK) return status;
    hn_status published = publish_final(trainer, &failure);
    if (published != HN_OK) p->finished[0] = 0;
    if (published == HN_OK) status = hnp_trainer_log_text(trainer, "stop", "reason", p->finished, error);
    if (status == HN_OK) status = hnp_trainer_save_last(trainer, error);
    if (published != HN_OK) {
        hn_error_reset(error);
        status = hn_fail(error, published, "%s", failure.message);
    }
    return status == HN_OK && p->best_lost ? hnp_best_fail(trainer, error) : status;
}

/* A run that was over but for its best/: that, and final/ where it is the same. */
static hn_status finish_best(hn_trainer *trainer, hn_error *error)
{
    hn_status status = hnp_best_recover(trainer, error);
    if (status == HN_OK && trainer->progress.best_lost) return hnp_best_fail(trainer, error);
    if (status == HN_OK && trainer->config->eval.restore_best) status = hnp_trainer_publish_best_as(trainer, "final", error);
    if (status == HN_OK) status = hnp_saving_open(trainer, error);
    return status == HN_OK ? hnp_trainer_save_last(trainer, error) : status;
}

/* What a run that was over lacks all the same: a best/ that the disk refused, a final/ that somebody took away. */
static hn_status complete(hn_trainer *trainer, bool *lacked, hn_error *error)
{
    char *final = hn_path_join(trainer->config->output.dir, "final");
    hn_status status = final ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of final");
    *lacked = trainer->progress.best_lost;
    if (status == HN_OK && *lacked) status = finish_best(trainer, error);
    status = hnp_world_agree(trainer, "final/", status, error);
    bool missing = status == HN_OK && !hn_path_exists(final);
    if (status == HN_OK) status = hnp_world_share_bool(trainer, "final/", &missing, error);
    if (status == HN_OK && missing) {
        *lacked = true;
        status = publish_final(trainer, error);
    }
    hn_free(final);
    return status;
}

/* A run folder that has a config already must have been made by this one. */
static hn_status check_config(hn_trainer *trainer, const char *path, hn_error *error)
{
    const hn_train_options *options = trainer->options;
    json_t *before = NULL;
    hn_strbuf lines;
    hn_strbuf_init(&lines);
    hn_status status = hn_json_load(&before, path, HN_JSON_LIMITS_SMALL, error);
    if (status == HN_OK) {
        bool safe = hn_config_difference(&lines, options->tables, options->table_count, before, options->resolved);
        if (lines.length && !(safe && trainer->config->resume.force))
            status = hn_fail(error, HN_ERR_MISMATCH, "%s: this run was started with another config:\n%s%s",
                             path, lines.text,
                             safe ? "resume.force=true goes on with the new values"
                                  : "choose another output.dir, or restore the values");
    }
    hn_strbuf_close(&lines);
    json_decref(before);
    return status;
}

/* The run folder, with its lock and config.json. */
static hn_status open_folder(hn_trainer *trainer, hn_error *error)
{
    const char *dir = trainer->config->output.dir;
    char *config = hn_path_join(dir, "config.json");
    hn_strbuf text;
    hn_strbuf_init(&text);
    hn_status status = config ? hn_folder_make(trainer->checkpoints, error) : hn_fail(error, HN_ERR_MEMORY, "out of memory for paths");
    if (status == HN_OK) status = hn_lock_open(&trainer->lock, dir, error);
    if (status == HN_OK && hn_path_exists(config)) status = check_config(trainer, config, error);
    if (status != HN_OK) goto out;
    hn_json_write(&text, trainer->options->resolved, 2);
    status = text.failed ? hn_fail(error, HN_ERR_MEMORY, "out of memory for config.json")
                         : hn_file_commit(config, text.text, text.length, error);
out:
    hn_strbuf_close(&text);
    hn_free(config);
    return status;
}

static hn_status open_sinks(hn_trainer *trainer, hn_error *error)
{
    hn_sinks *sinks = &trainer->sinks;
    char *metrics = hn_path_join(trainer->config->output.dir, "metrics.jsonl");
    hn_status status = metrics ? hn_sink_jsonl_open(&sinks->items[sinks->count], metrics, trainer->resumed ? trainer->progress.step : -1,
                                                    trainer->progress.events, error)
                               : hn_fail(error, HN_ERR_MEMORY, "out of memory for paths");
    hn_free(metrics);
    if (status != HN_OK) return status;
    trainer->log = sinks->items[sinks->count++];
    status = hn_sink_terminal_open(&sinks->items[sinks->count], 2, trainer->options->live, trainer->options->colour, error);
    if (status == HN_OK) sinks->count++;
    return status;
}

/* The run folder and its sinks, which are rank 0's; resumes when there is a checkpoint. */
static hn_status open_run(hn_trainer *trainer, hn_error *error)
{
    trainer->checkpoints = hn_path_join(trainer->config->output.dir, "checkpoints");
    hn_status status = trainer->checkpoints ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory for paths");
    if (status == HN_OK && hnp_world_first(trainer)) status = open_folder(trainer, error);
    status = hnp_world_agree(trainer, "the run folder", status, error);
    if (status == HN_OK) status = hnp_trainer_resume(trainer, error);
    if (status != HN_OK) return status;
    if (hnp_world_first(trainer)) status = open_sinks(trainer, error);
    if (status == HN_OK) status = hnp_world_log(trainer, error);
    return hnp_world_agree(trainer, "the log", status, error);
}

/* What of a data set a person should know: rows that were refused, a token cache that had to be made anew. */
static void add_report(hn_strbuf *out, const char *name, const hn_dataset *dataset)
{
    const hn_data_report *report = hn_dataset_report(dataset);
    for (int kind = 0; kind < HN_BAD_KINDS; kind++)
        if (report->bad.count[kind])
            hn_strbuf_printf(out, "%s: %lld rows refused (%s); first: %s\n", name, (long long)report->bad.count[kind],
                             hn_bad_kind_name((hn_bad_kind)kind), report->bad.first[kind]);
    if (report->note[0]) hn_strbuf_printf(out, "%s\n", report->note);
}

/* Lines for people before the first step. */
static void announce(hn_trainer *trainer, const hn_strbuf *initialised)
{
    const hn_job *job = trainer->job;
    hn_strbuf text;
    hn_strbuf_init(&text);
    hn_strbuf_printf(&text, "%s: %lld examples, %lld tokens; %lld steps of at most %lld tokens; %s products\n",
                     job->source->path, (long long)hn_dataset_count(job->train), (long long)hn_dataset_tokens(job->train),
                     (long long)job->total_steps, (long long)job->config->train.batch_tokens, trainer->runner.ops->products(&trainer->runner.ctx));
    if (trainer->runner.device_note.status != HN_OK) hn_strbuf_printf(&text, "%s\n", trainer->runner.device_note.message);
    add_report(&text, "data.train", job->train);
    for (size_t i = 0; i < job->dev_count; i++) add_report(&text, job->dev[i].name, job->dev[i].dataset);
    if (job->config->model.init == HN_START_SCRATCH)
        hn_strbuf_printf(&text, "every parameter is new, by train.seed %lld\n", (long long)job->config->train.seed);
    if (initialised->length) {
        hn_strbuf_puts(&text, "new parameters, not in the checkpoint:");
        for (const char *name = initialised->text; *name; name += strspn(name, "\n")) {
            size_t length = strcspn(name, "\n");
            hn_strbuf_printf(&text, " %.*s", (int)length, name);
            name += length;
        }
        hn_strbuf_putc(&text, '\n');
    }
    hn_strbuf_puts(&text, "freezing: ");
    hn_freeze_plan_describe(&trainer->plan, trainer->runner.model, &text);
    if (trainer->progress.step > 0)
        hn_strbuf_printf(&text, "\ngoing on from step %lld", (long long)trainer->progress.step);
    if (!text.failed) trainer->options->notice(text.text);
    hn_strbuf_close(&text);
}

static hn_status run(hn_trainer *trainer, hn_train_result *result, hn_error *error)
{
    hn_strbuf initialised, ignored;
    hn_strbuf_init(&initialised);
    hn_strbuf_init(&ignored);
    hn_status status = hnp_world_agree(trainer, "memory", hnp_trainer_alloc(trainer, error), error);
    uint64_t seed = (uint64_t)trainer->config->train.seed;
    bool scratch = trainer->config->model.init == HN_START_SCRATCH;
    if (status == HN_OK) {
        status = scratch ? hn_runner_initialise(&trainer->runner, seed, error)
                         : hn_runner_load(&trainer->runner, trainer->job->source, seed, &initialised, &ignored, error);
        status = hnp_world_agree(trainer, "weights", status, error);
    }
    if (status == HN_OK) status = hnp_world_open(trainer, error);
    if (status == HN_OK) status = open_run(trainer, error);
    if (status != HN_OK) goto out;
    if ((trainer->progress.finished[0] && is_last(trainer)) || !strcmp(trainer->progress.finished, "early stopping")) {
        bool lacked = false;
        status = complete(trainer, &lacked, error);
        hnp_trainer_end_log(trainer);
        result->was_finished = !lacked;
        goto out;
    }
    status = hnp_best_recover(trainer, error);
    if (status == HN_OK) status = hnp_saving_open(trainer, error);
    if (status != HN_OK) goto out;
    trainer->progress.finished[0] = 0; /* finished once, and now it has more steps */
    hnp_trainer_select(trainer);
    announce(trainer, &initialised);
    status = hnp_trainer_tune(trainer, error);
    if (status == HN_OK) status = open_cache(trainer, error);
    if (status == HN_OK) status = hnp_replay_open(trainer, error);
    status = hnp_world_agree(trainer, "the beginning", status, error);
    if (status != HN_OK) goto out;
    trainer->started = trainer->window_started = hn_clock();
    if (trainer->config->train.profile) trainer->runner.ctx.profile = &trainer->profile;
    if (trainer->config->train.spike_action == HN_SPIKE_ROLL_BACK && !trainer->resumed) status = hnp_trainer_save(trainer, error);
    if (status == HN_OK) status = run_steps(trainer, error);
    hnp_world_local(trainer, status, error);
    if (status == HN_OK) status = finish(trainer, error);
    hnp_saving_end(trainer);
    hnp_trainer_end_log(trainer);
    if (trainer->config->train.profile) {
        trainer->runner.backend.synchronize(&trainer->runner.backend, &(hn_error){0}); /* times of a GPU come with it */
        hnp_trainer_print_profile(trainer);
    }
out:
    result->step = trainer->progress.step;
    result->any_best = trainer->stopping.any;
    result->best = trainer->stopping.best;
    result->best_step = trainer->stopping.best_step;
    memcpy(result->reason, trainer->progress.finished, sizeof result->reason);
    hn_strbuf_close(&initialised);
    hn_strbuf_close(&ignored);
    return status;
}

hn_status hn_train(hn_job *job, const hn_train_options *options, hn_train_result *result, hn_error *error)
{
    hn_trainer trainer;
    *result = (hn_train_result){0};
    hn_status status = hn_ranks_agree(options->ranks, "sizes", hnp_trainer_init(&trainer, job, options, error), error);
    if (status == HN_OK) status = hnp_world_compare(&trainer, error);
    if (status == HN_OK) status = run(&trainer, result, error);
    hnp_world_close(&trainer, status == HN_OK || status == HN_ERR_INTERRUPTED);
    hnp_trainer_close(&trainer);
    return status;
}
