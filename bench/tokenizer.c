/* Encodes texts on one thread, says how fast, and writes what came out for a comparison:
 *
 *     bench_tokenizer FOLDER OUTPUT [ROUNDS] < texts
 *
 *     in      texts one after the other: u32 bytes, then the bytes
 *     OUTPUT  for each text: u32 ids, then the ids (i32); u32 bytes, then the text those ids decode to
 *     stdout  {"open_s", "ids", "encode_s", "decode_s"}: CPU seconds, of encoding the best of ROUNDS (5)
 *
 * A round begins with nothing remembered of the texts: the cache of words is one encoding's own.
 * Numbers are in the machine's byte order. bench/compare_tokenizers.py runs it beside Hugging Face's tokenizers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/json.h"
#include "data/tokenizer.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The text at *at, which moves behind it. */
static const char *next_text(const hn_strbuf *input, size_t *at, uint32_t *length)
{
    memcpy(length, input->text + *at, 4);
    const char *text = input->text + *at + 4;
    *at += 4 + (size_t)*length;
    return text;
}

/* Every text has its bytes. */
static bool whole(const hn_strbuf *input)
{
    size_t at = 0;
    while (input->length - at >= 4) {
        uint32_t length;
        memcpy(&length, input->text + at, 4);
        if (length > input->length - at - 4) return false;
        at += 4 + (size_t)length;
    }
    return at == input->length;
}

static hn_status encode_all(const hn_tokenizer *tokenizer, const hn_strbuf *input, long long *ids, hn_error *error)
{
    hn_status status = HN_OK;
    hn_encoding encoding;
    hn_encoding_init(&encoding);
    *ids = 0;
    for (size_t at = 0; !status && at < input->length;) {
        uint32_t length;
        const char *text = next_text(input, &at, &length);
        status = hn_tokenizer_encode(tokenizer, &encoding, text, length, NULL, 0, true, 0, error);
        *ids += encoding.count;
    }
    hn_encoding_close(&encoding);
    return status;
}

/* Once more, with the ids and what they decode to. *seconds: of decoding. */
static hn_status write_all(FILE *file, double *seconds, const hn_tokenizer *tokenizer, hn_encoding *encoding,
                           const hn_strbuf *input, hn_error *error)
{
    hn_status status = HN_OK;
    hn_strbuf text;
    hn_strbuf_init(&text);
    *seconds = 0;
    for (size_t at = 0; !status && at < input->length;) {
        uint32_t length;
        const char *from = next_text(input, &at, &length);
        status = hn_tokenizer_encode(tokenizer, encoding, from, length, NULL, 0, true, 0, error);
        if (status) break;
        hn_strbuf_reset(&text);
        double start = now();
        status = hn_tokenizer_decode(tokenizer, &text, encoding->ids, (size_t)encoding->count, true, error);
        *seconds += now() - start;
        uint32_t count = (uint32_t)encoding->count, bytes = (uint32_t)text.length;
        fwrite(&count, 4, 1, file);
        fwrite(encoding->ids, 4, count, file);
        fwrite(&bytes, 4, 1, file);
        fwrite(text.text, 1, bytes, file);
    }
    hn_strbuf_close(&text);
    return status;
}

static hn_status run(const char *folder, FILE *file, int rounds, const hn_strbuf *input, hn_error *error)
{
    hn_tokenizer *tokenizer = NULL;
    hn_encoding encoding;
    long long ids = 0;
    hn_encoding_init(&encoding);
    double start = now(), best = 1e30, decoding = 0;
    hn_status status = hn_tokenizer_open(&tokenizer, folder, error);
    double opened = now() - start;
    for (int round = 0; !status && round < rounds; round++) {
        start = now();
        status = encode_all(tokenizer, input, &ids, error);
        if (now() - start < best) best = now() - start;
    }
    if (!status) status = write_all(file, &decoding, tokenizer, &encoding, input, error);
    if (!status)
        printf("{\"open_s\": %.6f, \"ids\": %lld, \"encode_s\": %.6f, \"decode_s\": %.6f}\n", opened, ids, best, decoding);
    hn_encoding_close(&encoding);
    hn_tokenizer_free(tokenizer);
    return status;
}

int main(int argc, char **argv)
{
    hn_strbuf input;
    hn_error error = {0};
    char block[65536];
    FILE *file = argc == 3 || argc == 4 ? fopen(argv[2], "wb") : NULL;
    if (!file) {
        fprintf(stderr, "usage: bench_tokenizer FOLDER OUTPUT [ROUNDS] < texts\n");
        return 2;
    }
    hn_json_init();
    hn_strbuf_init(&input);
    for (size_t got; (got = fread(block, 1, sizeof block, stdin));) hn_strbuf_add(&input, block, got);
    hn_status status = input.failed || !whole(&input) ? hn_fail(&error, HN_ERR_FORMAT, "standard input: a text is cut off")
                                                      : run(argv[1], file, argc == 4 ? atoi(argv[3]) : 5, &input, &error);
    if (fclose(file) && !status) status = hn_fail_errno(&error, "%s: cannot write", argv[2]);
    if (status) fprintf(stderr, "%s\n", error.message);
    hn_strbuf_close(&input);
    return status != HN_OK;
}
