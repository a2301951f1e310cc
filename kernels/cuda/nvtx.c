/* See range.h. */
#include "kernels/cuda/range.h"

#include <nvtx3/nvToolsExt.h>

void hnp_cuda_range_begin(const char *name)
{
    nvtxRangePushA(name);
}

void hnp_cuda_range_end(void)
{
    nvtxRangePop();
}
