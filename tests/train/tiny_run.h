/* A run of a tiny encoder inside the test's own process: a folder with a model, rows and a run folder, in memory where the machine has
 * /dev/shm. */
#ifndef HONE_TESTS_TRAIN_TINY_RUN_H
#define HONE_TESTS_TRAIN_TINY_RUN_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "train/job.h"
#include "train/trainer.h"

enum { TINY_ARGUMENTS = 40 };

static hn_error error;
static char folder[32], model_path[64], data_path[64], run_path[64];
static hn_train_config train;
static hn_data_config data;
static hn_config *config;
static hn_key_table tables[2];

static void write_text(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file)) abort();
}

/* Rows of 1 to 6 words. */
static inline void ragged_rows(char *out, size_t size, int count)
{
    size_t used = 0;
    for (int i = 0; i < count; i++)
        used += (size_t)snprintf(out + used, size - used, "{\"text\": \"%.*s\", \"label\": \"%s\"}\n", 1 + 2 * (i * 5 % 6), "a b b a b a", i % 3 ? "x" : "y");
}

/* model/ with weights by the family's rule and a vocabulary of two letters. */
static void make_model(int layers)
{
    json_t *root = NULL;
    hn_model_config sizes;
    hn_runner runner;
    hn_runner_options options = {.precision = HN_F32};
    char text[400];
    snprintf(text, sizeof text,
             "{\"model_type\": \"bert\", \"hidden_size\": 16, \"num_hidden_layers\": %d, \"num_attention_heads\": 2, "
             "\"intermediate_size\": 32, \"vocab_size\": 7, \"max_position_embeddings\": 16, \"type_vocab_size\": 2}", layers);
    if (hn_json_parse(&root, text, strlen(text), "config", HN_JSON_LIMITS_SMALL, &error) ||
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

static void tiny_close(void)
{
    hn_config_free(config);
    hn_folder_remove(folder, NULL);
}

/* The folder with a model and a file of rows. */
static void tiny_open(int layers, const char *rows)
{
    snprintf(folder, sizeof folder, "%s/hone-run-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(folder)) abort();
    snprintf(model_path, sizeof model_path, "%s/model", folder);
    snprintf(data_path, sizeof data_path, "%s/rows.jsonl", folder);
    snprintf(run_path, sizeof run_path, "%s/run", folder);
    make_model(layers);
    write_text("rows.jsonl", rows);
}

/* A config of them, with `more` arguments behind. */
static void tiny_configure(const char *const *more, size_t count)
{
    static const char *const fixed[] = {"task.labels=x,y", "data.fields.text=text", "train.batch_examples=2", "data.cache=off",
                                        "train.threads=1", "data.max_tokens=8", "train.epochs=1"};
    enum { FIXED = sizeof fixed / sizeof *fixed };
    char arguments[3][96];
    const char *words[TINY_ARGUMENTS];
    size_t used = 0;
    snprintf(arguments[0], sizeof arguments[0], "model.path=%s", model_path);
    snprintf(arguments[1], sizeof arguments[1], "data.train=%s", data_path);
    snprintf(arguments[2], sizeof arguments[2], "output.dir=%s", run_path);
    HN_ASSERT(3 + FIXED + count <= TINY_ARGUMENTS);
    for (int i = 0; i < 3; i++) words[used++] = arguments[i];
    for (int i = 0; i < FIXED; i++) words[used++] = fixed[i];
    for (size_t i = 0; i < count; i++) words[used++] = more[i];
    tables[0] = (hn_key_table){.keys = hn_train_keys, .count = hn_train_key_count, .values = &train};
    tables[1] = (hn_key_table){.keys = hn_data_keys, .count = hn_data_key_count, .values = &data};
    hn_config_free(config);
    config = NULL;
    if (hn_config_load(&config, tables, 2, NULL, words, used, false, &error)) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
}

static void ignore(const char *text)
{
    (void)text;
}

/* One whole run into the run folder. */
static inline hn_status run(hn_train_result *result)
{
    static const volatile int go = 0;
    hn_job *job = NULL;
    json_t *resolved = hn_config_resolved(config);
    hn_train_options options = {.tables = tables, .table_count = 2, .resolved = resolved, .stop = &go, .notice = ignore};
    hn_error_reset(&error);
    hn_status status = resolved ? hn_job_open(&job, &train, &data, HN_JOB_ALL, NULL, &error) : HN_ERR_MEMORY;
    if (status == HN_OK) status = hn_train(job, &options, result, &error);
    hn_job_free(job);
    json_decref(resolved);
    return status;
}

#endif
