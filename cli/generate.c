/* hone generate */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cli/talk.h"
#include "core/json.h"
#include "core/mem.h"
#include "data/input.h"

enum { BATCH = 8 };
#define FILE_LIMIT ((size_t)256 << 20)

/* A prompt as ids, and what it became. */
typedef struct item {
    int32_t *ids;
    int32_t count;
    hn_strbuf line; /* the finished answer, until its turn to be printed comes */
    bool done;
} item;

typedef struct generating {
    hn_talk talk;
    hn_talk_options options;
    hn_option_texts prompts;
    const char *file;
    int32_t batch;
    bool json, chat;
    item *items;
    size_t count, capacity, printed;
    hn_encoding encoding;
    hn_dialog dialog;
} generating;

static hn_status take_ids(generating *g, const int32_t *ids, int32_t count, hn_error *error)
{
    void *items = g->items;
    if (!hn_grow(&items, &g->capacity, g->count + 1, sizeof *g->items)) goto memory;
    g->items = items;
    item *one = &g->items[g->count];
    *one = (item){.count = count, .ids = hn_reallocarray(NULL, (size_t)count, sizeof *ids)};
    if (!one->ids) goto memory;
    memcpy(one->ids, ids, (size_t)count * sizeof *ids);
    hn_strbuf_init(&one->line);
    g->count++;
    return HN_OK;
memory:
    return hn_fail(error, HN_ERR_MEMORY, "out of memory for %zu prompts", g->count + 1);
}

/* A text without tokens begins as texts do: with the token that the config names for it. */
static hn_status take_empty(generating *g, hn_error *error)
{
    const json_t *bos = json_object_get(hn_folder_config(g->talk.source->folder), "bos_token_id");
    json_int_t id = json_is_integer(bos) ? json_integer_value(bos) : -1;
    if (id < 0 || id > INT32_MAX || !hn_tokenizer_token(g->talk.source->tokenizer, (int32_t)id))
        return hn_fail(error, HN_ERR_USAGE, "prompt %zu: expected a text, got an empty one, and %s names no token that texts begin with",
                       g->count + 1, g->talk.source->path);
    return take_ids(g, &(int32_t){(int32_t)id}, 1, error);
}

static hn_status take_prompt(generating *g, const char *text, size_t length, hn_error *error)
{
    hn_status status;
    if (g->chat) {
        hn_message message = {.role = HN_ROLE_USER, .text = text, .length = length};
        const char *refusal = hn_template_refusal(g->talk.tmpl, &message, 1);
        if (refusal) return hn_fail(error, HN_ERR_USAGE, "template %s: %s", hn_template_name(g->talk.tmpl), refusal);
        status = hn_template_encode(g->talk.tmpl, &g->dialog, &message, 1, true, error);
        return status == HN_OK ? take_ids(g, g->dialog.ids, g->dialog.count, error) : status;
    }
    status = hn_tokenizer_encode(g->talk.source->tokenizer, &g->encoding, text, length, NULL, 0, true, 0, error);
    if (status != HN_OK) return status;
    return g->encoding.count ? take_ids(g, g->encoding.ids, g->encoding.count, error) : take_empty(g, error);
}

/* A line of a JSONL file: a string, or an object with one as its "prompt". */
static hn_status take_json(generating *g, const char *text, size_t length, size_t line, hn_error *error)
{
    char where[512];
    json_t *root = NULL;
    json_error_t problem;
    snprintf(where, sizeof where, "%s:%zu", g->file, line);
    root = text[strspn(text, " \t")] == '"' ? json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem) : NULL;
    hn_status status = root ? HN_OK : hn_json_parse(&root, text, length, where, HN_JSON_LIMITS_SMALL, error);
    const json_t *prompt = json_is_object(root) ? json_object_get(root, "prompt") : root;
    if (status == HN_OK && !json_is_string(prompt))
        status = hn_fail(error, HN_ERR_FORMAT, "%s: expected a string, or an object with a string \"prompt\"", where);
    if (status == HN_OK) status = take_prompt(g, json_string_value(prompt), json_string_length(prompt), error);
    json_decref(root);
    return status;
}

