/* See prompts.h. A text is put together and encoded whole, once for each option: what a model was trained on has no seam between a
 * question and its answer, and of SentencePiece's tokenizers a text that is encoded apart gets another first token. An option's
 * ids are those behind what all options of the question have in common with the context encoded alone:
 *
 *     context alone    <s> Question : What ? Answer :
 *     with option A    <s> Question : What ? Answer : | ▁A            the option's ids are behind the bar
 *     with option B    <s> Question : What ? Answer : | ▁B
 */
#include "eval/prompts.h"

#include <string.h>

#include "core/mem.h"
#include "core/strbuf.h"

static const char between[] = "\n\n"; /* examples */

typedef struct writer {
    const hn_prompts_options *options;
    const char *heading, *prompt, *space; /* space: before an answer */
    const hn_tokenizer *tokenizer;
    hn_encoding encoding;
    hn_strbuf text;
    int32_t *ids;                        /* of the context alone, then of the text with each option */
    size_t count, capacity;
} writer;

static const char *const names[] = {"question", "options", "subject"};

/* The number of the {name} that begins here, -1: a plain brace, -2: a name there is not. */
static int name_at(const char *text, size_t *length)
{
    const char *end = strchr(text, '}');
    size_t size = end ? strspn(text + 1, "abcdefghijklmnopqrstuvwxyz_") : 0;
    if (!size || text + 1 + size != end) return -1;
    *length = size + 2;
    for (int i = 0; i < 3; i++)
        if (strlen(names[i]) == size && !memcmp(names[i], text + 1, size)) return i;
    return -2;
}

static hn_status check_format(const char *text, const char *key, hn_error *error)
{
    size_t length;
    for (; *text; text++)
        if (*text == '{' && name_at(text, &length) == -2)
            return hn_fail(error, HN_ERR_USAGE, "%s: expected {question}, {options} or {subject}, got %.*s", key, (int)length, text);
    return HN_OK;
}

static void put_subject(hn_strbuf *out, const char *subject)
{
    for (; *subject; subject++) hn_strbuf_putc(out, *subject == '_' ? ' ' : *subject);
}

static void put_format(hn_strbuf *out, const char *format, const hn_question *question)
{
    while (*format) {
        size_t length = 1;
        int name = *format == '{' ? name_at(format, &length) : -1;
        if (name < 0) hn_strbuf_add(out, format, length = 1);
        if (name == 0) hn_strbuf_puts(out, question->text);
        for (size_t i = 0; name == 1 && i < question->option_count; i++)
            hn_strbuf_printf(out, "%c. %s\n", (int)('A' + i), question->options[i]);
        if (name == 2) put_subject(out, question->subject);
        format += length;
    }
}

static void put_answer(const writer *w, hn_strbuf *out, const hn_question *question, size_t option)
{
    hn_strbuf_puts(out, w->space);
    if (w->options->kind == HN_ANSWER_LETTERS) hn_strbuf_putc(out, (char)('A' + option));
    else hn_strbuf_puts(out, question->options[option]);
}

/* Heading, examples and question into `text`. */
static void write_context(writer *w, const hn_question *question, const hn_question *examples, int32_t shots)
{
    hn_strbuf_reset(&w->text);
    put_format(&w->text, w->heading, question);
    for (int32_t i = 0; i < shots; i++) {
        put_format(&w->text, w->prompt, &examples[i]);
        put_answer(w, &w->text, &examples[i], (size_t)examples[i].answer);
        hn_strbuf_puts(&w->text, between);
    }
    put_format(&w->text, w->prompt, question);
}

static bool add_id(writer *w, int32_t id)
{
    void *ids = w->ids;
    if (!hn_grow(&ids, &w->capacity, w->count + 1, sizeof *w->ids)) return false;
    w->ids = ids;
    w->ids[w->count++] = id;
    return true;
}

/* Appends the ids of `text`, behind what the tokenizer puts before any text. */
static hn_status encode(writer *w, hn_error *error)
{
    if (w->text.failed) return hn_fail(error, HN_ERR_MEMORY, "out of memory for a prompt");
    hn_status status =
        hn_tokenizer_encode(w->tokenizer, &w->encoding, w->text.text, w->text.length, NULL, 0, false, 0, error);
    bool done = true;
    int32_t lead;
    for (size_t i = 0; done && (lead = hn_tokenizer_lead(w->tokenizer, i)) >= 0; i++) done = add_id(w, lead);
    for (int32_t i = 0; status == HN_OK && done && i < w->encoding.count; i++) done = add_id(w, w->encoding.ids[i]);
    return status != HN_OK || done ? status : hn_fail(error, HN_ERR_MEMORY, "out of memory for a prompt");
}

static size_t common(const int32_t *a, size_t a_count, const int32_t *b, size_t b_count)
{
    size_t i = 0;
    while (i < a_count && i < b_count && a[i] == b[i]) i++;
    return i;
}

/* The item out of the writer's ids: ends[0] of the context alone, ends[1 + k] with option k. */
static hn_status make_item(hn_prompt_item *item, const writer *w, const size_t *ends, hn_error *error)
{
    const hn_question *question = item->question;
    size_t context = ends[0], total = 0, n = question->option_count;
    for (size_t k = 0; k < n; k++) {
        size_t count = ends[k + 1] - ends[k], same = common(w->ids, ends[0], w->ids + ends[k], count);
        if (same == count && count) same--; /* an option has one token at least */
        if (same < context) context = same;
        total += count;
    }
    if (!context)
        return hn_fail(error, HN_ERR_USAGE, "%s:%lld: expected a prompt of at least one token before the answer, got none",
                       question->path, (long long)question->line);
    total -= (n - 1) * context;
    item->ids = hn_calloc(total, sizeof *item->ids);
    item->end = hn_calloc(n, sizeof *item->end);
    if (!item->ids || !item->end)
        return hn_fail(error, HN_ERR_MEMORY, "%s:%lld: out of memory", question->path, (long long)question->line);
    memcpy(item->ids, w->ids + ends[0], context * sizeof *item->ids);
    item->context = (int32_t)context;
    for (size_t k = 0, at = context; k < n; k++) {
        size_t own = ends[k + 1] - ends[k] - context;
        memcpy(item->ids + at, w->ids + ends[k] + context, own * sizeof *item->ids);
        item->end[k] = (int32_t)(at += own);
    }
    return HN_OK;
}

