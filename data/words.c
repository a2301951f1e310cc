/* The way from the splitters to the model: a cache of words. Text repeats its words, and a word's ids depend
 * on nothing but the word; so the ids of short words that came out lately are kept, per encoding (that is,
 * per thread) in a table of fixed size, one cache line a word:
 *
 *     length | count | word, up to 34 bytes | ids, up to 7
 *
 * A word has one place, by its hash; a word that comes later takes it. Longer words always go through the
 * model. */
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_stages.h"

#define BITS 15
#define WORD 34
#define IDS 7

struct hnp_word_entry {
    uint8_t length, count; /* length 0: free */
    char word[WORD];
    int32_t ids[IDS];
};
_Static_assert(sizeof(struct hnp_word_entry) == 64, "one cache line");

static size_t hash(const char *text, size_t length)
{
    const uint64_t factor = 0x9E3779B97F4A7C15u;
    uint64_t state = length * factor, eight = 0;
    for (; length > 8; text += 8, length -= 8) {
        memcpy(&eight, text, 8);
        state = (state ^ eight) * factor;
        state ^= state >> 29;
    }
    eight = 0;
    for (size_t i = 0; i < length; i++) eight |= (uint64_t)(unsigned char)text[i] << (8 * i);
    return (size_t)(((state ^ eight) * factor) >> (64 - BITS));
}

bool hnp_words_prepare(const hn_tokenizer *tokenizer, hnp_scratch *scratch)
{
    if (scratch->words && hn_digest_equal(scratch->words_of, tokenizer->digest)) return true;
    hn_free(scratch->words);
    scratch->words = hn_calloc((size_t)1 << BITS, sizeof *scratch->words);
    scratch->words_of = tokenizer->digest;
    return scratch->words != NULL;
}

bool hnp_word(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span word)
{
    hnp_ids *ids = scratch->ids;
    scratch->joined = false;
    if (word.length > WORD || !word.length) return tokenizer->model.word(tokenizer, scratch, word);
    hnp_word_entry *entry = &scratch->words[hash(word.text, word.length)];
    if (entry->length == word.length && !memcmp(entry->word, word.text, word.length)) {
        if (ids->count + IDS > ids->capacity) {
            void *memory = ids->items;
            if (!hn_grow(&memory, &ids->capacity, ids->count + IDS, sizeof *ids->items)) return false;
            ids->items = memory;
        }
        memcpy(ids->items + ids->count, entry->ids, sizeof entry->ids);
        ids->count += entry->count;
        return true;
    }
    size_t before = ids->count;
    if (!tokenizer->model.word(tokenizer, scratch, word)) return false;
    if (ids->count - before > IDS) return true;
    entry->length = (uint8_t)word.length;
    entry->count = (uint8_t)(ids->count - before);
    memcpy(entry->word, word.text, word.length);
    if (entry->count) memcpy(entry->ids, ids->items + before, entry->count * sizeof *ids->items);
    return true;
}
