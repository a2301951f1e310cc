/* Configs from strangers: the bytes up to the first NUL are the file, the lines behind it are overrides.
 * Whatever comes, it loads and then reads back as itself, or it is refused with a message. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/config.h"
#include "core/json.h"

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

/* Loads `text` through a file in memory. */
static hn_status load(hn_config **config, const char *text, size_t size, const char *const *lines,
                      size_t count, hn_error *error)
{
    char path[64];
    int fd = memfd_create("config", MFD_CLOEXEC);
    if (fd < 0 || write(fd, text, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    hn_status status = hn_config_load(config, &table, 1, path, lines, count, true, error);
    close(fd);
    return status;
}

static void reads_back(const hn_config *config)
{
    hn_config *again = NULL;
    hn_error error = {0};
    hn_strbuf first, lines;
    hn_strbuf_init(&first);
    hn_strbuf_init(&lines);
    json_t *resolved = hn_config_resolved(config);
    hn_json_write(&first, resolved, 2);
    if (load(&again, first.text, first.length, NULL, 0, &error) != HN_OK) {
        fprintf(stderr, "%s\n%s\n", first.text, error.message);
        abort();
    }
    json_t *same = hn_config_resolved(again);
    hn_config_difference(&lines, &table, 1, resolved, same);
    if (lines.length) {
        fprintf(stderr, "%s\n", lines.text);
        abort();
    }
    json_decref(resolved);
    json_decref(same);
    hn_config_free(again);
    hn_strbuf_close(&first);
    hn_strbuf_close(&lines);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    enum { MOST = 16 };
    const char *lines[MOST];
    size_t count = 0, length = strnlen((const char *)data, size);
    hn_config *config = NULL;
    hn_error error = {0};
    char *text = calloc(1, size + 1);
    if (!text) abort();
    memcpy(text, data, size);
    char *rest = length < size ? text + length + 1 : NULL;
    for (char *line = rest ? strtok(rest, "\n") : NULL; line && count < MOST; line = strtok(NULL, "\n"))
        lines[count++] = line;
    if (load(&config, text, length, lines, count, &error) == HN_OK)
        reads_back(config);
    else if (!error.message[0])
        abort();
    hn_config_free(config);
    free(text);
    return 0;
}
