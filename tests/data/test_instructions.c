/* Instruction rows: every shape of a row to its tokens and targets, rows too long, rows with nothing to
 * learn, hostile rows, the cache, allocation failures. */
#include "data/dataset.h"

#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/strbuf.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/data/folder.h"
#include "tests/test.h"

static hn_tokenizer *tokenizer;
static hn_error error;

static hn_data_config config_of(void)
{
    return (hn_data_config){.text = "text",
                            .max_tokens = 4096,
                            .threads = 1,
                            .turns_of = {.instruction = "instruction",
                                         .input = "input",
                                         .output = "output",
                                         .prompt = "prompt",
                                         .completion = "completion"}};
}

static hn_template *template_of(const char *name, unsigned loss)
{
    hn_template *tmpl = NULL;
    hn_chat_source files = {.bos = "<s>", .eos = "</s>"};
    if (hn_template_open(&tmpl, &(hn_template_options){.name = name, .loss = loss}, &files, tokenizer,
                         &error))
        abort();
    return tmpl;
}

static hn_status open_with(hn_dataset **out, const char *path, const hn_data_config *config,
                           const hn_template *chat, const char *cache)
{
    hn_list files = {&path, 1};
    hn_dataset_options options = {
        .task = HN_DATA_INSTRUCT, .chat = chat, .end_token = -1, .cache_folder = cache};
    *out = NULL;
    hn_error_reset(&error);
    return hn_dataset_open(out, config, &files, tokenizer, &options, &error);
}

/* All examples: tokens with those that are predicted in [[ ]], a line each. */
static const char *describe(const hn_dataset *dataset)
{
    static char out[16384];
    size_t used = 0;
    hn_batch_buffer buffer;
    uint16_t marks[4096];
    out[0] = '\0';
    if (hn_batch_buffer_init(&buffer, hn_dataset_longest(dataset), 1, &error)) abort();
    for (uint32_t e = 0; e < hn_dataset_count(dataset); e++) {
        if (hn_dataset_fill(dataset, &buffer, &e, 1, &error)) abort();
        const hn_batch *batch = &buffer.batch;
        int64_t targets = 0;
        marks[0] = 0;
        for (int32_t t = 0; t + 1 < batch->tokens; t++) {
            marks[t + 1] = batch->target[t] != HN_NO_TARGET;
            targets += marks[t + 1];
            if (marks[t + 1] && batch->target[t] != batch->token[t + 1]) abort();
        }
        if (batch->target[batch->tokens - 1] != HN_NO_TARGET) abort();
        if (targets != hn_dataset_targets(dataset, &e, 1, NULL)) abort();
        used += (size_t)snprintf(out + used, sizeof out - used, "%s\n",
                                 byte_show(batch->token, marks, batch->tokens));
    }
    hn_batch_buffer_close(&buffer);
    return out;
}

static const char *described(const char *name, const char *text, const hn_data_config *config,
                             const char *tmpl, unsigned loss)
{
    hn_dataset *dataset;
    const char *out = NULL;
    hn_template *chat = template_of(tmpl, loss);
    if (!open_with(&dataset, put_bytes(name, text, strlen(text)), config, chat, NULL)) {
        out = describe(dataset);
        hn_dataset_free(dataset);
    }
    hn_template_free(chat);
    return out ? out : error.message;
}

#define TASK "Below is an instruction that describes a task"
#define ANSWER "Write a response that appropriately completes the request.\n\n### Instruction:\n"

