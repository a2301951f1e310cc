/* What product.c and product_tune.c share: the table of plans, and a plan's product as cuBLASLt takes it. */
#ifndef HONE_KERNELS_CUDA_PLANS_H
#define HONE_KERNELS_CUDA_PLANS_H

#include <cublasLt.h>
#include <stdint.h>

#include "kernels/cuda/product.h"

enum {
    HNP_CUDA_PLANS = 512,       /* kept; when there are more, those that the rule makes again are forgotten */
    HNP_CUDA_TUNED = 384,       /* of them tuned, at most */
    HNP_CUDA_ALIGNMENT = 16     /* bytes; what cuBLASLt's kernels ask of a pointer at most */
};
#define HNP_CUDA_PRODUCT_SCRATCH ((size_t)32 << 20) /* what NVIDIA recommends for Hopper */

/* Everything that a plan depends on. All of one type, so that a key is compared, hashed and saved as an array. m or k may be rounded. */
typedef struct hnp_cuda_plan_key {
    int64_t m, n, k;
    int64_t a_stride, b_stride, d_stride, z_stride;
    int64_t a_turned, b_turned, add;
    int64_t bf16, d_bf16; /* operands, result */
    int64_t epilogue, biased;
    int64_t a_alignment, b_alignment, d_alignment, z_alignment, vector_alignment;
} hnp_cuda_plan_key;
enum { HNP_CUDA_KEY_WORDS = sizeof(hnp_cuda_plan_key) / sizeof(int64_t) };

typedef struct hnp_cuda_plan {
    hnp_cuda_plan_key key;
    cublasLtMatmulAlgo_t algorithm;
    bool offered; /* false: cuBLASLt has nothing for this key */
    bool tuned;
} hnp_cuda_plan;

struct hnp_cuda_products {
    cublasLtHandle_t handle;
    char gpu[256];
    int count;
    uint64_t hash[HNP_CUDA_PLANS];
    hnp_cuda_plan plan[HNP_CUDA_PLANS];
};

/* cuBLASLt's descriptors of a product: its A is our B and its B our A, both seen as column-major. */
typedef struct hnp_cuda_job {
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t a, b, d;
} hnp_cuda_job;

/* Where the operands lie. */
typedef struct hnp_cuda_operands {
    const void *a, *b;
    void *d, *z, *vector; /* bias, or sums */
} hnp_cuda_operands;

cublasStatus_t hnp_cuda_job_init(hnp_cuda_job *job, const hnp_cuda_plan_key *key, const hnp_cuda_operands *at);
/* Enqueues it on the context's stream, with cuBLASLt's share of the workspace. */
cublasStatus_t hnp_cuda_job_run(hn_ops_context *ctx, const hnp_cuda_products *products, const hnp_cuda_job *job,
                                const hnp_cuda_operands *at, float scale, bool add, const cublasLtMatmulAlgo_t *algorithm);
/* The first `most` algorithms that cuBLASLt offers, best guess first; returns how many. */
int hnp_cuda_plan_candidates(const hnp_cuda_products *products, const hnp_cuda_plan_key *key, int most,
                             cublasLtMatmulHeuristicResult_t *found);
/* The place of a key in the table, made if there is none; NULL: all places are taken by tuned plans (not while there are at most
 * HNP_CUDA_TUNED). `fresh` says that it was made now, and is to be filled. */
hnp_cuda_plan *hnp_cuda_plan_place(hnp_cuda_products *products, const hnp_cuda_plan_key *key, bool *fresh);

#endif
