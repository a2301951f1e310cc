/* The types of safetensors that hone has, by the names the format gives them. */
#ifndef HONE_FORMATS_DTYPES_H
#define HONE_FORMATS_DTYPES_H

#include <stdbool.h>

#include "core/tensor.h"

#define HNP_DTYPE_NAMES "F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL"

/* false: hone lacks it, *out is untouched. */
bool hnp_dtype_parse(hn_dtype *out, const char *name);
const char *hnp_dtype_name(hn_dtype dtype);

#endif
