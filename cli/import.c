/* hone import */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "formats/gguf_import.h"

/* Takes "--type NAME" out of the words; the rest stays for hn_cli_arguments. */
static hn_status take_type(hn_dtype *out, int *argc, char **argv, hn_error *error)
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

int hn_verb_import(int argc, char **argv)
{
    hn_arguments arguments;
    hn_gguf_summary summary;
    hn_error error = {0};
    hn_dtype dtype = HN_F32;
    hn_status status = take_type(&dtype, &argc, argv, &error);
    if (status == HN_OK) status = hn_cli_arguments(&arguments, argc, argv, 2, 2, NULL, &error);
    if (status == HN_OK && arguments.override_count)
        status = hn_fail(&error, HN_ERR_USAGE, "import takes no config keys, got %s", arguments.overrides[0]);
    if (status == HN_OK) status = hn_gguf_import(&summary, arguments.words[0], arguments.words[1], dtype, &error);
    if (status != HN_OK) return hn_cli_fail(&error);
    printf("%s: %s, %zu tensors, %" PRId64 " parameters as %s\n", arguments.words[1], summary.architecture, summary.tensors,
           summary.parameters, hn_dtype_name(dtype));
    return HN_EXIT_DONE;
}