TEST(shapes)
{
    hn_data_config config = config_of();
    CHECK_TEXT(described("a.jsonl",
                         "{\"instruction\": \"Add.\", \"input\": \"1 2\", \"output\": \"3\"}\n"
                         "{\"instruction\": \"Hi\", \"input\": \"\", \"output\": \"Yo\"}\n"
                         "{\"instruction\": \"Hi\", \"input\": null, \"output\": \"Yo\"}\n"
                         "{\"output\": \"Yo\", \"instruction\": \"Hi\"}\n",
                         &config, "alpaca", 0),
               TASK ", paired with an input that provides further context. " ANSWER
                    "Add.\n\n### Input:\n1 2\n\n### Response:\n[[3</s>]]\n" TASK ". " ANSWER
                    "Hi\n\n### Response:\n[[Yo</s>]]\n" TASK ". " ANSWER
                    "Hi\n\n### Response:\n[[Yo</s>]]\n" TASK ". " ANSWER "Hi\n\n### Response:\n[[Yo</s>]]\n");
    CHECK_TEXT(described("p.json", "[{\"prompt\": \"2+2=\", \"completion\": \"4\"}]", &config, "plain", 0),
               "2+2=[[4</s>]]\n");
    CHECK_TEXT(described("l.json",
                         "[{\"prompt\": [{\"role\": \"user\", \"content\": \"2+2=\"}], "
                         "\"completion\": [{\"role\": \"assistant\", \"content\": \"4\"}]}]",
                         &config, "plain", 0),
               "2+2=[[4</s>]]\n");
    CHECK_TEXT(
        described(
            "m.jsonl",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", "
            "\"content\": \"b\"}, "
            "{\"role\": \"user\", \"content\": \"c\"}, {\"role\": \"assistant\", \"content\": \"d\"}]}\n",
            &config, "mistral", 0),
        "<s>[INST] a [/INST][[b</s>]][INST] c [/INST][[d</s>]]\n");
    CHECK_TEXT(described("s.jsonl",
                         "{\"conversations\": [{\"from\": \"system\", \"value\": \"S\"}, {\"from\": "
                         "\"human\", \"value\": \"a\"}, "
                         "{\"from\": \"gpt\", \"value\": \"b\"}]}\n",
                         &config, "mistral", 0),
               "<s>[INST] S\n\na [/INST][[b</s>]]\n");
    CHECK_TEXT(described("t.csv", "output,x,instruction\n\"b, c\",1,a\n", &config, "mistral", 0),
               "<s>[INST] a [/INST][[b, c</s>]]\n");
    CHECK_TEXT(described("t.tsv", "prompt\tcompletion\na\tb\n", &config, "mistral", 0),
               "<s>[INST] a [/INST][[b</s>]]\n");
    config.turns_of.instruction = "question";
    config.turns_of.output = "answer";
    config.turns_of.input = "context";
    CHECK_TEXT(described("n.csv", "question,context,answer\na,b,c\n", &config, "mistral", 0),
               "<s>[INST] a\n\nb [/INST][[c</s>]]\n");
    config.turns_of.input = NULL;
    CHECK_TEXT(described("n.csv", "question,context,answer\na,b,c\n", &config, "mistral", 0),
               "<s>[INST] a [/INST][[c</s>]]\n");
    config.turns_of.messages = "chat";
    CHECK_TEXT(described("c.jsonl",
                         "{\"chat\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", "
                         "\"content\": \"b\"}]}\n",
                         &config, "plain", 0),
               "a[[b</s>]]\n");
    /* Once the list has a name, no other field is taken for it. */
    CHECK_TEXT(described("c.jsonl", "{\"conversations\": [], \"question\": \"q\", \"answer\": \"r\"}\n", &config, "plain", 0),
               "q[[r</s>]]\n");
}

/* Two rows, so that nothing of the first stays; the other names of roles; role before from. */
TEST(roles)
{
    static const char rows[] =
        "{\"messages\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"model\", \"value\": \"b\"}]}\n"
        "{\"messages\": [{\"role\": \"user\", \"from\": \"gpt\", \"content\": \"c\", \"value\": \"x\"}, "
        "{\"role\": \"assistant\", \"content\": \"d\"}]}\n";
    hn_data_config config = config_of();
    CHECK_TEXT(described("r.jsonl", rows, &config, "mistral", 0), "<s>[INST] a [/INST][[b</s>]]\n<s>[INST] c [/INST][[d</s>]]\n");
}

TEST(losses)
{
    static const char row[] = "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": "
                              "\"user\", \"content\": \"a\"}, "
                              "{\"role\": \"assistant\", \"content\": \"b\"}]}\n";
    hn_data_config config = config_of();
    CHECK_TEXT(described("r.jsonl", row, &config, "chatml", 1u << HN_ROLE_USER),
               "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n[[a<|im_end|>]]\n<|im_start|>assistant\nb<"
               "|im_end|>\n\n");
    CHECK_TEXT(described("r.jsonl", row, &config, "chatml", HN_LOSS_ALL),
               "<|im_start|>[[system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|"
               "im_end|>\n]]\n");
}

