/* See device.h. */
#include "kernels/device.h"

#include "kernels/cuda/backend.h"

hn_status hn_device_open(hn_backend *backend, const hn_ops **ops, hn_device device, hn_error *note, hn_error *error)
{
    hn_error why = {0};
    hn_status status = device == HN_DEVICE_CPU ? HN_ERR_UNSUPPORTED : hn_backend_cuda_init(backend, &why);
    if (status == HN_OK) {
        *ops = hn_ops_cuda();
        return HN_OK;
    }
    if (device == HN_DEVICE_CUDA) return hn_fail(error, status, "device=cuda: %s", why.message);
    if (device == HN_DEVICE_AUTO && hn_ops_cuda()) hn_fail(note, status, "%s; running on the CPU", why.message);
    hn_backend_cpu_init(backend);
    *ops = hn_ops_cpu();
    return HN_OK;
}
