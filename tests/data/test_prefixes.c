/* Rows that examples of a batch share: which, where every token's row stands, what is never shared, bounds. */
#include "data/dataset.h"

#include "core/json.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/data/folder.h"
#include "tests/test.h"

enum { ROWS = 7, ROOM = 4096 };
static hn_tokenizer *tokenizer;
static hn_error error;

/* Prompts that begin alike, answers that do; the last two rows are the same. */
static const char text[] = "{\"prompt\": \"Say one: \", \"completion\": \"one\"}\n"
                           "{\"prompt\": \"Say two: \", \"completion\": \"one\"}\n"
                           "{\"prompt\": \"Say\", \"completion\": \" one: no\"}\n"
                           "{\"prompt\": \"Tell: \", \"completion\": \"one\"}\n"
                           "{\"prompt\": \"Say two: three \", \"completion\": \"x\"}\n"
                           "{\"prompt\": \"Tell: me\", \"completion\": \"you\"}\n"
                           "{\"prompt\": \"Tell: me\", \"completion\": \"you\"}\n";

static hn_dataset *open_rows(unsigned loss)
{
    hn_dataset *dataset = NULL;
    hn_template *chat = NULL;
    const char *path = put_bytes("rows.jsonl", text, sizeof text - 1);
    hn_list files = {&path, 1};
    hn_data_config config = {.text = "text",
                             .max_tokens = 4096,
                             .threads = 1,
                             .turns_of = {.prompt = "prompt", .completion = "completion", .instruction = "instruction",
                                          .input = "input", .output = "output"}};
    hn_chat_source source = {.bos = "<s>", .eos = "</s>"};
    if (hn_template_open(&chat, &(hn_template_options){.name = "plain", .loss = loss}, &source, tokenizer, &error)) abort();
    hn_dataset_options options = {.task = HN_DATA_INSTRUCT, .chat = chat, .end_token = -1};
    if (hn_dataset_open(&dataset, &config, &files, tokenizer, &options, &error) || hn_dataset_count(dataset) != ROWS) abort();
    hn_template_free(chat);
    return dataset;
}

/* Every token of every example, read through key_row, and every target, is what the batch without sharing has. */
static void same_examples(const hn_batch *shared, const hn_batch *whole)
{
    int32_t used = 0, targets = 0;
    CHECK_INT(shared->n, whole->n);
    CHECK_INT(shared->keys, whole->tokens);
    CHECK_INT(shared->longest, whole->longest);
    for (int32_t s = 0; s < whole->n; s++) {
        CHECK_INT(shared->cu_keys[s], whole->cu_seqlens[s]);
        CHECK_INT(shared->example[s], whole->example[s]);
        int32_t own = shared->cu_seqlens[s + 1] - shared->cu_seqlens[s];
        for (int32_t k = shared->cu_keys[s]; k < shared->cu_keys[s + 1]; k++) {
            int32_t row = shared->key_row[k], behind = shared->cu_keys[s + 1] - k;
            CHECK_INT(shared->token[row], whole->token[k]);
            CHECK_INT(shared->position[row], whole->position[k]);
            if (behind <= own) CHECK_INT(row, shared->cu_seqlens[s + 1] - behind);
            if (behind <= own) CHECK_INT(shared->target[row], whole->target[k]);
            else CHECK_INT(whole->target[k], HN_NO_TARGET);
        }
    }
    for (int32_t r = 0; r < shared->tokens; r++)
        for (int32_t e = shared->cu_uses[r]; e < shared->cu_uses[r + 1]; e++, used++) {
            CHECK_INT(shared->key_row[shared->use[e]], r);
            CHECK(e == shared->cu_uses[r] || shared->use[e] > shared->use[e - 1]);
        }
    CHECK_INT(used, shared->keys);
    for (int32_t k = 0; k < whole->tokens; k++) targets += whole->target[k] != HN_NO_TARGET;
    for (int32_t r = 0; r < shared->tokens; r++) targets -= shared->target[r] != HN_NO_TARGET;
    CHECK_INT(targets, 0);
}

