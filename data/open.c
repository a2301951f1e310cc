/* Opening a data set (dataset.h): read, encode, keep.
 *
 * Two digests identify it. The key (tokenizer, options, paths) names the cache file, so that it is found
 * without reading the data; the digest (tokenizer, options, bytes of the files) is what a run remembers: it
 * does not change when a file moves. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"
#include "data/cache.h"
#include "data/datasets.h"
#include "data/encode.h"
#include "data/reader.h"
#include "data/sources.h"

/* What was asked for. */
typedef struct request {
    const hn_data_config *config;
    const hn_list *files;
    const hn_tokenizer *tokenizer;
    const hn_dataset_options *options;
} request;

static hn_status no_memory(hn_error *error)
{
    return hn_fail(error, HN_ERR_MEMORY, "data set: out of memory");
}

static hn_status next_of_reader(void *state, hn_row *row, bool *end, hn_error *error)
{
    return hn_reader_next(state, row, end, error);
}

/* Views of columns that are complete and in memory. */
static void adopt_columns(hn_dataset *dataset)
{
    hnp_column *column = dataset->columns.column;
    dataset->wide = dataset->columns.wide;
    dataset->tokens = column[HNP_TOKENS].memory;
    dataset->marks = (const uint16_t *)column[HNP_MARKS].memory;
    dataset->offsets = (const int64_t *)column[HNP_OFFSETS].memory;
    dataset->segment = (const int32_t *)column[HNP_SEGMENT].memory;
    dataset->label = (const int32_t *)column[HNP_LABELS].memory;
    dataset->value = (const float *)column[HNP_VALUES].memory;
    dataset->line = (const int64_t *)column[HNP_LINES].memory;
    dataset->first = (const int64_t *)column[HNP_FIRST].memory;
    dataset->count = (int64_t)column[HNP_LINES].count;
}

static void count_lengths(hn_dataset *dataset)
{
    hn_data_report *report = &dataset->report;
    report->examples = dataset->count;
    report->tokens = dataset->offsets[dataset->count];
    report->longest = 0;
    for (int64_t i = 0; i < dataset->count; i++)
        if (hn_dataset_length(dataset, i) > report->longest) report->longest = hn_dataset_length(dataset, i);
}

static hn_status new_dataset(hn_dataset **out, const hn_list *files, hn_error *error)
{
    hn_dataset *dataset = hn_calloc(1, sizeof *dataset);
    if (!dataset) return no_memory(error);
    for (int i = 0; i < HNP_COLUMNS; i++) dataset->columns.column[i].fd = -1;
    dataset->paths = hn_calloc(files->count, sizeof *dataset->paths);
    dataset->file_count = (int32_t)files->count;
    for (size_t i = 0; i < files->count && dataset->paths; i++) {
        dataset->paths[i] = hn_strdup(files->items[i]);
        if (dataset->paths[i]) continue;
        hn_dataset_free(dataset);
        return no_memory(error);
    }
    if (!dataset->paths) {
        hn_free(dataset);
        return no_memory(error);
    }
    *out = dataset;
    return HN_OK;
}

static void hash_turns(hn_hasher *hasher, const hn_turn_fields *fields)
{
    const char *const names[] = {fields->instruction, fields->input,  fields->output,
                                 fields->messages,    fields->prompt, fields->completion};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) hn_hasher_add_text(hasher, names[i] ? names[i] : "");
    hn_hasher_add(hasher, &fields->kind, sizeof fields->kind);
}