static int32_t longest_of(const hn_prompt_item *item)
{
    int32_t longest = 0, count;
    for (size_t k = 0; k < item->question->option_count; k++) {
        hn_prompt_option(item, k, &count);
        if (item->context + count > longest) longest = item->context + count;
    }
    return longest;
}

static void close_item(hn_prompt_item *item)
{
    hn_free(item->ids);
    hn_free(item->end);
    item->ids = item->end = NULL;
}

static hn_status ask(writer *w, hn_prompt_item *item, const hn_question *examples, hn_error *error)
{
    size_t ends[HN_MAX_OPTIONS + 1], context_length;
    w->count = 0;
    write_context(w, item->question, examples, item->shots);
    context_length = w->text.length;
    hn_status status = encode(w, error);
    ends[0] = w->count;
    for (size_t k = 0; status == HN_OK && k < item->question->option_count; k++) {
        w->text.length = context_length;
        put_answer(w, &w->text, item->question, k);
        status = encode(w, error);
        ends[k + 1] = w->count;
    }
    return status == HN_OK ? make_item(item, w, ends, error) : status;
}

/* With as many examples as fit. */
static hn_status ask_within(writer *w, hn_prompt_item *item, const hn_question *examples, int32_t *longest, hn_error *error)
{
    int32_t positions = w->options->positions;
    for (;;) {
        hn_status status = ask(w, item, examples, error);
        if (status != HN_OK) return status;
        *longest = longest_of(item);
        if (*longest <= positions) return HN_OK;
        if (!item->shots)
            return hn_fail(error, HN_ERR_USAGE, "%s:%lld: the question has %d tokens, and the model %d positions",
                           item->question->path, (long long)item->question->line, *longest, positions);
        close_item(item);
        item->shots--;
    }
}

/* The first example of the subject, and how many there are. */
static const hn_question *find_examples(const hn_questions *examples, const char *subject, int64_t *count)
{
    size_t first = 0, end;
    while (first < examples->count && strcmp(examples->items[first].subject, subject)) first++;
    for (end = first; end < examples->count && !strcmp(examples->items[end].subject, subject); end++)
        ;
    *count = (int64_t)(end - first);
    return examples->items + first;
}

static hn_status ask_all(writer *w, hn_prompts *out, const hn_questions *questions, const hn_questions *examples, hn_error *error)
{
    const hn_question *solved = NULL, *before = NULL;
    int64_t there = 0;
    for (size_t i = 0; i < questions->count; i += (size_t)w->options->every) {
        const hn_question *question = &questions->items[i];
        if (examples && (!before || strcmp(before->subject, question->subject)))
            solved = find_examples(examples, question->subject, &there);
        before = question;
        if (examples && w->options->shots && !there)
            return hn_fail(error, HN_ERR_USAGE, "choices.examples: expected examples of the subject \"%.100s\" of %s, got none",
                           question->subject, question->path);
        hn_prompt_item *item = &out->items[out->count++];
        int32_t longest = 0;
        *item = (hn_prompt_item){.question = question,
                                 .shots = (int32_t)(there < w->options->shots ? there : w->options->shots)};
        hn_status status = ask_within(w, item, solved, &longest, error);
        if (status != HN_OK) return status;
        if (longest > out->longest) out->longest = longest;
    }
    return HN_OK;
}

hn_status hn_prompts_open(hn_prompts *out, const hn_questions *questions, const hn_questions *examples, const hn_tokenizer *tokenizer,
                          const hn_prompts_options *options, hn_error *error)
{
    bool letters = options->kind == HN_ANSWER_LETTERS;
    writer w = {.options = options, .tokenizer = tokenizer, .heading = options->heading, .prompt = options->prompt};
    if (!w.heading) w.heading = letters ? "The following are multiple choice questions (with answers) about {subject}.\n\n" : "";
    if (!w.prompt) w.prompt = letters ? "{question}\n{options}Answer:" : "Question: {question}\nAnswer:";
    size_t length = strlen(w.prompt);
    w.space = length && strchr(" \n\t", w.prompt[length - 1]) ? "" : " ";
    hn_status status = check_format(w.heading, "choices.heading", error);
    if (status == HN_OK) status = check_format(w.prompt, "choices.prompt", error);
    if (status != HN_OK) return status;
    hn_prompts prompts = {.items = hn_calloc(questions->count, sizeof *prompts.items)};
    if (!prompts.items) return hn_fail(error, HN_ERR_MEMORY, "out of memory for %zu prompts", questions->count);
    hn_encoding_init(&w.encoding);
    hn_strbuf_init(&w.text);
    status = ask_all(&w, &prompts, questions, examples, error);
    hn_encoding_close(&w.encoding);
    hn_strbuf_close(&w.text);
    hn_free(w.ids);
    if (status == HN_OK) *out = prompts;
    else hn_prompts_close(&prompts);
    return status;
}

void hn_prompts_close(hn_prompts *prompts)
{
    for (size_t i = 0; i < prompts->count; i++) close_item(&prompts->items[i]);
    hn_free(prompts->items);
    *prompts = (hn_prompts){0};
}
