/* What the loop says, as events. Field names are those of metrics.jsonl (docs/run-folder.md). */
#include <math.h>
#include <stdio.h>

#include "core/clock.h"
#include "core/strbuf.h"
#include "train/internal.h"

#define INT(key, value) {.name = key, .kind = HN_FIELD_INT, .integer = (value)}
#define FLOAT(key, value) {.name = key, .kind = HN_FIELD_FLOAT, .number = (value)}
#define TEXT(key, value) {.name = key, .kind = HN_FIELD_TEXT, .text = (value)}

double hnp_trainer_elapsed(const hn_trainer *trainer)
{
    return trainer->progress.elapsed + (trainer->started > 0 ? hn_clock() - trainer->started : 0);
}

/* A log that the disk does not take costs no training: its lines wait. It is said once, and once more when the disk takes lines again.
 * What is not in the file is not counted, so that a resume keeps just what was there. */
static hn_status hear_log(hn_trainer *trainer, hn_status status, const hn_error *failure, hn_error *error)
{
    char text[sizeof failure->message + 120];
    if (status != HN_OK && status != HN_ERR_IO) return hn_fail(error, status, "%s", failure->message);
    if (!trainer->log) return HN_OK; /* rank 0 has it */
    hn_log_counts counts = hn_sink_jsonl_counts(trainer->log);
    trainer->progress.events = counts.written;
    if ((status != HN_OK) == trainer->log_waits) return HN_OK;
    trainer->log_waits = status != HN_OK;
    if (trainer->log_waits)
        snprintf(text, sizeof text, "%s; training goes on, and the log's lines wait in memory until the disk takes them again", failure->message);
    else if (counts.lost)
        snprintf(text, sizeof text, "the log is written again; it lacks %lld lines, which were too many to wait", (long long)counts.lost);
    else
        snprintf(text, sizeof text, "the log is written again, with all lines that waited");
    trainer->options->notice(text);
    return HN_OK;
}

static hn_status emit_at(hn_trainer *trainer, int64_t step, const char *kind, const hn_field *fields, size_t count, hn_error *error)
{
    hn_event event = {.kind = kind, .step = step, .fields = fields, .count = count};
    hn_error failure = {0};
    hn_status status = hn_sinks_emit(&trainer->sinks, &event, &failure);
    return hear_log(trainer, status, &failure, error);
}

hn_status hnp_trainer_settle_log(hn_trainer *trainer, hn_error *error)
{
    hn_error failure = {0};
    hn_status status = hn_sinks_settle(&trainer->sinks, &failure);
    return hear_log(trainer, status, &failure, error);
}

void hnp_trainer_end_log(hn_trainer *trainer)
{
    char text[96];
    hn_error ignored = {0};
    if (!trainer->log) return;
    (void)hnp_trainer_settle_log(trainer, &ignored);
    long long waiting = (long long)hn_sink_jsonl_counts(trainer->log).waiting;
    snprintf(text, sizeof text, "metrics.jsonl lacks its last %lld lines, which the disk did not take", waiting);
    if (waiting) trainer->options->notice(text);
}

static hn_status emit(hn_trainer *trainer, const char *kind, const hn_field *fields, size_t count, hn_error *error)
{
    return emit_at(trainer, trainer->progress.step, kind, fields, count, error);
}

/* Epochs done, as a fraction. */
static double epochs_done(const hn_trainer *trainer)
{
    const hn_progress *p = &trainer->progress;
    int64_t batches = p->epoch < trainer->job->epoch_count ? trainer->job->epoch_batches[p->epoch] : 1;
    return (double)p->epoch + (double)p->batch / (double)batches;
}

