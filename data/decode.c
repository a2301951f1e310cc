/* Ids to text: tokens in a row go through the decoders, a list of steps that each turn a row of texts into
 * another (Fuse makes one of all), and what comes out is joined. Without a decoder, tokens stand between
 * blanks.
 *
 * A step reads one row and writes another; two of them change places. Replace may make more of a text than it was, and the next
 * one more of that: what comes of the tokens is bounded as in normalize.c. */
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_stages.h"

void hnp_texts_init(hnp_texts *texts)
{
    *texts = (hnp_texts){0};
    hn_strbuf_init(&texts->bytes);
}

static void close_texts(hnp_texts *texts)
{
    hn_strbuf_close(&texts->bytes);
    hn_free(texts->ends);
}

/* What was appended since the last text becomes one. */
static bool end_text(hnp_texts *texts)
{
    void *memory = texts->ends;
    if (!hn_grow(&memory, &texts->capacity, texts->count + 1, sizeof *texts->ends)) return false;
    texts->ends = memory;
    texts->ends[texts->count++] = texts->bytes.length;
    return !texts->bytes.failed;
}

static hnp_span text_at(const hnp_texts *texts, size_t i)
{
    size_t start = i ? texts->ends[i - 1] : 0;
    return (hnp_span){texts->bytes.text + start, texts->ends[i] - start, i == 0};
}

/* The reference's clean-up, in its order, on each token as it is joined. */
static const char *const cleanups[][2] = {
    {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},    {" n't", "n't"},
    {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
};

/* Replaces in out->text[from ...]. */
static void replace(hn_strbuf *out, size_t from, const char *what, const char *by)
{
    size_t length = strlen(what);
    if (out->failed || !memmem(out->text + from, out->length - from, what, length)) return;
    hn_strbuf changed;
    hn_strbuf_init(&changed);
    const char *at = out->text + from, *end = out->text + out->length;
    for (const char *hit; (hit = memmem(at, (size_t)(end - at), what, length)); at = hit + length) {
        hn_strbuf_add(&changed, at, (size_t)(hit - at));
        hn_strbuf_puts(&changed, by);
    }
    hn_strbuf_add(&changed, at, (size_t)(end - at));
    out->length = from;
    hn_strbuf_add(out, changed.text, changed.length);
    out->failed |= changed.failed;
    hn_strbuf_close(&changed);
}

bool hnp_wordpiece_decode(const hnp_decoder *step, hnp_texts *out, const hnp_texts *in)
{
    size_t prefix = strlen(step->text);
    for (size_t i = 0; i < in->count; i++) {
        hnp_span token = text_at(in, i);
        size_t from = out->bytes.length;
        bool continues = i && token.length >= prefix && !memcmp(token.text, step->text, prefix);
        if (i && !continues) hn_strbuf_putc(&out->bytes, ' ');
        size_t skip = continues ? prefix : 0;
        hn_strbuf_add(&out->bytes, token.text + skip, token.length - skip);
        for (size_t k = 0; step->cleanup && k < sizeof cleanups / sizeof *cleanups; k++)
            replace(&out->bytes, from, cleanups[k][0], cleanups[k][1]);
        if (!end_text(out)) return false;
    }
    return true;
}

/* Appends bytes, U+FFFD for what is no UTF-8. */
static void add_repaired(hn_strbuf *out, const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        uint32_t point;
        bool valid;
        char bytes[4];
        size_t good = hnp_utf8_valid(text + at, length - at);
        hn_strbuf_add(out, text + at, good);
        at += good;
        if (at == length) break;
        at += hnp_utf8_get(&point, &valid, text + at, length - at);
        hn_strbuf_add(out, bytes, hnp_utf8_put(bytes, point));
    }
}

/* ByteLevel: the bytes that the characters stand for; a token with another character stays as it is. */
bool hnp_bytes_decode(const hnp_decoder *step, hnp_texts *out, const hnp_texts *in)
{
    (void)step;
    hn_strbuf bytes;
    hn_strbuf_init(&bytes);
    for (size_t i = 0; i < in->count; i++) {
        hnp_span token = text_at(in, i);
        size_t before = bytes.length, at = 0;
        int byte = 0;
        while (at < token.length && byte >= 0) {
            uint32_t point;
            at += hnp_utf8_next(&point, token.text + at);
            byte = hnp_byte_of(point);
            hn_strbuf_putc(&bytes, (char)byte);
        }
        if (bytes.failed || byte >= 0) continue;
        bytes.length = before;
        hn_strbuf_add(&bytes, token.text, token.length);
    }
    add_repaired(&out->bytes, bytes.text, bytes.length);
    bool done = !bytes.failed && end_text(out);
    hn_strbuf_close(&bytes);
    return done;
}

/* Metaspace: blanks again; the first token loses those that were put before the text. */
bool hnp_metaspace_decode(const hnp_decoder *step, hnp_texts *out, const hnp_texts *in)
{
    size_t length = strlen(step->text);
    for (size_t i = 0; i < in->count; i++) {
        hnp_span token = text_at(in, i);
        size_t from = out->bytes.length;
        hn_strbuf_add(&out->bytes, token.text, token.length);
        if (length) replace(&out->bytes, from, step->text, !i && step->strip ? "" : " ");
        if (!end_text(out)) return false;
    }
    return true;
}

/* How much longer a text becomes when each `what` in it is replaced. */
static size_t growth(hnp_span text, const char *what, const char *by)
{
    size_t length = strlen(what), longer = strlen(by), hits = 0;
    if (longer <= length) return 0;
    for (const char *at = text.text, *end = at + text.length; (at = memmem(at, (size_t)(end - at), what, length)); at += length) hits++;
    return hits && longer - length > SIZE_MAX / 4 / hits ? SIZE_MAX / 4 : hits * (longer - length);
}

