/* Hidden tokens: blocks with their special tokens, the shares of BERT's rule, whole words, and what a draw depends on. */
#include "data/dataset.h"

#include "core/json.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "tests/data/folder.h"
#include "tests/test.h"

enum { CLS = 2, SEP = 3, MASK = 4, WORDS = 5, PIECES = 55, VOCABULARY = 105 };
static hn_tokenizer *tokenizer;
static int more_words; /* before those of the vocabulary */

/* 50 words "aa", "ab", ... and 50 pieces "##aa", ... that go on a word. */
static hn_tokenizer *make_tokenizer(bool mask)
{
    hn_strbuf text;
    hn_tokenizer *made = NULL;
    hn_error error = {0};
    hn_strbuf_init(&text);
    hn_strbuf_printf(&text, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n%s\n", mask ? "[MASK]" : "[OTHER]");
    for (int i = 0; i < more_words; i++) hn_strbuf_printf(&text, "<%d>\n", i);
    for (int i = 0; i < 100; i++) hn_strbuf_printf(&text, "%s%c%c\n", i < 50 ? "" : "##", 'a' + i % 50 / 10, 'a' + i % 10);
    put("vocab.txt", text.text);
    put("tokenizer_config.json", "{\"do_lower_case\": true}");
    hn_strbuf_close(&text);
    if (hn_tokenizer_open(&made, folder, &error)) abort();
    return made;
}

static hn_status open_text(hn_dataset **out, const char *text, int max_tokens, bool words, const char *cache, hn_error *error)
{
    const char *path = put("text.txt", text);
    hn_list files = {&path, 1};
    hn_data_config config = {.text = "text", .max_tokens = max_tokens, .threads = 1, .mask_probability = 0.15, .mask_words = words};
    hn_dataset_options options = {.task = HN_DATA_MASKED, .end_token = -1, .cache_folder = cache};
    *out = NULL;
    return hn_dataset_open(out, &config, &files, tokenizer, &options, error);
}

/* `count` words of one piece, or of three. */
static char *make_text(int count, bool pieces)
{
    hn_strbuf text;
    hn_strbuf_init(&text);
    for (int i = 0; i < count; i++) {
        int a = i * 7 % 50, b = i * 11 % 50;
        hn_strbuf_printf(&text, "%c%c", 'a' + a / 10, 'a' + a % 10);
        if (pieces && i % 2) hn_strbuf_printf(&text, "%c%c%c%c", 'a' + b / 10, 'a' + b % 10, 'a' + a / 10, 'a' + a % 10);
        hn_strbuf_putc(&text, ' ');
    }
    return hn_strbuf_take(&text);
}

static void fill(const hn_dataset *dataset, hn_batch_buffer *buffer, uint32_t first, int32_t count, hn_draw draw)
{
    uint32_t examples[512];
    hn_error error = {0};
    for (int32_t i = 0; i < count; i++) examples[i] = first + (uint32_t)i;
    buffer->draw = draw;
    if (hn_dataset_fill(dataset, buffer, examples, count, &error)) abort();
    int32_t targets = 0;
    for (int32_t t = 0; t < buffer->batch.tokens; t++) targets += buffer->batch.target[t] != HN_NO_TARGET;
    if (hn_dataset_targets(dataset, examples, count, &draw) != targets) abort();
}

TEST(blocks)
{
    hn_dataset *dataset;
    hn_batch_buffer buffer;
    hn_error error = {0};
    CHECK_OK(open_text(&dataset, "aa ab ac ad ae", 4, false, NULL, &error));
    CHECK_INT(hn_dataset_count(dataset), 3);
    CHECK_OK(hn_batch_buffer_init(&buffer, 16, 3, &error));
    fill(dataset, &buffer, 0, 3, (hn_draw){1, 1});
    static const int32_t original[] = {CLS, 5, 6, SEP, CLS, 7, 8, SEP, CLS, 9, SEP};
    CHECK_INT(buffer.batch.tokens, 11);
    for (int t = 0; t < 11; t++) {
        bool special = original[t] <= SEP, hidden = buffer.batch.target[t] != HN_NO_TARGET;
        CHECK(!special || (!hidden && buffer.batch.token[t] == original[t]));
        CHECK_INT(hidden ? buffer.batch.target[t] : buffer.batch.token[t], original[t]);
        CHECK_INT(buffer.batch.type[t], 0);
    }
    for (int n = 0; n < 3; n++) { /* one of each at least */
        int count = 0;
        for (int t = buffer.batch.cu_seqlens[n]; t < buffer.batch.cu_seqlens[n + 1]; t++)
            count += buffer.batch.target[t] != HN_NO_TARGET;
        CHECK(count >= 1);
    }
    hn_batch_buffer_close(&buffer);
    hn_dataset_free(dataset);
    CHECK_INT(open_text(&dataset, "   ", 8, false, NULL, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "expected a token or more");
    hn_error_reset(&error);
    CHECK_INT(open_text(&dataset, "aa", 2, false, NULL, &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "expected more than the 2 special tokens of a block, got 2");
}

/* The same blocks of a vocabulary whose ids take more than 16 bits. */
TEST(wide_ids)
{
    enum { MORE = 70000 };
    hn_tokenizer *small = tokenizer;
    hn_dataset *dataset;
    hn_batch_buffer buffer;
    hn_error error = {0};
    more_words = MORE;
    tokenizer = make_tokenizer(true);
    more_words = 0;
    hn_status status = open_text(&dataset, "aa ab ac ad ae", 4, false, NULL, &error);
    hn_tokenizer_free(tokenizer);
    tokenizer = small;
    CHECK_OK(status);
    CHECK_OK(hn_batch_buffer_init(&buffer, 16, 3, &error));
    fill(dataset, &buffer, 0, 3, (hn_draw){1, 1});
    static const int32_t original[] = {CLS, 5, 6, SEP, CLS, 7, 8, SEP, CLS, 9, SEP};
    for (int t = 0; t < 11; t++) {
        bool hidden = buffer.batch.target[t] != HN_NO_TARGET;
        CHECK_INT(hidden ? buffer.batch.target[t] : buffer.batch.token[t], original[t] < WORDS ? original[t] : original[t] + MORE);
    }
    hn_batch_buffer_close(&buffer);
    hn_dataset_free(dataset);
}

TEST(shares)
{
    hn_dataset *dataset;
    hn_batch_buffer buffer;
    hn_error error = {0};
    char *text = make_text(20000, false), cache[96];
    snprintf(cache, sizeof cache, "%s/cache", folder);
    CHECK_OK(open_text(&dataset, text, 102, false, cache, &error));
    CHECK_INT(hn_dataset_count(dataset), 200);
    CHECK_OK(hn_batch_buffer_init(&buffer, 20400, 200, &error));
    double chosen = 0, hidden = 0, same = 0, total = 0, other = 0, low = 0;
    for (uint32_t step = 0; step < 5; step++) {
        fill(dataset, &buffer, 0, 200, (hn_draw){7, step});
        for (int32_t t = 0; t < buffer.batch.tokens; t++) {
            int32_t token = buffer.batch.token[t], target = buffer.batch.target[t];
            total += token != CLS && token != SEP;
            if (target == HN_NO_TARGET) continue;
            CHECK(target >= WORDS && target < PIECES && token >= 0 && token < VOCABULARY);
            chosen++;
            hidden += token == MASK;
            same += token == target;
            other += token != target && token != MASK;
            low += token != target && token != MASK && token < VOCABULARY / 2;
        }
    }
    CHECK_NEAR(chosen / total, 0.15, 0.004);
    CHECK_NEAR(hidden / chosen, 0.8 + 0.1 / VOCABULARY, 0.01);
    CHECK_NEAR(same / chosen, 0.1 + 0.1 / VOCABULARY, 0.01);
    CHECK_NEAR(low / other, 0.5, 0.05);
    hn_batch_buffer_close(&buffer);
    hn_dataset_free(dataset);
    hn_free(text);
}

/* A mask is the example's, whatever stands beside it in the batch; another step or seed is another mask. */
TEST(draws)
{
    hn_dataset *dataset;
    hn_batch_buffer all, one;
    hn_error error = {0};
    char *text = make_text(400, true);
    CHECK_OK(open_text(&dataset, text, 50, false, NULL, &error));
    int32_t count = (int32_t)hn_dataset_count(dataset);
    CHECK_OK(hn_batch_buffer_init(&all, (int32_t)hn_dataset_tokens(dataset), count, &error));
    CHECK_OK(hn_batch_buffer_init(&one, 50, 1, &error));
    fill(dataset, &all, 0, count, (hn_draw){3, 9});
    for (int32_t n = 0; n < count; n++) {
        int32_t at = all.batch.cu_seqlens[n];
        fill(dataset, &one, (uint32_t)n, 1, (hn_draw){3, 9});
        size_t bytes = (size_t)one.batch.tokens * 4;
        CHECK(!memcmp(one.batch.token, all.batch.token + at, bytes) && !memcmp(one.batch.target, all.batch.target + at, bytes));
    }
    fill(dataset, &one, 0, 1, (hn_draw){3, 10});
    CHECK(memcmp(one.batch.target, all.batch.target, (size_t)one.batch.tokens * 4));
    fill(dataset, &one, 0, 1, (hn_draw){4, 9});
    CHECK(memcmp(one.batch.target, all.batch.target, (size_t)one.batch.tokens * 4));
    hn_batch_buffer_close(&all);
    hn_batch_buffer_close(&one);
    hn_dataset_free(dataset);
    hn_free(text);
}

TEST(whole_words)
{
    hn_error error = {0};
    char *text = make_text(3000, true);
    for (int words = 0; words < 2; words++) {
        hn_dataset *dataset;
        hn_batch_buffer buffer;
        CHECK_OK(open_text(&dataset, text, 60, words, NULL, &error));
        int32_t count = (int32_t)hn_dataset_count(dataset), split = 0, joined = 0;
        CHECK_OK(hn_batch_buffer_init(&buffer, (int32_t)hn_dataset_tokens(dataset), count, &error));
        fill(dataset, &buffer, 0, count, (hn_draw){5, 0});
        for (int32_t t = 1; t < buffer.batch.tokens; t++) {
            const int32_t *target = buffer.batch.target + t;
            if (target[0] < PIECES) continue; /* a piece that was chosen */
            bool with_the_word = target[-1] != HN_NO_TARGET || buffer.batch.token[t - 1] == CLS;
            split += !with_the_word;
            joined += with_the_word;
        }
        CHECK(joined > 30 && (words ? split == 0 : split > 100));
        hn_batch_buffer_close(&buffer);
        hn_dataset_free(dataset);
    }
    hn_free(text);
}

/* A block that begins amid a word has something to learn all the same. */
TEST(a_block_of_pieces)
{
    hn_dataset *dataset;
    hn_batch_buffer buffer;
    hn_error error = {0};
    CHECK_OK(open_text(&dataset, "aaabac", 3, true, NULL, &error)); /* aa ##ab ##ac, a block each */
    CHECK_INT(hn_dataset_count(dataset), 3);
    CHECK_OK(hn_batch_buffer_init(&buffer, 9, 3, &error));
    fill(dataset, &buffer, 0, 3, (hn_draw){1, 1});
    for (int t = 1; t < 9; t += 3) CHECK(buffer.batch.target[t] != HN_NO_TARGET);
    hn_batch_buffer_close(&buffer);
    hn_dataset_free(dataset);
}

#define SPACE "\xe2\x96\x81"
#define BYTE_SPACE "\xc4\xa0"

/* Tokenizers that tell words by the sign of a space: their vocabularies may hold "###", and one whose pieces are "##x" the sign. */
TEST(words_by_their_spaces)
{
    static const struct {
        const char *tokenizer, *goes_on; /* '1' for every id that does */
    } cases[] = {
        {"{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"<mask>\", -9], [\"" SPACE "a\", -1], [\"" SPACE
         "bc\", -1], [\"a\", -2], [\"d\", -2], [\"###\", -3]]}, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"" SPACE
         "\", \"prepend_scheme\": \"always\"}}",
         "1100111"},
        {"{\"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"vocab\": {\"<unk>\": 0, \"<mask>\": 1, \"" BYTE_SPACE
         "\": 2, \"a\": 3, \"d\": 4, \"###\": 5, \"" BYTE_SPACE "a\": 6}, \"merges\": [\"" BYTE_SPACE
         " a\"]}, \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true}}",
         "1101110"},
        {"{\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", \"vocab\": {\"[UNK]\": 0, \"[MASK]\": 1, \"a\": 2, \"d\": 3, "
         "\"##a\": 4, \"##\": 5, \"" SPACE "\": 6}}, \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}}",
         "0000100"},
    };
    hn_tokenizer *before = tokenizer;
    hn_error error = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_dataset *dataset;
        hn_batch_buffer buffer;
        hn_strbuf text;
        hn_strbuf_init(&text);
        for (int k = 0; k < 400; k++) hn_strbuf_puts(&text, k % 3 ? "aaad " : "ad ");
        CHECK_OK(hn_tokenizer_open_json(&tokenizer, cases[i].tokenizer, strlen(cases[i].tokenizer), "tokenizer.json", &error));
        hn_status status = open_text(&dataset, text.text, 2000, true, NULL, &error);
        hn_tokenizer_free(tokenizer);
        tokenizer = before;
        hn_strbuf_close(&text);
        CHECK_OK(status);
        CHECK_INT(hn_dataset_count(dataset), 1);
        CHECK_OK(hn_batch_buffer_init(&buffer, 2000, 1, &error));
        fill(dataset, &buffer, 0, 1, (hn_draw){3, 1});
        int32_t count = buffer.batch.tokens, chosen = 0, pieces = 0, ends = 0;
        for (int32_t t = 0; t < count; t++) {
            bool now = buffer.batch.target[t] != HN_NO_TARGET;
            int32_t token = now ? buffer.batch.target[t] : buffer.batch.token[t];
            bool goes_on = t && cases[i].goes_on[token] == '1', same = t && now == (buffer.batch.target[t - 1] != HN_NO_TARGET);
            chosen += now;
            pieces += goes_on;
            ends += t && !goes_on && !same;
            if (goes_on) CHECK(same);
        }
        CHECK(chosen > 50 && chosen < count / 3 && ends > 50 && (i == 2 || pieces > 200));
        hn_batch_buffer_close(&buffer);
        hn_dataset_free(dataset);
    }
}

/* As many special tokens around a text as there is room for, and one more. */
TEST(frames)
{
    static const char form[] = "{\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", \"vocab\": {\"[UNK]\": 0, \"[MASK]\": 1, \"a\": 2, "
                               "\"[CLS]\": 3}}, \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, \"post_processor\": {\"type\": "
                               "\"TemplateProcessing\", \"single\": [%s{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": [{\"Sequence\": "
                               "{\"id\": \"A\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": 0}}], \"special_tokens\": {\"[CLS]\": "
                               "{\"id\": \"[CLS]\", \"ids\": [3], \"tokens\": [\"[CLS]\"]}}}}";
    static const char one[] = "{\"SpecialToken\": {\"id\": \"[CLS]\", \"type_id\": 0}}, ";
    hn_tokenizer *before = tokenizer;
    for (int count = 8; count < 10; count++) {
        char text[2048], specials[1024] = "";
        hn_dataset *dataset;
        hn_error error = {0};
        for (int i = 0; i < count; i++) strcat(specials, one);
        snprintf(text, sizeof text, form, specials);
        CHECK_OK(hn_tokenizer_open_json(&tokenizer, text, strlen(text), "tokenizer.json", &error));
        hn_status status = open_text(&dataset, "a a", 16, false, NULL, &error);
        hn_tokenizer_free(tokenizer);
        tokenizer = before;
        CHECK_INT(status, count == 8 ? HN_OK : HN_ERR_UNSUPPORTED);
        if (status) CHECK_CONTAINS(error.message, "expected at most 8 special tokens around a text, got 9");
        hn_dataset_free(dataset);
    }
}

TEST(refusals_and_failing_memory)
{
    hn_dataset *dataset;
    hn_error error = {0};
    hn_status status = HN_ERR_MEMORY;
    size_t nth = 1;
    for (; status == HN_ERR_MEMORY && nth < 500; nth++) {
        error = (hn_error){0};
        hn_mem_fail_at(nth);
        status = open_text(&dataset, "aa ab ac", 8, true, NULL, &error);
        hn_mem_fail_at(0);
        CHECK(!status || (error.message[0] && !dataset));
        hn_dataset_free(dataset);
    }
    CHECK(status == HN_OK && nth > 10);
    hn_tokenizer *with = tokenizer;
    tokenizer = make_tokenizer(false);
    status = open_text(&dataset, "aa ab", 8, false, NULL, &error);
    hn_tokenizer_free(tokenizer);
    tokenizer = with;
    CHECK_INT(status, HN_ERR_UNSUPPORTED);
    CHECK_CONTAINS(error.message, "[MASK] or <mask>");
}

int main(void)
{
    hn_json_init();
    folder_open();
    tokenizer = make_tokenizer(true);
    RUN(blocks);
    RUN(wide_ids);
    RUN(shares);
    RUN(draws);
    RUN(whole_words);
    RUN(a_block_of_pieces);
    RUN(words_by_their_spaces);
    RUN(frames);
    RUN(refusals_and_failing_memory);
    hn_tokenizer_free(tokenizer);
    folder_close();
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
