/* See device.h. */
#include "kernels/device.h"

#include "kernels/cuda/backend.h"

static hn_status take_cpu(hn_backend *backend, const hn_ops **ops)
{
    hn_backend_cpu_init(backend);
    *ops = hn_ops_cpu();
    return HN_OK;
}

hn_status hn_device_open(hn_backend *backend, const hn_ops **ops, hn_device device, hn_error *note, hn_error *error)
{
    hn_error why = {0};
    if (device == HN_DEVICE_CPU || (device == HN_DEVICE_AUTO && !hn_ops_cuda())) return take_cpu(backend, ops);
    hn_status status = hn_backend_cuda_init(backend, &why);
    if (status == HN_OK) {
        *ops = hn_ops_cuda();
        return HN_OK;
    }
    if (device == HN_DEVICE_CUDA) return hn_fail(error, status, "train.device=cuda: %s", why.message);
    hn_fail(note, status, "%s; running on the CPU", why.message);
    return take_cpu(backend, ops);
}

static size_t unknown(hn_backend *backend)
{
    (void)backend;
    return 0;
}

hn_status hn_device_count(hn_backend *backend, const hn_ops **ops, hn_device device, hn_error *error)
{
    hn_error absent = {0};
    hn_status status = hn_device_open(backend, ops, device, NULL, &absent);
    if (status == HN_OK) return HN_OK;
    if (!hn_ops_cuda()) return hn_fail(error, status, "%s", absent.message);
    hn_backend_cpu_init(backend);
    backend->memory_available = unknown; /* of the GPU that is not here */
    backend->graphs = true;              /* which it has, and batches that fit them */
    *ops = hn_ops_cuda();
    return HN_OK;
}
