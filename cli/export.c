/* hone export */
#include <stdio.h>

#include "cli/cli.h"
#include "core/file.h"
#include "core/mem.h"
#include "train/export.h"

int hn_verb_export(int argc, char **argv)
{
    hn_arguments arguments;
    hn_cli_config config;
    hn_error error = {0};
    hn_job *job = NULL;
    hn_strbuf passed_over;
    char *path = NULL;
    static const char *const flags[] = {"--merge", NULL};
    hn_export_options options = {.type = HN_F32};
    int64_t step = -1;
    hn_cli_tables(&config);
    hn_strbuf_init(&passed_over);
    hn_status status = hn_cli_take_type(&options.type, &argc, argv, &error);
    if (status == HN_OK) status = hn_cli_arguments(&arguments, argc, argv, 2, 2, flags, &error);
    if (status == HN_OK) options.merge = arguments.found[0];
    if (status == HN_OK && !(path = hn_path_join(arguments.words[0], "config.json")))
        status = hn_fail(&error, HN_ERR_MEMORY, "out of memory for a path");
    if (status == HN_OK)
        status = hn_cli_config_load(&config, path, arguments.overrides, arguments.override_count, false, &error);
    if (status == HN_OK) status = hn_job_open(&job, &config.train, &config.data, HN_JOB_MODEL, NULL, &error);
    if (status == HN_OK) status = hn_export(job, arguments.words[0], arguments.words[1], &options, &step, &passed_over, &error);
    if (passed_over.length) hn_cli_notice(passed_over.text);
    if (status == HN_OK) printf("%s: weights of step %lld\n", arguments.words[1], (long long)step);
    hn_job_free(job);
    hn_free(path);
    hn_strbuf_close(&passed_over);
    hn_cli_config_close(&config);
    return status == HN_OK ? HN_EXIT_DONE : hn_cli_fail(&error);
}
