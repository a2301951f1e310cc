/* Time by operation on the GPU: a pair of events around every operation, on the stream, so that nothing waits for being measured. Times
 * are added to the profile when somebody waits for the stream anyway, or when the ring of pairs is full. C; no CUDA header. */
#ifndef HONE_KERNELS_CUDA_TIMER_H
#define HONE_KERNELS_CUDA_TIMER_H

#include "kernels/cuda/backend.h"
#include "kernels/profile.h"

typedef struct hnp_cuda_timer hnp_cuda_timer;

/* Makes its events, and has synchronize call hnp_cuda_timer_resolve. The device outlives it. */
hn_status hnp_cuda_timer_open(hnp_cuda_timer **out, hn_cuda_device *device, hn_error *error);
void hnp_cuda_timer_free(hnp_cuda_timer *timer); /* takes NULL */
/* Around what is enqueued between them; they do not nest. */
void hnp_cuda_timer_begin(hnp_cuda_timer *timer);
void hnp_cuda_timer_end(hnp_cuda_timer *timer, hn_profile *profile, hn_operation operation, double flop);
/* Waits for the pairs that are left and adds their times. */
void hnp_cuda_timer_resolve(hnp_cuda_timer *timer);

#endif
