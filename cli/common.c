/* See cli.h. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/file.h"
#include "core/mem.h"

volatile int hn_cli_stop;

static void on_signal(int number)
{
    if (hn_cli_stop && number == SIGINT) _exit(HN_EXIT_FAILED);
    hn_cli_stop = 1;
}

void hn_cli_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a reader of the progress that went away does not end the training */
}

bool hn_cli_colour(int fd)
{
    const char *none = getenv("NO_COLOR");
    return isatty(fd) && !(none && *none);
}

int hn_cli_code(const hn_error *error)
{
    switch (error->status) {
    case HN_ERR_USAGE: return HN_EXIT_USAGE;
    case HN_ERR_INTERRUPTED: return HN_EXIT_STOPPED;
    default: return HN_EXIT_FAILED;
    }
}

int hn_cli_fail(const hn_error *error)
{
    fprintf(stderr, "hone: %s\n", error->message);
    return hn_cli_code(error);
}

void hn_cli_notice(const char *text)
{
    fprintf(stderr, "hone: ");
    for (; *text; text++) {
        bool control = ((unsigned char)*text < 0x20 && *text != '\n') || *text == 0x7f; /* names come from files */
        fputc(control ? '?' : *text, stderr);
        if (*text == '\n' && text[1]) fprintf(stderr, "hone: ");
    }
    if (text[-1] != '\n') fputc('\n', stderr);
}

static int flag_index(const char *const *flags, const char *word)
{
    for (int i = 0; flags && flags[i]; i++)
        if (!strcmp(flags[i], word)) return i;
    return -1;
}

/* section.key=value: a dot before the equals sign, and no slash there (that would be a path). */
static bool is_override(const char *word)
{
    size_t key = strcspn(word, "=");
    return word[key] == '=' && memchr(word, '.', key) && !memchr(word, '/', key);
}

/* Sorts argv in place: words to the struct, overrides to the front of argv. */
hn_status hn_cli_take_type(hn_dtype *out, int *argc, char **argv, hn_error *error)
{
    static const hn_dtype types[] = {HN_F32, HN_BF16, HN_F16};
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        bool found = false;
        if (strcmp(argv[i], "--type")) {
            argv[kept++] = argv[i];
            continue;
        }
        const char *name = i + 1 < *argc ? argv[++i] : "nothing";
        for (size_t t = 0; t < sizeof types / sizeof *types; t++)
            if (!strcmp(name, hn_dtype_name(types[t]))) *out = types[t], found = true;
        if (!found) return hn_fail(error, HN_ERR_USAGE, "--type: expected f32, bf16 or f16, got %s", name);
    }
    *argc = kept;
    return HN_OK;
}

hn_status hn_cli_arguments(hn_arguments *out, int argc, char **argv, int min, int max, const char *const *flags,
                           hn_error *error)
{
    *out = (hn_arguments){.overrides = (const char *const *)argv};
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        int flag = flag_index(flags, word);
        if (flag >= 0) {
            out->found[flag] = true;
        } else if (word[0] == '-' && word[1]) {
            return hn_fail(error, HN_ERR_USAGE, "unknown option %s; --help shows what this command takes", word);
        } else if (is_override(word)) {
            argv[out->override_count++] = word;
        } else if (out->word_count < max) {
            out->words[out->word_count++] = word;
        } else {
            return hn_fail(error, HN_ERR_USAGE, "\"%s\" is one argument too many; overrides are written section.key=value", word);
        }
    }
    if (out->word_count < min)
        return hn_fail(error, HN_ERR_USAGE, "expected %d argument%s, got %d; --help shows them", min, min > 1 ? "s" : "",
                       out->word_count);
    return HN_OK;
}

void hn_cli_tables(hn_cli_config *config)
{
    *config = (hn_cli_config){0};
    config->tables[0] = (hn_key_table){.keys = hn_train_keys, .count = hn_train_key_count, .values = &config->train};
    config->tables[1] = (hn_key_table){.keys = hn_data_keys, .count = hn_data_key_count, .values = &config->data};
    config->tables[2] = (hn_key_table){.keys = hn_eval_keys, .count = hn_eval_key_count, .values = &config->eval};
}

hn_status hn_cli_config_load(hn_cli_config *out, const char *path, const char *const *overrides, int count, bool partial,
                             hn_error *error)
{
    hn_cli_tables(out);
    return hn_config_load(&out->config, out->tables, HN_CLI_TABLES, path, overrides, (size_t)count, partial, error);
}

hn_status hn_cli_model_config(hn_cli_config *out, const char *model, const char *const *overrides, int count,
                              hn_error *error)
{
    char *checkpoints = hn_path_join(model, "checkpoints"), *config = hn_path_join(model, "config.json");
    const char **all = hn_calloc((size_t)count + 1, sizeof *all);
    hn_status status;
    if (!checkpoints || !config || !all) {
        hn_cli_tables(out);
        status = hn_fail(error, HN_ERR_MEMORY, "out of memory for the path of %s", model);
    } else {
        bool run = hn_path_is_folder(checkpoints) && hn_path_exists(config);
        all[0] = "train.device=auto"; /* of this machine, wherever the run was */
        for (int i = 0; i < count; i++) all[i + 1] = overrides[i];
        status = hn_cli_config_load(out, run ? config : NULL, all, count + 1, true, error);
    }
    hn_free(all);
    hn_free(checkpoints);
    hn_free(config);
    return status;
}

void hn_cli_config_close(hn_cli_config *config)
{
    hn_config_free(config->config);
    config->config = NULL;
}