/* Whether a row has words to learn is asked of the roles that are trained on, and of what a cut leaves behind the first token. */
TEST(nothing_to_learn)
{
    static const char no_answer[] = "{\"instruction\": \"aa\", \"output\": \" \"}\n";
    static const char input_alone[] = "{\"instruction\": \" \", \"input\": \"1 2\", \"output\": \"3\"}\n";
    static const char no_question[] = "{\"instruction\": \" \", \"input\": \"\\n\", \"output\": \"3\"}\n";
    hn_data_config config = config_of();
    CHECK_TEXT(described("r.jsonl", no_answer, &config, "plain", 1u << HN_ROLE_USER), "a[[a]] </s>\n");
    CHECK_TEXT(described("r.jsonl", input_alone, &config, "plain", 1u << HN_ROLE_USER), " [[\n\n1 2]]3</s>\n");
    CHECK_CONTAINS(described("r.jsonl", no_question, &config, "plain", 1u << HN_ROLE_USER), "expected words to train on (data.loss)");
    CHECK_CONTAINS(described("r.jsonl", no_answer, &config, "plain", 0), "expected words to train on (data.loss)");
    config.max_tokens = 1;
    CHECK_CONTAINS(described("r.jsonl", no_answer, &config, "plain", HN_LOSS_ALL), "in the first 1 of its 4 tokens (data.max_tokens)");
}

/* Rows of one file of each kind are told by its first row; what comes later and lacks the fields is a bad
 * row. */
static const struct {
    const char *name, *text, *message;
    hn_bad_kind kind;
} bad[] = {
    {"none.jsonl", "{\"text\": \"a\"}\n",
     ":1: expected a field \"messages\", or \"instruction\" and \"output\", or \"prompt\" and "
     "\"completion\", got none of them; data.fields names others",
     HN_BAD_MISSING},
    {"half.jsonl", "{\"prompt\": \"a\", \"instruction\": \"b\"}\n", ":1: expected a field \"messages\", or",
     HN_BAD_MISSING},
    {"other.jsonl",
     "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"instruction\": \"a\", \"output\": \"b\"}\n",
     ":2: field \"prompt\": expected a string, got no such field (the row has \"instruction\", ...)",
     HN_BAD_MISSING},
    {"empty.jsonl", "{\"instruction\": \"a\", \"output\": \"\"}\n",
     ":1: expected words to train on (data.loss), got an empty answer", HN_BAD_NOTHING},
    {"blank.jsonl", "{\"instruction\": \"a\", \"output\": \" \\n\\t\"}\n", "got an empty answer",
     HN_BAD_NOTHING},
    {"type.jsonl", "{\"instruction\": \"a\", \"output\": 7}\n",
     "field \"output\": expected a string, got a number", HN_BAD_TYPE},
    {"input.jsonl", "{\"instruction\": \"a\", \"output\": \"b\", \"input\": []}\n",
     "field \"input\": expected a string, got an array", HN_BAD_TYPE},
    {"nul.jsonl", "{\"instruction\": \"a\\u0000\", \"output\": \"b\"}\n",
     "field \"instruction\": expected text, got a NUL", HN_BAD_NUL},
    {"list.jsonl", "{\"messages\": \"hello\"}\n",
     "field \"messages\": expected a list of messages, got a string", HN_BAD_TYPE},
    {"item.jsonl", "{\"messages\": [7]}\n", "message 1: expected an object", HN_BAD_TYPE},
    {"lists.jsonl", "{\"prompt\": [7], \"completion\": [{\"role\": \"assistant\", \"content\": \"b\"}]}\n",
     "message 1: expected an object", HN_BAD_TYPE},
    {"role.jsonl",
     "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"tool\", \"content\": \"b\"}]}\n",
     "message 2: expected a role of system, user, assistant, got \"tool\"", HN_BAD_TURNS},
    {"roleless.jsonl", "{\"messages\": [{\"content\": \"a\"}]}\n",
     "field \"role\": expected a string, got no such field (it has \"content\"", HN_BAD_MISSING},
    {"content.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}]}\n",
     "field \"content\": expected a string, got an array", HN_BAD_TYPE},
    {"hidden.jsonl", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\\u0000b\"}]}\n", "got a NUL",
     HN_BAD_NUL},
    {"nothing.jsonl", "{\"messages\": []}\n", "template mistral: expected messages, got none", HN_BAD_TURNS},
    {"order.jsonl", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}\n",
     "template mistral: the template takes user and", HN_BAD_TURNS},
    {"unanswered.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n",
     "got an empty answer", HN_BAD_NOTHING},
    {"deep.jsonl",
     "{\"messages\": "
     "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]"
     "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}\n",
     "expected a JSON object, got", HN_BAD_SYNTAX},
};

