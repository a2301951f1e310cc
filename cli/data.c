/* hone data */
#include <stdio.h>

#include "cli/cli.h"
#include "core/mem.h"
#include "train/job.h"

enum { SHOWN = 3 };

static void print_report(const char *name, const hn_data_report *report)
{
    printf("%s: %lld examples of %lld rows, %lld tokens, longest %d, mean %.1f\n", name, (long long)report->examples,
           (long long)report->rows, (long long)report->tokens, report->longest,
           report->examples ? (double)report->tokens / (double)report->examples : 0);
    if (report->truncated)
        printf("  %lld truncated to data.max_tokens (%.1f %%)\n", (long long)report->truncated,
               100.0 * (double)report->truncated / (double)report->examples);
    if (report->unlabeled) printf("  %lld rows without a label left out\n", (long long)report->unlabeled);
    for (int kind = 0; kind < HN_BAD_KINDS; kind++)
        if (report->bad.count[kind])
            printf("  %lld refused: %s; first: %s\n", (long long)report->bad.count[kind], hn_bad_kind_name((hn_bad_kind)kind),
                   report->bad.first[kind]);
    if (report->note[0]) printf("  %s\n", report->note);
}

static hn_status print_survey(const hn_job *job, const hn_dataset *dataset, hn_error *error)
{
    hn_data_survey survey;
    int labels = job->labels && job->model.head != HN_HEAD_TAGS ? job->model.labels : 0;
    int64_t *counts = labels > 1 ? hn_calloc((size_t)labels, sizeof *counts) : NULL;
    if (labels > 1 && !counts) return hn_fail(error, HN_ERR_MEMORY, "out of memory for label counts");
    hn_status status = hn_dataset_survey(dataset, &survey, counts, labels, error);
    for (int k = 0; status == HN_OK && counts && k < labels; k++)
        printf("  label %-20s %9lld\n", hn_labels_name(job->labels, k), (long long)counts[k]);
    if (status == HN_OK) {
        int64_t most = 1;
        for (int b = 0; b < HN_SURVEY_BINS; b++)
            if (survey.bins[b] > most) most = survey.bins[b];
        for (int b = 0; b < HN_SURVEY_BINS; b++) {
            if (!survey.bins[b]) continue;
            printf("  %4d to %4d tokens %9lld ", b * survey.bin_width + 1, (b + 1) * survey.bin_width, (long long)survey.bins[b]);
            for (int64_t bar = 0; bar < survey.bins[b] * 40 / most; bar++) putchar('#');
            putchar('\n');
        }
        if (!job->labels)
            printf("  %lld targets (%.1f %% of the tokens)\n", (long long)survey.targets,
                   100.0 * (double)survey.targets / (double)hn_dataset_tokens(dataset));
        printf("  %lld duplicates", (long long)survey.duplicates);
        if (survey.conflicts) printf(", %lld of them with another label", (long long)survey.conflicts);
        putchar('\n');
    }
    hn_free(counts);
    return status;
}

/* Rows of a dev set that are trained on flatter what is measured there. */
static hn_status print_overlap(const hn_job *job, const hn_dataset *dev, hn_error *error)
{
    int64_t count, first;
    hn_status status = hn_dataset_overlap(dev, job->train, &count, &first, error);
    if (status != HN_OK) return status;
    printf("  %lld also in data.train", (long long)count);
    if (count) {
        const char *path;
        int64_t line = hn_dataset_line(dev, first, &path);
        printf("; first: %s:%lld", path, (long long)line);
    }
    putchar('\n');
    return HN_OK;
}

/* Text of strangers: lines are indented, what could drive a terminal is shown as its number. */
static void print_text(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i], next = i + 1 < length ? (unsigned char)text[i + 1] : 0;
        bool second = c == 0xc2 && next >= 0x80 && next < 0xa0; /* U+0080 to U+009F */
        if (c == '\n') fputs("\n  ", stdout);
        else if ((c < 0x20 && c != '\t') || c == 0x7f) printf("\\x%02x", c);
        else if (second) printf("\\x%02x", next);
        else putchar(c);
        i += second;
    }
}

