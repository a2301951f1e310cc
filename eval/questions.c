/* See questions.h. A set for multiple choice is small (all of MMLU's test questions are 7 MB), so it is kept; a question is one piece
 * of memory: its options' addresses, then its texts. */
#include "eval/questions.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "data/reader.h"

static const char spaces[] = " \t\r\n\v\f";

/* "abstract_algebra" of "data/val/abstract_algebra_val.csv.gz" */
static void subject_of_path(hn_strbuf *out, const char *path)
{
    static const char *const endings[] = {".gz", ".zst", ".csv", ".tsv", ".jsonl", ".ndjson", ".json", "_dev", "_val", "_test", "_train"};
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t ending = strlen(endings[i]);
        if (length > ending && !memcmp(name + length - ending, endings[i], ending)) length -= ending;
    }
    hn_strbuf_reset(out);
    hn_strbuf_add(out, name, length);
}

/* Copies a text behind the others. */
static const char *put(char **at, const char *text, size_t length)
{
    char *copy = *at;
    memcpy(copy, text, length);
    copy[length] = '\0';
    *at += length + 1;
    return copy;
}

static hn_status keep(hn_questions *out, const hn_row *row, const char *subject, hn_error *error)
{
    const char *text = row->text + strspn(row->text, spaces);
    size_t length = strlen(text), size = row->option_count * sizeof(char *), subject_length = strlen(subject),
           path_length = strlen(row->path);
    while (length && strchr(spaces, text[length - 1])) length--;
    size += length + subject_length + path_length + 3;
    for (size_t i = 0; i < row->option_count; i++) size += strlen(row->options[i]) + 1;
    void *items = out->items;
    if (!hn_grow(&items, &out->capacity, out->count + 1, sizeof *out->items)) goto memory;
    out->items = items;
    void *memory = hn_malloc(size);
    if (!memory) goto memory;
    const char **options = memory;
    char *at = (char *)(options + row->option_count);
    for (size_t i = 0; i < row->option_count; i++) options[i] = put(&at, row->options[i], strlen(row->options[i]));
    hn_question *question = &out->items[out->count++];
    *question = (hn_question){.options = options, .option_count = row->option_count, .answer = row->answer, .line = row->line,
                              .memory = memory};
    question->text = put(&at, text, length);
    question->subject = put(&at, subject, subject_length);
    question->path = put(&at, row->path, path_length);
    return HN_OK;
memory:
    return hn_fail(error, HN_ERR_MEMORY, "%s:%lld: out of memory", row->path, (long long)row->line);
}

static hn_status read_files(hn_questions *out, const char *const *paths, size_t count, const hn_question_fields *fields,
                            hn_error *error)
{
    hn_reader_options options = {.paths = paths, .path_count = count, .questions = fields};
    hn_reader *reader = NULL;
    hn_strbuf subject;
    bool end = false;
    hn_strbuf_init(&subject);
    hn_status status = hn_reader_open(&reader, &options, &out->bad, error);
    while (status == HN_OK) {
        hn_row row;
        status = hn_reader_next(reader, &row, &end, error);
        if (status != HN_OK || end) break;
        subject_of_path(&subject, row.path);
        if (row.subject && *row.subject) {
            hn_strbuf_reset(&subject);
            hn_strbuf_puts(&subject, row.subject);
        }
        status = subject.failed ? hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", row.path)
                                : keep(out, &row, subject.text, error);
    }
    hn_reader_free(reader);
    hn_strbuf_close(&subject);
    return status;
}

static int is_readable(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && hn_format_of_name(entry->d_name) != HN_FORMAT_AUTO &&
           hn_format_of_name(entry->d_name) != HN_FORMAT_TEXT;
}

static hn_status read_folder(hn_questions *out, const char *folder, const hn_question_fields *fields, hn_error *error)
{
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, is_readable, alphasort);
    hn_status status = count < 0 ? hn_fail_errno(error, "%s: cannot read", folder) : HN_OK;
    if (count == 0)
        status = hn_fail(error, HN_ERR_FORMAT, "%s: expected files that end in .csv, .tsv or .jsonl, got none", folder);
    for (int i = 0; i < count; i++) {
        char *path = status == HN_OK ? hn_path_join(folder, entries[i]->d_name) : NULL;
        if (status == HN_OK)
            status = path ? read_files(out, (const char *const *)&path, 1, fields, error)
                          : hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
        hn_free(path);
        free(entries[i]);
    }
    free(entries);
    return status;
}

/* A question on its way to its place: by its subject's first question, then by its own number. */
typedef struct placed {
    hn_question question;
    size_t number, first;
} placed;

static int by_subject(const void *left, const void *right)
{
    const placed *a = left, *b = right;
    int order = strcmp(a->question.subject, b->question.subject);
    return order ? order : (a->number > b->number) - (a->number < b->number);
}

static int by_place(const void *left, const void *right)
{
    const placed *a = left, *b = right;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    return (a->number > b->number) - (a->number < b->number);
}

/* Brings the questions of a subject together. */
static hn_status group(hn_questions *questions, hn_error *error)
{
    size_t count = questions->count;
    placed *list = hn_calloc(count, sizeof *list);
    if (!list) return hn_fail(error, HN_ERR_MEMORY, "out of memory for %zu questions", count);
    for (size_t i = 0; i < count; i++) list[i] = (placed){questions->items[i], i, i};
    qsort(list, count, sizeof *list, by_subject);
    for (size_t i = 1; i < count; i++)
        if (!strcmp(list[i].question.subject, list[i - 1].question.subject)) list[i].first = list[i - 1].first;
    qsort(list, count, sizeof *list, by_place);
    for (size_t i = 0; i < count; i++) questions->items[i] = list[i].question;
    hn_free(list);
    return HN_OK;
}

hn_status hn_questions_open(hn_questions *out, const hn_list *files, const hn_question_fields *fields, bool skip, const char *where,
                            hn_error *error)
{
    hn_questions questions = {.bad = {.skip = skip}};
    hn_status status = HN_OK;
    for (size_t i = 0; status == HN_OK && i < files->count; i++) {
        const char *path = files->items[i];
        if (hn_path_is_folder(path)) status = read_folder(&questions, path, fields, error);
        else status = read_files(&questions, &path, 1, fields, error);
    }
    if (status == HN_OK && !questions.count) status = hn_fail(error, HN_ERR_USAGE, "%s: expected questions, got none", where);
    if (status == HN_OK) status = group(&questions, error);
    if (status == HN_OK) *out = questions;
    else hn_questions_close(&questions);
    return status;
}

void hn_questions_close(hn_questions *questions)
{
    for (size_t i = 0; i < questions->count; i++) hn_free(questions->items[i].memory);
    hn_free(questions->items);
    *questions = (hn_questions){0};
}