/* What decides the examples besides the bytes of the files. */
static void hash_options(hn_hasher *hasher, const request *r)
{
    char text[HN_DIGEST_TEXT], numbers[128];
    const hn_data_config *config = r->config;
    hn_digest_format(text, hn_tokenizer_digest(r->tokenizer));
    hn_hasher_add_text(hasher, text);
    snprintf(numbers, sizeof numbers, "%lld %d %zu %d", (long long)config->max_tokens, config->on_bad_row,
             r->files->count, r->options->labels != NULL);
    hn_hasher_add_text(hasher, numbers);
    if (r->options->task == HN_DATA_TEXT) {
        snprintf(numbers, sizeof numbers, "documents, end %d", (int)r->options->end_token);
        hn_hasher_add_text(hasher, numbers);
    }
    if (r->options->task == HN_DATA_MASKED) hn_hasher_add_text(hasher, "framed blocks");
    if (r->options->task == HN_DATA_TAGS) {
        hn_hasher_add_text(hasher, config->words);
        hn_hasher_add_text(hasher, config->tags);
    }
    if (r->options->task == HN_DATA_INSTRUCT) {
        hash_turns(hasher, &config->turns_of);
        hn_digest_format(text, hn_template_digest(r->options->chat));
        hn_hasher_add_text(hasher, text);
        snprintf(numbers, sizeof numbers, "conversations, long %d", config->on_long);
        hn_hasher_add_text(hasher, numbers);
    }
    hn_hasher_add_text(hasher, config->text);
    hn_hasher_add_text(hasher, config->pair ? config->pair : "");
    if (r->options->labels) {
        hn_digest_format(text, hn_labels_digest(r->options->labels));
        hn_hasher_add_text(hasher, config->label);
        hn_hasher_add_text(hasher, text);
    }
    for (size_t i = 0; i < r->files->count; i++) {
        int format = config->format ? config->format : (int)hn_format_of_name(r->files->items[i]);
        snprintf(numbers, sizeof numbers, "%d", format);
        hn_hasher_add_text(hasher, numbers);
    }
}

/* The data set's digest, once the files' are known. */
static hn_status take_digest(hn_dataset *dataset, const hnp_sources *sources, const request *r,
                             hn_error *error)
{
    hn_hasher *hasher = hn_hasher_open();
    if (!hasher) return no_memory(error);
    hash_options(hasher, r);
    for (int32_t i = 0; i < sources->count; i++) {
        char text[HN_DIGEST_TEXT];
        hn_digest_format(text, sources->files[i].digest);
        hn_hasher_add_text(hasher, text);
    }
    dataset->digest = hn_hasher_digest(hasher);
    hn_hasher_free(hasher);
    return HN_OK;
}

/* Whether there may be no example at all: what is to be predicted, not learnt. */
static bool empty_allowed(const hn_dataset_options *options)
{
    return (options->task == HN_DATA_SEQUENCE || options->task == HN_DATA_TAGS) && !options->labels;
}

/* Reads and encodes all files into the data set's columns. */
static hn_status build(hn_dataset *dataset, const request *r, hn_error *error)
{
    const hn_data_config *config = r->config;
    const hn_list *files = r->files;
    bool sequences = r->options->task == HN_DATA_SEQUENCE, tags = r->options->task == HN_DATA_TAGS;
    hn_data_report *report = &dataset->report;
    hn_reader_options reading = {.paths = files->items,
                                 .path_count = files->count,
                                 .format = (hn_data_format)config->format,
                                 .text = tags ? config->words : config->text,
                                 .words = tags,
                                 .pair = sequences ? config->pair : NULL,
                                 .label = !r->options->labels ? NULL : tags ? config->tags : config->label,
                                 .empty_allowed = empty_allowed(r->options),
                                 .documents = r->options->task == HN_DATA_TEXT || r->options->task == HN_DATA_MASKED,
                                 .turns = r->options->task == HN_DATA_INSTRUCT ? &config->turns_of : NULL};
    hnp_encode_options encoding = {.task = r->options->task,
                                   .tokenizer = r->tokenizer,
                                   .end_token = r->options->end_token,
                                   .chat = r->options->chat,
                                   .on_long = config->on_long,
                                   .labels = r->options->labels,
                                   .label_field = config->label,
                                   .bad = &report->bad,
                                   .max_tokens = (int32_t)config->max_tokens,
                                   .files = (int32_t)files->count,
                                   .threads = (int)config->threads,
                                   .pulse = r->options->pulse};
    hnp_encode_counts counts = {0};
    hn_reader *reader = NULL;
    hn_status status = hn_reader_open(&reader, &reading, &report->bad, error);
    if (!status) {
        hnp_source source = {reader, next_of_reader};
        status = hnp_encode(&dataset->columns, &counts, source, &encoding, error);
        report->rows = hn_reader_rows(reader);
    }
    hn_reader_free(reader);
    report->skipped = hn_bad_rows_count(&report->bad);
    report->unlabeled = counts.unlabeled;
    report->truncated = counts.truncated;
    return status;
}

