/* Rows that are conversations (see readers.h), in the shapes that instruction data come in:
 *
 *     alpaca    {"instruction": ..., "input": ..., "output": ...}     a user's turn, perhaps with an input; the answer
 *     prompt    {"prompt": ..., "completion": ...}                    the same without input; both may be lists of messages
 *     messages  {"messages": [{"role": ..., "content": ...}, ...]}    any turns
 *               {"conversations": [{"from": "human", "value": ...}]}  as ShareGPT has them
 *
 * Which one a file holds is told by its first row, unless the config says so; a later row of another shape is
 * a bad row like one that lacks a field. Whether the turns make a conversation is the template's matter. */
#include <string.h>

#include "core/mem.h"
#include "data/readers.h"

static const char *const other_list = "conversations";

/* The names of the fields for the file's kind. */
static void set_fields(hn_reader *reader, hnp_has_field *has)
{
    const hn_turn_fields *names = reader->options.turns;
    const char **field = reader->field;
    memset(field, 0, sizeof reader->field);
    switch (reader->turns) {
    case HN_TURNS_AUTO: break;
    case HN_TURNS_ALPACA:
        field[HNP_TEXT] = names->instruction;
        field[HNP_PAIR] = names->output;
        field[HNP_INPUT] = names->input;
        break;
    case HN_TURNS_PROMPT:
        field[HNP_TEXT] = names->prompt;
        field[HNP_PAIR] = names->completion;
        break;
    case HN_TURNS_MESSAGES:
        field[HNP_TEXT] = names->messages           ? names->messages
                          : has(reader, other_list) ? other_list
                                                    : "messages";
        break;
    }
}

static bool has_pair(const hn_reader *reader, hnp_has_field *has, const char *first, const char *second)
{
    return first && second && has(reader, first) && has(reader, second);
}

hn_status hnp_turns_tell(hn_reader *reader, hnp_has_field *has, bool *known, hn_error *error)
{
    const hn_turn_fields *names = reader->options.turns;
    const char *list = names->messages ? names->messages : "messages";
    if (reader->turns == HN_TURNS_AUTO) {
        if (has(reader, list) || (!names->messages && has(reader, other_list)))
            reader->turns = HN_TURNS_MESSAGES;
        else if (has_pair(reader, has, names->instruction, names->output))
            reader->turns = HN_TURNS_ALPACA;
        else if (has_pair(reader, has, names->prompt, names->completion))
            reader->turns = HN_TURNS_PROMPT;
    }
    set_fields(reader, has);
    *known = reader->turns != HN_TURNS_AUTO;
    if (*known) return HN_OK;
    return hnp_row_bad(
        reader, HN_BAD_MISSING, error,
        "expected a field \"%s\", or \"%s\" and \"%s\", or \"%s\" and \"%s\", got none of them; data.fields "
        "names others",
        list, names->instruction ? names->instruction : "", names->output ? names->output : "",
        names->prompt ? names->prompt : "", names->completion ? names->completion : "");
}

static hn_status add_message(hn_reader *reader, hn_message message, hn_error *error)
{
    void *messages = reader->messages;
    if (!hn_grow(&messages, &reader->message_capacity, reader->message_count + 1, sizeof message))
        return hn_fail(error, HN_ERR_MEMORY, "%s:%lld: out of memory", hnp_reader_path(reader),
                       (long long)reader->line);
    reader->messages = messages;
    reader->messages[reader->message_count++] = message;
    return HN_OK;
}

hn_status hnp_turns_of_texts(hn_reader *reader, hn_row *row, const char *input, size_t input_length,
                             hn_error *error)
{
    hn_message asked = {.role = HN_ROLE_USER, .text = row->text, .length = row->text_length};
    hn_message answer = {.role = HN_ROLE_ASSISTANT, .text = row->pair, .length = row->pair_length};
    if (input_length) {
        asked.input = input;
        asked.input_length = input_length;
    }
    reader->message_count = 0;
    hn_status status = add_message(reader, asked, error);
    if (!status) status = add_message(reader, answer, error);
    row->messages = reader->messages;
    row->message_count = reader->message_count;
    row->text = row->pair = NULL;
    row->text_length = row->pair_length = 0;
    return status;
}

