/* In the place of the CUDA backend where hone was built without it. */
#include "kernels/cuda/backend.h"
#include "kernels/device.h"

hn_status hn_backend_cuda_init(hn_backend *backend, hn_error *error)
{
    (void)backend;
    return hn_fail(error, HN_ERR_UNSUPPORTED, "this hone was built without CUDA (cmake --preset cuda builds it with)");
}

const hn_ops *hn_ops_cuda(void)
{
    return NULL;
}