static hn_status require_examples(const hn_dataset *dataset, const hn_dataset_options *options, hn_error *error)
{
    const hn_data_report *report = &dataset->report;
    if (dataset->count || empty_allowed(options)) return HN_OK;
    return hn_fail(error, HN_ERR_FORMAT,
                   "%s%s: expected examples, got none (%lld rows: %lld bad, %lld without a label)",
                   dataset->paths[0], dataset->file_count > 1 ? ", ..." : "", (long long)report->rows,
                   (long long)report->skipped, (long long)report->unlabeled);
}

/* The name of the cache: everything but the bytes of the files. */
static hn_status take_key(hn_digest *key, const request *r, hn_error *error)
{
    hn_hasher *hasher = hn_hasher_open();
    if (!hasher) return no_memory(error);
    hash_options(hasher, r);
    for (size_t i = 0; i < r->files->count; i++) hn_hasher_add_text(hasher, r->files->items[i]);
    *key = hn_hasher_digest(hasher);
    hn_hasher_free(hasher);
    return HN_OK;
}

/* Builds all columns, in memory or spooled into the folder of the cache. */
static hn_status make(hn_dataset *dataset, hnp_sources *sources, const request *r, const char *spool,
                      hn_error *error)
{
    hn_status status = hnp_sources_digest(sources, error);
    if (!status)
        status =
            hnp_columns_init(&dataset->columns, hn_tokenizer_vocabulary(r->tokenizer) > 65536, spool, error);
    if (!status) status = build(dataset, r, error);
    if (!status) status = hnp_sources_check(sources, error);
    return status;
}

static hnp_cache_bounds bounds_of(const request *r)
{
    const hn_labels *labels = r->options->labels;
    return (hnp_cache_bounds){.vocabulary = hn_tokenizer_vocabulary(r->tokenizer),
                              .longest = (int32_t)r->config->max_tokens,
                              .classes = labels && !hn_labels_regression(labels) ? hn_labels_count(labels) : 0};
}

/* Through the cache: load it, or make it and load it, which reads back and checks what was written. */
static hn_status open_cached(hn_dataset *dataset, hnp_sources *sources, const request *r, const char *folder,
                             hn_error *error)
{
    hn_digest key;
    hn_error miss = {0};
    char *path = NULL;
    int lock = -1;
    hnp_cache_bounds bounds = bounds_of(r);
    hn_status status = hn_folder_make(folder, error);
    if (!status) status = take_key(&key, r, error);
    if (status) return status;
    path = hnp_cache_path(folder, key);
    if (!path) return no_memory(error);
    lock = hnp_cache_lock(folder);
    status = hnp_cache_load(dataset, sources, key, &bounds, path, &miss);
    dataset->report.cached = !status;
    if (status == HN_ERR_MISMATCH) {
        status = make(dataset, sources, r, folder, error);
        if (!status) status = hnp_cache_save(dataset, sources, key, path, error);
        hnp_columns_close(&dataset->columns);
        if (!status) status = hnp_cache_load(dataset, sources, key, &bounds, path, error);
    } else if (status) {
        hn_fail(error, status, "%s", miss.message);
    }
    if (lock >= 0) close(lock);
    hn_free(path);
    return status;
}

/* Kinds of rows that are asked for have names for their fields. */
static hn_status check_turns(const hn_turn_fields *fields, hn_error *error)
{
    const char *missing = NULL;
    if (fields->kind == HN_TURNS_ALPACA && !fields->instruction) missing = "instruction";
    if (fields->kind == HN_TURNS_ALPACA && !fields->output) missing = "output";
    if (fields->kind == HN_TURNS_PROMPT && !fields->prompt) missing = "prompt";
    if (fields->kind == HN_TURNS_PROMPT && !fields->completion) missing = "completion";
    return missing ? hn_fail(error, HN_ERR_USAGE, "data.fields.%s: expected the name of a field, got null", missing) : HN_OK;
}