TEST(rows_are_shared)
{
    static const uint32_t all[ROWS] = {0, 1, 2, 3, 4, 5, 6};
    hn_dataset *dataset = open_rows(0);
    hn_batch_buffer shared, whole;
    CHECK_OK(hn_batch_buffer_init_shared(&shared, ROOM, ROWS, ROOM, &error));
    CHECK_OK(hn_batch_buffer_init(&whole, ROOM, ROWS, &error));
    CHECK_OK(hn_dataset_fill(dataset, &shared, all, ROWS, &error));
    CHECK_OK(hn_dataset_fill(dataset, &whole, all, ROWS, &error));
    CHECK(shared.batch.key_row && !whole.batch.key_row);
    same_examples(&shared.batch, &whole.batch);
    /* "Say " of the first; "Sa" alone, since "y" predicts; "Say two: " of the second; the last row repeats "Tell: m" */
    static const int32_t expected[ROWS] = {0, 4, 2, 0, 9, 6, 7};
    for (int s = 0; s < ROWS; s++)
        CHECK_INT(whole.batch.cu_seqlens[s + 1] - whole.batch.cu_seqlens[s] -
                      (shared.batch.cu_seqlens[s + 1] - shared.batch.cu_seqlens[s]), expected[s]);
    CHECK_INT(hn_dataset_shared_rows(dataset, all, ROWS), shared.batch.tokens);
    hn_batch_buffer_close(&shared);
    hn_batch_buffer_close(&whole);
    hn_dataset_free(dataset);
}

TEST(nothing_is_shared)
{
    static const uint32_t apart[] = {0, 3}, one[] = {4};
    hn_batch_buffer buffer;
    hn_dataset *dataset = open_rows(0);
    CHECK_OK(hn_batch_buffer_init_shared(&buffer, ROOM, ROWS, ROOM, &error));
    CHECK_OK(hn_dataset_fill(dataset, &buffer, apart, 2, &error));
    CHECK(!buffer.batch.key_row);
    CHECK_INT(buffer.batch.keys, buffer.batch.tokens);
    CHECK_OK(hn_dataset_fill(dataset, &buffer, one, 1, &error));
    CHECK(!buffer.batch.key_row);
    hn_dataset_free(dataset);
    static const uint32_t same[] = {5, 6}; /* every token is trained on */
    dataset = open_rows(HN_LOSS_ALL);
    CHECK_OK(hn_dataset_fill(dataset, &buffer, same, 2, &error));
    CHECK(!buffer.batch.key_row);
    hn_batch_buffer_close(&buffer);
    hn_dataset_free(dataset);
}

TEST(bounds)
{
    static const uint32_t same[] = {5, 6}; /* 12 tokens each, of which 7 are shared */
    hn_dataset *dataset = open_rows(0);
    static const struct {
        int32_t rows, keys;
        bool fits;
    } cases[] = {{17, 24, true}, {16, 24, false}, {17, 23, false}};
    for (int i = 0; i < 3; i++) {
        hn_batch_buffer buffer;
        CHECK_OK(hn_batch_buffer_init_shared(&buffer, cases[i].rows, 2, cases[i].keys, &error));
        hn_error_reset(&error);
        CHECK_INT(hn_dataset_fill(dataset, &buffer, same, 2, &error), cases[i].fits ? HN_OK : HN_ERR_MISMATCH);
        hn_batch_buffer_close(&buffer);
    }
    hn_dataset_free(dataset);
}

TEST_MAIN(folder_open(); hn_json_init(); tokenizer = byte_tokenizer(false); RUN(rows_are_shared); RUN(nothing_is_shared); RUN(bounds);
          hn_tokenizer_free(tokenizer); folder_close())
