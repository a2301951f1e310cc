/* What a run asks at its evaluations: which rows, what of them, what a person is shown; that they fit the bounds without changing an
 * evaluation's batches; what is refused; and every allocation failing in turn. On a decoder of two layers without weights. */
#include "train/samples.h"

#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "tests/test.h"
#include "train/plan.h"
#include "train/trainer.h"

#define CONFIG                                                                                                         \
    "{\"model_type\": \"llama\", \"hidden_size\": 16, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, "          \
    "\"intermediate_size\": 24, \"vocab_size\": %d, \"max_position_embeddings\": 96, \"tie_word_embeddings\": false}"

enum { WORDS = 24 };
static hn_error error;
static char folder[] = "/tmp/hone-samples-XXXXXX";
static hn_train_config train;
static hn_data_config data;
static hn_config *config;
static hn_key_table tables[2];
static hn_job *job;
static char arguments[WORDS][160];

static void write_text(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file)) abort();
}

static void make_model(const char *name, int vocabulary)
{
    char path[64], text[512], *tokenizer = NULL;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (hn_folder_make(path, &error) || hn_file_read(&tokenizer, &size, "tests/golden/tokenizer/bytes.json", SIZE_MAX, &error)) abort();
    snprintf(path, sizeof path, "%s/tokenizer.json", name);
    write_text(path, tokenizer);
    snprintf(text, sizeof text, CONFIG, vocabulary);
    snprintf(path, sizeof path, "%s/config.json", name);
    write_text(path, text);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", name);
    write_text(path, "{\"eos_token\": \"</s>\"}");
    hn_free(tokenizer);
}

static void set_up(void)
{
    if (!mkdtemp(folder)) abort();
    make_model("model", 420);
    make_model("wide", 4000);
    write_text("rows.jsonl", "{\"instruction\": \"Say one\", \"output\": \"one!\"}\n"
                             "{\"instruction\": \"Say two\", \"output\": \"two!\"}\n"
                             "{\"instruction\": \"Say\", \"input\": \"three\", \"output\": \"three!\"}\n"
                             "{\"messages\": [], \"instruction\": \"Say four\", \"output\": \"four!\"}\n"
                             "{\"instruction\": \"Say five\", \"output\": \"five!\"}\n");
    write_text("talk.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}, {\"role\": \"assistant\", \"content\": \"Hi\"}, "
                             "{\"role\": \"user\", \"content\": \"Bye\"}, {\"role\": \"assistant\", \"content\": \"So long\"}]}\n");
    write_text("text.txt", "The quick brown fox jumps over the lazy dog, and the dog does not mind, for it has seen a fox before.\n"
                           "\xf0\x9f\xa6\x8a\xf0\x9f\xa6\x8a\xf0\x9f\xa6\x8a\xf0\x9f\xa6\x8a\xf0\x9f\xa6\x8a\n");
    tables[0] = (hn_key_table){.keys = hn_train_keys, .count = hn_train_key_count, .values = &train};
    tables[1] = (hn_key_table){.keys = hn_data_keys, .count = hn_data_key_count, .values = &data};
}

static void close_job(void)
{
    hn_job_free(job);
    hn_config_free(config);
    job = NULL;
    config = NULL;
}

/* Reads the config: what all tests have, then `words` (NULL ends them), in which @ is the folder. */
static void load(const char *const *words)
{
    static const char *const fixed[] = {"model.path=@/model", "model.init=scratch", "data.train=@/rows.jsonl", "data.dev=@/rows.jsonl",
                                        "task.kind=sft", "data.turns.user=Q: {content}\n", "data.turns.prompt=A: ", "data.cache=off",
                                        "data.max_tokens=64", "train.threads=1", "train.epochs=1", "output.dir=@/run"};
    const char *given[WORDS];
    size_t count = 0;
    close_job();
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) given[count++] = fixed[i];
    for (; *words; words++) given[count++] = *words;
    for (size_t i = 0; i < count; i++) {
        const char *at = strchr(given[i], '@');
        if (at) snprintf(arguments[i], sizeof arguments[i], "%.*s%s%s", (int)(at - given[i]), given[i], folder, at + 1);
        else snprintf(arguments[i], sizeof arguments[i], "%s", given[i]);
        given[i] = arguments[i];
    }
    hn_error_reset(&error);
    if (hn_config_load(&config, tables, 2, NULL, given, count, false, &error)) fprintf(stderr, "%s\n", error.message), abort();
}

