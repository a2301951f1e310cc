/* See samples.h. A prompt is cut out of an encoded row, so that the model is asked with the very ids that it is trained on:
 *
 *     sft   |<- prompt ->|<- reference ->| ...          up to the first token that is trained on: its first answer's
 *     lm    |<- 32 ->|<- eval.sample_tokens ->| ...     or half of a row that is shorter than twice that
 *
 * What a person is shown of a question is without the template's words around it. Those are what two conversations that differ
 * in one letter have in common, in front of it and behind it. */
#include "train/samples.h"

#include <string.h>

#include "core/mem.h"
#include "train/job.h"

enum { PROMPT = 32 /* tokens of a text */, PIECE = 256 /* tokens of a prompt in one forward */ };
#define REPLACEMENT "\xEF\xBF\xBD"

/* While the samples of a job are made. */
typedef struct maker {
    const hn_job *job;
    hn_samples *out;
    hn_batch_buffer buffer; /* one row */
    hn_dialog dialog;
    hn_encoding encoding;
    hn_strbuf text, other;
    char *head, *tail; /* the template's words around a question; NULL: none */
} maker;

static hn_status no_memory(hn_error *error)
{
    return hn_fail(error, HN_ERR_MEMORY, "out of memory for eval.samples");
}

static hn_status copy_text(char **out, const char *text, size_t length, hn_error *error)
{
    *out = hn_strndup(text, length);
    return *out ? HN_OK : no_memory(error);
}

static hn_status decode(const maker *m, hn_strbuf *out, const int32_t *ids, int32_t count, hn_error *error)
{
    hn_strbuf_reset(out);
    hn_status status = hn_tokenizer_decode(m->job->source->tokenizer, out, ids, (size_t)count, true, error);
    return status == HN_OK && out->failed ? no_memory(error) : status;
}

/* The ids of a question into m->dialog. */
static hn_status ask(maker *m, const char *text, hn_error *error)
{
    hn_message message = {.role = HN_ROLE_USER, .text = text, .length = strlen(text)};
    HN_ASSERT(!hn_template_refusal(m->job->chat, &message, 1)); /* every template takes a user's turn */
    return hn_template_encode(m->job->chat, &m->dialog, &message, 1, true, error);
}

/* The text of a question into `out`. */
static hn_status show_question(maker *m, hn_strbuf *out, const char *text, hn_error *error)
{
    hn_status status = ask(m, text, error);
    return status == HN_OK ? decode(m, out, m->dialog.ids, m->dialog.count, error) : status;
}

static hn_status find_frame(maker *m, hn_error *error)
{
    hn_status status = show_question(m, &m->text, "a", error);
    if (status == HN_OK) status = show_question(m, &m->other, "b", error);
    if (status != HN_OK) return status;
    const char *a = m->text.text, *b = m->other.text;
    size_t head = 0, tail = 0, length = m->text.length, most = length < m->other.length ? length : m->other.length;
    while (head < most && a[head] == b[head]) head++;
    while (tail < most - head && a[length - tail - 1] == b[m->other.length - tail - 1]) tail++;
    m->head = hn_strndup(a, head);
    m->tail = hn_strndup(a + length - tail, tail);
    return m->head && m->tail ? HN_OK : no_memory(error);
}

/* The words of m->text that are the question. */
static const char *question(const maker *m, size_t *length)
{
    const char *from = m->text.text;
    size_t head = m->head ? strlen(m->head) : 0, tail = m->tail ? strlen(m->tail) : 0;
    *length = m->text.length;
    if (*length >= tail && tail && !memcmp(from + *length - tail, m->tail, tail)) *length -= tail;
    if (*length < head || !head || memcmp(from, m->head, head)) return from;
    *length -= head;
    return from + head;
}

static hn_status take_ids(hn_sample *to, const int32_t *ids, int32_t count, hn_error *error)
{
    to->count = count;
    to->ids = hn_memdup(ids, (size_t)count * sizeof *ids);
    return to->ids ? HN_OK : no_memory(error);
}

/* Where the prompt of the row in the buffer ends, and what stands in the data behind it. */
static void cut_answer(const hn_batch *row, int32_t *prompt, int32_t *end)
{
    *prompt = 1;
    while (row->target[*prompt - 1] == HN_NO_TARGET) ++*prompt;
    *end = *prompt;
    while (*end < row->tokens && row->target[*end - 1] != HN_NO_TARGET) ++*end;
}

