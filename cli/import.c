/* hone import */
#include <inttypes.h>
#include <stdio.h>

#include "cli/cli.h"
#include "formats/gguf_import.h"

int hn_verb_import(int argc, char **argv)
{
    hn_arguments arguments;
    hn_gguf_summary summary;
    hn_error error = {0};
    hn_dtype dtype = HN_F32;
    hn_status status = hn_cli_take_type(&dtype, &argc, argv, &error);
    if (status == HN_OK) status = hn_cli_arguments(&arguments, argc, argv, 2, 2, NULL, &error);
    if (status == HN_OK && arguments.override_count)
        status = hn_fail(&error, HN_ERR_USAGE, "import takes no config keys, got %s", arguments.overrides[0]);
    if (status == HN_OK) status = hn_gguf_import(&summary, arguments.words[0], arguments.words[1], dtype, &error);
    if (status != HN_OK) return hn_cli_fail(&error);
    printf("%s: %s, %zu tensors, %" PRId64 " parameters as %s\n", arguments.words[1], summary.architecture, summary.tensors,
           summary.parameters, hn_dtype_name(dtype));
    return HN_EXIT_DONE;
}
