/* Documents and pieces of them as blocks: of at most max_tokens, following each other, so that nothing is lost.
 *
 * For TEXT the special tokens are the document's: before its first piece and behind its last, with the end token. A block has
 * two tokens or more, as its first is no target: where one alone would be left, the block before is one shorter. For MASKED they
 * are every block's, as the model has never seen a text without them. */
#include "data/encoder.h"

/* Ends blocks of `left` tokens that begin at token `from` of the slot. */
static hn_status cut_text(const hnp_encode_options *o, struct hnp_slot *slot, size_t number, size_t from, int32_t left)
{
    hn_status status = HN_OK;
    while (left && !status) {
        int32_t length = left <= o->max_tokens ? left : o->max_tokens - (left == o->max_tokens + 1);
        from += (size_t)length;
        left -= length;
        status = hnp_slot_example(slot, number, from, length);
    }
    return status;
}

static hn_status keep_text(const hnp_encode_options *o, const hnp_frame *frame, struct hnp_slot *slot, size_t number, bool wide,
                           const hn_encoding *encoding)
{
    struct hnp_item *item = &slot->items[number];
    bool special = !item->continues || !item->unfinished;
    int32_t first = special && item->continues ? frame->before : 0;
    int32_t end = encoding->count - (special && item->unfinished ? frame->behind : 0);
    bool ends = !item->unfinished && o->end_token >= 0 && (end == first || encoding->ids[end - 1] != o->end_token);
    size_t from = slot->token_count;
    item->tokens = end - first + ends;
    if (item->tokens < 2) return HN_OK;
    hn_status status = hnp_slot_tokens(slot, encoding->ids + first, (size_t)(end - first), wide);
    if (!status && ends) status = hnp_slot_tokens(slot, &o->end_token, 1, wide);
    return status ? status : cut_text(o, slot, number, from, item->tokens);
}

static hn_status keep_masked(const hnp_encode_options *o, const hnp_frame *frame, struct hnp_slot *slot, size_t number, bool wide,
                             const hn_encoding *encoding)
{
    int32_t room = o->max_tokens - frame->before - frame->behind;
    hn_status status = HN_OK;
    slot->items[number].tokens = encoding->count;
    if (room < 1)
        return hn_fail(&slot->error, HN_ERR_USAGE, "data.max_tokens: expected more than the %d special tokens of a block, got %d",
                       (int)(frame->before + frame->behind), (int)o->max_tokens);
    for (int32_t at = 0; at < encoding->count && !status; at += room) {
        int32_t count = encoding->count - at < room ? encoding->count - at : room;
        status = hnp_slot_tokens(slot, frame->ids, (size_t)frame->before, wide);
        if (!status) status = hnp_slot_tokens(slot, encoding->ids + at, (size_t)count, wide);
        if (!status) status = hnp_slot_tokens(slot, frame->ids + frame->before, (size_t)frame->behind, wide);
        if (!status)
            status = hnp_slot_example(slot, number, slot->token_count, frame->before + count + frame->behind);
    }
    return status;
}

hn_status hnp_encode_document(const hnp_encode_options *o, const hnp_frame *frame, struct hnp_slot *slot, size_t number, bool wide,
                              hn_encoding *encoding)
{
    const struct hnp_item *item = &slot->items[number];
    bool masked = o->task == HN_DATA_MASKED, special = !masked && (!item->continues || !item->unfinished);
    hn_status status = hn_tokenizer_encode(o->tokenizer, encoding, slot->texts.text + item->text, item->text_length, NULL, 0,
                                           special, 0, &slot->error);
    return status ? status : (masked ? keep_masked : keep_text)(o, frame, slot, number, wide, encoding);
}

hn_status hnp_count_document(const hnp_encode_options *o, const struct hnp_item *item, hn_error *error)
{
    if (o->task == HN_DATA_MASKED)
        return hn_bad_row(o->bad, HN_BAD_NOTHING, item->path, item->line, error, "expected a token or more, got none");
    return hn_bad_row(o->bad, HN_BAD_NOTHING, item->path, item->line, error,
                      "expected two tokens or more, of which the first is not predicted, got %d", (int)item->tokens);
}
