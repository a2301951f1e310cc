/* See dtypes.h. */
#include "formats/dtypes.h"

#include <string.h>

static const char *const names[HN_DTYPES] = {
    [HN_F32] = "F32", [HN_BF16] = "BF16", [HN_F16] = "F16", [HN_F64] = "F64", [HN_I64] = "I64",
    [HN_I32] = "I32", [HN_I16] = "I16",   [HN_I8] = "I8",   [HN_U8] = "U8",   [HN_BOOL] = "BOOL",
};

bool hnp_dtype_parse(hn_dtype *out, const char *name)
{
    for (int i = 0; i < HN_DTYPES; i++) {
        if (strcmp(names[i], name)) continue;
        *out = (hn_dtype)i;
        return true;
    }
    return false;
}

const char *hnp_dtype_name(hn_dtype dtype)
{
    return names[dtype];
}
