/* Launchers of the small kernels in test_emulator.cu. */
#ifndef HONE_TESTS_TEST_EMULATOR_H
#define HONE_TESTS_TEST_EMULATOR_H

#include "kernels/ops.h"

void run_barrier_in_branch(hn_ops_context *ctx, int threads_there);
void run_barrier_on_two_lines(hn_ops_context *ctx);
void run_shuffle_in_branch(hn_ops_context *ctx);
void run_two_meetings_in_a_warp(hn_ops_context *ctx);
void run_partial_mask(hn_ops_context *ctx);
void run_exchange(hn_ops_context *ctx, float *out /* [128] */, int barrier_before, int barrier_after);
void run_shuffles(hn_ops_context *ctx, int *out /* [4][32] */);
void run_shared_start(hn_ops_context *ctx, float *out /* [2] a block */, int blocks);
void run_copy(hn_ops_context *ctx, float *out /* [2][128] */, const float *in /* [128] */, int wait,
              int valid);
void run_product(hn_ops_context *ctx, float *out /* [16][8] */, const uint16_t *a /* [16][16] */,
                 const uint16_t *b /* [16][8] */);
void run_misaligned(hn_ops_context *ctx);
void run_overrun(hn_ops_context *ctx, float *memory, int at);
void run_shared_overrun(hn_ops_context *ctx, int at);
void run_dynamic(hn_ops_context *ctx, size_t bytes, int threads);
void run_philox(hn_ops_context *ctx, uint32_t *out /* [128][4] */, uint64_t seed, uint32_t site,
                uint32_t example, uint32_t step);

#endif
