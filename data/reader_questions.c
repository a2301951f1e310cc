/* Rows that are questions with options (see readers.h), as the sets for multiple choice are published:
 *
 *     MMLU, CSV without a header      question,option,option,option,option,A
 *     a table with a header           question  A  B  C  D  answer  [subject]
 *     MMLU, JSON                      {"question", "choices": [...], "answer": 0, "subject"}
 *     ARC                             {"question", "choices": {"text": [...], "label": ["A", ...]}, "answerKey": "A"}
 *     HellaSwag and the like          {"ctx", "endings": [...], "label": "2"}, its fields named
 *
 * An answer is a letter (or the name the row gives its options), a number from 0, or the text of one option: a letter counts as one whatever the
 * options say; an answer that is none of them, or two at once, is a bad row, never a guess. In a table without a header every record must have as many columns as
 * the first: one more may as well be a comma that lacks its quotes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "data/readers.h"

static const char *const questions[] = {"question", NULL}, *const options[] = {"choices", "options", "endings", NULL},
                         *const answers[] = {"answer", "answerKey", "label", NULL},
                         *const subjects[] = {"subject", NULL};

/* The member of that name, or the first there is of the usual ones. *used: its name. */
static const json_t *find(const json_t *object, const char *name, const char *const *usual, const char **used)
{
    const json_t *value = NULL;
    *used = name ? name : *usual;
    if (name) return json_object_get(object, name);
    for (; !value && *usual; usual++)
        if ((value = json_object_get(object, *usual))) *used = *usual;
    return value;
}

/* NULL: not a string, or one with a NUL. */
static const char *plain_text(const json_t *value)
{
    const char *text = json_string_value(value);
    return text && strlen(text) == json_string_length(value) ? text : NULL;
}

/* A whole number as such, not "02" or " 2"; -1: it is none. */
static long number_of(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (!digits || text[digits] || digits > 3 || (text[0] == '0' && digits > 1)) return -1;
    return strtol(text, NULL, 10);
}

/* The option of that text; -1: none, -2: several. */
static int32_t option_of_text(const hn_row *row, const char *answer)
{
    int32_t found = -1;
    for (size_t i = 0; i < row->option_count; i++)
        if (!strcmp(row->options[i], answer)) found = found == -1 ? (int32_t)i : -2;
    return found;
}

/* The number of the option that `answer` means; negative: none, or more than one. names: what the row calls its options; NULL:
 * A, B, ... */
static int32_t resolve(const hn_row *row, const json_t *names, const char *answer)
{
    for (size_t i = 0; names && i < row->option_count; i++) {
        const char *name = plain_text(json_array_get(names, i));
        if (name && !strcmp(name, answer)) return (int32_t)i;
    }
    if (!names && answer[0] >= 'A' && answer[0] <= 'Z' && !answer[1] && (size_t)(answer[0] - 'A') < row->option_count)
        return answer[0] - 'A';
    long number = names ? -1 : number_of(answer);
    int32_t text = option_of_text(row, answer);
    if (number < 0 || (size_t)number >= row->option_count) return text;
    return text == -1 || text == number ? (int32_t)number : -1;
}

static hn_status set_answer(hn_reader *reader, hn_row *row, int32_t number, const char *answer, bool *got, hn_error *error)
{
    row->answer = number;
    if (number < 0)
        return hnp_row_bad(reader, HN_BAD_LABEL, error,
                           "expected the answer to be a letter from A to %c, a number from 0 to %zu or one of the options, got \"%.60s\"",
                           (int)('A' + row->option_count - 1), row->option_count - 1, answer);
    *got = true;
    return HN_OK;
}

static hn_status check_count(hn_reader *reader, size_t count, bool *good, hn_error *error)
{
    *good = count >= 2 && count <= HN_MAX_OPTIONS;
    if (*good) return HN_OK;
    return hnp_row_bad(reader, HN_BAD_TYPE, error, "expected 2 to %d options, got %zu", HN_MAX_OPTIONS, count);
}

static hn_status add_choice(hn_reader *reader, hn_row *row, const char *text, hn_error *error)
{
    void *choices = reader->choices;
    if (!hn_grow(&choices, &reader->choice_capacity, row->option_count + 1, sizeof *reader->choices))
        return hn_fail(error, HN_ERR_MEMORY, "%s:%lld: out of memory", hnp_reader_path(reader), (long long)reader->line);
    reader->choices = choices;
    reader->choices[row->option_count++] = text;
    row->options = reader->choices;
    return HN_OK;
}

/* The options out of a list of strings. *good false: a bad row was counted. */
static hn_status take_options(hn_reader *reader, hn_row *row, const json_t *list, const char *name, bool *good, hn_error *error)
{
    hn_status status = check_count(reader, json_array_size(list), good, error);
    for (size_t i = 0; !status && *good && i < json_array_size(list); i++) {
        const char *text = plain_text(json_array_get(list, i));
        *good = text != NULL;
        status = text ? add_choice(reader, row, text, error)
                      : hnp_row_bad(reader, HN_BAD_TYPE, error, "field \"%s\": option %zu: expected a string without NUL", name, i + 1);
    }
    return status;
}

static hn_status bad_field(hn_reader *reader, const json_t *value, const char *name, const char *expected, hn_error *error)
{
    return hnp_row_bad(reader, value ? HN_BAD_TYPE : HN_BAD_MISSING, error, "field \"%s\": expected %s, got %s", name, expected,
                       value ? "something else" : "no such field");
}

