/* hone verify */
#include <stdio.h>
#include <string.h>

#include "checkpoints/checkpoint.h"
#include "cli/cli.h"
#include "core/file.h"
#include "core/mem.h"

/* Every checkpoint of the folder; all are looked at, and the first failure is kept. */
static hn_status verify_folder(const char *folder, hn_strbuf *report, hn_error *error)
{
    int64_t *steps = NULL;
    size_t count = 0;
    hn_status status = hn_checkpoint_list(folder, &steps, &count, error);
    if (status == HN_OK && !count)
        status = hn_fail(error, HN_ERR_FORMAT, "%s: no checkpoint here", folder);
    for (size_t i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/step-%lld", folder, (long long)steps[i]);
        hn_status one = hn_checkpoint_verify(path, report, error);
        if (status == HN_OK) status = one;
    }
    hn_free(steps);
    return status;
}

int hn_verb_verify(int argc, char **argv)
{
    hn_arguments arguments;
    hn_error error = {0};
    hn_strbuf report;
    char *folder = NULL;
    hn_strbuf_init(&report);
    hn_status status = hn_cli_arguments(&arguments, argc, argv, 1, 1, NULL, &error);
    if (status == HN_OK && !(folder = hn_path_join(arguments.words[0], "checkpoints")))
        status = hn_fail(&error, HN_ERR_MEMORY, "out of memory for a path");
    if (status == HN_OK)
        status = hn_path_is_folder(folder) ? verify_folder(folder, &report, &error)
                                           : hn_checkpoint_verify(arguments.words[0], &report, &error);
    fputs(report.text, stdout);
    hn_strbuf_close(&report);
    hn_free(folder);
    return status == HN_OK ? HN_EXIT_DONE : hn_cli_fail(&error);
}