/* The same of a text. A prompt ends with a whole character, which may take three tokens more. */
static hn_status cut_text(maker *m, int32_t *prompt, int32_t *end, hn_error *error)
{
    const hn_batch *row = &m->buffer.batch;
    size_t mark = strlen(REPLACEMENT);
    int32_t half = row->tokens / 2, first = half < PROMPT ? half : PROMPT, most = (int32_t)m->job->config->eval.sample_tokens;
    hn_status status = HN_OK;
    *prompt = first < 1 ? 1 : first;
    for (int more = 0; more < 4; more++) {
        status = decode(m, &m->text, row->token, *prompt, error);
        bool whole = m->text.length < mark || memcmp(m->text.text + m->text.length - mark, REPLACEMENT, mark) != 0;
        if (status != HN_OK || whole || *prompt + 1 >= row->tokens) break;
        ++*prompt;
    }
    *end = row->tokens - *prompt < most ? row->tokens : *prompt + most;
    return status;
}

/* The text of [prompt, end): an answer's by itself, of a text what it adds to the prompt's. m->text has the prompt's. */
static hn_status take_reference(maker *m, hn_sample *to, int32_t prompt, int32_t end, hn_error *error)
{
    const int32_t *ids = m->buffer.batch.token;
    int32_t from = m->job->chat ? prompt : 0;
    size_t known = m->job->chat ? 0 : m->text.length;
    hn_status status = decode(m, &m->other, ids + from, end - from, error);
    if (status != HN_OK) return status;
    if (known > m->other.length) known = m->other.length;
    return copy_text(&to->reference, m->other.text + known, m->other.length - known, error);
}

static hn_status take_row(maker *m, hn_sample *to, int64_t number, hn_error *error)
{
    const hn_dataset *dev = m->job->dev[0].dataset;
    const hn_batch *row = &m->buffer.batch;
    const char *path, *text;
    uint32_t example = (uint32_t)number;
    int32_t prompt, end;
    size_t length;
    hn_status status = hn_dataset_fill(dev, &m->buffer, &example, 1, error);
    if (status != HN_OK) return status;
    if (m->job->chat) cut_answer(row, &prompt, &end);
    else status = cut_text(m, &prompt, &end, error);
    if (status == HN_OK) status = take_ids(to, row->token, prompt, error);
    if (status == HN_OK) status = decode(m, &m->text, row->token, prompt, error);
    if (status == HN_OK) status = take_reference(m, to, prompt, end, error);
    if (status != HN_OK) return status;
    text = question(m, &length);
    status = copy_text(&to->prompt, text, length, error);
    hn_strbuf_reset(&m->other);
    int64_t line = hn_dataset_line(dev, number, &path);
    hn_strbuf_printf(&m->other, "%s:%lld", path, (long long)line);
    if (status == HN_OK && m->other.failed) status = no_memory(error);
    return status == HN_OK ? copy_text(&to->row, m->other.text, m->other.length, error) : status;
}

/* A text that the model goes on from: with what the tokenizer puts before it, and not what it puts behind. */
static hn_status take_beginning(maker *m, hn_sample *to, const char *text, hn_error *error)
{
    const hn_tokenizer *tokenizer = m->job->source->tokenizer;
    int32_t lead = 0;
    hn_status status = hn_tokenizer_encode(tokenizer, &m->encoding, text, strlen(text), NULL, 0, false, 0, error);
    if (status != HN_OK) return status;
    while (hn_tokenizer_lead(tokenizer, (size_t)lead) >= 0) lead++;
    to->count = lead + m->encoding.count;
    to->ids = hn_calloc((size_t)to->count, sizeof *to->ids);
    if (!to->ids) return no_memory(error);
    for (int32_t i = 0; i < to->count; i++)
        to->ids[i] = i < lead ? hn_tokenizer_lead(tokenizer, (size_t)i) : m->encoding.ids[i - lead];
    return HN_OK;
}

static hn_status take_own(maker *m, hn_sample *to, size_t number, hn_error *error)
{
    const char *text = m->job->config->eval.sample_prompts.items[number];
    int64_t positions = m->job->model.positions;
    hn_status status;
    if (m->job->chat) {
        status = ask(m, text, error);
        if (status == HN_OK) status = take_ids(to, m->dialog.ids, m->dialog.count, error);
    } else {
        status = take_beginning(m, to, text, error);
    }
    if (status != HN_OK) return status;
    if (!*text || !to->count)
        return hn_fail(error, HN_ERR_USAGE, "eval.sample_prompts: expected texts, got an empty one as number %zu", number + 1);
    if (to->count > positions)
        return hn_fail(error, HN_ERR_USAGE, "eval.sample_prompts: number %zu has %d tokens, and %s has %lld positions", number + 1,
                       to->count, m->job->source->path, (long long)positions);
    return copy_text(&to->prompt, text, strlen(text), error);
}

