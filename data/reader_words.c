/* Rows of words with tags (see readers.h): {"words": ["Anna", "sleeps"], "tags": ["B-PER", "O"]}. They are given as messages: the
 * word is a message's text, its tag the input. Tags may be numbers. */
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "data/readers.h"

static hn_status take_text(hn_reader *reader, const json_t *value, const char *name, size_t number, const char **text,
                           size_t *length, hn_error *error)
{
    *text = json_string_value(value);
    if (!*text || memchr(*text, 0, json_string_length(value)) || !**text) {
        *text = NULL;
        return hnp_row_bad(reader, HN_BAD_TYPE, error, "field \"%s\": item %zu: expected a text that is not empty", name, number + 1);
    }
    *length = json_string_length(value);
    return HN_OK;
}

/* The list `name` of the row; NULL: a bad row was counted. */
static hn_status take_list(hn_reader *reader, const char *name, json_t **list, hn_error *error)
{
    *list = json_object_get(reader->value, name);
    if (json_is_array(*list) && json_array_size(*list)) return HN_OK;
    *list = NULL;
    return hnp_json_bad(reader, reader->value, name, "a list of texts", error);
}

/* Numbers become texts, in place, so that they live as long as the row. */
static bool number_to_text(json_t *list, size_t i)
{
    char text[32];
    const json_t *value = json_array_get(list, i);
    if (!json_is_integer(value)) return true;
    snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    return json_array_set_new(list, i, json_string(text)) == 0;
}

static hn_status take_words(hn_reader *reader, hn_row *row, const json_t *words, json_t *tags, bool *got, hn_error *error)
{
    void *messages = reader->messages;
    size_t count = json_array_size(words);
    if (!hn_grow(&messages, &reader->message_capacity, count, sizeof *reader->messages))
        return hn_fail(error, HN_ERR_MEMORY, "%s:%lld: out of memory", hnp_reader_path(reader), (long long)reader->line);
    reader->messages = messages;
    for (size_t i = 0; i < count; i++) {
        hn_message *message = &reader->messages[i];
        *message = (hn_message){0};
        hn_status status =
            take_text(reader, json_array_get(words, i), reader->field[HNP_TEXT], i, &message->text, &message->length, error);
        if (status || !message->text) return status;
        if (!tags) continue;
        if (!number_to_text(tags, i))
            return hn_fail(error, HN_ERR_MEMORY, "%s:%lld: out of memory", hnp_reader_path(reader), (long long)reader->line);
        status = take_text(reader, json_array_get(tags, i), reader->field[HNP_LABEL], i, &message->input, &message->input_length,
                           error);
        if (status || !message->input) return status;
    }
    row->messages = reader->messages;
    row->message_count = count;
    *got = true;
    return HN_OK;
}

hn_status hnp_words_of_json(hn_reader *reader, hn_row *row, bool *got, hn_error *error)
{
    json_t *words, *tags = NULL;
    hn_status status = take_list(reader, reader->field[HNP_TEXT], &words, error);
    if (status || !words) return status;
    if (reader->field[HNP_LABEL]) {
        status = take_list(reader, reader->field[HNP_LABEL], &tags, error);
        if (status || !tags) return status;
        if (json_array_size(words) != json_array_size(tags))
            return hnp_row_bad(reader, HN_BAD_TYPE, error, "field \"%s\": expected %zu tags, one a word, got %zu",
                               reader->field[HNP_LABEL], json_array_size(words), json_array_size(tags));
    }
    return take_words(reader, row, words, tags, got, error);
}
