/* Pre-tokenizers: a text is cut into words by a list of splitters, each cutting the parts of the one before
 * it.
 *
 * Depth first: a splitter hands each part on (hnp_split_next) as soon as it knows it, so no list of parts is
 * ever kept. One that changes its text (ByteLevel, Metaspace) writes into the buffer of its own number, which
 * stays as it is until all its parts are done.
 *
 * What most of them share is the reference's `split`: a pattern finds matches, and a behavior says what
 * becomes of them and of what lies in between (`cutter`). */
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_stages.h"

typedef struct cutter {
    const hn_tokenizer *tokenizer;
    const hnp_splitter *step;
    hnp_scratch *scratch;
    hnp_span piece;
    size_t start, end; /* the part that may still grow; empty: none */
    bool match;        /* the last one fed was one */
} cutter;

bool hnp_split_next(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                    hnp_span part)
{
    if (++step == tokenizer->splitters + tokenizer->splitter_count) return hnp_word(tokenizer, scratch, part);
    return step->apply(tokenizer, step, scratch, part);
}

bool hnp_split(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span piece)
{
    if (!piece.length) return true;
    if (!tokenizer->splitter_count) return hnp_word(tokenizer, scratch, piece);
    return tokenizer->splitters->apply(tokenizer, tokenizer->splitters, scratch, piece);
}

static bool emit(const cutter *cut, size_t start, size_t end)
{
    if (start == end) return true;
    hnp_span part = {cut->piece.text + start, end - start, cut->piece.first && !start};
    return hnp_split_next(cut->tokenizer, cut->step, cut->scratch, part);
}

static bool flush(cutter *cut)
{
    size_t start = cut->start;
    cut->start = cut->end;
    return emit(cut, start, cut->end);
}

/* The next stretch of the piece, and whether the pattern matched it. */
static bool feed(cutter *cut, size_t end, bool match, hnp_behavior behavior)
{
    bool before = cut->match, joins = false;
    size_t start = cut->end;
    cut->match = match;
    switch (behavior) {
    case HNP_REMOVED: joins = false; break;
    case HNP_ISOLATED: joins = false; break;
    case HNP_MERGED_WITH_PREVIOUS: joins = match && !before; break;
    case HNP_MERGED_WITH_NEXT: joins = !match && before; break;
    case HNP_CONTIGUOUS: joins = match == before; break;
    }
    if (!joins && !flush(cut)) return false;
    cut->end = end;
    if (!joins) cut->start = behavior == HNP_REMOVED && match ? end : start;
    return true;
}

/* What lies between two matches, when there is something. */
static bool feed_gap(cutter *cut, size_t end, bool match, hnp_behavior behavior)
{
    return cut->end == end || feed(cut, end, match, behavior);
}

static cutter begin(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                    hnp_span piece)
{
    return (cutter){.tokenizer = tokenizer, .step = step, .scratch = scratch, .piece = piece};
}

/* Digits, Punctuation, WhitespaceSplit: each character of a kind is a match. */
bool hnp_runs_split(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                    hnp_span piece)
{
    cutter cut = begin(tokenizer, step, scratch, piece);
    for (size_t at = 0; at < piece.length;) {
        uint32_t point;
        size_t taken = hnp_utf8_next(&point, piece.text + at);
        if (tokenizer->flags[point] & step->kind)
            if (!feed_gap(&cut, at, false, step->behavior) || !feed(&cut, at + taken, true, step->behavior))
                return false;
        at += taken;
    }
    return feed_gap(&cut, piece.length, false, step->behavior) && flush(&cut);
}

/* Whitespace: runs of word characters, and runs of what is neither that nor white space. */
bool hnp_words_split(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                     hnp_span piece)
{
    cutter cut = begin(tokenizer, step, scratch, piece);
    uint16_t before = 0;
    for (size_t at = 0; at < piece.length;) {
        uint32_t point;
        size_t taken = hnp_utf8_next(&point, piece.text + at);
        uint16_t kind = tokenizer->flags[point] & (HNP_WORD | HNP_SPACE);
        if (at && kind != before && !feed(&cut, at, before & HNP_SPACE, HNP_REMOVED)) return false;
        before = kind;
        at += taken;
    }
    return feed_gap(&cut, piece.length, before & HNP_SPACE, HNP_REMOVED) && flush(&cut);
}

static bool known_split(cutter *cut, hnp_known_pattern *known)
{
    hnp_span piece = cut->piece;
    for (size_t at = 0; at < piece.length;) {
        size_t length = known(cut->tokenizer->flags, piece.text + at, piece.length - at);
        if (!emit(cut, at, at + length)) return false;
        at += length;
    }
    return true;
}

