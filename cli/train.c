/* hone train */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"
#include "eval/metrics.h"
#include "train/trainer.h"

static void print_result(const hn_cli_config *config, const hn_train_result *result)
{
    const char *dir = config->train.output.dir;
    if (result->was_finished)
        fprintf(stderr, "hone: %s is finished (%s, step %lld); nothing to do\n", dir, result->reason, (long long)result->step);
    else
        fprintf(stderr, "hone: done after step %lld (%s)\n", (long long)result->step, result->reason);
    if (result->any_best)
        printf("best %s %.4f at step %lld: %s/best\n", hn_metric_name((hn_metric)config->train.eval.metric), result->best,
               (long long)result->best_step, dir);
    printf("final weights: %s/final\n", dir);
}

int hn_verb_train(int argc, char **argv)
{
    hn_arguments arguments;
    hn_cli_config config;
    hn_error error = {0};
    hn_job *job = NULL;
    json_t *resolved = NULL;
    hn_train_result result;
    hn_cli_tables(&config);
    hn_status status = hn_cli_arguments(&arguments, argc, argv, 1, 1, NULL, &error);
    if (status == HN_OK)
        status = hn_cli_config_load(&config, arguments.words[0], arguments.overrides, arguments.override_count, false, &error);
    if (status == HN_OK) {
        resolved = hn_config_resolved(config.config);
        if (!resolved) status = hn_fail(&error, HN_ERR_MEMORY, "out of memory for the resolved config");
    }
    hn_cli_signals();
    if (status == HN_OK) status = hn_job_open(&job, &config.train, &config.data, HN_JOB_ALL, &error);
    if (status == HN_OK) {
        hn_train_options options = {.tables = config.tables,
                                    .table_count = HN_CLI_TABLES,
                                    .resolved = resolved,
                                    .stop = &hn_cli_stop,
                                    .live = isatty(2),
                                    .colour = hn_cli_colour(2),
                                    .notice = hn_cli_notice};
        status = hn_train(job, &options, &result, &error);
    }
    int code = HN_EXIT_DONE;
    if (status == HN_OK) print_result(&config, &result);
    else code = hn_cli_fail(&error);
    hn_job_free(job);
    json_decref(resolved);
    hn_cli_config_close(&config);
    return code;
}