hn_status hnp_question_of_json(hn_reader *reader, hn_row *row, bool *got, hn_error *error)
{
    const hn_question_fields *names = reader->options.questions;
    const char *name;
    bool good = false;
    const json_t *value = find(reader->value, names->question, questions, &name);
    if (!(row->text = plain_text(value))) return bad_field(reader, value, name, "a string", error);
    row->text_length = strlen(row->text);

    value = find(reader->value, names->options, options, &name);
    const json_t *list = json_is_object(value) ? json_object_get(value, "text") : value,
                 *called = json_is_object(value) ? json_object_get(value, "label") : NULL;
    if (!json_is_array(list)) return bad_field(reader, value, name, "a list of strings", error);
    if (called && json_array_size(called) != json_array_size(list))
        return bad_field(reader, value, name, "as many labels as texts", error);
    hn_status status = take_options(reader, row, list, name, &good, error);
    if (status || !good) return status;

    value = find(reader->value, names->subject, subjects, &name);
    if (value && !json_is_null(value) && !(row->subject = plain_text(value)))
        return bad_field(reader, value, name, "a string", error);

    value = find(reader->value, names->answer, answers, &name);
    if (!json_is_integer(value) && !plain_text(value)) return bad_field(reader, value, name, "a string or a whole number", error);
    const char *text = plain_text(value);
    if (text) return set_answer(reader, row, resolve(row, called, text), text, got, error);
    int64_t number = json_integer_value(value);
    snprintf(reader->number, sizeof reader->number, "%lld", (long long)number);
    bool is_one = number >= 0 && number < (int64_t)row->option_count;
    return set_answer(reader, row, is_one ? (int32_t)number : -1, reader->number, got, error);
}

/* The column of that name, or of the first of the usual ones; -1: there is none. */
static int column_of(const hn_reader *reader, const char *name, const char *const *usual)
{
    const char *const one[] = {name, NULL};
    for (const char *const *wanted = name ? one : usual; *wanted; wanted++)
        for (size_t i = 0; i < reader->columns; i++)
            if (!strcmp(reader->raw.text + reader->cells[i], *wanted)) return (int)i;
    return -1;
}

/* Columns A, B, ... beside each other. */
static hn_status find_options(hn_reader *reader, hn_error *error)
{
    int first = column_of(reader, "A", NULL);
    size_t count = 0;
    while (first >= 0 && (size_t)first + count < reader->columns && count < HN_MAX_OPTIONS) {
        const char *name = reader->raw.text + reader->cells[(size_t)first + count];
        if (name[0] != (char)('A' + count) || name[1]) break;
        count++;
    }
    if (count < 2)
        return hn_fail(error, HN_ERR_FORMAT, "%s:%lld: expected columns A, B, ... beside each other in the header, got %zu of them",
                       hnp_reader_path(reader), (long long)reader->line, count);
    reader->choice_column = first;
    reader->header_options = count;
    return HN_OK;
}

hn_status hnp_questions_begin(hn_reader *reader, hn_error *error)
{
    const hn_question_fields *names = reader->options.questions;
    int question = column_of(reader, names->question, questions), answer = column_of(reader, names->answer, answers);
    reader->waiting = question < 0 || answer < 0;
    reader->column[HNP_TEXT] = reader->waiting ? 0 : question;
    reader->column[HNP_LABEL] = reader->waiting ? (int)reader->columns - 1 : answer;
    reader->subject_column = reader->waiting ? -1 : column_of(reader, names->subject, subjects);
    if (!reader->waiting) return find_options(reader, error);
    if ((names->question && question < 0) || (names->answer && answer < 0))
        return hn_fail(error, HN_ERR_FORMAT, "%s:%lld: expected a column \"%s\" in the header, got none", hnp_reader_path(reader),
                       (long long)reader->line, names->question && question < 0 ? names->question : names->answer);
    reader->choice_column = 1;
    reader->header_options = reader->columns < 3 ? 0 : reader->columns - 2;
    if (reader->header_options >= 2 && reader->header_options <= HN_MAX_OPTIONS) return HN_OK;
    return hn_fail(error, HN_ERR_FORMAT, "%s:%lld: expected a header with \"%s\" and \"%s\", or a question, 2 to %d options and the "
                   "answer, got %zu columns", hnp_reader_path(reader), (long long)reader->line, questions[0], answers[0],
                   HN_MAX_OPTIONS, reader->columns);
}

hn_status hnp_question_of_table(hn_reader *reader, hn_row *row, bool *got, bool *end, hn_error *error)
{
    bool good = reader->waiting;
    hn_status status = reader->waiting ? HN_OK : hnp_table_record(reader, &good, end, error);
    reader->waiting = false;
    if (status || !good) return status;
    if (reader->cell_count != reader->columns)
        return hnp_row_bad(reader, HN_BAD_COLUMNS, error, "expected %zu columns as in the first line, got %zu", reader->columns,
                           reader->cell_count);
    const char *text = reader->raw.text;
    row->text = text + reader->cells[reader->column[HNP_TEXT]];
    row->text_length = strlen(row->text);
    if (reader->subject_column >= 0) row->subject = text + reader->cells[reader->subject_column];
    for (size_t i = 0; i < reader->header_options; i++) {
        status = add_choice(reader, row, text + reader->cells[(size_t)reader->choice_column + i], error);
        if (status) return status;
    }
    const char *answer = text + reader->cells[reader->column[HNP_LABEL]];
    return set_answer(reader, row, resolve(row, NULL, answer), answer, got, error);
}
