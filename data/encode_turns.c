/* Conversations in the encoder (encoder.h). While rows are read, in their order: is this a conversation for
 * the template, and has it anything to learn? By whoever encodes: ids and marks, and data.on_long. When slots
 * are appended, in their order again: rows that a cut or a limit left without a target are counted. So what
 * is counted, and which error comes first, does not depend on threads. */
#include <string.h>

#include "core/mem.h"
#include "data/encoder.h"

static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r\n\f\v", text[i])) return false;
    return true;
}

/* Does it hold words that are trained on? */
static bool teaches(unsigned loss, const hn_row *row)
{
    for (size_t i = 0; i < row->message_count; i++) {
        const hn_message *message = &row->messages[i];
        bool chosen = loss & HN_LOSS_ALL || loss >> message->role & 1;
        if (chosen &&
            !(is_blank(message->text, message->length) && is_blank(message->input, message->input_length)))
            return true;
    }
    return false;
}

hn_status hnp_check_turns(const hnp_encode_options *options, const hn_row *row, bool *good, hn_error *error)
{
    const char *refusal = hn_template_refusal(options->chat, row->messages, row->message_count);
    *good = false;
    if (refusal)
        return hn_bad_row(options->bad, HN_BAD_TURNS, row->path, row->line, error, "template %s: %s",
                          hn_template_name(options->chat), refusal);
    *good = teaches(hn_template_loss(options->chat), row);
    if (*good) return HN_OK;
    return hn_bad_row(options->bad, HN_BAD_NOTHING, row->path, row->line, error,
                      "expected words to train on (data.loss), got an empty answer");
}

static size_t keep_text(struct hnp_slot *slot, const char *text, size_t length)
{
    size_t at = slot->texts.length;
    if (length) hn_strbuf_add(&slot->texts, text, length);
    return at;
}

bool hnp_take_turns(struct hnp_slot *slot, struct hnp_item *item, const hn_row *row, bool words)
{
    void *messages = slot->messages;
    item->first_message = slot->message_count;
    item->message_count = row->message_count;
    if (!row->message_count) return true;
    if (!hn_grow(&messages, &slot->message_capacity, slot->message_count + row->message_count,
                 sizeof *slot->messages))
        return false;
    slot->messages = messages;
    for (size_t i = 0; i < row->message_count; i++) {
        const hn_message *from = &row->messages[i];
        struct hnp_turn_at *to = &slot->messages[slot->message_count++];
        *to = (struct hnp_turn_at){
            .role = from->role, .length = from->length + words, .input_length = from->input_length};
        if (words) hn_strbuf_putc(&slot->texts, ' ');
        to->text = keep_text(slot, from->text, from->length) - words;
        to->input = keep_text(slot, from->input, from->input_length);
        if (words) hn_strbuf_putc(&slot->texts, '\0'); /* ends the tag */
    }
    return !slot->texts.failed;
}

static bool view_messages(struct hnp_slot *slot, const struct hnp_item *item)
{
    void *views = slot->views;
    if (!hn_grow(&views, &slot->view_capacity, item->message_count, sizeof *slot->views)) return false;
    slot->views = views;
    for (size_t i = 0; i < item->message_count; i++) {
        const struct hnp_turn_at *at = &slot->messages[item->first_message + i];
        slot->views[i] = (hn_message){.role = at->role,
                                      .text = slot->texts.text + at->text,
                                      .length = at->length,
                                      .input = at->input_length ? slot->texts.text + at->input : NULL,
                                      .input_length = at->input_length};
    }
    return true;
}

static hn_status keep_marks(struct hnp_slot *slot, const uint16_t *marks, size_t count)
{
    void *memory = slot->marks;
    if (!hn_grow(&memory, &slot->mark_capacity, slot->mark_count + count, sizeof *slot->marks))
        return hn_fail(&slot->error, HN_ERR_MEMORY, "encoding: out of memory");
    slot->marks = memory;
    memcpy(slot->marks + slot->mark_count, marks, count * sizeof *marks);
    slot->mark_count += count;
    return HN_OK;
}

hn_status hnp_encode_turns(const hnp_encode_options *options, struct hnp_slot *slot, size_t number, bool wide,
                           hn_dialog *room)
{
    struct hnp_item *item = &slot->items[number];
    if (!view_messages(slot, item)) return hn_fail(&slot->error, HN_ERR_MEMORY, "encoding: out of memory");
    hn_status status =
        hn_template_encode(options->chat, room, slot->views, item->message_count, false, &slot->error);
    if (status) return status;
    bool cut = room->count > options->max_tokens, trained = false;
    int32_t length = cut ? options->max_tokens : room->count;
    item->tokens = room->count;
    for (int32_t i = 1; i < length; i++) trained |= room->marks[i];
    if (!trained || (cut && options->on_long != HN_LONG_CUT)) return HN_OK;
    slot->truncated += cut;
    status = hnp_slot_tokens(slot, room->ids, (size_t)length, wide);
    if (!status) status = keep_marks(slot, room->marks, (size_t)length);
    return status ? status : hnp_slot_example(slot, number, slot->token_count, length);
}

hn_status hnp_count_turns(const hnp_encode_options *options, const struct hnp_item *item, hn_error *error)
{
    hn_bad_rows *bad = options->bad;
    bool skip = bad->skip;
    if (item->tokens > options->max_tokens && options->on_long == HN_LONG_CUT)
        return hn_bad_row(
            bad, HN_BAD_NOTHING, item->path, item->line, error,
            "expected words to train on in the first %d of its %d tokens (data.max_tokens), got none",
            (int)options->max_tokens, (int)item->tokens);
    if (item->tokens <= options->max_tokens)
        return hn_bad_row(bad, HN_BAD_NOTHING, item->path, item->line, error,
                          "expected words to train on (data.loss) behind the first token, got none");
    if (options->on_long == HN_LONG_REFUSE)
        return hn_fail(
            error, HN_ERR_FORMAT,
            "%s:%lld: expected at most %d tokens (data.max_tokens), got %d; data.on_long cuts or skips "
            "such rows",
            item->path, (long long)item->line, (int)options->max_tokens, (int)item->tokens);
    bad->skip = true;
    hn_bad_row(bad, HN_BAD_TOKENS, item->path, item->line, error,
               "expected at most %d tokens (data.max_tokens), got %d", (int)options->max_tokens,
               (int)item->tokens);
    bad->skip = skip;
    return HN_OK;
}