static bool is_jsonl(const char *path)
{
    size_t length = strlen(path);
    static const char *const packed[] = {".gz", ".zst"};
    for (int i = 0; i < 2; i++) {
        size_t suffix = strlen(packed[i]);
        if (length > suffix && !strncasecmp(path + length - suffix, packed[i], suffix)) length -= suffix;
    }
    return length > 6 && !strncasecmp(path + length - 6, ".jsonl", 6);
}

static hn_status read_all(hn_strbuf *out, const char *path, hn_error *error)
{
    char piece[16384];
    size_t got = 0;
    hn_input *input = NULL;
    hn_status status = hn_input_open(&input, path, error);
    do {
        if (status == HN_OK) status = hn_input_read(input, piece, sizeof piece, &got, error);
        if (status == HN_OK) hn_strbuf_add(out, piece, got);
        if (status == HN_OK && (out->failed || out->length > FILE_LIMIT))
            status = out->failed ? hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path)
                                 : hn_fail(error, HN_ERR_FORMAT, "%s: expected prompts of at most %zu bytes", path, FILE_LIMIT);
    } while (status == HN_OK && got);
    hn_input_free(input);
    return status;
}

static hn_status read_file(generating *g, hn_error *error)
{
    hn_strbuf text;
    bool json = is_jsonl(g->file);
    hn_strbuf_init(&text);
    hn_status status = read_all(&text, g->file, error);
    char *at = text.text, *end = at + text.length;
    for (size_t line = 1; status == HN_OK && at < end; line++) {
        char *next = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((next ? next : end) - at);
        if (length && at[length - 1] == '\r') length--;
        at[length] = '\0'; /* the last line has the buffer's own */
        if (length) status = json ? take_json(g, at, length, line, error) : take_prompt(g, at, length, error);
        at = next ? next + 1 : end;
    }
    if (status == HN_OK && !g->count) status = hn_fail(error, HN_ERR_USAGE, "%s: expected prompts, one a line, got none", g->file);
    hn_strbuf_close(&text);
    return status;
}

static hn_status write_out(const char *text, size_t length, hn_error *error)
{
    if (fwrite(text, 1, length, stdout) != length || fflush(stdout))
        return hn_fail_errno(error, "standard output: cannot write");
    return HN_OK;
}

static hn_status stream_text(void *context, size_t prompt, const char *text, size_t length, hn_error *error)
{
    (void)context, (void)prompt;
    return write_out(text, length, error);
}

static void describe(hn_strbuf *out, size_t number, const item *from, const hn_answer *answer)
{
    hn_strbuf_printf(out, "{\"prompt\": %zu, \"text\": ", number);
    hn_json_quote(out, answer->text, answer->length);
    hn_strbuf_printf(out, ", \"finish\": \"%s\", \"prompt_tokens\": %d, \"tokens\": %d}\n", hn_finish_name(answer->finish), from->count,
                     answer->count);
}

/* Keeps a finished answer, and prints all whose turn has come. */
static hn_status keep_answer(void *context, size_t prompt, const hn_answer *answer, hn_error *error)
{
    generating *g = context;
    item *one = &g->items[prompt];
    hn_status status = HN_OK;
    if (g->json) {
        describe(&one->line, prompt, one, answer);
    } else {
        hn_strbuf_add(&one->line, answer->text, answer->length);
        hn_strbuf_putc(&one->line, '\n');
    }
    if (one->line.failed) return hn_fail(error, HN_ERR_MEMORY, "out of memory for an answer");
    one->done = true;
    for (; status == HN_OK && g->printed < g->count && g->items[g->printed].done; g->printed++) {
        hn_strbuf *line = &g->items[g->printed].line;
        status = write_out(line->text, line->length, error);
        hn_strbuf_close(line);
    }
    return status;
}

