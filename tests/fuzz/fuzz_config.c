/* Configs from strangers: the bytes up to the first NUL are the file, the lines behind it are overrides. They are read by a table
 * that has a key of each type, and by hone's own tables. Whatever comes, it loads and then reads back as itself, or it is
 * refused with a message. The file is also taken for the config.json of a model. */
#include <sys/mman.h>

#include "cli/cli.h"
#include "core/json.h"
#include "models/model.h"
#include "tests/fuzz/fuzz.h"

enum { MOST = 16 };

typedef struct values {
    bool flag;
    int64_t count;
    double rate;
    const char *text;
    int choice;
    hn_list list;
    hn_interval every;
    hn_map map;
} values;

static values stored;

static const hn_key keys[] = {
    {"a", "flag", HN_KEY_BOOL, .fallback = "true", .offset = offsetof(values, flag)},
    {"a", "count", HN_KEY_INT, .min = 1, .max = 1e9, .fallback = "5", .offset = offsetof(values, count)},
    {"a", "rate", HN_KEY_FLOAT, .fallback = "0.1", .offset = offsetof(values, rate)},
    {"a", "text.in", HN_KEY_STRING, .fallback = "null", .offset = offsetof(values, text)},
    {"b", "choice", HN_KEY_CHOICE, .choices = "one|two|three", .fallback = "\"two\"",
     .offset = offsetof(values, choice)},
    {"b", "list", HN_KEY_LIST, .offset = offsetof(values, list)},
    {"b", "every", HN_KEY_INTERVAL, .fallback = "\"off\"", .offset = offsetof(values, every)},
    {"b", "map", HN_KEY_MAP, .fallback = "{}", .offset = offsetof(values, map)},
};
static const hn_key_table table = {keys, sizeof keys / sizeof *keys, &stored};

typedef struct lines {
    const char *line[MOST];
    size_t count;
} lines;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    hn_json_init();
    return 0;
}

/* Loads `text` through a file in memory, whose name is the error's. */
static hn_status load(hn_config **config, const hn_key_table *tables, size_t count, const char *text, size_t size,
                      const lines *overrides, hn_error *error)
{
    char path[64];
    int fd = memfd_create("config", MFD_CLOEXEC);
    DEMAND(fd >= 0 && write(fd, text, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    hn_status status = hn_config_load(config, tables, count, path, overrides->line, overrides->count, true, error);
    if (status != HN_OK) fuzz_refused(error, strstr(error->message, path) ? path : "command line");
    close(fd);
    return status;
}

static void reads_back(const hn_config *config, const hn_key_table *tables, size_t count)
{
    hn_config *again = NULL;
    hn_error error = {0};
    hn_strbuf first, different;
    hn_strbuf_init(&first);
    hn_strbuf_init(&different);
    json_t *resolved = hn_config_resolved(config);
    hn_json_write(&first, resolved, 2);
    hn_status status = load(&again, tables, count, first.text, first.length, &(lines){.count = 0}, &error);
    if (status != HN_OK) fprintf(stderr, "%s\n%s\n", first.text, error.message);
    DEMAND(status == HN_OK);
    json_t *same = hn_config_resolved(again);
    hn_config_difference(&different, tables, count, resolved, same);
    if (different.length) fprintf(stderr, "%s\n", different.text);
    DEMAND(!different.length);
    json_decref(resolved);
    json_decref(same);
    hn_config_free(again);
    hn_strbuf_close(&first);
    hn_strbuf_close(&different);
}

static void read_tables(const hn_key_table *tables, size_t count, const char *text, size_t length, const lines *overrides)
{
    hn_config *config = NULL;
    hn_error error = {0};
    if (load(&config, tables, count, text, length, overrides, &error) == HN_OK) reads_back(config, tables, count);
    hn_config_free(config);
}

static void read_model(const char *text, size_t length)
{
    hn_model_config config;
    hn_backend backend;
    hn_model *model = NULL;
    json_t *root = NULL;
    hn_error error = {0};
    hn_status status = hn_json_parse(&root, text, length, "input", HN_JSON_LIMITS_SMALL, &error);
    if (status == HN_OK && json_is_object(root)) status = hn_model_config_read(&config, root, "input", &error);
    if (status != HN_OK) fuzz_refused(&error, "input");
    if (status == HN_OK && json_is_object(root)) {
        if (config.head != HN_HEAD_LM) hn_model_config_head(&config, HN_HEAD_CLASSIFY, 3);
        hn_backend_cpu_init(&backend);
        status = hn_model_open(&model, &config, HN_F32, &backend, hn_ops_cpu(), &error);
        DEMAND(status == HN_OK && hn_model_param_elements(model) > 0);
        hn_model_free(model);
    }
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    lines overrides = {.count = 0};
    static hn_cli_config own;
    size_t length, whole = size;
    const char *text = fuzz_part(&length, &bytes, &size);
    char *rest = calloc(1, size + 1);
    DEMAND(rest);
    memcpy(rest, bytes, size);
    for (char *line = strtok(rest, "\n"); line && overrides.count < MOST; line = strtok(NULL, "\n"))
        overrides.line[overrides.count++] = line;
    fuzz_begin();
    read_tables(&table, 1, text, length, &overrides);
    hn_cli_tables(&own);
    read_tables(own.tables, HN_CLI_TABLES, text, length, &overrides);
    read_model(text, length);
    fuzz_end(whole);
    free(rest);
    return 0;
}
