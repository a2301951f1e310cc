/* See config.h. */
#include "data/config.h"

#include <string.h>

#include "core/file.h"
#include "core/mem.h"

#define AT(field) .offset = offsetof(hn_data_config, field)

const hn_key hn_data_keys[] = {
    {"data", "train", HN_KEY_LIST, .fallback = "null", AT(train),
     .help = "Files to train on: .jsonl, .json, .tsv or .csv, for tasks lm and mlm .txt too; plain, .gz or .zst"},
    {"data", "dev", HN_KEY_LIST, .fallback = "null", AT(dev),
     .help = "Files to evaluate on; NAME=FILE makes several named sets"},
    {"data", "predict", HN_KEY_LIST, .fallback = "null", AT(predict), .safe_on_resume = true,
     .help = "Files to predict; - is standard input"},
    {"data", "fields.text", HN_KEY_STRING, .fallback = "\"text\"", AT(text),
     .help = "Field (or column) of the text"},
    {"data", "fields.pair", HN_KEY_STRING, .fallback = "null", AT(pair),
     .help = "Field of the second text; null: single texts"},
    {"data", "fields.label", HN_KEY_STRING, .fallback = "\"label\"", AT(label),
     .help = "Field of the label: a name of task.labels, its number, or the target of a regression"},
    {"data", "rows", HN_KEY_CHOICE, .choices = "auto|alpaca|messages|prompt", .fallback = "\"auto\"",
     AT(turns_of.kind), .help = "Rows of task sft: instruction, input, output; messages; prompt, completion; auto: "
                                "told by the fields of a file's first row"},
    {"data", "fields.instruction", HN_KEY_STRING, .fallback = "\"instruction\"", AT(turns_of.instruction),
     .help = "alpaca rows: field of the instruction"},
    {"data", "fields.input", HN_KEY_STRING, .fallback = "\"input\"", AT(turns_of.input),
     .help = "alpaca rows: field of what the instruction is about; rows may lack it"},
    {"data", "fields.output", HN_KEY_STRING, .fallback = "\"output\"", AT(turns_of.output),
     .help = "alpaca rows: field of the answer"},
    {"data", "fields.messages", HN_KEY_STRING, .fallback = "null", AT(turns_of.messages),
     .help = "messages rows: field of the list of turns; null: messages or conversations"},
    {"data", "fields.prompt", HN_KEY_STRING, .fallback = "\"prompt\"", AT(turns_of.prompt),
     .help = "prompt rows: field of the prompt"},
    {"data", "fields.completion", HN_KEY_STRING, .fallback = "\"completion\"", AT(turns_of.completion),
     .help = "prompt rows: field of the completion"},
    {"data", "template", HN_KEY_STRING, .fallback = "\"auto\"", AT(chat_template),
     .help = "How conversations are written: alpaca, chatml, llama2, llama3, llama3.1, zephyr, mistral, gemma, plain; "
             "auto: data.turns if given, else the model's own chat template"},
    {"data", "turns.begin", HN_KEY_STRING, .fallback = "null", AT(turns.begin),
     .help = "A template of one's own: what stands before everything; null: what the tokenizer puts before a text"},
    {"data", "turns.system", HN_KEY_STRING, .fallback = "null", AT(turns.system),
     .help = "... a system prompt, with {content} in it; null: there is none"},
    {"data", "turns.user", HN_KEY_STRING, .fallback = "null", AT(turns.user),
     .help = "... a user's turn, with {content} in it"},
    {"data", "turns.input", HN_KEY_STRING, .fallback = "null", AT(turns.input),
     .help = "... a user's turn that has an input, with {content} and {input}; null: a blank line between both"},
    {"data", "turns.prompt", HN_KEY_STRING, .fallback = "null", AT(turns.prompt),
     .help = "... what stands between a user's turn and the answer"},
    {"data", "turns.assistant", HN_KEY_STRING, .fallback = "null", AT(turns.assistant),
     .help = "... the answer with its end, a special token or {eos}; null: {content}{eos}"},
    {"data", "system", HN_KEY_STRING, .fallback = "null", AT(system),
     .help = "System prompt of conversations that bring none; null: the template's; empty: none"},
    {"data", "loss", HN_KEY_LIST, .fallback = "[\"assistant\"]", AT(loss),
     .help = "Whose words task sft trains on: assistant, user, system, or all (the template's text too)"},
    {"data", "fields.words", HN_KEY_STRING, .fallback = "\"words\"", AT(words), .help = "Task tag: field of the list of words"},
    {"data", "fields.tags", HN_KEY_STRING, .fallback = "\"tags\"", AT(tags),
     .help = "Task tag: field of the list of their tags, names of task.labels or numbers"},
    {"data", "label_map", HN_KEY_MAP, .fallback = "null", AT(label_map),
     .help = "What labels in the data stand for: {\"e\": \"entailment\", \"3\": \"neutral\"}"},
    {"data", "format", HN_KEY_CHOICE, .choices = "auto|jsonl|json|tsv|csv|text", .fallback = "\"auto\"",
     AT(format), .help = "Format of the files; auto: by name, then by the first byte"},
    {"data", "max_tokens", HN_KEY_INT, .unit = "tokens", .min = 4, .max = 65536, .fallback = "512",
     AT(max_tokens),
     .help = "Longer examples are truncated, the longer text of a pair first; documents (tasks lm and mlm) are cut into "
             "blocks of this many"},
    {"data", "on_long", HN_KEY_CHOICE, .choices = "cut|skip|refuse", .fallback = "\"cut\"", AT(on_long),
     .help = "A conversation over data.max_tokens: its beginning, none of it (counted), or stop"},
    {"data", "on_bad_row", HN_KEY_CHOICE, .choices = "error|skip", .fallback = "\"error\"", AT(on_bad_row),
     .help = "A row that cannot be read: stop, or count it and go on"},
    {"data", "cache", HN_KEY_STRING, .fallback = "\"auto\"", AT(cache), .safe_on_resume = true,
     .help = "Folder of the token cache; auto: cache in the output folder; off: tokens stay in memory"},
    {"data", "threads", HN_KEY_INT, .unit = "threads", .min = 0, .max = 256, .fallback = "0", AT(threads),
     .safe_on_resume = true, .help = "Threads that encode; 0: one a core"},
    {"data", "window", HN_KEY_INT, .unit = "batches", .min = 0, .max = 100000, .fallback = "64", AT(window),
     .help = "Training batches are sorted by length inside windows of this many; 0: never"},
    {"data", "shuffle", HN_KEY_BOOL, .fallback = "true", AT(shuffle),
     .help = "Training order: new in every epoch, or as in the files"},
    {"data", "mask_probability", HN_KEY_FLOAT, .min = 0.001, .max = 0.9, .fallback = "0.15", AT(mask_probability),
     .help = "Task mlm: share of the tokens that are predicted; of these 80 % are hidden, 10 % another token, 10 % themselves"},
    {"data", "mask_words", HN_KEY_BOOL, .fallback = "false", AT(mask_words),
     .help = "Task mlm: words are chosen as a whole"},
};
const size_t hn_data_key_count = sizeof hn_data_keys / sizeof hn_data_keys[0];

