/* Byte pair encoding (Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016):
 * a word is its characters' tokens, and of all pairs of neighbours that have a merge the one of lowest rank
 * (the leftmost of equals) becomes one token, until none has.
 *
 * Symbols are a linked list in an array, pairs that may merge wait in a heap as rank << 32 | place of the
 * left symbol: O(n log n) in the word's length. An entry whose pair is no longer what it was is passed over:
 * the pair that begins at a place only ever gets longer, so its rank tells.
 *
 *     symbols  [h][e][ ][l][o]        heap: (he) 3 at 0, (lo) 7 at 3, ...
 *              next -> skips what was merged away (id -1)
 *
 * Three kinds of model differ in the first step alone: byte-level ones (bytes have an id each), those that
 * look characters up, and SentencePiece's, where a character without a token becomes its UTF-8 bytes' <0xNN>.
 *
 * SentencePiece's models have no splitter: a whole text is one word. But where no merge of the file has the one
 * character at the end of its left token and the other at the beginning of its right one, the two sides have
 * nothing to do with each other: a splitter of our own cuts there. Its words are short and come again (words.c):
 * of "\u2581a dog, ..." the comma is one, where pieces between blanks would give "\u2581dog," and
 * "\u2581dog" (Llama 2 on English: 1.4 times the speed of cutting at blanks alone). Characters fall into ASCII with a token of
 * their own, U+2581, and all others, which are never cut from each other. */
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_stages.h"

#define FREE_PAIR UINT64_MAX
#define BLANK "\xE2\x96\x81"
enum { CLASS_BLANK = 128, CLASS_OTHER = 129 };
_Static_assert(CLASS_OTHER + 1 == HNP_CLASSES, "classes of characters");

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static hnp_merge *slot(const hnp_bpe_settings *bpe, uint64_t pair)
{
    size_t at = (size_t)((pair * 0x9E3779B97F4A7C15u) >> bpe->shift);
    while (bpe->merges[at].pair != pair && bpe->merges[at].pair != FREE_PAIR) at = (at + 1) & bpe->mask;
    return &bpe->merges[at];
}

/* NULL: the two do not merge. */
static const hnp_merge *find(const hnp_bpe_settings *bpe, int32_t left, int32_t right)
{
    const hnp_merge *merge = slot(bpe, pair_of(left, right));
    return merge->pair == FREE_PAIR ? NULL : merge;
}

void hnp_escapes_find(int32_t out[256], const hn_tokenizer *tokenizer)
{
    char text[8];
    for (unsigned byte = 0; byte < 256; byte++) {
        snprintf(text, sizeof text, "<0x%02X>", byte);
        out[byte] = hnp_trie_find(&tokenizer->trie, text, 6);
    }
}

hn_status hnp_bpe_init(hn_tokenizer *tokenizer, hnp_bpe_options options, size_t merges, const char *where,
                       hn_error *error)
{
    hnp_bpe_settings *bpe = &tokenizer->model.bpe;
    size_t size = 16;
    bpe->shift = 60;
    for (; size < 2 * merges; size *= 2) bpe->shift--;
    bpe->mask = size - 1;
    bpe->merges = hn_malloc(size * sizeof *bpe->merges);
    bpe->sides = hn_calloc(tokenizer->size + 1, 1);
    if (!bpe->merges || !bpe->sides) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %zu merges", where, merges);
    for (size_t i = 0; i < size; i++) bpe->merges[i].pair = FREE_PAIR;
    bpe->unknown_id =
        options.unknown ? hnp_trie_find(&tokenizer->trie, options.unknown, strlen(options.unknown)) : -1;
    if (options.unknown && bpe->unknown_id < 0)
        return hn_fail(error, HN_ERR_FORMAT, "%s.unk_token: \"%.60s\" is not in the vocabulary", where,
                       options.unknown);
    bpe->fuse_unknown = options.fuse_unknown;
    bpe->byte_fallback = options.byte_fallback;
    bpe->ignore_merges = options.ignore_merges;
    bpe->joins[CLASS_OTHER][CLASS_OTHER] = true;
    bpe->blank = hnp_trie_find(&tokenizer->trie, BLANK, 3) >= 0;
    for (int c = 0; c < 128; c++) bpe->ascii[c] = hnp_trie_find(&tokenizer->trie, (const char[]){(char)c}, 1);
    hnp_escapes_find(bpe->escape, tokenizer);
    hn_hasher_add_text(tokenizer->hasher, "BPE");
    hnp_hash_int(tokenizer, bpe->fuse_unknown | bpe->byte_fallback << 1 | bpe->ignore_merges << 2);
    hnp_hash_int(tokenizer, bpe->unknown_id);
    return HN_OK;
}

