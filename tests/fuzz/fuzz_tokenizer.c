/* A tokenizer and a text from strangers, files one behind the other (fuzz.h), the text last, cut in two at its middle for a pair:
 *
 *     {...}    tokenizer.json, text
 *     v        vocab.txt, tokenizer_config.json, text
 *     m        merges.txt, vocab.json, tokenizer_config.json, text
 *
 * The files are refused by name, or every id has a token and limits hold. Every eighth text is also given in a long form, which may
 * take a few seconds of the processor: twenty times what a text of that length does, and a twentieth of what is quadratic in it. */
#include <time.h>

#include "core/json.h"
#include "data/tokenizer.h"
#include "tests/fuzz/fuzz.h"

#define LONG ((size_t)128 << 10)
#define LONG_SECONDS 4
#define FUZZ_LEAD 100000

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    hn_json_init();
    return 0;
}

static void decode(const hn_tokenizer *tokenizer, const hn_encoding *encoding, bool skip_special)
{
    hn_strbuf decoded;
    hn_error error = {0};
    hn_strbuf_init(&decoded);
    hn_status status = hn_tokenizer_decode(tokenizer, &decoded, encoding->ids, (size_t)encoding->count, skip_special, &error);
    DEMAND(status == HN_OK || status == HN_ERR_UNSUPPORTED); /* its steps make too much of it */
    hn_strbuf_close(&decoded);
}

static void encode(const hn_tokenizer *tokenizer, hn_encoding *encoding, const char *text, size_t length, int32_t max_tokens)
{
    hn_error error = {0};
    for (int round = 0; round < 4; round++) {
        const char *pair = round & 1 ? text + length / 2 : NULL;
        size_t first = pair ? length / 2 : length;
        hn_status status = hn_tokenizer_encode(tokenizer, encoding, text, first, pair,
                                               pair ? length - first : 0, round & 2, max_tokens, &error);
        if (status == HN_ERR_UNSUPPORTED) break; /* a regular expression takes too many steps, or steps make too much of it */
        DEMAND(!status);
        DEMAND(!max_tokens || encoding->count <= max_tokens);
        for (int32_t i = 0; i < encoding->count; i++)
            DEMAND(hn_tokenizer_token(tokenizer, encoding->ids[i]));
        decode(tokenizer, encoding, round & 2);
    }
}

/* A pair of which only the first text is cut. */
static void encode_beside(const hn_tokenizer *tokenizer, hn_encoding *encoding, const char *text, size_t length, int32_t max_tokens)
{
    hn_error error = {0};
    size_t half = length / 2;
    hn_status status = hn_tokenizer_encode_beside(tokenizer, encoding, text, half, text + half, length - half, max_tokens, &error);
    DEMAND(status == HN_OK || status == HN_ERR_UNSUPPORTED || status == HN_ERR_USAGE);
    DEMAND(status != HN_OK || encoding->count <= max_tokens);
    for (size_t i = 0; hn_tokenizer_lead(tokenizer, i) >= 0; i++) DEMAND(i < FUZZ_LEAD);
}

/* A part never holds a control token. */
static void encode_part(const hn_tokenizer *tokenizer, hn_encoding *encoding, const char *text, size_t length)
{
    for (int place = 0; place < 3; place++) {
        hn_error error = {0};
        int32_t id;
        hn_status status = hn_tokenizer_encode_part(tokenizer, encoding, text, length, (hn_part_place)place, NULL, 0, &error);
        if (status == HN_ERR_UNSUPPORTED) break;
        DEMAND(!status);
        for (int32_t i = 0; i < encoding->count; i++) {
            const char *token = hn_tokenizer_token(tokenizer, encoding->ids[i]);
            DEMAND(token);
            size_t special = hn_tokenizer_special_at(tokenizer, token, strlen(token), &id);
            DEMAND(!special || id != encoding->ids[i]);
        }
    }
}

/* The text again and again; a decoder may not fail on what came of it. */
static void encode_long(const hn_tokenizer *tokenizer, hn_encoding *encoding, const char *text, size_t length)
{
    hn_error error = {0};
    char *many = malloc(LONG);
    DEMAND(many);
    for (size_t i = 0; i < LONG; i++) many[i] = text[i % length];
    clock_t began = clock();
    hn_status status = hn_tokenizer_encode(tokenizer, encoding, many, LONG, NULL, 0, false, 0, &error);
    DEMAND(clock() - began < LONG_SECONDS * CLOCKS_PER_SEC);
    DEMAND(status == HN_OK || status == HN_ERR_UNSUPPORTED);
    if (status == HN_OK) decode(tokenizer, encoding, false);
    free(many);
}

static hn_status open_vocabulary(hn_tokenizer **out, const uint8_t **bytes, size_t *size, hn_error *error)
{
    static const char *const names[] = {"merges.txt", "vocab.json", "tokenizer_config.json"};
    char path[160];
    bool merges = **bytes == 'm';
    size_t length;
    ++*bytes, --*size;
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", fuzz_folder(), names[i]);
        remove(path);
    }
    for (int i = merges ? 0 : 1; i < 3; i++) {
        const char *part = fuzz_part(&length, bytes, size);
        if (length || i < 2) fuzz_put(i == 1 && !merges ? "vocab.txt" : names[i], part, length);
    }
    return hn_tokenizer_open(out, fuzz_folder(), error);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    hn_tokenizer *tokenizer = NULL;
    hn_error error = {0};
    size_t length, whole = size;
    bool folder = size && (bytes[0] == 'v' || bytes[0] == 'm');
    hn_status status;
    fuzz_begin();
    if (folder) {
        status = open_vocabulary(&tokenizer, &bytes, &size, &error);
    } else {
        const char *json = fuzz_part(&length, &bytes, &size);
        status = hn_tokenizer_open_json(&tokenizer, json, length, "input", &error);
    }
    fuzz_end(whole);
    if (status != HN_OK) {
        fuzz_refused(&error, folder ? fuzz_folder() : "input");
        return 0;
    }
    char *text = malloc(size); /* its own block, so that a read behind the text is seen */
    DEMAND(text || !size);
    if (size) memcpy(text, bytes, size);
    hn_encoding encoding;
    hn_encoding_init(&encoding);
    encode(tokenizer, &encoding, text, size, 0);
    encode(tokenizer, &encoding, text, size, (int32_t)(size % 9));
    encode_beside(tokenizer, &encoding, text, size, (int32_t)(1 + size % 9));
    encode_part(tokenizer, &encoding, text, size);
    fuzz_end(4 * whole); /* a text may become 64 times as long (data/normalize.c), in two buffers and their copies */
    bool long_form = size && whole % 8 == 0;
    if (long_form) encode_long(tokenizer, &encoding, text, size);
    fuzz_end(4 * (whole + (long_form ? LONG : 0)));
    hn_encoding_close(&encoding);
    hn_tokenizer_free(tokenizer);
    free(text);
    return 0;
}
