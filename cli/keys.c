/* hone keys */
#include <stdio.h>

#include "cli/cli.h"

int hn_verb_keys(int argc, char **argv)
{
    static const char *const flags[] = {"--markdown", NULL};
    hn_arguments arguments;
    hn_cli_config config;
    hn_error error = {0};
    hn_strbuf out;
    hn_cli_tables(&config);
    hn_strbuf_init(&out);
    hn_status status = hn_cli_arguments(&arguments, argc, argv, 0, 1, flags, &error);
    if (status == HN_OK) {
        hn_config_reference(&out, config.tables, HN_CLI_TABLES, arguments.found[0], arguments.word_count ? arguments.words[0] : NULL);
        if (out.failed) status = hn_fail(&error, HN_ERR_MEMORY, "out of memory for the reference");
        else if (!out.length) status = hn_fail(&error, HN_ERR_USAGE, "no key contains \"%s\"", arguments.words[0]);
        else fputs(out.text, stdout);
    }
    hn_strbuf_close(&out);
    return status == HN_OK ? HN_EXIT_DONE : hn_cli_fail(&error);
}
