/* WordPiece: a word is taken apart greedily, each time the longest token; pieces behind the first carry a
 * prefix ("##"). A word that cannot be taken apart to its end, or is longer than max_chars characters, is one
 * unknown token.
 *
 * One trie serves both kinds of piece: tokens that begin with the prefix lie below the node that the prefix
 * leads to, and a search for a later piece starts there instead of at the root. A search walks on past
 * shorter tokens until no token can follow, so the longest one seen is the longest there is; words are at
 * most max_chars characters, which bounds what is walked in vain. Tokens are valid UTF-8, so pieces end where
 * characters end. */
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_stages.h"

static bool wordpiece_word(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span word);

hn_status hnp_wordpiece_init(hn_tokenizer *tokenizer, const char *prefix, const char *unknown,
                             int64_t max_chars, const char *where, hn_error *error)
{
    hnp_wordpiece_settings *settings = &tokenizer->model.wordpiece;
    settings->prefix = hn_strdup(prefix);
    settings->unknown = hn_strdup(unknown);
    if (!settings->prefix || !settings->unknown)
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", where);
    settings->max_chars = (int32_t)max_chars;
    settings->unknown_id = hnp_trie_find(&tokenizer->trie, unknown, strlen(unknown));
    if (settings->unknown_id < 0)
        return hn_fail(error, HN_ERR_FORMAT, "%s: the unknown token \"%s\" is not in the vocabulary", where,
                       unknown);
    settings->continues = hnp_trie_walk(&tokenizer->trie, &settings->continued, prefix, strlen(prefix));
    tokenizer->model.word = wordpiece_word;
    hn_hasher_add_text(tokenizer->hasher, "WordPiece");
    hn_hasher_add_text(tokenizer->hasher, prefix);
    hn_hasher_add_text(tokenizer->hasher, unknown);
    hnp_hash_int(tokenizer, max_chars);
    return HN_OK;
}

static bool too_long(hnp_span word, int32_t max_chars)
{
    if (word.length <= (size_t)max_chars) return false;
    size_t chars = 0;
    for (size_t i = 0; i < word.length; i++) chars += ((unsigned char)word.text[i] & 0xC0) != 0x80;
    return chars > (size_t)max_chars;
}

/* The longest token at the beginning of `text`, from a node on; its length, 0 when there is none. */
static inline size_t longest(int32_t *id, const hnp_trie *trie, uint32_t node, const char *text,
                             size_t length)
{
    size_t found = 0;
    for (size_t i = 0; i < length; i++) {
        node = hnp_trie_step(trie, node, (unsigned char)text[i]);
        if (!node) break;
        if (trie->units[node].value < 0) continue;
        *id = trie->units[node].value;
        found = i + 1;
    }
    return found;
}

static bool wordpiece_word(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span word)
{
    const hnp_wordpiece_settings *settings = &tokenizer->model.wordpiece;
    size_t start = scratch->ids->count;
    if (too_long(word, settings->max_chars)) return hnp_ids_add(scratch->ids, settings->unknown_id);
    for (size_t at = 0; at < word.length;) {
        int32_t id;
        size_t taken = 0;
        if (!at)
            taken = longest(&id, &tokenizer->trie, 0, word.text, word.length);
        else if (settings->continues)
            taken = longest(&id, &tokenizer->trie, settings->continued, word.text + at, word.length - at);
        if (!taken) {
            scratch->ids->count = start;
            return hnp_ids_add(scratch->ids, settings->unknown_id);
        }
        if (!hnp_ids_add(scratch->ids, id)) return false;
        at += taken;
    }
    return true;
}

hn_status hnp_wordpiece_decoder(hn_tokenizer *tokenizer, const char *prefix, bool cleanup, hn_error *error)
{
    hnp_decoder *step = &tokenizer->decoders[tokenizer->decoder_count++];
    step->apply = hnp_wordpiece_decode;
    step->text = hn_strdup(prefix);
    step->cleanup = cleanup;
    return step->text ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "tokenizer: out of memory");
}
