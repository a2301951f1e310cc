/* The first 200 rows of Alpaca, token by token as TRL's SFTTrainer tokenizes them as prompt and completion;
 * what is masked, too. The digests are from tests/golden/make_alpaca_digests.py. Without ../shared: skipped.
 */
#include "core/file.h"
#include "core/json.h"
#include "core/strbuf.h"
#include "data/input.h"
#include "data/reader.h"
#include "data/template.h"
#include "tests/test.h"

#define ROWS 200
#define SHARED "../shared/data/"

static hn_error error;

static hn_status open_tokenizer(hn_tokenizer **out, const char *name)
{
    char path[200], block[4096];
    size_t got = 1;
    hn_input *input = NULL;
    hn_strbuf text;
    hn_strbuf_init(&text);
    snprintf(path, sizeof path, SHARED "tokenizers/%s/tokenizer.json.gz", name);
    hn_status status = hn_input_open(&input, path, &error);
    while (!status && got) {
        status = hn_input_read(input, block, sizeof block, &got, &error);
        if (!status) hn_strbuf_add(&text, block, got);
    }
    if (!status) status = hn_tokenizer_open_json(out, text.text, text.length, path, &error);
    hn_input_free(input);
    hn_strbuf_close(&text);
    return status;
}

static hn_status hash_rows(hn_hasher *hasher, hn_reader *reader, const hn_template *chat, int64_t *tokens)
{
    hn_row row;
    bool end = false;
    hn_status status = HN_OK;
    hn_dialog dialog;
    hn_dialog_init(&dialog);
    for (int i = 0; i < ROWS && !status; i++) {
        status = hn_reader_next(reader, &row, &end, &error);
        if (status || end) break;
        status = hn_template_encode(chat, &dialog, row.messages, row.message_count, false, &error);
        if (status) break;
        int32_t numbers[2] = {dialog.count, 0};
        while (numbers[1] < dialog.count && !dialog.marks[numbers[1]]) numbers[1]++;
        for (int32_t k = numbers[1]; k < dialog.count; k++)
            if (!dialog.marks[k])
                status = hn_fail(&error, HN_ERR_MISMATCH, "row %d: a hole in the marks", i + 1);
        hn_hasher_add(hasher, numbers, sizeof numbers);
        hn_hasher_add(hasher, dialog.ids, (size_t)dialog.count * sizeof *dialog.ids);
        *tokens += dialog.count;
    }
    hn_dialog_close(&dialog);
    return status;
}

static void check(const char *name, const char *eos, int64_t expected_tokens, const char *expected)
{
    hn_tokenizer *tokenizer = NULL;
    hn_template *chat = NULL;
    hn_reader *reader = NULL;
    hn_chat_source source = {.eos = (char *)eos};
    hn_bad_rows bad = {0};
    const char *path = SHARED "sft/alpaca_data.json.gz";
    const hn_turn_fields fields = {.instruction = "instruction",
                                   .input = "input",
                                   .output = "output",
                                   .prompt = "prompt",
                                   .completion = "completion"};
    hn_reader_options reading = {.paths = &path, .path_count = 1, .turns = &fields};
    hn_hasher *hasher = hn_hasher_open();
    int64_t tokens = 0;
    char text[HN_DIGEST_TEXT];
    hn_error_reset(&error);
    CHECK_OK(open_tokenizer(&tokenizer, name));
    CHECK_OK(hn_template_open(&chat, &(hn_template_options){.name = "alpaca"}, &source, tokenizer, &error));
    CHECK_OK(hn_reader_open(&reader, &reading, &bad, &error));
    CHECK_OK(hash_rows(hasher, reader, chat, &tokens));
    CHECK_INT(tokens, expected_tokens);
    hn_digest_format(text, hn_hasher_digest(hasher));
    CHECK_TEXT(text, expected);
    hn_reader_free(reader);
    hn_template_free(chat);
    hn_tokenizer_free(tokenizer);
    hn_hasher_free(hasher);
}

TEST(byte_level)
{
    check("gpt2", "<|endoftext|>", 20636, "ed72e6306ef7ac620dac35086e45e5cf");
}

TEST(sentencepiece)
{
    check("llama2", "</s>", 23550, "0aca91370f2ee7413118be202081be2d");
}

int main(void)
{
    if (!hn_path_exists(SHARED "sft/alpaca_data.json.gz")) TEST_SKIP("needs ../shared/data");
    hn_json_init();
    RUN(byte_level);
    RUN(sentencepiece);
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