/* What the roles of the two spellings are called. */
static bool find_role(hn_role *role, const char *name)
{
    static const struct {
        const char *name;
        hn_role role;
    } known[] = {{"system", HN_ROLE_SYSTEM},       {"user", HN_ROLE_USER},     {"human", HN_ROLE_USER},
                 {"assistant", HN_ROLE_ASSISTANT}, {"gpt", HN_ROLE_ASSISTANT}, {"model", HN_ROLE_ASSISTANT}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(known[i].name, name)) {
            *role = known[i].role;
            return true;
        }
    return false;
}

/* One message of the list `name`; *good false: a bad row was counted. */
static hn_status take_message(hn_reader *reader, const json_t *item, size_t number, const char *name,
                              bool *good, hn_error *error)
{
    hn_message message = {0};
    const char *role = NULL;
    size_t length;
    *good = false;
    if (!json_is_object(item))
        return hnp_row_bad(reader, HN_BAD_TYPE, error,
                           "field \"%s\": message %zu: expected an object, got something else", name,
                           number + 1);
    bool shared = json_object_get(item, "from") && !json_object_get(item, "role");
    hn_status status = hnp_json_text(reader, item, shared ? "from" : "role", false, &role, &length, error);
    if (status || !role) return status;
    status = hnp_json_text(reader, item, shared ? "value" : "content", false, &message.text, &message.length,
                           error);
    if (status || !message.text) return status;
    if (!find_role(&message.role, role))
        return hnp_row_bad(
            reader, HN_BAD_TURNS, error,
            "field \"%s\": message %zu: expected a role of system, user, assistant, got \"%.60s\"", name,
            number + 1, role);
    *good = true;
    return add_message(reader, message, error);
}

static hn_status take_list(hn_reader *reader, const char *name, bool *good, hn_error *error)
{
    const json_t *list = json_object_get(reader->value, name);
    hn_status status = HN_OK;
    *good = false;
    if (!json_is_array(list)) return hnp_json_bad(reader, reader->value, name, "a list of messages", error);
    *good = true;
    for (size_t i = 0; i < json_array_size(list) && *good && !status; i++)
        status = take_message(reader, json_array_get(list, i), i, name, good, error);
    return status;
}

static bool has_member(const hn_reader *reader, const char *name)
{
    return json_object_get(reader->value, name) != NULL;
}

/* Instruction and answer, or prompt and completion. */
static hn_status take_texts(hn_reader *reader, hn_row *row, bool *got, hn_error *error)
{
    const char *const *field = reader->field, *input = NULL;
    const json_t *value = field[HNP_INPUT] ? json_object_get(reader->value, field[HNP_INPUT]) : NULL;
    size_t input_length = 0;
    hn_status status =
        hnp_json_text(reader, reader->value, field[HNP_TEXT], false, &row->text, &row->text_length, error);
    if (status || !row->text) return status;
    status =
        hnp_json_text(reader, reader->value, field[HNP_PAIR], false, &row->pair, &row->pair_length, error);
    if (status || !row->pair) return status;
    if (value && !json_is_null(value)) {
        status = hnp_json_text(reader, reader->value, field[HNP_INPUT], false, &input, &input_length, error);
        if (status || !input) return status;
    }
    *got = true;
    return hnp_turns_of_texts(reader, row, input, input_length, error);
}

hn_status hnp_turns_of_json(hn_reader *reader, hn_row *row, bool *got, hn_error *error)
{
    bool good;
    hn_status status = hnp_turns_tell(reader, has_member, &good, error);
    if (status || !good) return status;
    bool lists = reader->turns == HN_TURNS_PROMPT &&
                 json_is_array(json_object_get(reader->value, reader->field[HNP_TEXT]));
    if (reader->turns != HN_TURNS_MESSAGES && !lists) return take_texts(reader, row, got, error);
    reader->message_count = 0;
    status = take_list(reader, reader->field[HNP_TEXT], &good, error);
    if (!status && good && lists) status = take_list(reader, reader->field[HNP_PAIR], &good, error);
    row->messages = reader->messages;
    row->message_count = reader->message_count;
    *got = good;
    return status;
}