static bool reads_standard_input(const hn_list *files)
{
    for (size_t i = 0; i < files->count; i++)
        if (!strcmp(files->items[i], "-")) return true;
    return false;
}

hn_status hn_dataset_open(hn_dataset **out, const hn_data_config *config, const hn_list *files,
                          const hn_tokenizer *tokenizer, const hn_dataset_options *options, hn_error *error)
{
    HN_ASSERT(files->count > 0 && config->text && (!options->labels || config->label));
    HN_ASSERT(options->task == HN_DATA_SEQUENCE || options->task == HN_DATA_TAGS || !options->labels);
    HN_ASSERT(options->task != HN_DATA_INSTRUCT || options->chat);
    request r = {config, files, tokenizer, options};
    hnp_sources sources = {0};
    hn_dataset *dataset = NULL;
    hn_status status = new_dataset(&dataset, files, error);
    if (!status) {
        dataset->report.bad.skip = config->on_bad_row != 0;
        dataset->task = options->task;
    }
    if (!status && options->task == HN_DATA_MASKED)
        status = hnp_masking_init(&dataset->masking, tokenizer, config->mask_probability, config->mask_words, error);
    if (!status && options->task == HN_DATA_INSTRUCT) status = check_turns(&config->turns_of, error);
    if (!status) status = hnp_sources_init(&sources, files, error);
    if (!status && options->cache_folder && !reads_standard_input(files)) {
        status = open_cached(dataset, &sources, &r, options->cache_folder, error);
    } else if (!status) {
        status = make(dataset, &sources, &r, NULL, error);
        if (!status) adopt_columns(dataset);
    }
    if (!status) status = take_digest(dataset, &sources, &r, error);
    if (!status) {
        count_lengths(dataset);
        status = require_examples(dataset, options, error);
    }
    hnp_sources_close(&sources);
    if (status)
        hn_dataset_free(dataset);
    else
        *out = dataset;
    return status;
}

struct texts {
    const hn_texts *from;
    int64_t next;
};

static hn_status next_of_texts(void *state, hn_row *row, bool *end, hn_error *error)
{
    struct texts *t = state;
    const hn_texts *from = t->from;
    (void)error;
    *end = t->next == from->count;
    if (*end) return HN_OK;
    *row = (hn_row){.text = from->texts[t->next],
                    .text_length = strlen(from->texts[t->next]),
                    .path = "text",
                    .line = t->next + 1};
    if (from->pairs) {
        row->pair = from->pairs[t->next];
        row->pair_length = strlen(row->pair);
    }
    t->next++;
    return HN_OK;
}

hn_status hn_dataset_open_texts(hn_dataset **out, const hn_texts *from, const hn_tokenizer *tokenizer, int32_t max_tokens,
                                int threads, hn_error *error)
{
    const char *names[1] = {"text"};
    hn_list files = {names, 1};
    struct texts state = {from, 0};
    hn_dataset *dataset = NULL;
    hnp_encode_options encoding = {
        .tokenizer = tokenizer, .max_tokens = max_tokens, .whole_pairs = from->whole_pairs, .files = 1, .threads = threads};
    hnp_encode_counts counts = {0};
    hnp_source source = {&state, next_of_texts};
    hn_status status = new_dataset(&dataset, &files, error);
    if (!status)
        status = hnp_columns_init(&dataset->columns, hn_tokenizer_vocabulary(tokenizer) > 65536, NULL, error);
    if (!status) status = hnp_encode(&dataset->columns, &counts, source, &encoding, error);
    if (status) {
        hn_dataset_free(dataset);
        return status;
    }
    adopt_columns(dataset);
    count_lengths(dataset);
    dataset->report.rows = dataset->count;
    dataset->report.truncated = counts.truncated;
    *out = dataset;
    return HN_OK;
}