/* Length of NAME in NAME=FILE, 0 when there is none. */
static size_t name_length(const char *item)
{
    size_t length = strspn(item, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return item[length] == '=' ? length : 0;
}

static hn_data_set *find_set(hn_data_sets *sets, const char *name, size_t length)
{
    for (size_t i = 0; i < sets->count; i++)
        if (strlen(sets->items[i].name) == length && !memcmp(sets->items[i].name, name, length))
            return &sets->items[i];
    return NULL;
}

/* The set of that name, new when there is none, with room for `files` files; NULL: out of memory. */
static hn_data_set *take_set(hn_data_sets *sets, const char *name, size_t length, size_t files)
{
    hn_data_set *set = find_set(sets, name, length);
    if (set) return set;
    set = &sets->items[sets->count];
    set->name = hn_strndup(name, length);
    set->files.items = hn_calloc(files, sizeof *set->files.items);
    sets->count++;
    return set->name && set->files.items ? set : NULL;
}

hn_status hn_data_sets_open(hn_data_sets *out, const hn_list *list, const char *fallback, hn_error *error)
{
    hn_data_sets sets = {.items = hn_calloc(list->count, sizeof *sets.items)};
    hn_status status = sets.items ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "data sets: out of memory");
    for (size_t i = 0; i < list->count && !status; i++) {
        const char *item = list->items[i];
        size_t length = name_length(item);
        const char *file = length ? item + length + 1 : item;
        if (!*file) {
            status = hn_fail(error, HN_ERR_USAGE, "data.dev: expected NAME=FILE, got \"%s\"", item);
            break;
        }
        hn_data_set *set =
            take_set(&sets, length ? item : fallback, length ? length : strlen(fallback), list->count);
        if (set)
            set->files.items[set->files.count++] = file;
        else
            status = hn_fail(error, HN_ERR_MEMORY, "data sets: out of memory");
    }
    if (status)
        hn_data_sets_close(&sets);
    else
        *out = sets;
    return status;
}

void hn_data_sets_close(hn_data_sets *sets)
{
    for (size_t i = 0; i < sets->count; i++) {
        hn_free(sets->items[i].name);
        hn_free(sets->items[i].files.items);
    }
    hn_free(sets->items);
    *sets = (hn_data_sets){0};
}

hn_status hn_data_template(hn_template_options *out, const hn_data_config *config, hn_error *error)
{
    static const struct {
        const char *name;
        unsigned bit;
    } words[] = {{"system", 1u << HN_ROLE_SYSTEM},
                 {"user", 1u << HN_ROLE_USER},
                 {"assistant", 1u << HN_ROLE_ASSISTANT},
                 {"all", HN_LOSS_ALL}};
    const size_t count = sizeof words / sizeof words[0];
    hn_template_options options = {.name = config->chat_template, .turns = config->turns, .system = config->system};
    for (size_t i = 0; i < config->loss.count; i++) {
        size_t k = 0;
        while (k < count && strcmp(config->loss.items[i], words[k].name)) k++;
        if (k == count)
            return hn_fail(error, HN_ERR_USAGE, "data.loss: expected assistant, user, system or all, got \"%.60s\"",
                           config->loss.items[i]);
        options.loss |= words[k].bit;
    }
    *out = options;
    return HN_OK;
}

hn_status hn_data_cache_folder(char **out, const hn_data_config *config, const char *output, hn_error *error)
{
    *out = NULL;
    if (!config->cache || !strcmp(config->cache, "off")) return HN_OK;
    bool automatic = !strcmp(config->cache, "auto");
    if (automatic && !output) return HN_OK;
    *out = automatic ? hn_path_join(output, "cache") : hn_strdup(config->cache);
    return *out ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "data.cache: out of memory");
}