static hn_status not_there(hnp_span left, hnp_span right, size_t rank, const char *what, const char *where,
                           hn_error *error)
{
    return hn_fail(error, HN_ERR_FORMAT, "%s[%zu]: %s of \"%.*s\" and \"%.*s\" is not in the vocabulary",
                   where, rank, what, (int)(left.length < 60 ? left.length : 60), left.text,
                   (int)(right.length < 60 ? right.length : 60), right.text);
}

/* The class of the character at `text`, and the bytes it takes: all of it, or its first one. */
static inline unsigned class_of(const hnp_bpe_settings *bpe, const char *text, size_t length, size_t *taken)
{
    unsigned char c = (unsigned char)*text;
    *taken = 1;
    if (c < 128) return bpe->ascii[c] >= 0 ? c : CLASS_OTHER;
    if (c != 0xE2 || length < 3 || memcmp(text, BLANK, 3)) return CLASS_OTHER;
    *taken = 3;
    return bpe->blank ? CLASS_BLANK : CLASS_OTHER;
}

/* A token that characters without one of their own become. */
static bool stands_for_others(const hnp_bpe_settings *bpe, hnp_span token, int32_t id)
{
    return id == bpe->unknown_id || (token.length == 6 && !memcmp(token.text, "<0x", 3));
}

/* The merge's characters on both sides of its seam may not be cut apart. */
static void note_seam(hnp_bpe_settings *bpe, hnp_span left, int32_t a, hnp_span right, int32_t b)
{
    size_t last = left.length, taken;
    while (--last && ((unsigned char)left.text[last] & 0xC0) == 0x80)
        ;
    unsigned before = class_of(bpe, left.text + last, left.length - last, &taken),
             behind = class_of(bpe, right.text, right.length, &taken);
    bool others_before = stands_for_others(bpe, left, a), others_behind = stands_for_others(bpe, right, b);
    bpe->joins[before][behind] = true;
    if (others_before) bpe->joins[CLASS_OTHER][behind] = true;
    if (others_behind) bpe->joins[before][CLASS_OTHER] = true;
}

hn_status hnp_bpe_merge(hn_tokenizer *tokenizer, hnp_span left, hnp_span right, size_t rank,
                        const char *where, hn_error *error)
{
    hnp_bpe_settings *bpe = &tokenizer->model.bpe;
    const hnp_trie *trie = &tokenizer->trie;
    uint32_t node;
    int32_t a = hnp_trie_find(trie, left.text, left.length),
            b = hnp_trie_find(trie, right.text, right.length), id = -1;
    if (a < 0 || b < 0) return not_there(left, right, rank, a < 0 ? "the first" : "the second", where, error);
    if (hnp_trie_walk(trie, &node, left.text, left.length)) {
        size_t i = 0;
        while (i < right.length && (node = hnp_trie_step(trie, node, (unsigned char)right.text[i]))) i++;
        if (i == right.length) id = trie->units[node].value;
    }
    if (id < 0) return not_there(left, right, rank, "the merge", where, error);
    hnp_merge *merge = slot(bpe, pair_of(a, b));
    *merge = (hnp_merge){pair_of(a, b), (uint32_t)rank, id}; /* of two the later counts */
    note_seam(bpe, left, a, right, b);
    bpe->sides[a] |= HNP_LEFT;
    bpe->sides[b] |= HNP_RIGHT;
    hnp_hash_int(tokenizer, a);
    hnp_hash_int(tokenizer, b);
    return HN_OK;
}

static bool bpe_word(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span word);

/* Cuts between characters that no merge joins. */
static bool seams_split(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                        hnp_span piece)
{
    const hnp_bpe_settings *bpe = &tokenizer->model.bpe;
    size_t start = 0, taken;
    unsigned before = class_of(bpe, piece.text, piece.length, &taken);
    for (size_t at = taken; at < piece.length; at += taken) {
        unsigned here = class_of(bpe, piece.text + at, piece.length - at, &taken);
        if (!bpe->joins[before][here]) {
            if (!hnp_split_next(tokenizer, step, scratch, (hnp_span){piece.text + start, at - start, false}))
                return false;
            start = at;
        }
        before = here;
    }
    return hnp_split_next(tokenizer, step, scratch,
                          (hnp_span){piece.text + start, piece.length - start, false});
}

