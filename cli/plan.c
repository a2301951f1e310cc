/* hone plan */
#include <stdio.h>

#include "cli/cli.h"
#include "train/plan.h"

int hn_verb_plan(int argc, char **argv)
{
    hn_arguments arguments;
    hn_cli_config config;
    hn_error error = {0};
    hn_job *job = NULL;
    hn_plan plan;
    hn_strbuf out;
    hn_cli_tables(&config);
    hn_strbuf_init(&out);
    hn_status status = hn_cli_arguments(&arguments, argc, argv, 1, 1, NULL, &error);
    if (status == HN_OK)
        status = hn_cli_config_load(&config, arguments.words[0], arguments.overrides, arguments.override_count, false, &error);
    if (status == HN_OK) status = hn_job_open(&job, &config.train, &config.data, HN_JOB_ALL, NULL, &error);
    if (status == HN_OK) status = hn_plan_make(&plan, job, &error);
    if (status == HN_OK) {
        hn_plan_print(&plan, job, &out);
        if (out.failed) status = hn_fail(&error, HN_ERR_MEMORY, "out of memory for the plan");
        else fputs(out.text, stdout);
    }
    hn_strbuf_close(&out);
    hn_job_free(job);
    hn_cli_config_close(&config);
    return status == HN_OK ? HN_EXIT_DONE : hn_cli_fail(&error);
}
