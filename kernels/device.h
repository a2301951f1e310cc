/* Which device a model runs on: a backend and the operation table that works in its memory. */
#ifndef HONE_KERNELS_DEVICE_H
#define HONE_KERNELS_DEVICE_H

#include "core/backend.h"
#include "kernels/ops.h"

typedef enum hn_device {
    HN_DEVICE_AUTO, /* a GPU where hone was built with CUDA and there is one, else the CPU */
    HN_DEVICE_CPU,
    HN_DEVICE_CUDA
} hn_device;

/* Opens the backend and gives its table. With HN_DEVICE_AUTO `note` (NULL: not wanted) tells why a hone that was built with CUDA
 * took the CPU; it is left alone otherwise. */
hn_status hn_device_open(hn_backend *backend, const hn_ops **ops, hn_device device, hn_error *note, hn_error *error);

/* The same to count sizes only: where the GPU is not there that HN_DEVICE_CUDA wants, its table comes with the CPU's backend, which says
 * of free memory that it is unknown. */
hn_status hn_device_count(hn_backend *backend, const hn_ops **ops, hn_device device, hn_error *error);

/* NULL when hone was built without CUDA. */
const hn_ops *hn_ops_cuda(void);

#endif