hn_status hnp_trainer_log_step(hn_trainer *trainer, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    double now = hn_clock(), seconds = fmax(now - trainer->window_started, 1e-9);
    double rate = (double)p->window_steps / seconds;
    int64_t left = trainer->job->total_steps - p->step;
    const hn_field fields[] = {
        FLOAT("epoch", epochs_done(trainer)),
        INT("steps", trainer->job->total_steps),
        FLOAT("loss", p->window_loss / (double)p->window_count), /* NaN when every step was skipped */
        FLOAT("lr", hn_schedule_rate(&trainer->schedule, p->step > 0 ? p->step - 1 : 0)),
        FLOAT("grad_norm", p->window_norm / (double)p->window_steps),
        FLOAT("tokens_per_second", (double)trainer->window_tokens / seconds),
        FLOAT("time_left", rate > 0 ? (double)left / rate : 0),
        FLOAT("time", hnp_trainer_elapsed(trainer)),
        FLOAT("held", trainer->saving.window_held),
        FLOAT("pairs_per_second", (double)trainer->window_examples / seconds), /* of texts that belong together */
    };
    bool tokens = hn_job_measured(trainer->job) == HN_METRICS_TOKENS;
    hn_status status = emit(trainer, "step", fields, sizeof fields / sizeof *fields - tokens, error);
    p->window_loss = p->window_norm = 0;
    p->window_count = p->window_steps = 0;
    trainer->window_tokens = trainer->window_examples = 0;
    trainer->window_started = hn_clock();
    trainer->saving.window_held = 0;
    return status;
}

hn_status hnp_trainer_log_evaluation(hn_trainer *trainer, const char *set, const hn_metrics *metrics, bool best,
                                     hn_error *error)
{
    hn_field fields[12] = {TEXT("set", set), FLOAT("loss", hn_metrics_loss(metrics))};
    size_t count = 2;
    hn_strbuf classes, confusion;
    hn_strbuf_init(&classes);
    hn_strbuf_init(&confusion);
    for (int m = HN_METRIC_LOSS + 1; m < HN_METRIC_COUNT; m++)
        if (hn_metric_fits((hn_metric)m, metrics->labels))
            fields[count++] = (hn_field)FLOAT(hn_metric_name((hn_metric)m), hn_metrics_value(metrics, (hn_metric)m));
    fields[count++] = (hn_field)INT(metrics->labels == HN_METRICS_TOKENS ? "targets" : "examples", metrics->count);
    fields[count++] = (hn_field)INT("best", best);
    if (metrics->labels > 1) {
        hn_metrics_describe_classes(metrics, trainer->job->labels, &classes);
        hn_metrics_describe_confusion(metrics, &confusion);
        fields[count++] = (hn_field){.name = "classes", .kind = HN_FIELD_JSON, .text = classes.text};
        fields[count++] = (hn_field){.name = "confusion", .kind = HN_FIELD_JSON, .text = confusion.text};
    }
    fields[count++] = (hn_field)FLOAT("time", hnp_trainer_elapsed(trainer));
    hn_status status = classes.failed || confusion.failed
                           ? hn_fail(error, HN_ERR_MEMORY, "out of memory for the metrics of %s", set)
                           : emit(trainer, "eval", fields, count, error);
    hn_strbuf_close(&classes);
    hn_strbuf_close(&confusion);
    return status;
}

hn_status hnp_trainer_log_sample(hn_trainer *trainer, int64_t number, const hn_sample *sample, const hnp_answer *answer,
                                 hn_error *error)
{
    hn_field fields[8] = {INT("number", number), TEXT("prompt", sample->prompt), TEXT("answer", answer->text.text),
                          TEXT("finish", hn_finish_name(answer->finish)), INT("tokens", answer->tokens)};
    size_t count = 5;
    if (sample->reference) {
        fields[count++] = (hn_field)TEXT("reference", sample->reference);
        fields[count++] = (hn_field)TEXT("row", sample->row);
    }
    fields[count++] = (hn_field)FLOAT("time", hnp_trainer_elapsed(trainer));
    return emit(trainer, "sample", fields, count, error);
}