hn_status hnp_bpe_finish(hn_tokenizer *tokenizer, const char *where, hn_error *error)
{
    hnp_bpe_settings *bpe = &tokenizer->model.bpe;
    size_t count = tokenizer->splitter_count;
    hnp_splitter *last = count ? &tokenizer->splitters[count - 1] : NULL;
    bool level = false, all = true;
    int missing = -1; /* of printable ASCII; Falcon lacks some controls and bytes of empty planes */
    for (size_t i = 0; i < count; i++) level |= tokenizer->splitters[i].apply == hnp_bytes_split;
    for (int byte = 0; byte < 256; byte++) {
        char text[2];
        size_t length = hnp_byte_put(text, (unsigned char)byte);
        bpe->bytes[byte] = hnp_trie_find(&tokenizer->trie, text, length);
        all &= bpe->bytes[byte] >= 0;
        if (byte >= 0x20 && byte < 0x7F && bpe->bytes[byte] < 0) missing = byte;
    }
    if (level && missing >= 0 && bpe->unknown_id < 0)
        return hn_fail(
            error, HN_ERR_UNSUPPORTED,
            "%s: a byte-level model without unk_token loses characters it has no token for; none for '%c'",
            where, missing);
    bpe->raw = last && last->apply == hnp_bytes_split && (all || bpe->unknown_id < 0);
    if (bpe->raw) last->map = false;
    if (!count && !bpe->ignore_merges) tokenizer->splitters[tokenizer->splitter_count++].apply = seams_split;
    tokenizer->model.word = bpe_word;
    return HN_OK;
}

/* Symbols */

static bool add_symbol(hnp_scratch *scratch, size_t *count, int32_t id)
{
    if (*count == scratch->symbols_capacity) {
        void *memory = scratch->symbols;
        if (*count >= INT32_MAX ||
            !hn_grow(&memory, &scratch->symbols_capacity, *count + 1, sizeof *scratch->symbols))
            return false;
        scratch->symbols = memory;
    }
    scratch->symbols[*count] = (hnp_symbol){id, (int32_t)*count - 1, (int32_t)*count + 1};
    ++*count;
    return true;
}

static bool add_bytes(const hnp_bpe_settings *bpe, hnp_scratch *scratch, size_t *count, hnp_span word)
{
    for (size_t i = 0; i < word.length; i++) {
        int32_t id = bpe->bytes[(unsigned char)word.text[i]];
        if (id >= 0 && !add_symbol(scratch, count, id)) return false; /* a byte without a token vanishes */
    }
    return true;
}

/* <0xNN> for each byte of a character; false with *done unset: not all of them are tokens. */
static bool add_escapes(const hnp_bpe_settings *bpe, hnp_scratch *scratch, size_t *count, hnp_span character,
                        bool *done)
{
    *done = false;
    for (size_t i = 0; i < character.length; i++)
        if (bpe->escape[(unsigned char)character.text[i]] < 0) return true;
    for (size_t i = 0; i < character.length; i++)
        if (!add_symbol(scratch, count, bpe->escape[(unsigned char)character.text[i]])) return false;
    *done = true;
    return true;
}

/* Unknown characters wait until a known one comes, or the next unknown one that is not fused with them; bytes
 * of byte fallback do not make them come out (so does the reference). */
static bool add_characters(const hn_tokenizer *tokenizer, hnp_scratch *scratch, size_t *count, hnp_span word)
{
    const hnp_bpe_settings *bpe = &tokenizer->model.bpe;
    bool waits = false, done = false;
    for (size_t at = 0, taken; at < word.length; at += taken) {
        uint32_t point;
        taken = hnp_utf8_next(&point, word.text + at);
        int32_t id = point < 128 ? bpe->ascii[point] : hnp_trie_find(&tokenizer->trie, word.text + at, taken);
        if (id >= 0) {
            if (waits && !add_symbol(scratch, count, bpe->unknown_id)) return false;
            waits = false;
            if (!add_symbol(scratch, count, id)) return false;
            continue;
        }
        hnp_span character = {word.text + at, taken, false};
        if (bpe->byte_fallback && !add_escapes(bpe, scratch, count, character, &done)) return false;
        if ((bpe->byte_fallback && done) || bpe->unknown_id < 0) continue;
        if (waits && !bpe->fuse_unknown && !add_symbol(scratch, count, bpe->unknown_id)) return false;
        waits = true;
    }
    return !waits || add_symbol(scratch, count, bpe->unknown_id);
}

