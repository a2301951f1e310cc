/* See zero_shot.h. Rows are read in windows. Every text of a window makes one pair a label; these are a small data set, which the
 * evaluator runs as it runs any other, in batches without padding that know nothing of texts:
 *
 *     pair     (text 0, label 0) (text 0, label 1) (text 1, label 0) (text 1, label 1) ...
 *     logits   [pairs, outputs]
 *
 * Then the window's rows are scored in order. So memory is that of one window. Margins are compared, not scores: near 1 different
 * scores are the same number. */
#include "eval/zero_shot.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "core/mem.h"
#include "core/strbuf.h"
#include "eval/evaluator.h"
#include "eval/log_sum.h"

enum { WINDOW_PAIRS = 1024, WINDOW_BYTES = 1 << 20 };

static const char slot[] = "{}", spaces[] = " \t\r\n\v\f";

/* A row of the window. */
typedef struct waiting {
    size_t text; /* in `texts` */
    const char *path;
    int64_t line;
    int32_t answer;
} waiting;

typedef struct window {
    hn_runner *runner;
    hn_batch_buffer *buffer;
    const hn_tokenizer *tokenizer;
    const hn_zero_shot_options *options;
    hn_zero_shot_report *report;
    hn_reader *reader;
    size_t labels, capacity, count; /* rows: at most, and now */
    bool begun;                     /* a row was read */
    int outputs;
    hn_strbuf sentences; /* of the labels, one behind the other */
    size_t *sentence;    /* [labels] where they begin */
    hn_strbuf texts;
    waiting *rows;             /* [capacity] */
    const char **text, **pair; /* [capacity * labels] */
    float *logits;             /* [capacity * labels, outputs] */
    float *margin;             /* [labels] */
    double *score;             /* [labels] */
} window;

/* Checks */

hn_status hn_zero_shot_labels(hn_labels **out, const hn_list *names, const hn_map *map, bool multi_label, hn_error *error)
{
    hn_labels_options options = {.names = names->items, .count = (int32_t)names->count, .map = map, .map_key = "zero_shot.label_map"};
    if (names->count < 2 && !(multi_label && names->count))
        return hn_fail(error, HN_ERR_USAGE, "zero_shot.labels: expected two labels or more (one alone with zero_shot.multi_label=true), got %zu",
                       names->count);
    if (names->count > HN_ZERO_SHOT_LABELS)
        return hn_fail(error, HN_ERR_USAGE, "zero_shot.labels: expected at most %d labels, got %zu", HN_ZERO_SHOT_LABELS, names->count);
    for (size_t i = 0; i < names->count; i++) {
        const char *name = names->items[i];
        if (!*name || strchr(spaces, *name) || strchr(spaces, name[strlen(name) - 1]))
            return hn_fail(error, HN_ERR_USAGE, "zero_shot.labels: expected labels without white space at their ends, got \"%s\" as number %zu",
                           name, i + 1);
        for (size_t k = 0; k < i; k++)
            if (!strcmp(name, names->items[k]))
                return hn_fail(error, HN_ERR_USAGE, "zero_shot.labels: expected every label once, got \"%s\" twice", name);
    }
    return names->count > 1 ? hn_labels_open(out, &options, error) : HN_OK;
}

hn_status hn_zero_shot_check_hypothesis(const char *hypothesis, hn_error *error)
{
    const char *at = strstr(hypothesis, slot);
    if (at && !strstr(at + 1, slot)) return HN_OK;
    return hn_fail(error, HN_ERR_USAGE, "zero_shot.hypothesis: expected a sentence with one {}, where the label goes, got \"%s\"", hypothesis);
}

/* The class that `name` tells, or whose name begins with `start` when there is just one; -1: none. */
static int find_output(const hn_labels *labels, const char *name, const char *start)
{
    int32_t found = -1;
    float value;
    if (name) return hn_labels_resolve(labels, name, &found, &value) == HN_LABEL_CLASS ? found : -1;
    for (int32_t k = 0; k < hn_labels_count(labels); k++) {
        if (strncasecmp(hn_labels_name(labels, k), start, strlen(start))) continue;
        if (found >= 0) return -1;
        found = k;
    }
    return found;
}