static hn_status run(generating *g, const hn_cli_config *config, hn_error *error)
{
    hn_generate_stats stats = {0};
    int32_t longest = 0, positions = g->talk.positions, sequences = g->count < (size_t)g->batch ? (int32_t)g->count : g->batch;
    hn_prompt *prompts = hn_calloc(g->count, sizeof *prompts);
    if (!prompts) return hn_fail(error, HN_ERR_MEMORY, "out of memory for %zu prompts", g->count);
    for (size_t i = 0; i < g->count; i++) {
        prompts[i] = (hn_prompt){g->items[i].ids, g->items[i].count, (uint32_t)i, g->chat};
        if (g->items[i].count > longest) longest = g->items[i].count;
    }
    int64_t wanted = (int64_t)longest + g->options.max_tokens;
    int32_t most = g->options.context < positions ? g->options.context : positions;
    hn_status status = hn_talk_start(&g->talk, config, sequences, wanted < most ? (int32_t)wanted : most, error);
    bool streams = g->count == 1 && !g->json;
    hn_listener listener = {.text = streams ? stream_text : NULL, .end = streams ? NULL : keep_answer, .context = g};
    hn_generate_options options = hn_talk_generate_options(&g->talk, &g->options);
    if (status == HN_OK) status = hn_generate(g->talk.generator, &stats, prompts, g->count, &options, &listener, error);
    if (status == HN_OK && streams && isatty(STDOUT_FILENO)) status = write_out("\n", 1, error);
    if (status == HN_OK) hn_talk_print_rate(&stats);
    hn_free(prompts);
    return status;
}

static hn_status check(const generating *g, hn_error *error)
{
    if (g->file && g->prompts.count) return hn_fail(error, HN_ERR_USAGE, "--prompt and --file: expected one of them, got both");
    if (!g->chat && (g->options.system || g->options.tmpl))
        return hn_fail(error, HN_ERR_USAGE, "--system and --template are a conversation's: expected --chat with them");
    return hn_talk_options_check(&g->options, error);
}

static hn_status generate(generating *g, const char *model, const hn_cli_config *config, hn_error *error)
{
    hn_status status = check(g, error);
    if (status == HN_OK) status = hn_talk_open(&g->talk, model, config, &g->options, g->chat, error);
    if (status == HN_OK && g->file) status = read_file(g, error);
    for (size_t i = 0; status == HN_OK && i < g->prompts.count; i++)
        status = take_prompt(g, g->prompts.items[i], strlen(g->prompts.items[i]), error);
    if (status == HN_OK && !g->count) status = take_empty(g, error);
    return status == HN_OK ? run(g, config, error) : status;
}

static void close_all(generating *g)
{
    for (size_t i = 0; i < g->count; i++) {
        hn_free(g->items[i].ids);
        hn_strbuf_close(&g->items[i].line);
    }
    hn_free(g->items);
    hn_encoding_close(&g->encoding);
    hn_dialog_close(&g->dialog);
    hn_talk_close(&g->talk);
}

int hn_verb_generate(int argc, char **argv)
{
    static const char *const flags[] = {"--json", "--chat", NULL};
    hn_arguments arguments;
    hn_cli_config config;
    hn_error error = {0};
    generating g = {.batch = BATCH};
    hn_option table[HN_TALK_OPTIONS + 4] = {{0}};
    hn_cli_tables(&config);
    hn_encoding_init(&g.encoding);
    hn_dialog_init(&g.dialog);
    hn_talk_options_init(&g.options, table);
    table[HN_TALK_OPTIONS] = (hn_option){"--prompt", HN_OPTION_TEXTS, &g.prompts, 0, 0, false, NULL};
    table[HN_TALK_OPTIONS + 1] = (hn_option){"--file", HN_OPTION_TEXT, &g.file, 0, 0, false, NULL};
    table[HN_TALK_OPTIONS + 2] = (hn_option){"--batch", HN_OPTION_INT, &g.batch, 1, HN_GENERATOR_SEQUENCES, false, NULL};
    hn_status status = hn_cli_options(table, &argc, argv, &error);
    if (status == HN_OK) status = hn_cli_arguments(&arguments, argc, argv, 1, 1, flags, &error);
    if (status == HN_OK) {
        g.json = arguments.found[0];
        g.chat = arguments.found[1];
        status = hn_cli_model_config(&config, arguments.words[0], arguments.overrides, arguments.override_count, &error);
    }
    if (status == HN_OK) status = generate(&g, arguments.words[0], &config, &error);
    close_all(&g);
    hn_cli_config_close(&config);
    return status == HN_OK ? HN_EXIT_DONE : hn_cli_fail(&error);
}