static hn_status open_job(const char *const *words)
{
    load(words);
    return hn_job_open(&job, &train, &data, HN_JOB_ALL, NULL, &error);
}
#define OPEN(...) open_job((const char *const[]){__VA_ARGS__, NULL})

/* The text that the prompt's ids are. */
static const char *prompt_text(const hn_sample *sample)
{
    static hn_strbuf text;
    if (!text.text) hn_strbuf_init(&text);
    hn_strbuf_reset(&text);
    hn_tokenizer_decode(job->source->tokenizer, &text, sample->ids, (size_t)sample->count, false, &error);
    return text.text;
}

TEST(rows_spread_evenly)
{
    CHECK_OK(OPEN("eval.samples=2"));
    const hn_sample *items = job->samples.items;
    CHECK_INT(job->samples.count, 2);
    CHECK_TEXT(items[0].prompt, "Say one");
    CHECK_TEXT(items[0].reference, "one!");
    CHECK_CONTAINS(items[0].row, "/rows.jsonl:1");
    CHECK_TEXT(prompt_text(&items[0]), "<s>Q: Say one\nA: ");
    CHECK_TEXT(items[1].prompt, "Say\n\nthree");
    CHECK_TEXT(items[1].reference, "three!");
    CHECK_CONTAINS(items[1].row, "/rows.jsonl:3");
    CHECK_OK(OPEN("eval.samples=9"));
    CHECK_INT(job->samples.count, 5); /* as many as there are */
    CHECK_CONTAINS(job->samples.items[4].row, "/rows.jsonl:5");
}

TEST(up_to_the_first_answer)
{
    CHECK_OK(OPEN("eval.samples=1", "data.dev=@/talk.jsonl"));
    CHECK_TEXT(job->samples.items[0].prompt, "Hello");
    CHECK_TEXT(job->samples.items[0].reference, "Hi");
    CHECK_TEXT(prompt_text(&job->samples.items[0]), "<s>Q: Hello\nA: ");
    CHECK_INT(job->samples.stop_id_count, 1);
    CHECK_INT(job->samples.stop_ids[0], 2);
}

TEST(beginnings_of_texts)
{
    CHECK_OK(OPEN("task.kind=lm", "data.train=@/text.txt", "data.dev=@/text.txt", "eval.samples=1", "eval.sample_tokens=5"));
    const hn_sample *one = &job->samples.items[0];
    hn_strbuf both;
    CHECK_INT(one->count, 32);
    CHECK_CONTAINS(prompt_text(one), one->prompt); /* behind <s> */
    hn_strbuf_init(&both);
    hn_strbuf_printf(&both, "%s%s", one->prompt, one->reference);
    bool goes_on = !strncmp(both.text, "The quick brown fox jumps over the lazy dog, and the dog does not mind, for it has seen a fox before.", both.length);
    hn_strbuf_close(&both);
    CHECK(goes_on && *one->reference);
    CHECK_INT(job->samples.generator.capacity, 37);
}

/* A fox is four bytes and several tokens: the middle of some of these rows is within one. */
TEST(a_prompt_ends_with_a_whole_character)
{
    int moved = 0;
    for (int letters = 0; letters < 6; letters++) {
        char text[64];
        snprintf(text, sizeof text, "%.*s%s", letters, "xyxyxy", "\xf0\x9f\xa6\x8a\xf0\x9f\xa6\x8a\xf0\x9f\xa6\x8a");
        write_text("foxes.txt", text);
        CHECK_OK(OPEN("task.kind=lm", "data.train=@/foxes.txt", "data.dev=@/foxes.txt", "eval.samples=1"));
        const hn_sample *one = &job->samples.items[0];
        CHECK(!strstr(one->prompt, "\xEF\xBF\xBD") && !strstr(one->reference, "\xEF\xBF\xBD"));
        moved += one->count > hn_dataset_length(job->dev[0].dataset, 0) / 2;
        snprintf(text + 32, 32, "%s%s", one->prompt, one->reference);
        CHECK_TEXT(text + 32, text);
    }
    CHECK(moved > 0);
}