/* Merging */

static bool push(const hnp_bpe_settings *bpe, hnp_scratch *scratch, int32_t left)
{
    const hnp_symbol *symbols = scratch->symbols;
    if (left < 0 || symbols[left].next < 0) return true;
    if (!(bpe->sides[symbols[left].id] & HNP_LEFT) || !(bpe->sides[symbols[symbols[left].next].id] & HNP_RIGHT)) return true;
    const hnp_merge *merge = find(bpe, symbols[left].id, symbols[symbols[left].next].id);
    if (!merge) return true;
    void *memory = scratch->heap;
    if (!hn_grow(&memory, &scratch->heap_capacity, scratch->heap_count + 1, sizeof *scratch->heap))
        return false;
    scratch->heap = memory;
    uint64_t entry = (uint64_t)merge->rank << 32 | (uint32_t)left;
    size_t at = scratch->heap_count++;
    for (; at && scratch->heap[(at - 1) / 2] > entry; at = (at - 1) / 2)
        scratch->heap[at] = scratch->heap[(at - 1) / 2];
    scratch->heap[at] = entry;
    return true;
}

static uint64_t pop(hnp_scratch *scratch)
{
    uint64_t *heap = scratch->heap, top = heap[0], last = heap[--scratch->heap_count];
    size_t at = 0, count = scratch->heap_count;
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return top;
}

static bool merge_all(const hnp_bpe_settings *bpe, hnp_scratch *scratch, size_t count)
{
    hnp_symbol *symbols = scratch->symbols;
    if (!count) return true;
    symbols[count - 1].next = -1;
    scratch->heap_count = 0;
    for (size_t i = 0; i + 1 < count; i++)
        if (!push(bpe, scratch, (int32_t)i)) return false;
    while (scratch->heap_count) {
        uint64_t top = pop(scratch);
        int32_t left = (int32_t)(uint32_t)top, right = symbols[left].next;
        if (symbols[left].id < 0 || right < 0) continue;
        const hnp_merge *merge = find(bpe, symbols[left].id, symbols[right].id);
        if (!merge || merge->rank != top >> 32) continue;
        symbols[left].id = merge->id;
        symbols[left].next = symbols[right].next;
        symbols[right].id = -1;
        if (symbols[left].next >= 0) symbols[symbols[left].next].previous = left;
        if (!push(bpe, scratch, symbols[left].previous) || !push(bpe, scratch, left)) return false;
    }
    return true;
}

/* The token that the whole word is, or -1. */
static int32_t whole(const hn_tokenizer *tokenizer, hnp_span word)
{
    uint32_t node = 0;
    if (!tokenizer->model.bpe.raw) return hnp_trie_find(&tokenizer->trie, word.text, word.length);
    for (size_t i = 0; i < word.length; i++) {
        char text[2];
        size_t length = hnp_byte_put(text, (unsigned char)word.text[i]);
        for (size_t k = 0; k < length; k++)
            if (!(node = hnp_trie_step(&tokenizer->trie, node, (unsigned char)text[k]))) return -1;
    }
    return tokenizer->trie.units[node].value;
}

static bool bpe_word(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span word)
{
    const hnp_bpe_settings *bpe = &tokenizer->model.bpe;
    size_t count = 0;
    int32_t id = bpe->ignore_merges ? whole(tokenizer, word) : -1;
    if (id >= 0) return hnp_ids_add(scratch->ids, id);
    bool done =
        bpe->raw ? add_bytes(bpe, scratch, &count, word) : add_characters(tokenizer, scratch, &count, word);
    if (!done || !merge_all(bpe, scratch, count)) return false;
    for (int32_t i = count ? 0 : -1; i >= 0; i = scratch->symbols[i].next)
        if (!hnp_ids_add(scratch->ids, scratch->symbols[i].id)) return false;
    return true;
}