TEST(bad_rows)
{
    static const char good[] = "{\"instruction\": \"a\", \"output\": \"b\"}\n";
    hn_template *chat = template_of("mistral", 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hn_data_config config = config_of();
        hn_dataset *dataset;
        CHECK_INT(
            open_with(&dataset, put_bytes(bad[i].name, bad[i].text, strlen(bad[i].text)), &config, chat, NULL),
            HN_ERR_FORMAT);
        if (!strstr(error.message, bad[i].message))
            TEST_FAIL("%s: got \"%s\", expected \"%s\"", bad[i].name, error.message, bad[i].message);
        /* Passed over, with its kind counted; the good file beside it is read. */
        const char *paths[] = {put_bytes(bad[i].name, bad[i].text, strlen(bad[i].text)),
                               put_bytes("good.jsonl", good, strlen(good))};
        hn_list files = {paths, 2};
        hn_dataset_options options = {.task = HN_DATA_INSTRUCT, .chat = chat};
        config.on_bad_row = 1;
        hn_error_reset(&error);
        CHECK_OK(hn_dataset_open(&dataset, &config, &files, tokenizer, &options, &error));
        CHECK_INT(hn_dataset_report(dataset)->bad.count[bad[i].kind], 1);
        CHECK_INT(hn_dataset_report(dataset)->skipped, 1);
        CHECK_CONTAINS(describe(dataset), "<s>[INST] a [/INST][[b</s>]]\n");
        hn_dataset_free(dataset);
    }
    hn_template_free(chat);
}

TEST(wrong_tables)
{
    hn_data_config config = config_of();
    CHECK_CONTAINS(described("x.csv", "a,b\n1,2\n", &config, "plain", 0),
                   "expected a field \"messages\", or \"instruction\" and");
    CHECK_CONTAINS(described("x.csv", "messages,b\n1,2\n", &config, "plain", 0),
                   "columns of data.rows=alpaca or prompt");
    config.turns_of.kind = HN_TURNS_ALPACA;
    CHECK_CONTAINS(described("x.csv", "instruction,b\n1,2\n", &config, "plain", 0),
                   "expected a column \"output\"");
    config.turns_of.output = NULL;
    CHECK_CONTAINS(described("x.csv", "instruction,b\n1,2\n", &config, "plain", 0),
                   "data.fields.output: expected the name of a field");
}

