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

static hn_ranks *ranks; /* for notice, which has no context */

static void notice(const char *text)
{
    if (ranks) hn_ranks_notice(ranks, text);
    else hn_cli_notice(text);
}

/* The processes that this one was started with. */
static hn_status meet(const hn_train_config *config, hn_error *error)
{
    const hn_ranks_options options = {.transport = config->train.transport,
                                      .timeout = config->train.timeout,
                                      .silence = config->train.silence,
                                      .connect = config->train.connect_timeout,
                                      .stop_within = config->train.stop_within,
                                      .rendezvous = config->train.rendezvous,
                                      .stop = &hn_cli_stop,
                                      .notice = hn_cli_notice};
    return hn_ranks_open(&ranks, &options, error);
}

/* The job: first on one process of every machine, which leaves the token caches that the others find. */
static hn_status open_job(hn_job **job, const hn_cli_config *config, hn_error *error)
{
    const hn_job_world world = {.ranks = hn_ranks_size(ranks), .pulse = hn_ranks_pulses(ranks)};
    hn_status status = HN_OK;
    for (int turn = 0; turn < 2 && status == HN_OK; turn++) {
        bool mine = turn == (hn_ranks_local(ranks) > 0);
        if (ranks) hn_ranks_enter(ranks, HN_ACTIVITY_DISK, "reading data", -1);
        if (mine) status = hn_job_open(job, &config->train, &config->data, HN_JOB_ALL, &world, error);
        status = hn_ranks_agree(ranks, turn ? "reading data" : "reading data first", status, error);
    }
    return status;
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
    if (status == HN_OK) status = meet(&config.train, &error);
    if (status == HN_OK) status = open_job(&job, &config, &error);
    if (status == HN_OK) {
        hn_train_options options = {.tables = config.tables,
                                    .table_count = HN_CLI_TABLES,
                                    .resolved = resolved,
                                    .stop = &hn_cli_stop,
                                    .ranks = ranks,
                                    .live = isatty(2),
                                    .colour = hn_cli_colour(2),
                                    .notice = notice};
        status = hn_train(job, &options, &result, &error);
    }
    int code = HN_EXIT_DONE;
    if (status == HN_OK && hn_ranks_first(ranks)) print_result(&config, &result);
    if (status != HN_OK) code = hn_ranks_first(ranks) ? hn_cli_fail(&error) : hn_cli_code(&error);
    hn_ranks_close(ranks);
    hn_job_free(job);
    json_decref(resolved);
    hn_cli_config_close(&config);
    return code;
}
