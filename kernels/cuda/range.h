/* Named ranges for a profiler's timeline (Nsight Systems): NVTX, whose headers come with CUDA and which costs a load and a branch while
 * no profiler listens. nvtx.c, or no_nvtx.c where kernels are emulated. */
#ifndef HONE_KERNELS_CUDA_RANGE_H
#define HONE_KERNELS_CUDA_RANGE_H

void hnp_cuda_range_begin(const char *name);
void hnp_cuda_range_end(void); /* of the range begun last by this thread */

#endif