static hn_status no_output(const hn_labels *labels, const char *key, const char *name, const char *start, hn_error *error)
{
    char names[500];
    hn_labels_describe(labels, names, sizeof names);
    if (name) return hn_fail(error, HN_ERR_USAGE, "%s: expected a class of the model, %s, got \"%s\"", key, names, name);
    return hn_fail(error, HN_ERR_USAGE, "%s: expected a class of the model, %s, got null, and not just one of them begins with \"%s\"", key,
                   names, start);
}

hn_status hn_zero_shot_outputs(int *entailment, int *contradiction, const hn_labels *labels, const char *entailed,
                               const char *contradicted, bool multi_label, hn_error *error)
{
    *entailment = find_output(labels, entailed, "entail");
    if (*entailment < 0) return no_output(labels, "zero_shot.entailment", entailed, "entail", error);
    if (!multi_label) return HN_OK;
    *contradiction = find_output(labels, contradicted, "contra");
    if (*contradiction < 0 && !contradicted && hn_labels_count(labels) == 2) *contradiction = 1 - *entailment;
    if (*contradiction < 0) return no_output(labels, "zero_shot.contradiction", contradicted, "contra", error);
    if (*contradiction != *entailment) return HN_OK;
    return hn_fail(error, HN_ERR_USAGE, "zero_shot.contradiction: expected another class than zero_shot.entailment, got \"%s\" for both",
                   hn_labels_name(labels, *entailment));
}

/* Reading */

/* The sentences, each of which leaves room for a token of the text. */
static hn_status write_sentences(window *w, hn_error *error)
{
    const char *hypothesis = w->options->hypothesis, *at = strstr(hypothesis, slot);
    hn_encoding encoding;
    hn_status status = HN_OK;
    hn_encoding_init(&encoding);
    for (size_t k = 0; k < w->labels; k++) {
        w->sentence[k] = w->sentences.length;
        hn_strbuf_add(&w->sentences, hypothesis, (size_t)(at - hypothesis));
        hn_strbuf_puts(&w->sentences, w->options->names->items[k]);
        hn_strbuf_add(&w->sentences, at + 2, strlen(at + 2) + 1);
    }
    if (w->sentences.failed) status = hn_fail(error, HN_ERR_MEMORY, "out of memory for %zu labels", w->labels);
    for (size_t k = 0; status == HN_OK && k < w->labels; k++) {
        const char *sentence = w->sentences.text + w->sentence[k];
        hn_error own = {0};
        status = hn_tokenizer_encode_beside(w->tokenizer, &encoding, "", 0, sentence, strlen(sentence), w->options->max_tokens - 1, &own);
        if (status == HN_ERR_USAGE)
            hn_fail(error, status, "zero_shot.labels: \"%.60s\": its sentence leaves no room for a text within %d tokens, which is what "
                    "data.max_tokens and the model's positions allow", w->options->names->items[k], (int)w->options->max_tokens);
        else if (status != HN_OK) hn_fail(error, status, "%s", own.message);
    }
    hn_encoding_close(&encoding);
    return status;
}

/* What the row says it is. *good: it is one of the labels, or says nothing. */
static hn_status read_answer(const window *w, const hn_row *row, int32_t *answer, bool *good, hn_error *error)
{
    hn_zero_shot_report *report = w->report;
    const char *field = w->options->label ? w->options->label : "label";
    char expected[500];
    int32_t label;
    float value;
    *answer = HN_NO_TARGET;
    *good = true;
    if (!report->labelled) return HN_OK;
    hn_label_kind kind = row->label ? hn_labels_resolve(w->options->labels, row->label, &label, &value) : HN_LABEL_BAD;
    if (kind == HN_LABEL_CLASS) *answer = label;
    report->unlabeled += kind == HN_LABEL_NONE;
    *good = kind != HN_LABEL_BAD;
    if (*good) return HN_OK;
    if (!row->label)
        return hn_bad_row(&report->bad, HN_BAD_MISSING, row->path, row->line, error, "field \"%s\": expected a label, as the first row "
                          "has, got no such field", field);
    hn_labels_describe(w->options->labels, expected, sizeof expected);
    return hn_bad_row(&report->bad, HN_BAD_LABEL, row->path, row->line, error, "field \"%s\": expected %s, got \"%.60s\"", field, expected,
                      row->label);
}

