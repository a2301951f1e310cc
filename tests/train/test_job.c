/* A job and a whole run of two steps on a model of one layer, with every allocation failing in turn: a message each time,
 * nothing leaked, and the same folder trains once there is memory again. */
#include "train/job.h"

#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "tests/test.h"
#include "train/plan.h"
#include "train/trainer.h"

#define CONFIG                                                                                                         \
    "{\"model_type\": \"bert\", \"hidden_size\": 16, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, "           \
    "\"intermediate_size\": 32, \"vocab_size\": 7, \"max_position_embeddings\": 16, \"type_vocab_size\": 2}"

static hn_error error;
static char folder[] = "/tmp/hone-job-XXXXXX", model_path[64], data_path[64], run_path[64];
static const char *const overrides[] = {"model.path=", "data.train=", "data.dev=", "output.dir="};
static hn_train_config train;
static hn_data_config data;
static hn_config *config;
static hn_key_table tables[2];
static char arguments[12][96];

static void write_text(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file)) abort();
}

/* model/ with weights by the family's rule and a vocabulary of two letters. */
static void make_model(void)
{
    json_t *root = NULL;
    hn_model_config sizes;
    hn_runner runner;
    hn_runner_options options = {.precision = HN_F32};
    if (hn_json_parse(&root, CONFIG, strlen(CONFIG), "config", HN_JSON_LIMITS_SMALL, &error) ||
        hn_model_config_read(&sizes, root, "config", &error))
        abort();
    sizes.labels = 2;
    if (hn_runner_init(&runner, &sizes, &options, &error) || hn_runner_alloc(&runner, &error) ||
        hn_model_init(runner.model, 1, &error))
        abort();
    hn_exported exported;
    const hn_tensor_source source = {hn_exported_fill, &exported};
    if (hn_exported_init(&exported, runner.model, HN_EXPORT_WHOLE, NULL, 0, NULL, &error) ||
        hn_folder_save_from(model_path, root, exported.tensors, exported.count, &source, HN_F32, NULL, NULL, 0, &error))
        abort();
    hn_exported_close(&exported);
    hn_runner_close(&runner);
    json_decref(root);
    write_text("model/vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n");
    write_text("model/tokenizer_config.json", "{\"do_lower_case\": true, \"tokenizer_class\": \"BertTokenizer\"}");
}

static void set_up(void)
{
    const char *const fixed[] = {"task.labels=x,y", "data.fields.text=text", "train.batch_examples=2", "data.cache=off",
                                 "eval.metric=accuracy", "train.threads=1", "data.max_tokens=8", "train.epochs=1"};
    const char *words[12];
    if (!mkdtemp(folder)) abort();
    snprintf(model_path, sizeof model_path, "%s/model", folder);
    snprintf(data_path, sizeof data_path, "%s/rows.jsonl", folder);
    snprintf(run_path, sizeof run_path, "%s/run", folder);
    make_model();
    write_text("rows.jsonl", "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"b\", \"label\": \"y\"}\n"
                             "{\"text\": \"a b\", \"label\": \"x\"}\n");
    const char *paths[] = {model_path, data_path, data_path, run_path};
    for (int i = 0; i < 4; i++) {
        snprintf(arguments[i], sizeof arguments[i], "%s%s", overrides[i], paths[i]);
        words[i] = arguments[i];
    }
    for (int i = 0; i < 8; i++) words[4 + i] = fixed[i];
    tables[0] = (hn_key_table){.keys = hn_train_keys, .count = hn_train_key_count, .values = &train};
    tables[1] = (hn_key_table){.keys = hn_data_keys, .count = hn_data_key_count, .values = &data};
    if (hn_config_load(&config, tables, 2, NULL, words, 12, false, &error)) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
}

static void ignore(const char *text)
{
    (void)text;
}

/* One whole run into an empty folder. */
static hn_status run(hn_train_result *result)
{
    static const volatile int go = 0;
    hn_job *job = NULL;
    json_t *resolved = hn_config_resolved(config);
    hn_train_options options = {.tables = tables, .table_count = 2, .resolved = resolved, .stop = &go, .notice = ignore};
    hn_error_reset(&error);
    hn_status status = resolved ? hn_job_open(&job, &train, &data, HN_JOB_ALL, &error) : HN_ERR_MEMORY;
    if (status == HN_OK) status = hn_train(job, &options, result, &error);
    hn_job_free(job);
    json_decref(resolved);
    return status;
}

TEST(opening_without_memory)
{
    hn_job *job = NULL;
    hn_status status = HN_ERR_MEMORY;
    size_t tried = 0;
    for (size_t n = 1; status != HN_OK; n++, tried++) {
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        status = hn_job_open(&job, &train, &data, HN_JOB_ALL, &error);
        hn_mem_fail_at(0);
        if (status != HN_OK && (status != HN_ERR_MEMORY || !error.message[0]))
            TEST_FAIL("allocation %zu: status %d, \"%s\"", n, (int)status, error.message);
    }
    int64_t steps = job->total_steps;
    test_promise("the n-th allocation fails, opening model, tokenizer and data", tried, tried);
    hn_job_free(job);
    CHECK_INT(steps, 2);
}

TEST(planning_without_memory)
{
    hn_job *job = NULL;
    hn_plan plan;
    hn_error_reset(&error);
    CHECK_OK(hn_job_open(&job, &train, &data, HN_JOB_ALL, &error));
    hn_status status = HN_ERR_MEMORY;
    for (size_t n = 1; status == HN_ERR_MEMORY; n++) {
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        status = hn_plan_make(&plan, job, &error);
        hn_mem_fail_at(0);
    }
    hn_job_free(job);
    CHECK_INT(status, HN_OK);
    CHECK(plan.total > 0);
}

/* The n-th allocation and all after it fail, for every n at first and then for ever fewer, so that the whole run is walked. */
TEST(training_without_memory)
{
    hn_train_result result;
    hn_status status = HN_ERR_MEMORY;
    size_t tried = 0;
    for (size_t n = 1; status != HN_OK; n += 1 + n / 24, tried++) {
        hn_mem_fail_at(n);
        status = run(&result);
        hn_mem_fail_at(0);
        if (status != HN_OK && status != HN_ERR_MEMORY)
            TEST_FAIL("allocation %zu: status %d, \"%s\"", n, (int)status, error.message);
        if (status != HN_OK) CHECK_OK((hn_error_reset(&error), hn_folder_remove(run_path, &error)));
    }
    CHECK_INT(result.step, 2);
    CHECK_OK(run(&result));
    CHECK(result.was_finished);
    test_promise("the n-th allocation fails, in a whole run", tried, tried);
}

int main(void)
{
    hn_json_init();
    set_up();
    RUN(opening_without_memory);
    RUN(planning_without_memory);
    RUN(training_without_memory);
    hn_config_free(config);
    hn_folder_remove(folder, NULL);
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
