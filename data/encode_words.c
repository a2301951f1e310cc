/* Words with tags in the encoder (encoder.h). Every word is tokenized by itself, with a space before it (byte-level tokenizers
 * tell words by it, others drop it), and its first token carries the tag in the marks: tag + 1, 0 for tokens that have none. In
 * rows without tags, to be predicted, every first token has the mark 1. A word without a token is unknown. A row that a cut leaves
 * without a tag is no example: it would have nothing to learn. */
#include <string.h>

#include "core/mem.h"
#include "data/encoder.h"

hn_status hnp_check_words(const hnp_encode_options *o, const hn_row *row, bool *good, hn_error *error)
{
    int32_t label, known = 0;
    float value;
    char expected[400];
    *good = true;
    for (size_t i = 0; o->labels && i < row->message_count; i++) {
        hn_label_kind kind = hn_labels_resolve(o->labels, row->messages[i].input, &label, &value);
        known += kind == HN_LABEL_CLASS;
        if (kind != HN_LABEL_BAD) continue;
        *good = false;
        hn_labels_describe(o->labels, expected, sizeof expected);
        return hn_bad_row(o->bad, HN_BAD_LABEL, row->path, row->line, error, "word %zu: expected %s, got \"%.60s\"", i + 1, expected,
                          row->messages[i].input);
    }
    if (known || !o->labels) return HN_OK;
    *good = false;
    return hn_bad_row(o->bad, HN_BAD_NOTHING, row->path, row->line, error, "expected a word with a tag, got none");
}

/* The tokens of a word, and what its tag is. */
static hn_status encode_word(const hnp_encode_options *o, struct hnp_slot *slot, const struct hnp_turn_at *at, int32_t unknown,
                             hn_encoding *encoding, uint16_t *mark)
{
    int32_t label = 0;
    float value;
    hn_status status = hn_tokenizer_encode(o->tokenizer, encoding, slot->texts.text + at->text, at->length, NULL, 0, false, 0,
                                           &slot->error);
    if (!status && !encoding->count && unknown < 0)
        return hn_fail(&slot->error, HN_ERR_UNSUPPORTED, "tokenizer: expected an unknown token for a word that has none");
    *mark = 1;
    if (status || !o->labels) return status;
    hn_label_kind kind = hn_labels_resolve(o->labels, slot->texts.text + at->input, &label, &value);
    *mark = (uint16_t)(kind == HN_LABEL_CLASS ? label + 1 : 0);
    return HN_OK;
}

static hn_status add(struct hnp_slot *slot, const int32_t *ids, int32_t count, uint16_t mark, bool wide)
{
    void *memory = slot->marks;
    if (!hn_grow(&memory, &slot->mark_capacity, slot->mark_count + (size_t)count, sizeof *slot->marks))
        return hn_fail(&slot->error, HN_ERR_MEMORY, "encoding: out of memory");
    slot->marks = memory;
    for (int32_t i = 0; i < count; i++) slot->marks[slot->mark_count++] = i ? 0 : mark;
    return hnp_slot_tokens(slot, ids, (size_t)count, wide);
}

hn_status hnp_encode_words(const hnp_encode_options *o, const hnp_frame *frame, struct hnp_slot *slot, size_t number, bool wide,
                           hn_encoding *encoding)
{
    struct hnp_item *item = &slot->items[number];
    int32_t unknown = hn_tokenizer_id(o->tokenizer, "[UNK]"), used = frame->before, room = o->max_tokens - frame->behind;
    if (unknown < 0) unknown = hn_tokenizer_id(o->tokenizer, "<unk>");
    size_t tokens = slot->token_count, marks = slot->mark_count;
    bool cut = false, taught = !o->labels;
    if (room <= frame->before)
        return hn_fail(&slot->error, HN_ERR_USAGE, "data.max_tokens: expected more than the %d special tokens of a row, got %d",
                       (int)(frame->before + frame->behind), (int)o->max_tokens);
    hn_status status = add(slot, frame->ids, frame->before, 0, wide);
    for (size_t i = 0; i < item->message_count && !status && !cut; i++) {
        uint16_t mark = 0;
        status = encode_word(o, slot, &slot->messages[item->first_message + i], unknown, encoding, &mark);
        if (status) break;
        const int32_t *ids = encoding->count ? encoding->ids : &unknown;
        int32_t count = encoding->count ? encoding->count : 1;
        cut = count > room - used;
        if (cut) count = room - used;
        if (count) status = add(slot, ids, count, mark, wide);
        taught |= count && mark;
        used += count;
    }
    if (!status && !taught) { /* every word with a tag was cut */
        slot->token_count = tokens;
        slot->mark_count = marks;
        return HN_OK;
    }
    slot->truncated += cut;
    if (!status) status = add(slot, frame->ids + frame->before, frame->behind, 0, wide);
    return status ? status : hnp_slot_example(slot, number, slot->token_count, used + frame->behind);
}

hn_status hnp_count_words(const hnp_encode_options *o, const struct hnp_item *item, hn_error *error)
{
    return hn_bad_row(o->bad, HN_BAD_NOTHING, item->path, item->line, error,
                      "expected a word with a tag in its first %d tokens (data.max_tokens), got none", (int)o->max_tokens);
}