/* The next window. *end: there are no more rows behind it. */
static hn_status read_window(window *w, bool *end, hn_error *error)
{
    hn_zero_shot_report *report = w->report;
    w->count = 0;
    hn_strbuf_reset(&w->texts);
    while (w->count < w->capacity && w->texts.length < WINDOW_BYTES) {
        hn_row row;
        bool good;
        waiting *next = &w->rows[w->count];
        hn_status status = hn_reader_next(w->reader, &row, end, error);
        if (status != HN_OK || *end) return status;
        if (!w->begun) report->labelled = row.label != NULL;
        w->begun = true;
        status = read_answer(w, &row, &next->answer, &good, error);
        if (status != HN_OK) return status;
        if (!good) continue;
        next->text = w->texts.length;
        next->path = row.path;
        next->line = row.line;
        hn_strbuf_add(&w->texts, row.text, row.text_length + 1);
        if (w->texts.failed) return hn_fail(error, HN_ERR_MEMORY, "%s:%lld: out of memory", row.path, (long long)row.line);
        report->rows++;
        w->count++;
    }
    return HN_OK;
}

/* Running */

static hn_status keep_logits(void *context, const float *logits, int outputs, const hn_batch *batch, hn_error *error)
{
    window *w = context;
    (void)error;
    for (int32_t i = 0; i < batch->n; i++)
        memcpy(w->logits + (size_t)batch->example[i] * (size_t)outputs, logits + (int64_t)i * outputs, (size_t)outputs * sizeof *logits);
    return HN_OK;
}

/* Logits of all pairs of the window. */
static hn_status run_window(window *w, const volatile int *stop, hn_error *error)
{
    hn_dataset *pairs = NULL;
    hn_metrics ignored = {0};
    hn_texts from = {.texts = w->text, .pairs = w->pair, .count = (int64_t)(w->count * w->labels), .whole_pairs = true};
    for (size_t i = 0; i < w->count; i++)
        for (size_t k = 0; k < w->labels; k++) {
            w->text[i * w->labels + k] = w->texts.text + w->rows[i].text;
            w->pair[i * w->labels + k] = w->sentences.text + w->sentence[k];
        }
    hn_status status = hn_dataset_open_texts(&pairs, &from, w->tokenizer, w->options->max_tokens, w->options->threads, error);
    if (status == HN_OK) status = hn_metrics_init(&ignored, w->outputs, 0, error);
    if (status == HN_OK) status = hn_evaluate(w->runner, w->buffer, pairs, &ignored, keep_logits, w, NULL, stop, error);
    if (status == HN_OK) w->report->cut += hn_dataset_report(pairs)->truncated;
    hn_metrics_close(&ignored);
    hn_dataset_free(pairs);
    return status;
}

/* Scoring */