TEST(prompts_of_the_user)
{
    CHECK_OK(OPEN("eval.samples=2", "eval.sample_prompts=[\"Say, six\", \"b\", \"c\"]"));
    CHECK_INT(job->samples.count, 3);
    CHECK_TEXT(job->samples.items[0].prompt, "Say, six");
    CHECK(!job->samples.items[0].reference && !job->samples.items[0].row);
    CHECK_TEXT(prompt_text(&job->samples.items[0]), "<s>Q: Say, six\nA: ");
    CHECK_OK(OPEN("task.kind=lm", "data.train=@/text.txt", "data.dev=@/text.txt", "eval.sample_prompts=The fox"));
    CHECK_INT(job->samples.count, 1);
    CHECK_TEXT(prompt_text(&job->samples.items[0]), "<s>The fox");
    CHECK_OK(OPEN("data.loss=all", "eval.sample_prompts=a")); /* rows would not do */
}

/* An evaluation cuts its batches by tokens and examples: those stay. */
TEST(bounds)
{
    CHECK_OK(OPEN("eval.sample_tokens=60"));
    hn_bounds without = job->evaluation;
    CHECK_INT(job->samples.count, 0);
    CHECK_OK(OPEN("eval.samples=5", "eval.sample_tokens=60"));
    CHECK_INT(job->evaluation.tokens, without.tokens);
    CHECK_INT(job->evaluation.examples, without.examples);
    CHECK(job->evaluation.longest > without.longest);
    CHECK_INT(job->evaluation.longest, job->samples.generator.capacity);
    CHECK_INT(job->samples.generator.sequences, 5);
    CHECK_OK(OPEN("eval.samples=5", "train.batch_examples=2"));
    CHECK_INT(job->samples.generator.sequences, 2);
    CHECK_OK(OPEN("eval.samples=5", "eval.sample_tokens=100000"));
    CHECK_INT(job->samples.generator.capacity, 96);
}

TEST(the_plan_counts_them)
{
    hn_plan plan, more;
    CHECK_OK(OPEN("eval.samples=0"));
    CHECK_OK(hn_plan_make(&plan, job, &error));
    CHECK_INT(plan.rows[HN_PLAN_ROWS - 1].bytes, 0);
    CHECK_OK(OPEN("eval.samples=4"));
    CHECK_OK(hn_plan_make(&more, job, &error));
    /* 4 places of 2 layers, keys and values of 16 in fp32; logits stay among the activations */
    size_t cache = 4 * (size_t)job->samples.generator.capacity * 2 * 2 * 16 * 4;
    CHECK_TEXT(more.rows[HN_PLAN_ROWS - 1].name, "samples");
    CHECK(more.rows[HN_PLAN_ROWS - 1].bytes >= cache && more.rows[HN_PLAN_ROWS - 1].bytes < cache + 16384);
    CHECK(more.total >= plan.total + cache);
}

#define Q32 "qjqjqjqjqjqjqjqjqjqjqjqjqjqjqjqj"