hn_status hnp_trainer_log_bad_step(hn_trainer *trainer, int64_t step, const char *reason, hn_error *error)
{
    const hn_field fields[] = {TEXT("reason", reason), INT("in_a_row", trainer->progress.bad_in_a_row),
                               FLOAT("time", hnp_trainer_elapsed(trainer))};
    return emit_at(trainer, step, "bad_step", fields, sizeof fields / sizeof *fields, error);
}

hn_status hnp_trainer_log_spike(hn_trainer *trainer, const hn_step_result *result, const char *reason, hn_error *error)
{
    const hn_field fields[] = {TEXT("reason", reason), FLOAT("loss", result->loss_sum / (double)result->count),
                               FLOAT("grad_norm", result->norm), INT("in_a_row", trainer->progress.spikes_in_a_row),
                               FLOAT("time", hnp_trainer_elapsed(trainer))};
    return emit_at(trainer, result->step, "spike", fields, sizeof fields / sizeof *fields, error);
}

hn_status hnp_trainer_log_text(hn_trainer *trainer, const char *kind, const char *name, const char *text,
                               hn_error *error)
{
    const hn_field fields[] = {TEXT(name, text), FLOAT("time", hnp_trainer_elapsed(trainer))};
    return emit(trainer, kind, fields, 2, error);
}

hn_status hnp_trainer_warn(hn_trainer *trainer, int64_t step, const char *message, hn_error *error)
{
    const hn_field fields[] = {TEXT("message", message), FLOAT("time", hnp_trainer_elapsed(trainer))};
    return emit_at(trainer, step, "warning", fields, 2, error);
}

hn_status hnp_trainer_show_save(hn_trainer *trainer, const hn_checkpoint_outcome *outcome, hn_error *error)
{
    const hn_field fields[] = {INT("bytes", (int64_t)trainer->saving.bytes), FLOAT("seconds", outcome->seconds),
                               FLOAT("held", trainer->saving.last_held), FLOAT("time", hnp_trainer_elapsed(trainer))};
    hn_event event = {.kind = "checkpoint", .step = outcome->step, .fields = fields, .count = sizeof fields / sizeof *fields};
    return hn_sinks_show(&trainer->sinks, &event, error);
}

void hnp_trainer_print_profile(const hn_trainer *trainer)
{
    const hn_profile *profile = &trainer->profile;
    hn_operation order[HN_OPERATIONS];
    int count = hn_profile_order(profile, order);
    double total = hn_clock() - trainer->started, seen = 0;
    hn_strbuf text;
    hn_strbuf_init(&text);
    hn_strbuf_printf(&text, "%-24s %9s %9s %7s %9s\n", "operation", "calls", "seconds", "share", "GFLOP/s");
    for (int i = 0; i < count; i++) {
        double seconds = profile->operation[order[i]].seconds, flop = profile->operation[order[i]].flop;
        hn_strbuf_printf(&text, "%-24s %9lld %9.3f %6.1f%%", hn_operation_name(order[i]),
                         (long long)profile->operation[order[i]].calls, seconds, 100 * seconds / total);
        if (flop > 0) hn_strbuf_printf(&text, " %9.1f", 1e-9 * flop / seconds);
        hn_strbuf_putc(&text, '\n');
        seen += seconds;
    }
    hn_strbuf_printf(&text, "%-24s %9s %9.3f %6.1f%%", "everything else", "", total - seen, 100 * (total - seen) / total);
    const hnp_saving *saving = &trainer->saving;
    if (saving->saves)
        hn_strbuf_printf(&text, "\nsaves: %lld, which held training up %.1f ms each (%.1f at most) and took %.1f ms each to write",
                         (long long)saving->saves, 1e3 * saving->held / (double)saving->saves, 1e3 * saving->most_held,
                         1e3 * saving->written / (double)saving->saves);
    if (!text.failed) trainer->options->notice(text.text);
    hn_strbuf_close(&text);
}
