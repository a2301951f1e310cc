/* Unigram (Kudo, "Subword Regularization", 2018): of all ways to write a word as a row of tokens the one with
 * the largest sum of scores, by Viterbi's algorithm from left to right. A character that is no token by
 * itself may also be unknown, for the lowest score of all less 10. Unknown characters beside each other are
 * one token, or their bytes' <0xNN>.
 *
 * best[i] is the best way to the first i bytes. Of equal ways the one found first stays, as in the reference,
 * whose sums (in double, from the left) these are. Tokens are at most HNP_MAX_ADDED_LENGTH bytes, which
 * bounds the work at each character. */
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_stages.h"

#define UNKNOWN_PENALTY 10.0

static bool unigram_word(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span word);

hn_status hnp_unigram_init(hn_tokenizer *tokenizer, double *scores, int64_t unknown_id, bool byte_fallback,
                           const char *where, hn_error *error)
{
    hnp_unigram_settings *unigram = &tokenizer->model.unigram;
    double lowest = INFINITY;
    unigram->scores = scores;
    for (size_t i = 0; i < tokenizer->size; i++) {
        size_t length = strlen(tokenizer->names[i].text);
        if (!length || length > HNP_MAX_ADDED_LENGTH)
            return hn_fail(error, HN_ERR_FORMAT, "%s.vocab[%zu]: a token of %d to %d bytes expected, got %zu",
                           where, i, 1, HNP_MAX_ADDED_LENGTH, length);
        if (scores[i] < lowest) lowest = scores[i];
    }
    if (unknown_id < 0 || (size_t)unknown_id >= tokenizer->size)
        return hn_fail(error, HN_ERR_FORMAT, "%s.unk_id: the id of a token expected, got %lld", where,
                       (long long)unknown_id);
    unigram->unknown = lowest - UNKNOWN_PENALTY;
    unigram->unknown_id = (int32_t)unknown_id;
    unigram->byte_fallback = byte_fallback;
    hnp_escapes_find(unigram->escape, tokenizer);
    tokenizer->model.word = unigram_word;
    hn_hasher_add_text(tokenizer->hasher, "Unigram");
    hnp_hash_int(tokenizer, unknown_id << 1 | byte_fallback);
    hn_hasher_add(tokenizer->hasher, scores, tokenizer->size * sizeof *scores);
    return HN_OK;
}

static inline void offer(hnp_best *to, double score, size_t start, int32_t id)
{
    if (to->start < 0 || score > to->score) *to = (hnp_best){score, (int32_t)start, id};
}

/* Fills best[0 ... length]. */
static void search(const hn_tokenizer *tokenizer, hnp_best *best, hnp_span word)
{
    const hnp_unigram_settings *unigram = &tokenizer->model.unigram;
    const hnp_trie *trie = &tokenizer->trie;
    for (size_t i = 0; i <= word.length; i++) best[i] = (hnp_best){0, -1, 0};
    for (size_t start = 0, taken; start < word.length; start += taken) {
        uint32_t point, node = 0;
        bool single = false;
        double here = best[start].score;
        taken = hnp_utf8_next(&point, word.text + start);
        for (size_t at = start; at < word.length;) {
            node = hnp_trie_step(trie, node, (unsigned char)word.text[at++]);
            if (!node) break;
            int32_t id = trie->units[node].value;
            if (id < 0) continue;
            offer(&best[at], unigram->scores[id] + here, start, id);
            single |= at - start == taken;
        }
        if (!single) offer(&best[start + taken], unigram->unknown + here, start, unigram->unknown_id);
    }
}

/* A stretch of unknown characters. */
static bool add_unknown(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span text)
{
    const hnp_unigram_settings *unigram = &tokenizer->model.unigram;
    int32_t id = hnp_trie_find(&tokenizer->trie, text.text, text.length);
    bool known = unigram->byte_fallback;
    if (id >= 0) return hnp_ids_add(scratch->ids, id);
    for (size_t i = 0; known && i < text.length; i++)
        known = unigram->escape[(unsigned char)text.text[i]] >= 0;
    if (!known) return hnp_ids_add(scratch->ids, unigram->unknown_id);
    for (size_t i = 0; i < text.length; i++)
        if (!hnp_ids_add(scratch->ids, unigram->escape[(unsigned char)text.text[i]])) return false;
    return true;
}

static bool unigram_word(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span word)
{
    int32_t unknown = tokenizer->model.unigram.unknown_id;
    void *memory = scratch->best;
    if (word.length >= INT32_MAX ||
        !hn_grow(&memory, &scratch->best_capacity, word.length + 1, sizeof(hnp_best)))
        return false;
    hnp_best *best = scratch->best = memory;
    search(tokenizer, best, word);
    /* The way back, turned round in place: best[start].id becomes the token that begins there, .score its
     * end. */
    size_t next = word.length;
    for (size_t end = word.length; end > 0;) {
        size_t start = (size_t)best[end].start;
        int32_t id = best[end].id;
        best[end].start = (int32_t)next;
        next = end;
        end = start;
        best[start].score = id; /* exact: ids are below 2^22 */
    }
    best[0].start = (int32_t)next;
    for (size_t start = 0; start < word.length;) {
        int32_t id = (int32_t)best[start].score;
        size_t end = (size_t)best[start].start;
        while (id == unknown && end < word.length && (int32_t)best[end].score == unknown)
            end = (size_t)best[end].start;
        bool added = id == unknown
                         ? add_unknown(tokenizer, scratch, (hnp_span){word.text + start, end - start, false})
                         : hnp_ids_add(scratch->ids, id);
        if (!added) return false;
        start = end;
    }
    return true;
}
