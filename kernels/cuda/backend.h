/* The CUDA backend: one GPU, one stream. Fills hn_backend (core/backend.h); its `state` is an hn_cuda_device, which launchers
 * read. C; no CUDA header, so that anybody may include it. */
#ifndef HONE_KERNELS_CUDA_BACKEND_H
#define HONE_KERNELS_CUDA_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/backend.h"

/* What a kernel found wrong with its input: an index outside its table. The first one stays until synchronize reports it. In host
 * memory that the GPU writes. */
typedef struct hn_cuda_fault {
    uint64_t word;  /* kind << 56 | row << 32 | value; 0: none */
    uint64_t limit; /* values from 0 to limit - 1 were expected */
} hn_cuda_fault;

typedef enum hn_cuda_fault_kind {
    HN_FAULT_NONE,
    HN_FAULT_TOKEN,
    HN_FAULT_POSITION,
    HN_FAULT_TYPE,
    HN_FAULT_ROPE,
    HN_FAULT_LABEL,
    HN_FAULT_ROW,
    HN_FAULT_KINDS
} hn_cuda_fault_kind;

typedef struct hn_cuda_device {
    void *stream;         /* cudaStream_t */
    bool synchronous;     /* HN_CUDA_SYNC=1: wait after every launch, so that a fault names its kernel */
    hn_cuda_fault *fault; /* as kernels see it */
    hn_cuda_fault *fault_host;
    const char *operation; /* that was launched last, for messages; NULL: none yet */
    void (*waited)(void *context); /* called by synchronize when everything is done (timer.h); NULL: nothing to do */
    void *waited_context;
    int capability;        /* 90 for sm_90 */
    int multiprocessors;
    size_t shared_limit;   /* bytes of shared memory that a block may ask for */
    char name[256];        /* of the GPU */
} hn_cuda_device;

/* Takes the first visible GPU (CUDA_VISIBLE_DEVICES chooses). HN_ERR_UNSUPPORTED when hone was built without CUDA, HN_ERR_DEVICE
 * when there is no GPU or its driver fails; the message says which. */
hn_status hn_backend_cuda_init(hn_backend *backend, hn_error *error);

static inline hn_cuda_device *hn_cuda_device_of(const hn_backend *backend)
{
    return (hn_cuda_device *)backend->state;
}

#endif