/* Split: a string or a regular expression. */
bool hnp_pattern_split(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                       hnp_span piece)
{
    cutter cut = begin(tokenizer, step, scratch, piece);
    if (step->known) return known_split(&cut, step->known);
    for (size_t at = 0; at <= piece.length;) {
        size_t start, end;
        if (!hnp_pattern_find(&step->pattern, scratch, piece, at, &start, &end)) return false;
        if (start > piece.length) break;
        if (!feed_gap(&cut, start, step->invert, step->behavior) ||
            !feed(&cut, end, !step->invert, step->behavior))
            return false;
        uint32_t point;
        at = end;
        if (start == end) at += end < piece.length ? hnp_utf8_next(&point, piece.text + end) : 1;
    }
    return feed_gap(&cut, piece.length, step->invert, step->behavior) && flush(&cut);
}

/* Metaspace: a visible character for blanks, one before the text, and a word begins at each. */
bool hnp_metaspace_split(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                         hnp_span piece)
{
    hnp_buffer *out = &scratch->parts[step - tokenizer->splitters];
    size_t length = strlen(step->blank), room;
    out->length = 0;
    if (!hn_size_mul(piece.length, length, &room) || !hnp_buffer_reserve(scratch, out, room + length)) return false;
    bool begins =
        piece.text[0] == ' ' || (piece.length >= length && !memcmp(piece.text, step->blank, length));
    if (!begins && !scratch->joined && (step->prepend == HNP_ALWAYS || (step->prepend == HNP_FIRST && piece.first)))
        hnp_buffer_put(out, step->blank, length);
    for (size_t at = 0, next; at < piece.length; at = next + 1) {
        const char *blank = memchr(piece.text + at, ' ', piece.length - at);
        next = blank ? (size_t)(blank - piece.text) : piece.length;
        hnp_buffer_put(out, piece.text + at, next - at);
        if (blank) hnp_buffer_put(out, step->blank, length);
    }
    hnp_span changed = {out->bytes, out->length, piece.first};
    if (!hnp_scratch_grew(scratch, piece.length, changed.length)) return false;
    if (!step->cut) return hnp_split_next(tokenizer, step, scratch, changed);
    cutter cut = begin(tokenizer, step, scratch, changed);
    for (size_t at = 0; at < changed.length;) {
        const char *hit = memmem(changed.text + at, changed.length - at, step->blank, length);
        if (!hit) break;
        at = (size_t)(hit - changed.text) + length;
        if (!feed_gap(&cut, at - length, false, HNP_MERGED_WITH_NEXT) ||
            !feed(&cut, at, true, HNP_MERGED_WITH_NEXT))
            return false;
    }
    return feed_gap(&cut, changed.length, false, HNP_MERGED_WITH_NEXT) && flush(&cut);
}

/* The characters that stand for the bytes, when somebody between here and the model looks at them. */
static bool map_bytes(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                      hnp_span part)
{
    hnp_buffer *out = &scratch->parts[step - tokenizer->splitters];
    size_t place = out->length, room;
    if (!step->map) return hnp_split_next(tokenizer, step, scratch, part);
    if (!hn_size_mul(part.length, 2, &room) || !hnp_buffer_reserve(scratch, out, room)) return false;
    char *to = out->bytes + place;
    for (size_t i = 0; i < part.length; i++) to += hnp_byte_put(to, (unsigned char)part.text[i]);
    hnp_span changed = {out->bytes + place, (size_t)(to - out->bytes) - place, part.first};
    return hnp_scratch_grew(scratch, part.length, changed.length) && hnp_split_next(tokenizer, step, scratch, changed);
}

/* ByteLevel: perhaps a blank before the text, GPT-2's pattern, and bytes instead of characters. */
bool hnp_bytes_split(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                     hnp_span piece)
{
    hnp_buffer *out = &scratch->parts[step - tokenizer->splitters];
    out->length = 0;
    if (step->prefix && piece.text[0] != ' ' && !scratch->joined) {
        size_t room; /* for the text and, behind it, one part as characters: no part moves it then */
        if (!hn_size_mul(piece.length + 1, 3, &room) || !hnp_buffer_reserve(scratch, out, room)) return false;
        hnp_buffer_put(out, " ", 1);
        hnp_buffer_put(out, piece.text, piece.length);
        piece.text = out->bytes;
        piece.length = out->length;
    }
    if (!step->cut) return map_bytes(tokenizer, step, scratch, piece);
    for (size_t at = 0; at < piece.length;) {
        size_t length = hnp_gpt2_pattern(tokenizer->flags, piece.text + at, piece.length - at);
        hnp_span part = {piece.text + at, length, piece.first && !at};
        if (!map_bytes(tokenizer, step, scratch, part)) return false;
        at += length;
    }
    return true;
}
