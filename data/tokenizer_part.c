/* Parts of sequences (tokenizer.h): what templates are put together from.
 *
 * Control tokens belong to templates; the text of a data row must not be able to say "<|im_end|>" and mean
 * it. So while a part is encoded, special added tokens are not looked for (added.c asks hnp_id_barred). That
 * leaves the model itself: a vocabulary may hold "</s>" as an ordinary piece that its merges or its Viterbi
 * search arrive at. Such an id is taken out again and its characters go to the model one by one. Ids that a
 * template puts in do not come this way. */
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_stages.h"

int32_t hn_tokenizer_lead(const hn_tokenizer *tokenizer, size_t number)
{
    const hnp_template *around = &tokenizer->single;
    for (size_t i = 0; i <= number; i++)
        if (i == around->count || around->pieces[i].id < 0) return -1;
    return around->pieces[number].id;
}

size_t hn_tokenizer_special_at(const hn_tokenizer *tokenizer, const char *text, size_t length, int32_t *id)
{
    size_t longest = 0;
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const hnp_added_token *token = &tokenizer->added[i];
        size_t size = strlen(token->content);
        if (!token->special || size <= longest || size > length || memcmp(token->content, text, size))
            continue;
        longest = size;
        *id = token->id;
    }
    return longest;
}

bool hnp_id_barred(const hn_tokenizer *tokenizer, const hnp_scratch *scratch, int32_t id)
{
    if (tokenizer->names[id].special) return true;
    for (size_t i = 0; i < scratch->barred_count; i++)
        if (scratch->barred[i] == id) return true;
    return false;
}

/* The characters of a barred token, each as a word of its own. */
static bool spell(const hn_tokenizer *tokenizer, hnp_scratch *scratch, int32_t id)
{
    const char *name = tokenizer->names[id].text;
    size_t length = strlen(name), before = scratch->ids->count;
    for (size_t at = 0; at < length;) {
        uint32_t point;
        size_t taken = hnp_utf8_next(&point, name + at);
        if (!hnp_word(tokenizer, scratch, (hnp_span){name + at, taken, false})) return false;
        at += taken;
    }
    for (size_t i = before; i < scratch->ids->count; i++)
        if (hnp_id_barred(tokenizer, scratch, scratch->ids->items[i])) {
            scratch->refused = "a character of it is a special token, which text cannot stand for";
            return false;
        }
    return true;
}

/* Control tokens that the model came to by itself, replaced in the list of ids. */
static bool replace_barred(const hn_tokenizer *tokenizer, hnp_scratch *scratch)
{
    hnp_ids *from = &scratch->text, *to = &scratch->pair;
    size_t i = 0;
    while (i < from->count && !hnp_id_barred(tokenizer, scratch, from->items[i])) i++;
    if (i == from->count) return true;
    to->count = 0;
    scratch->ids = to;
    for (i = 0; i < from->count; i++) {
        int32_t id = from->items[i];
        if (hnp_id_barred(tokenizer, scratch, id) ? !spell(tokenizer, scratch, id) : !hnp_ids_add(to, id))
            return false;
    }
    hnp_ids other = *from;
    *from = *to;
    *to = other;
    return true;
}

hn_status hn_tokenizer_encode_part(const hn_tokenizer *tokenizer, hn_encoding *out, const char *text,
                                   size_t length, hn_part_place place, const int32_t *barred, size_t count,
                                   hn_error *error)
{
    hnp_scratch *scratch = hnp_scratch_take(tokenizer, out);
    if (!scratch) return hnp_encode_failed(scratch, length, error);
    scratch->plain = true;
    scratch->joined = place == HN_PART_JOINED;
    scratch->barred = barred;
    scratch->barred_count = count;
    if (!hnp_encode_text(tokenizer, scratch, &scratch->text,
                         (hnp_span){text, length, place == HN_PART_FIRST}) ||
        !replace_barred(tokenizer, scratch) || !hnp_encoding_reserve(out, scratch->text.count))
        return hnp_encode_failed(scratch, length, error);
    out->count = (int32_t)scratch->text.count;
    if (out->count) memcpy(out->ids, scratch->text.items, scratch->text.count * sizeof *out->ids);
    if (out->count) memset(out->types, 0, scratch->text.count * sizeof *out->types);
    return HN_OK;
}