/* The dev set's rows are taken in its order, the first among them. */
static hn_status take_all(maker *m, size_t count, hn_error *error)
{
    const hn_dataset *dev = m->job->dev[0].dataset;
    bool own = m->job->config->eval.sample_prompts.count > 0;
    hn_status status = hn_batch_buffer_init(&m->buffer, hn_dataset_longest(dev), 1, error);
    if (status == HN_OK && m->job->chat) status = find_frame(m, error);
    for (size_t i = 0; status == HN_OK && i < count; i++) {
        hn_sample *to = &m->out->items[m->out->count++];
        status = own ? take_own(m, to, i, error)
                     : take_row(m, to, (int64_t)i * hn_dataset_count(dev) / (int64_t)count, error);
    }
    return status;
}

/* Side by side as far as an evaluation's batches hold them, and no longer than the model reads. */
static void size_generator(hn_samples *samples, hn_job *job)
{
    hn_generator_options *options = &samples->generator;
    int64_t positions = job->model.positions, wanted;
    int32_t longest = 0, side = job->evaluation.examples < HN_GENERATOR_SEQUENCES ? job->evaluation.examples : HN_GENERATOR_SEQUENCES;
    for (size_t i = 0; i < samples->count; i++)
        if (samples->items[i].count > longest) longest = samples->items[i].count;
    wanted = longest + job->config->eval.sample_tokens;
    options->capacity = (int32_t)(wanted < positions ? wanted : positions);
    options->sequences = samples->count < (size_t)side ? (int32_t)samples->count : side;
    options->tokens = job->evaluation.tokens < PIECE ? job->evaluation.tokens : PIECE;
    if (options->capacity > job->evaluation.longest) job->evaluation.longest = options->capacity;
}

static hn_status check(const hn_job *job, const char *key, hn_error *error)
{
    int kind = job->config->task.kind;
    bool own = job->config->eval.sample_prompts.count > 0;
    if (kind != HN_TASK_LM && kind != HN_TASK_SFT)
        return hn_fail(error, HN_ERR_USAGE, "%s: this task.kind writes no text; expected lm or sft with it, or %s", key,
                       own ? "an empty list" : "0");
    if (!job->dev_count)
        return hn_fail(error, HN_ERR_USAGE, "%s: samples are written when the dev sets are evaluated; expected data.dev, got none", key);
    if (!own && job->chat && hn_template_loss(job->chat) != HN_LOSS_ANSWERS)
        return hn_fail(error, HN_ERR_USAGE, "%s: where an answer begins is told by what is trained on; expected data.loss=assistant with "
                       "it, or questions of your own in eval.sample_prompts", key);
    return HN_OK;
}

hn_status hn_samples_open(hn_samples *out, hn_job *job, hn_error *error)
{
    const hn_list *own = &job->config->eval.sample_prompts;
    maker m = {.job = job, .out = out};
    *out = (hn_samples){0};
    if (!own->count && !job->config->eval.samples) return HN_OK;
    hn_status status = check(job, own->count ? "eval.sample_prompts" : "eval.samples", error);
    if (status != HN_OK) return status;
    size_t rows = (size_t)hn_dataset_count(job->dev[0].dataset), count = (size_t)job->config->eval.samples;
    count = own->count ? own->count : count < rows ? count : rows;
    hn_dialog_init(&m.dialog);
    hn_encoding_init(&m.encoding);
    hn_strbuf_init(&m.text);
    hn_strbuf_init(&m.other);
    out->items = hn_calloc(count, sizeof *out->items);
    status = out->items ? take_all(&m, count, error) : no_memory(error);
    if (status == HN_OK) status = hn_source_stops(&out->stop_ids, &out->stop_id_count, job->source, job->chat, error);
    if (status == HN_OK) size_generator(out, job);
    hn_free(m.head);
    hn_free(m.tail);
    hn_strbuf_close(&m.other);
    hn_strbuf_close(&m.text);
    hn_encoding_close(&m.encoding);
    hn_dialog_close(&m.dialog);
    hn_batch_buffer_close(&m.buffer);
    return status;
}

void hn_samples_close(hn_samples *samples)
{
    for (size_t i = 0; i < samples->count; i++) {
        hn_free(samples->items[i].ids);
        hn_free(samples->items[i].prompt);
        hn_free(samples->items[i].reference);
        hn_free(samples->items[i].row);
    }
    hn_free(samples->items);
    hn_free(samples->stop_ids);
    *samples = (hn_samples){0};
}
