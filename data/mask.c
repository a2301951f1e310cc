/* See mask.h. BERT's rule (Devlin et al. 2018, section 3.1): a token is chosen with some probability, and of those chosen 80 %
 * become the mask token, 10 % another token at random, 10 % stay; at least one of an example is chosen, as there. With whole
 * words the choice is a word's, made at its first token.
 *
 * Random numbers are keyed by (seed, step, example, position): the words of one Philox block say whether a token is chosen, what
 * becomes of it, and which other token it is. So a mask depends neither on the batch nor on slices, changes every epoch, and
 * hn_dataset_targets counts what hn_dataset_fill will give. */
#include "data/mask.h"

#include <string.h>

#include "core/mem.h"
#include "core/philox.h"

hn_status hnp_frame_measure(hnp_frame *frame, const hn_tokenizer *tokenizer, hn_error *error)
{
    hn_encoding framed, plain;
    *frame = (hnp_frame){0};
    hn_encoding_init(&framed);
    hn_encoding_init(&plain);
    hn_status status = hn_tokenizer_encode(tokenizer, &framed, "a", 1, NULL, 0, true, 0, error);
    if (!status) status = hn_tokenizer_encode(tokenizer, &plain, "a", 1, NULL, 0, false, 0, error);
    if (!status && framed.count - plain.count > HNP_FRAME)
        status = hn_fail(error, HN_ERR_UNSUPPORTED, "tokenizer: expected at most %d special tokens around a text, got %d",
                         (int)HNP_FRAME, (int)(framed.count - plain.count));
    if (!status) {
        size_t bytes = (size_t)plain.count * sizeof *plain.ids;
        int32_t more = framed.count - plain.count;
        while (frame->before < more && memcmp(framed.ids + frame->before, plain.ids, bytes)) frame->before++;
        frame->behind = more - frame->before;
        for (int32_t i = 0; i < more; i++)
            frame->ids[i] = framed.ids[i < frame->before ? i : i + plain.count];
    }
    hn_encoding_close(&framed);
    hn_encoding_close(&plain);
    return status;
}

static bool is_piece(const char *token)
{
    return !strncmp(token, "##", 2) && token[2];
}

/* With the sign of a space before it: that of byte-level tokenizers, or SentencePiece's. */
static bool has_space(const char *token)
{
    return !strncmp(token, "\xc4\xa0", 2) || !strncmp(token, "\xe2\x96\x81", 3);
}

/* Marks the tokens that go on a word: "##x", or those without the sign of a space, whichever spelling the vocabulary has more of.
 * (RoBERTa's holds "###" among its words, and mBERT's the signs of spaces as letters.) */
static hn_status mark_words(hnp_masking *masking, const hn_tokenizer *tokenizer, hn_error *error)
{
    int32_t pieces = 0, spaces = 0;
    masking->goes_on = hn_calloc((size_t)masking->vocabulary, 1);
    if (!masking->goes_on) return hn_fail(error, HN_ERR_MEMORY, "data.mask_words: out of memory");
    for (int32_t id = 0; id < masking->vocabulary; id++) {
        const char *token = hn_tokenizer_token(tokenizer, id);
        pieces += token && is_piece(token);
        spaces += token && has_space(token);
    }
    for (int32_t id = 0; id < masking->vocabulary; id++) {
        const char *token = hn_tokenizer_token(tokenizer, id);
        masking->goes_on[id] = token && (spaces > pieces ? !has_space(token) : is_piece(token));
    }
    return HN_OK;
}

hn_status hnp_masking_init(hnp_masking *masking, const hn_tokenizer *tokenizer, double probability, bool whole_words,
                           hn_error *error)
{
    *masking = (hnp_masking){.probability = probability, .vocabulary = hn_tokenizer_vocabulary(tokenizer)};
    masking->token = hn_tokenizer_id(tokenizer, "[MASK]");
    if (masking->token < 0) masking->token = hn_tokenizer_id(tokenizer, "<mask>");
    if (masking->token < 0)
        return hn_fail(error, HN_ERR_UNSUPPORTED, "task.kind: mlm: expected a tokenizer with a token [MASK] or <mask>, got none");
    hn_status status = hnp_frame_measure(&masking->frame, tokenizer, error);
    return !status && whole_words ? mark_words(masking, tokenizer, error) : status;
}

void hnp_masking_close(hnp_masking *masking)
{
    hn_free(masking->goes_on);
    *masking = (hnp_masking){0};
}

static hn_philox4 words_of(const hn_draw *draw, uint32_t example, int32_t position)
{
    return hn_philox(draw->seed, (uint32_t)position, HN_SITE(0, HN_SITE_MASK, 0), example, draw->step);
}

/* What stands in the place of a chosen token. */
static int32_t replacement(const hnp_masking *masking, int32_t token, hn_philox4 r)
{
    float u = hn_uniform(r.word[1]);
    if (u < 0.8f) return masking->token;
    if (u < 0.9f) return (int32_t)(((uint64_t)r.word[2] * (uint64_t)masking->vocabulary) >> 32);
    return token;
}

/* Whether the token at `position` begins a word; each does when words are not kept whole. */
static bool begins(const hnp_masking *masking, const hnp_ids *ids, int32_t position)
{
    return position == masking->frame.before || !masking->goes_on || !masking->goes_on[hnp_id(ids, position)];
}

/* The place whose number is the lowest: it is chosen in any case. */
static int32_t find_least(const hnp_masking *masking, const hnp_ids *ids, int32_t end, uint32_t example, const hn_draw *draw)
{
    uint64_t lowest = UINT64_MAX;
    int32_t least = masking->frame.before;
    for (int32_t i = masking->frame.before; i < end; i++) {
        uint64_t word = begins(masking, ids, i) ? words_of(draw, example, i).word[0] : UINT64_MAX;
        if (word >= lowest) continue;
        lowest = word;
        least = i;
    }
    return least;
}

int32_t hnp_mask(const hnp_masking *masking, int32_t *token, int32_t *target, const hnp_ids *ids, uint32_t example,
                 const hn_draw *draw)
{
    int32_t end = ids->count - masking->frame.behind, count = 0, least = find_least(masking, ids, end, example, draw);
    bool chosen = false;
    for (int32_t i = 0; target && i < ids->count; i++) target[i] = HN_NO_TARGET;
    for (int32_t i = masking->frame.before; i < end; i++) {
        hn_philox4 r = words_of(draw, example, i);
        if (begins(masking, ids, i)) chosen = (double)hn_uniform(r.word[0]) < masking->probability || i == least;
        if (!chosen) continue;
        count++;
        if (!target) continue;
        target[i] = hnp_id(ids, i);
        token[i] = replacement(masking, target[i], r);
    }
    return count;
}
