/* Matrix products on the GPU by cuBLASLt, and what it can do to a result before it leaves the chip. Row-major, as hone's tensors are:
 *
 *     D [m, n] = scale op(A) [m, k] op(B) [k, n]  (+ D)     and then the epilogue
 *
 * A and B are of one type, bf16 or fp32; D is fp32, or bf16 from bf16 operands. Sums are fp32 whatever the types (TF32 is never used).
 * Rows of each may lie any stride apart; D aliases neither operand. C; no CUDA header.
 *
 * Which of its algorithms cuBLASLt runs is a plan: a function of sizes, types, strides, alignments and epilogue alone, for one GPU and one
 * version of the library (product.c has the rule), or an entry of a tuned table that a run saves and reads back. So the same calls
 * give the same bits, in whatever order they come. */
#ifndef HONE_KERNELS_CUDA_PRODUCT_H
#define HONE_KERNELS_CUDA_PRODUCT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/strbuf.h"
#include "kernels/ops.h"

typedef struct hnp_cuda_products hnp_cuda_products;

/* Epilogues. cuBLASLt lacks some of them for some types and alignments: see hnp_cuda_product_run. */
typedef enum hnp_cuda_epilogue {
    HNP_CUDA_PLAIN,
    HNP_CUDA_BIAS,       /* D += bias in every row */
    HNP_CUDA_GELU,       /* z = D (+ bias), kept unless NULL; D = GELU by tanh(z) */
    HNP_CUDA_GELU_SLOPE, /* D *= GELU by tanh'(z) */
    HNP_CUDA_ROW_SUMS    /* sums = op(A) summed over k: a bias gradient where A is dy, turned */
} hnp_cuda_epilogue;

typedef struct hnp_cuda_product {
    const hn_tensor *d, *a, *b;
    bool a_turned, b_turned; /* op is the transpose: the tensor is [k, m], or [n, k] */
    bool add;                /* + D */
    float scale;             /* not 0 */
    hnp_cuda_epilogue epilogue;
    const hn_tensor *bias; /* [n] of D's type; only for GELU may it be NULL */
    const hn_tensor *z;    /* [m, n] of D's type */
    float *sums;           /* [m], overwritten; D is fp32 then */
} hnp_cuda_product;

/* Enqueues the product. true: with its epilogue. false: cuBLASLt does not offer that epilogue for these operands, D is the bare product
 * and the caller does the rest; or it failed, and ctx->error says why. Takes the first part of ctx->workspace. */
bool hnp_cuda_product_run(hn_ops_context *ctx, const char *operation, const hnp_cuda_product *product);

/* Scratch of an operation made of products: cuBLASLt's share, whose size is fixed so that the plan needs no GPU, then `own` bytes. */
size_t hnp_cuda_product_workspace(size_t own);
/* The operation's own part, aligned to 256 bytes; NULL with the failure in ctx->error when the workspace is too small. */
void *hnp_cuda_product_own(hn_ops_context *ctx, const char *operation, size_t own);

/* The state behind a context of the GPU's table. `gpu` is the name that a tuned table carries. */
hn_status hnp_cuda_products_open(hnp_cuda_products **out, const char *gpu, hn_error *error);
void hnp_cuda_products_free(hnp_cuda_products *products);
hnp_cuda_products *hnp_cuda_products_of(const hn_ops_context *ctx);
int hnp_cuda_products_count(const hnp_cuda_products *products); /* plans that are kept */
size_t hnp_cuda_products_version(void);                         /* of cuBLASLt, as it numbers itself */

/* --- the tuned table --- */

/* Times the first candidates of every plan made so far and keeps the fastest of each. Operands lie in `memory` of the GPU, whose
 * contents are spoiled; a plan that does not fit into `size` bytes stays as it is. Waits for the GPU. Other plans mean other bits:
 * call it before a run's first step, and save what it chose. */
hn_status hnp_cuda_products_tune(hn_ops_context *ctx, void *memory, size_t size, hn_error *error);
/* Appends the tuned plans as JSON, one a line, after a line that names GPU and library. */
void hnp_cuda_products_export(const hnp_cuda_products *products, hn_strbuf *out);
/* Takes such a text (`name` is what errors call it). HN_ERR_MISMATCH: it was made on another GPU or by another library; HN_ERR_FORMAT.
 * Nothing is taken then. */
hn_status hnp_cuda_products_import(hnp_cuda_products *products, const char *text, const char *name, hn_error *error);

#endif