/* Prompt of 2 bytes, answer of 5 with its end: what becomes of it at each limit. */
TEST(long_rows)
{
    static const char row[] = "{\"prompt\": \"ab\", \"completion\": \"cdef\"}\n";
    static const struct {
        int max, on_long;
        const char *expected;
    } cases[] = {
        {7, HN_LONG_REFUSE, "ab[[cdef</s>]]\n"},
        {6, HN_LONG_CUT, "ab[[cdef]]\n"},
        {3, HN_LONG_CUT, "ab[[c]]\n"},
        {2, HN_LONG_CUT,
         ":1: expected words to train on in the first 2 of its 7 tokens (data.max_tokens), got none"},
        {6, HN_LONG_REFUSE,
         ":1: expected at most 6 tokens (data.max_tokens), got 7; data.on_long cuts or skips such rows"},
        {6, HN_LONG_SKIP, "expected examples, got none (1 rows: 1 bad"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hn_data_config config = config_of();
        config.max_tokens = cases[i].max;
        config.on_long = cases[i].on_long;
        CHECK_CONTAINS(described("long.jsonl", row, &config, "plain", 0), cases[i].expected);
    }
}

TEST(long_rows_are_counted)
{
    static const char rows[] =
        "{\"prompt\": \"ab\", \"completion\": \"cdef\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n"
        "{\"prompt\": \"abcdef\", \"completion\": \"g\"}\n";
    hn_data_config config = config_of();
    hn_template *chat = template_of("plain", 0);
    hn_dataset *dataset;
    const char *path = put_bytes("some.jsonl", rows, strlen(rows));
    config.max_tokens = 4;
    config.on_bad_row = 1;
    CHECK_OK(open_with(&dataset, path, &config, chat, NULL));
    CHECK_TEXT(describe(dataset), "ab[[cd]]\na[[b</s>]]\n");
    CHECK_INT(hn_dataset_report(dataset)->truncated, 1);
    CHECK_INT(hn_dataset_report(dataset)->bad.count[HN_BAD_NOTHING], 1);
    hn_dataset_free(dataset);
    config.on_bad_row = 0;
    config.on_long = HN_LONG_SKIP; /* counted, whatever on_bad_row says */
    CHECK_OK(open_with(&dataset, path, &config, chat, NULL));
    CHECK_TEXT(describe(dataset), "a[[b</s>]]\n");
    CHECK_INT(hn_dataset_report(dataset)->truncated, 0);
    CHECK_INT(hn_dataset_report(dataset)->bad.count[HN_BAD_TOKENS], 2);
    const char *file;
    CHECK_INT(hn_dataset_line(dataset, 0, &file), 2);
    hn_dataset_free(dataset);
    hn_template_free(chat);
}

/* Rows beyond a slot of the encoder, over threads and over the cache: the same. */
TEST(many_rows)
{
    hn_strbuf text;
    hn_strbuf_init(&text);
    for (int i = 0; i < 3000; i++) {
        if (i % 500 == 499) hn_strbuf_puts(&text, "{\"prompt\": \"x\", \"completion\": \"\"}\n");
        hn_strbuf_printf(&text, "{\"prompt\": \"%d?\", \"completion\": \"%d\"}\n", i, i * i);
    }
    const char *path = put_bytes("many.jsonl", text.text, text.length);
    hn_strbuf_close(&text);
    char cache[96];
    snprintf(cache, sizeof cache, "%s/cache", folder);
    hn_template *chat = template_of("chatml", 0), *other = template_of("chatml", HN_LOSS_ALL);
    hn_digest digests[4];
    for (int k = 0; k < 4; k++) {
        hn_data_config config = config_of();
        hn_dataset *dataset;
        hn_batch_buffer buffer;
        uint32_t all[3000];
        for (uint32_t i = 0; i < 3000; i++) all[i] = i;
        config.threads = k == 1 ? 3 : 1;
        config.on_bad_row = 1;
        CHECK_OK(open_with(&dataset, path, &config, chat, k < 2 ? NULL : cache));
        CHECK_INT(hn_dataset_count(dataset), 3000);
        CHECK_INT(hn_dataset_report(dataset)->bad.count[HN_BAD_NOTHING], 6);
        CHECK_INT(hn_dataset_report(dataset)->cached, k == 3);
        CHECK_OK(hn_batch_buffer_init(&buffer, (int32_t)hn_dataset_tokens(dataset), 3000, &error));
        CHECK_OK(hn_dataset_fill(dataset, &buffer, all, 3000, &error));
        digests[k] = hn_digest_bytes(buffer.memory, buffer.size);
        CHECK(hn_digest_equal(digests[k], digests[0]));
        hn_batch_buffer_close(&buffer);
        hn_dataset_free(dataset);
    }
    hn_data_config config = config_of();
    config.on_bad_row = 1;
    hn_dataset *dataset; /* what decides ids and marks decides which cache */
    CHECK_OK(open_with(&dataset, path, &config, other, cache));
    CHECK_INT(hn_dataset_report(dataset)->cached, 0);
    hn_dataset_free(dataset);
    config.on_long = HN_LONG_SKIP;
    CHECK_OK(open_with(&dataset, path, &config, chat, cache));
    CHECK_INT(hn_dataset_report(dataset)->cached, 0);
    hn_dataset_free(dataset);
    hn_template_free(chat);
    hn_template_free(other);
}

TEST(survey_and_overlap)
{
    static const char rows[] =
        "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"c\", \"completion\": \"de\"}\n"
        "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    static const char others[] =
        "{\"prompt\": \"x\", \"completion\": \"b\"}\n{\"prompt\": \"c\", \"completion\": \"de\"}\n"
        "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \"completion\": \"bb\"}\n";
    hn_data_config config = config_of();
    hn_template *chat = template_of("plain", 0);
    hn_dataset *first, *second;
    hn_data_survey survey;
    int64_t count, at;
    CHECK_OK(open_with(&first, put_bytes("first.jsonl", rows, strlen(rows)), &config, chat, NULL));
    CHECK_OK(open_with(&second, put_bytes("second.jsonl", others, strlen(others)), &config, chat, NULL));
    CHECK_OK(hn_dataset_survey(first, &survey, NULL, 0, &error));
    CHECK_INT(survey.targets, 2 + 3 + 2);
    CHECK_INT(survey.duplicates, 1);
    CHECK_OK(hn_dataset_overlap(first, second, &count, &at, &error));
    CHECK_INT(count, 3);
    CHECK_INT(at, 0);
    CHECK_OK(hn_dataset_overlap(second, first, &count, &at, &error));
    CHECK_INT(count, 2);
    CHECK_INT(at, 1);
    for (size_t nth = 1; nth < 3; nth++) {
        hn_mem_fail_at(nth);
        CHECK_INT(hn_dataset_overlap(second, first, &count, &at, &error), HN_ERR_MEMORY);
        hn_mem_fail_at(0);
    }
    hn_dataset_free(first);
    hn_dataset_free(second);
    hn_template_free(chat);
}

/* A field of 100 MiB costs no more memory than a row may have. */
TEST(huge_field)
{
    char path[96];
    snprintf(path, sizeof path, "%s/huge.jsonl", folder);
    FILE *file = fopen(path, "w");
    static char block[1 << 20];
    memset(block, 'x', sizeof block);
    fputs("{\"prompt\": \"", file);
    for (int i = 0; i < 100; i++) fwrite(block, 1, sizeof block, file);
    fputs("\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n", file);
    fclose(file);
    hn_data_config config = config_of();
    hn_template *chat = template_of("plain", 0);
    hn_dataset *dataset;
    config.on_bad_row = 1;
    CHECK_OK(open_with(&dataset, path, &config, chat, NULL));
    CHECK_TEXT(describe(dataset), "a[[b</s>]]\n");
    CHECK_INT(hn_dataset_report(dataset)->bad.count[HN_BAD_LONG], 1);
    hn_dataset_free(dataset);
    hn_template_free(chat);
    unlink(path);
}

/* Cut anywhere, a file is read up to there, or refused with a reason. */
TEST(truncation_at_every_byte)
{
    static const char text[] =
        "[{\"messages\": [{\"role\": \"user\", \"content\": \"a\\u00e9\"}, {\"role\": \"assistant\", "
        "\"content\": \"b\"}]}, {\"messages\": [{\"role\": \"user\", \"content\": \"c\"}, {\"role\": "
        "\"assistant\", \"content\": \"d\"}]}]";
    hn_template *chat = template_of("chatml", 0);
    for (size_t length = 0; length <= strlen(text); length++) {
        hn_data_config config = config_of();
        hn_dataset *dataset;
        hn_status status = open_with(&dataset, put_bytes("cut.json", text, length), &config, chat, NULL);
        CHECK_INT(status, length == strlen(text) ? HN_OK : HN_ERR_FORMAT);
        CHECK(!status == !error.message[0]);
        hn_dataset_free(dataset);
        config.on_bad_row = 1;
        status = open_with(&dataset, put_bytes("cut.json", text, length), &config, chat, NULL);
        if (!status) CHECK(hn_dataset_count(dataset) == (length == strlen(text) ? 2 : 1));
        hn_dataset_free(dataset);
    }
    hn_template_free(chat);
}

TEST(memory)
{
    static const char rows[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": "
                               "\"assistant\", \"content\": \"b\"}]}\n"
                               "{\"messages\": []}\n";
    hn_data_config config = config_of();
    hn_template *chat = template_of("chatml", 0);
    const char *path = put_bytes("memory.jsonl", rows, strlen(rows));
    bool done = false;
    config.on_bad_row = 1;
    for (size_t nth = 1; !done && nth < 500; nth++) {
        hn_dataset *dataset;
        hn_mem_fail_at(nth);
        hn_status status = open_with(&dataset, path, &config, chat, NULL);
        hn_mem_fail_at(0);
        done = !status;
        if (status) CHECK_INT(status, HN_ERR_MEMORY);
        hn_dataset_free(dataset);
    }
    CHECK(done);
    hn_template_free(chat);
}

int main(void)
{
    folder_open();
    hn_json_init();
    tokenizer = byte_tokenizer(false);
    RUN(shapes);
    RUN(roles);
    RUN(losses);
    RUN(nothing_to_learn);
    RUN(bad_rows);
    RUN(wrong_tables);
    RUN(long_rows);
    RUN(long_rows_are_counted);
    RUN(many_rows);
    RUN(survey_and_overlap);
    RUN(huge_field);
    RUN(truncation_at_every_byte);
    RUN(memory);
    hn_tokenizer_free(tokenizer);
    folder_close();
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