/* log(1 + exp(x)) */
static double softplus(double x)
{
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static double loss_of(const window *w, int32_t answer)
{
    double loss = 0;
    if (answer == HN_NO_TARGET) return 0;
    if (!w->options->multi_label) return hnp_log_sum(w->margin, (int64_t)w->labels) - w->margin[answer];
    for (size_t k = 0; k < w->labels; k++) loss += softplus((int32_t)k == answer ? -w->margin[k] : w->margin[k]);
    return loss / (double)w->labels;
}

static hn_status tell(window *w, size_t number, hn_zero_shot_callback callback, void *context, hn_error *error)
{
    const hn_zero_shot_options *o = w->options;
    const waiting *from = &w->rows[number];
    hn_zero_shot_row row = {.path = from->path, .line = from->line, .score = w->score, .margin = w->margin, .answer = from->answer};
    for (size_t k = 0; k < w->labels; k++) {
        const float *logits = w->logits + (number * w->labels + k) * (size_t)w->outputs;
        w->margin[k] = logits[o->entailment] - (o->multi_label ? logits[o->contradiction] : 0);
        if (!isfinite(w->margin[k]))
            return hn_fail(error, HN_ERR_NUMERIC, "%s:%lld: expected finite outputs of the model, got %g: its weights are broken or overflow "
                           "in train.precision", from->path, (long long)from->line, (double)w->margin[k]);
        if (w->margin[k] > w->margin[row.chosen]) row.chosen = (int32_t)k;
    }
    double total = hnp_log_sum(w->margin, (int64_t)w->labels);
    for (size_t k = 0; k < w->labels; k++)
        w->score[k] = o->multi_label ? 1 / (1 + exp(-(double)w->margin[k])) : exp(w->margin[k] - total);
    row.loss = loss_of(w, from->answer);
    return callback(context, &row, error);
}

static hn_status open_window(window *w, hn_error *error)
{
    const hn_zero_shot_options *o = w->options;
    hn_reader_options reading = {.paths = o->files->items, .path_count = o->files->count, .format = o->format, .text = o->text,
                                 .label = !o->labels ? NULL : o->label ? o->label : "label", .label_optional = !o->label};
    size_t pairs = w->capacity * w->labels;
    hn_strbuf_init(&w->sentences);
    hn_strbuf_init(&w->texts);
    w->sentence = hn_calloc(w->labels, sizeof *w->sentence);
    w->rows = hn_calloc(w->capacity, sizeof *w->rows);
    w->text = hn_calloc(pairs, sizeof *w->text);
    w->pair = hn_calloc(pairs, sizeof *w->pair);
    w->logits = hn_calloc(pairs * (size_t)w->outputs, sizeof *w->logits);
    w->margin = hn_calloc(w->labels, sizeof *w->margin);
    w->score = hn_calloc(w->labels, sizeof *w->score);
    if (!w->sentence || !w->rows || !w->text || !w->pair || !w->logits || !w->margin || !w->score)
        return hn_fail(error, HN_ERR_MEMORY, "out of memory for %zu pairs at once", pairs);
    hn_status status = write_sentences(w, error);
    return status == HN_OK ? hn_reader_open(&w->reader, &reading, &w->report->bad, error) : status;
}

static void close_window(window *w)
{
    hn_reader_free(w->reader);
    hn_strbuf_close(&w->sentences);
    hn_strbuf_close(&w->texts);
    hn_free(w->sentence);
    hn_free(w->rows);
    hn_free(w->text);
    hn_free(w->pair);
    hn_free(w->logits);
    hn_free(w->margin);
    hn_free(w->score);
}

hn_status hn_zero_shot_run(hn_runner *runner, hn_batch_buffer *buffer, const hn_tokenizer *tokenizer,
                           const hn_zero_shot_options *options, hn_zero_shot_report *report, hn_zero_shot_callback callback,
                           void *context, const volatile int *stop, hn_error *error)
{
    size_t labels = options->names->count;
    window w = {.runner = runner, .buffer = buffer, .tokenizer = tokenizer, .options = options, .report = report, .labels = labels,
                .capacity = labels < WINDOW_PAIRS ? WINDOW_PAIRS / labels : 1, .outputs = hn_model_get_config(runner->model)->labels};
    HN_ASSERT(labels > 0 && labels <= HN_ZERO_SHOT_LABELS && options->max_tokens > 1);
    bool end = false;
    hn_status status = open_window(&w, error);
    while (status == HN_OK && !end) {
        status = read_window(&w, &end, error);
        if (status == HN_OK && w.count) status = run_window(&w, stop, error);
        for (size_t i = 0; status == HN_OK && i < w.count; i++) status = tell(&w, i, callback, context, error);
    }
    if (status == HN_OK && !report->rows)
        status = hn_fail(error, HN_ERR_FORMAT, "zero_shot.files: expected texts, got none (%lld bad rows)",
                         (long long)hn_bad_rows_count(&report->bad));
    close_window(&w);
    return status;
}
