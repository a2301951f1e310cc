/* Encodes lines (a text, or a pair with a tab between) and says how fast, on one thread:
 *
 *     bench_tokenizer FOLDER < lines      ids, seconds; the best of five rounds
 *
 * bench/tokenizer_reference.py runs it beside Hugging Face's tokenizers on the same rows. */
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

/* Encodes every line; returns the ids counted, or -1. */
static long long encode_all(const hn_tokenizer *tokenizer, const char *text, size_t size, hn_error *error)
{
    hn_encoding encoding;
    long long total = 0;
    hn_encoding_init(&encoding);
    for (size_t at = 0; at < size && total >= 0;) {
        const char *line = text + at, *end = memchr(line, '\n', size - at);
        size_t length = end ? (size_t)(end - line) : size - at;
        const char *tab = memchr(line, '\t', length);
        size_t first = tab ? (size_t)(tab - line) : length;
        if (hn_tokenizer_encode(tokenizer, &encoding, line, first, tab ? tab + 1 : NULL,
                                tab ? length - first - 1 : 0, true, 0, error)) {
            total = -1;
            break;
        }
        total += encoding.count;
        at += length + 1;
    }
    hn_encoding_close(&encoding);
    return total;
}

int main(int argc, char **argv)
{
    hn_strbuf input;
    hn_tokenizer *tokenizer = NULL;
    hn_error error = {0};
    char block[65536];
    if (argc != 2) {
        fprintf(stderr, "usage: bench_tokenizer FOLDER < lines\n");
        return 2;
    }
    hn_json_init();
    hn_strbuf_init(&input);
    for (size_t got; (got = fread(block, 1, sizeof block, stdin));) hn_strbuf_add(&input, block, got);
    double start = now(), best = 1e30;
    hn_status status = hn_tokenizer_open(&tokenizer, argv[1], &error);
    double opened = now() - start;
    long long total = 0;
    for (int round = 0; !status && total >= 0 && round < 5; round++) {
        start = now();
        total = encode_all(tokenizer, input.text, input.length, &error);
        if (now() - start < best) best = now() - start;
    }
    bool failed = status || total < 0;
    if (failed)
        fprintf(stderr, "%s\n", error.message);
    else
        printf("{\"open_s\": %.4f, \"ids\": %lld, \"encode_s\": %.4f}\n", opened, total, best);
    hn_strbuf_close(&input);
    hn_tokenizer_free(tokenizer);
    return failed;
}