TEST(refused)
{
    static const struct {
        const char *words[5], *says;
    } cases[] = {
        {{"eval.samples=2", "data.dev=[]"}, "eval.samples: samples are written when the dev sets are evaluated; expected data.dev"},
        {{"eval.sample_prompts=a", "data.dev=[]"}, "eval.sample_prompts: samples are written when"},
        {{"eval.samples=2", "data.loss=all"}, "eval.samples: where an answer begins is told by what is trained on; expected data.loss=assistant"},
        {{"eval.sample_prompts=[\"a\", \"\"]"}, "eval.sample_prompts: expected texts, got an empty one as number 2"},
        {{"eval.sample_prompts=" Q32 Q32 Q32},
         "eval.sample_prompts: number 1 has"},
        {{"task.kind=lm", "data.train=@/text.txt", "data.dev=@/text.txt", "eval.sample_prompts=[\"\"]"}, "got an empty one as number 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_INT(open_job(cases[i].words), HN_ERR_USAGE);
        CHECK_CONTAINS(error.message, cases[i].says);
    }
}

TEST(choosing_without_memory)
{
    CHECK_OK(OPEN("eval.samples=3"));
    hn_status status = HN_ERR_MEMORY;
    for (size_t n = 1; status != HN_OK; n++) {
        hn_samples_close(&job->samples);
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        status = hn_samples_open(&job->samples, job, &error);
        hn_mem_fail_at(0);
        if (status != HN_OK && status != HN_ERR_MEMORY) TEST_FAIL("allocation %zu: status %d, \"%s\"", n, (int)status, error.message);
    }
    CHECK_INT(job->samples.count, 3);
    CHECK_TEXT(job->samples.items[0].prompt, "Say one");
}

static void ignore(const char *text)
{
    (void)text;
}

/* A run into an empty folder. */
static hn_status run(void)
{
    static const volatile int go = 0;
    char path[64];
    hn_train_result result;
    hn_error ignored = {0};
    snprintf(path, sizeof path, "%s/run", folder);
    if (hn_path_exists(path)) hn_folder_remove(path, &ignored);
    json_t *resolved = hn_config_resolved(config);
    hn_train_options options = {.tables = tables, .table_count = 2, .resolved = resolved, .stop = &go, .notice = ignore};
    hn_error_reset(&error);
    hn_status status = resolved ? hn_train(job, &options, &result, &error) : HN_ERR_MEMORY;
    json_decref(resolved);
    return status;
}

/* What the run's log has. */
static const char *log_text(void)
{
    static char text[16384];
    char path[64], *read = NULL;
    size_t size;
    snprintf(path, sizeof path, "%s/run/metrics.jsonl", folder);
    if (hn_file_read(&read, &size, path, SIZE_MAX, &error)) abort();
    snprintf(text, sizeof text, "%s", read);
    hn_free(read);
    return text;
}

TEST(answers_are_logged)
{
    CHECK_OK(OPEN("eval.samples=2", "eval.sample_tokens=3"));
    CHECK_OK(run());
    CHECK_CONTAINS(log_text(), "{\"event\": \"sample\", \"step\": 1, \"number\": 1, \"prompt\": \"Say one\", \"answer\": \"");
    CHECK_CONTAINS(log_text(), "\"reference\": \"one!\", \"row\": \"");
    CHECK_CONTAINS(log_text(), "\"number\": 2, ");
}

/* Most of what this model may choose is no token of its tokenizer. */
TEST(no_answer_ends_no_run)
{
    CHECK_OK(OPEN("model.path=@/wide", "eval.samples=2"));
    CHECK_OK(run());
    CHECK_CONTAINS(log_text(), "{\"event\": \"warning\", \"step\": 1, \"message\": \"the model chose id ");
    CHECK_CONTAINS(log_text(), "\"event\": \"stop\"");
    CHECK(!strstr(log_text(), "\"sample\""));
}

TEST(training_without_memory)
{
    CHECK_OK(OPEN("eval.samples=2", "eval.sample_tokens=3"));
    hn_status status = HN_ERR_MEMORY;
    for (size_t n = 1; status != HN_OK; n += 1 + n / 24) {
        hn_mem_fail_at(n);
        status = run();
        hn_mem_fail_at(0);
        if (status != HN_OK && status != HN_ERR_MEMORY) TEST_FAIL("allocation %zu: status %d, \"%s\"", n, (int)status, error.message);
    }
    CHECK_CONTAINS(log_text(), "\"event\": \"sample\"");
}

int main(void)
{
    hn_json_init();
    set_up();
    RUN(rows_spread_evenly);
    RUN(up_to_the_first_answer);
    RUN(beginnings_of_texts);
    RUN(a_prompt_ends_with_a_whole_character);
    RUN(prompts_of_the_user);
    RUN(bounds);
    RUN(the_plan_counts_them);
    RUN(refused);
    RUN(choosing_without_memory);
    RUN(answers_are_logged);
    RUN(no_answer_ends_no_run);
    RUN(training_without_memory);
    close_job();
    hn_folder_remove(folder, NULL);
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
