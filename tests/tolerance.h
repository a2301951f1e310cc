/* How far a result may be from the same formula in double precision, relative to the largest element of the result. One table for
 * all operations and both backends. */
#ifndef HONE_TESTS_TOLERANCE_H
#define HONE_TESTS_TOLERANCE_H

#include "core/tensor.h"

static inline double tolerance(hn_dtype type)
{
    return type == HN_BF16 ? 1e-2 : 1e-5;
}

#endif