/* An example as text, with what is predicted in colour, else in brackets. */
static hn_status print_targets(const hn_job *job, const hn_batch *batch, hn_error *error)
{
    bool colour = hn_cli_colour(1);
    const char *begin = colour ? "\033[1;32m" : "[", *end = colour ? "\033[0m" : "]";
    hn_status status = HN_OK;
    hn_strbuf text;
    hn_strbuf_init(&text);
    for (int32_t t = 0, next; status == HN_OK && t < batch->tokens; t = next) {
        bool target = t && batch->target[t - 1] != HN_NO_TARGET;
        for (next = t + 1; next < batch->tokens && (batch->target[next - 1] != HN_NO_TARGET) == target; next++) {
        }
        hn_strbuf_reset(&text);
        status = hn_tokenizer_decode(job->source->tokenizer, &text, batch->token + t, (size_t)(next - t), false, error);
        if (target) fputs(begin, stdout);
        if (status == HN_OK) print_text(text.text, text.length);
        if (target) fputs(end, stdout);
    }
    hn_strbuf_close(&text);
    putchar('\n');
    return status;
}

static void print_token(const hn_job *job, int32_t id)
{
    const char *token = hn_tokenizer_token(job->source->tokenizer, id);
    printf(" %s", token ? token : "?");
}

/* The first examples as the model sees them: texts with their targets, or tokens one by one. */
static hn_status print_examples(const hn_job *job, hn_error *error)
{
    hn_batch_buffer buffer;
    hn_status status = hn_batch_buffer_init(&buffer, hn_dataset_longest(job->train), 1, error);
    for (uint32_t e = 0; status == HN_OK && e < SHOWN && e < hn_dataset_count(job->train); e++) {
        status = hn_dataset_fill(job->train, &buffer, &e, 1, error);
        if (status != HN_OK) break;
        const char *path;
        int64_t line = hn_dataset_line(job->train, e, &path);
        printf("\n%s:%lld ", path, (long long)line);
        if (job->source->config.head == HN_HEAD_LM) {
            printf("(%lld of %d tokens are targets)\n  ", (long long)hn_dataset_targets(job->train, &e, 1, &buffer.draw),
                   buffer.batch.tokens);
            status = print_targets(job, &buffer.batch, error);
            continue;
        }
        if (buffer.batch.target)
            printf("(%lld of %d tokens are predicted, those in brackets)\n ",
                   (long long)hn_dataset_targets(job->train, &e, 1, &buffer.draw), buffer.batch.tokens);
        else if (job->model.labels > 1) printf("-> %s\n ", hn_labels_name(job->labels, buffer.batch.label[0]));
        else printf("-> %g\n ", (double)buffer.batch.value[0]);
        for (int32_t t = 0; t < buffer.batch.tokens; t++) {
            print_token(job, buffer.batch.token[t]);
            if (!buffer.batch.target || buffer.batch.target[t] == HN_NO_TARGET) continue;
            printf(" (");
            if (job->labels) printf(" %s", hn_labels_name(job->labels, buffer.batch.target[t]));
            else print_token(job, buffer.batch.target[t]);
            printf(" )");
        }
        putchar('\n');
    }
    hn_batch_buffer_close(&buffer);
    return status;
}

int hn_verb_data(int argc, char **argv)
{
    hn_arguments arguments;
    hn_cli_config config;
    hn_error error = {0};
    hn_job *job = NULL;
    hn_cli_tables(&config);
    hn_status status = hn_cli_arguments(&arguments, argc, argv, 1, 1, NULL, &error);
    if (status == HN_OK)
        status = hn_cli_config_load(&config, arguments.words[0], arguments.overrides, arguments.override_count, false, &error);
    if (status == HN_OK) status = hn_job_open(&job, &config.train, &config.data, HN_JOB_ALL, NULL, &error);
    if (status == HN_OK) {
        if (job->chat) printf("template: %s\n", hn_template_name(job->chat));
        print_report("train", hn_dataset_report(job->train));
        status = print_survey(job, job->train, &error);
        for (size_t d = 0; status == HN_OK && d < job->dev_count; d++) {
            putchar('\n');
            print_report(job->dev[d].name, hn_dataset_report(job->dev[d].dataset));
            status = print_survey(job, job->dev[d].dataset, &error);
            if (status == HN_OK) status = print_overlap(job, job->dev[d].dataset, &error);
        }
    }
    if (status == HN_OK) status = print_examples(job, &error);
    hn_job_free(job);
    hn_cli_config_close(&config);
    return status == HN_OK ? HN_EXIT_DONE : hn_cli_fail(&error);
}
