/* A tokenizer.json and a text from strangers: the bytes up to the first NUL are the file, what is behind it
 * is the text, cut in two at its middle for a pair. The file is refused with its name, or every id has a
 * token and limits hold. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/tokenizer.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    hn_json_init();
    return 0;
}

static void encode(const hn_tokenizer *tokenizer, const char *text, size_t length, int32_t max_tokens)
{
    hn_encoding encoding;
    hn_strbuf decoded;
    hn_error error = {0};
    hn_encoding_init(&encoding);
    hn_strbuf_init(&decoded);
    for (int round = 0; round < 4; round++) {
        const char *pair = round & 1 ? text + length / 2 : NULL;
        size_t first = pair ? length / 2 : length;
        hn_status status = hn_tokenizer_encode(tokenizer, &encoding, text, first, pair,
                                               pair ? length - first : 0, round & 2, max_tokens, &error);
        if (status == HN_ERR_UNSUPPORTED) break; /* a regular expression of the file took too many steps */
        if (status) abort();
        if (max_tokens && encoding.count > max_tokens) abort();
        for (int32_t i = 0; i < encoding.count; i++)
            if (!hn_tokenizer_token(tokenizer, encoding.ids[i])) abort();
        if (hn_tokenizer_decode(tokenizer, &decoded, encoding.ids, (size_t)encoding.count, round & 2, &error))
            abort();
    }
    hn_encoding_close(&encoding);
    hn_strbuf_close(&decoded);
}

/* A part never holds a control token. */
static void encode_part(const hn_tokenizer *tokenizer, const char *text, size_t length)
{
    hn_encoding encoding;
    hn_encoding_init(&encoding);
    for (int place = 0; place < 3; place++) {
        hn_error error = {0};
        int32_t id;
        hn_status status = hn_tokenizer_encode_part(tokenizer, &encoding, text, length, (hn_part_place)place, NULL, 0, &error);
        if (status == HN_ERR_UNSUPPORTED) break;
        if (status) abort();
        for (int32_t i = 0; i < encoding.count; i++) {
            const char *token = hn_tokenizer_token(tokenizer, encoding.ids[i]);
            if (!token) abort();
            size_t special = hn_tokenizer_special_at(tokenizer, token, strlen(token), &id);
            if (special && id == encoding.ids[i]) abort();
        }
    }
    hn_encoding_close(&encoding);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    hn_tokenizer *tokenizer = NULL;
    hn_error error = {0};
    size_t length = strnlen((const char *)bytes, size), text = length < size ? length + 1 : size;
    char *copy = malloc(size - text + 1); /* its own block, so that a read behind the text is seen */
    if (!copy) abort();
    memcpy(copy, bytes + text, size - text);
    if (hn_tokenizer_open_json(&tokenizer, (const char *)bytes, length, "input", &error)) {
        if (!error.message[0]) abort();
    } else {
        encode(tokenizer, copy, size - text, 0);
        encode(tokenizer, copy, size - text, (int32_t)(size % 9));
        encode_part(tokenizer, copy, size - text);
        hn_tokenizer_free(tokenizer);
    }
    free(copy);
    return 0;
}