bool hnp_replace_decode(const hnp_decoder *step, hnp_texts *out, const hnp_texts *in)
{
    for (size_t i = 0; i < in->count; i++) {
        hnp_span token = text_at(in, i);
        size_t from = out->bytes.length;
        out->too_long = growth(token, step->text, step->content) + from + token.length > out->most;
        if (out->too_long) return false;
        hn_strbuf_add(&out->bytes, token.text, token.length);
        replace(&out->bytes, from, step->text, step->content);
        if (!end_text(out)) return false;
    }
    return true;
}

bool hnp_fuse_decode(const hnp_decoder *step, hnp_texts *out, const hnp_texts *in)
{
    (void)step;
    hn_strbuf_add(&out->bytes, in->bytes.text, in->bytes.length);
    return end_text(out);
}

bool hnp_strip_decode(const hnp_decoder *step, hnp_texts *out, const hnp_texts *in)
{
    size_t length = strlen(step->text);
    for (size_t i = 0; i < in->count; i++) {
        hnp_span token = text_at(in, i);
        for (size_t n = 0;
             n < step->start && token.length >= length && !memcmp(token.text, step->text, length); n++) {
            token.text += length;
            token.length -= length;
        }
        for (size_t n = 0; n < step->stop && token.length >= length &&
                           !memcmp(token.text + token.length - length, step->text, length);
             n++)
            token.length -= length;
        hn_strbuf_add(&out->bytes, token.text, token.length);
        if (!end_text(out)) return false;
    }
    return true;
}

/* The byte of <0xNN>, or -1. */
static int escaped(hnp_span token)
{
    int byte = 0;
    if (token.length != 6 || memcmp(token.text, "<0x", 3) || token.text[5] != '>') return -1;
    for (int i = 3; i < 5; i++) {
        static const char digits[] = "0123456789abcdefABCDEF";
        const char *digit = token.text[i] ? strchr(digits, token.text[i]) : NULL;
        if (!digit) return -1;
        byte = byte * 16 + (int)(digit - digits) - (digit - digits > 15 ? 6 : 0);
    }
    return byte;
}

/* A row of <0xNN> is the text of its bytes, or U+FFFD for each when they are no UTF-8. */
bool hnp_fallback_decode(const hnp_decoder *step, hnp_texts *out, const hnp_texts *in)
{
    (void)step;
    for (size_t i = 0; i < in->count;) {
        hnp_span token = text_at(in, i);
        size_t from = out->bytes.length, first = i;
        for (int byte; i < in->count && (byte = escaped(text_at(in, i))) >= 0; i++)
            hn_strbuf_putc(&out->bytes, (char)byte);
        size_t length = out->bytes.length - from;
        if (i == first) {
            hn_strbuf_add(&out->bytes, token.text, token.length);
            i++;
        } else if (hnp_utf8_valid(out->bytes.text + from, length) < length) {
            out->bytes.length = from;
            for (; length; length--) hn_strbuf_puts(&out->bytes, "\xEF\xBF\xBD");
        }
        if (!end_text(out)) return false;
    }
    return true;
}

static bool add_tokens(const hn_tokenizer *tokenizer, hnp_texts *out, const int32_t *ids, size_t count,
                       bool skip_special)
{
    for (size_t i = 0; i < count; i++) {
        const hnp_name *name = &tokenizer->names[ids[i]];
        if (skip_special && name->special && !name->shown) continue;
        if (!tokenizer->decoder_count && out->count) hn_strbuf_putc(&out->bytes, ' ');
        hn_strbuf_puts(&out->bytes, name->shown ? name->shown : name->text);
        if (!end_text(out)) return false;
    }
    return true;
}

hn_status hn_tokenizer_decode(const hn_tokenizer *tokenizer, hn_strbuf *out, const int32_t *ids, size_t count,
                              bool skip_special, hn_error *error)
{
    hnp_texts rows[2];
    hn_status status = HN_ERR_MEMORY;
    size_t now = 0;
    hnp_texts_init(&rows[0]);
    hnp_texts_init(&rows[1]);
    for (size_t i = 0; i < count; i++)
        if (!hn_tokenizer_token(tokenizer, ids[i])) {
            status = hn_fail(error, HN_ERR_FORMAT, "id %d (number %zu): no token has it; ids are 0 to %zu",
                             ids[i], i, tokenizer->size - 1);
            goto out;
        }
    if (!add_tokens(tokenizer, &rows[0], ids, count, skip_special)) goto out;
    rows[0].most = rows[1].most = rows[0].bytes.length * HNP_GROWTH + HNP_GROWTH_SPARE;
    for (size_t i = 0; i < tokenizer->decoder_count; i++, now = !now) {
        hnp_texts *to = &rows[!now];
        hn_strbuf_reset(&to->bytes);
        to->count = 0;
        if (tokenizer->decoders[i].apply(&tokenizer->decoders[i], to, &rows[now])) continue;
        if (to->too_long)
            status = hn_fail(error, HN_ERR_UNSUPPORTED, "tokenizer: %zu ids: the decoder's steps make more than %d times as much of their text",
                             count, HNP_GROWTH);
        goto out;
    }
    hn_strbuf_add(out, rows[now].bytes.text, rows[now].bytes.length);
    if (!out->failed) status = HN_OK;
out:
    if (status == HN_ERR_MEMORY) hn_fail(error, status, "tokenizer: out of memory for %zu ids", count);
    close_texts(&rows[0]);
    close_texts(&rows[1]);
    return status;
}
