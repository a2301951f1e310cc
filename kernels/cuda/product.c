/* Products by cuBLASLt. It counts matrices by columns: a row-major [r, c] is its c x r with the same stride, so D = op(A) op(B) is
 * asked for as D' = op(B)' op(A)', with operands exchanged and nothing copied. A bias along our columns then runs along its rows, as
 * it wants it; sums over our rows of op(A) are those over its second operand (BGRADB).
 *
 * The rule of plans: the first algorithm that cuBLASLt's heuristic names for a key, under a fixed scratch, with operands aligned to
 * what the key says. The heuristic is asked once a key. Batches have any number of tokens, so the count of tokens in a key (the
 * rows that D shares with A, or A with B in a weight's gradient) is rounded up: to a power of two up to 64, then to four steps an
 * octave. Twenty counts serve all batches up to 4,096 tokens, and an algorithm is at most a quarter off the size it was chosen
 * for. Where it refuses the true count, that count gets a plan of its own. All of this depends on the call alone, never on what
 * came before: plans that are forgotten when the table is full come back the same.
 *
 * A row's bits may therefore depend on how many rows there are (another plan), never on where it stands among them within one plan.
 *
 * Reductions between blocks that split k stay in fp32 (REDUCTION_SCHEME_COMPUTE_TYPE): a bf16 result is rounded once.
 *
 * Descriptors are made on the stack for every call: they hold pointers, and making them allocates nothing. */
#include "kernels/cuda/product.h"

#include <cuda_runtime_api.h>
#include <string.h>

#include "core/mem.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/plans.h"

enum { WORKSPACE_ALIGNMENT = 256 };

/* --- workspace --- */

static size_t to_aligned(size_t size)
{
    return (size + WORKSPACE_ALIGNMENT - 1) & ~(size_t)(WORKSPACE_ALIGNMENT - 1);
}

size_t hnp_cuda_product_workspace(size_t own)
{
    return WORKSPACE_ALIGNMENT + HNP_CUDA_PRODUCT_SCRATCH + to_aligned(own);
}

/* cuBLASLt's share, with `own` bytes behind it; NULL: too small. */
static char *share_of(hn_ops_context *ctx, const char *operation, size_t own)
{
    size_t need = hnp_cuda_product_workspace(own);
    if (need <= ctx->workspace_size) return (char *)ctx->workspace + (to_aligned((size_t)ctx->workspace) - (size_t)ctx->workspace);
    hn_fail(ctx->error, HN_ERR_MEMORY, "%s: needs %zu bytes of workspace, has %zu", operation, need, ctx->workspace_size);
    return NULL;
}

void *hnp_cuda_product_own(hn_ops_context *ctx, const char *operation, size_t own)
{
    char *share = share_of(ctx, operation, own);
    return share ? share + HNP_CUDA_PRODUCT_SCRATCH : NULL;
}

/* --- keys --- */

static int64_t rounded_rows(int64_t rows)
{
    int64_t octave = 1;
    while (octave < rows) octave *= 2; /* rows in (octave / 2, octave] */
    if (octave <= 64) return octave;
    return (rows + octave / 8 - 1) / (octave / 8) * (octave / 8);
}

static int64_t alignment_of(const void *pointer)
{
    int64_t alignment = 1;
    while (alignment < HNP_CUDA_ALIGNMENT && (uintptr_t)pointer % (uintptr_t)(2 * alignment) == 0) alignment *= 2;
    return alignment;
}

/* A matrix of one row may say any stride. */
static int64_t stride_of(const hn_tensor *tensor)
{
    return tensor->stride > tensor->shape[1] ? tensor->stride : tensor->shape[1];
}

static hnp_cuda_plan_key key_of(const hnp_cuda_product *p, const hnp_cuda_operands *at, bool exact)
{
    hnp_cuda_plan_key key = {.m = p->d->shape[0],
                             .n = p->d->shape[1],
                             .k = p->a->shape[p->a_turned ? 0 : 1],
                             .a_stride = stride_of(p->a),
                             .b_stride = stride_of(p->b),
                             .d_stride = stride_of(p->d),
                             .a_turned = p->a_turned,
                             .b_turned = p->b_turned,
                             .add = p->add,
                             .bf16 = p->a->dtype == HN_BF16,
                             .d_bf16 = p->d->dtype == HN_BF16,
                             .epilogue = (int64_t)p->epilogue,
                             .a_alignment = alignment_of(at->a),
                             .b_alignment = alignment_of(at->b),
                             .d_alignment = alignment_of(at->d)};
    if (at->z) {
        key.z_stride = stride_of(p->z);
        key.z_alignment = alignment_of(at->z);
    }
    if (at->vector) {
        key.biased = 1;
        key.vector_alignment = alignment_of(at->vector);
    }
    if (exact) return key;
    if (!p->a_turned) key.m = rounded_rows(key.m);
    else if (!p->b_turned) key.k = rounded_rows(key.k);
    return key;
}

static uint64_t hash_of(const hnp_cuda_plan_key *key)
{
    int64_t word[HNP_CUDA_KEY_WORDS];
    uint64_t hash = 0;
    memcpy(word, key, sizeof word);
    for (int i = 0; i < HNP_CUDA_KEY_WORDS; i++) {
        hash = (hash ^ (uint64_t)word[i]) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    return hash;
}

static void forget_untuned(hnp_cuda_products *products)
{
    int kept = 0;
    for (int i = 0; i < products->count; i++) {
        if (!products->plan[i].tuned) continue;
        products->plan[kept] = products->plan[i];
        products->hash[kept++] = products->hash[i];
    }
    products->count = kept;
}

hnp_cuda_plan *hnp_cuda_plan_place(hnp_cuda_products *products, const hnp_cuda_plan_key *key, bool *fresh)
{
    uint64_t hash = hash_of(key);
    *fresh = false;
    for (int i = 0; i < products->count; i++)
        if (products->hash[i] == hash && !memcmp(&products->plan[i].key, key, sizeof *key)) return &products->plan[i];
    if (products->count == HNP_CUDA_PLANS) forget_untuned(products);
    if (products->count == HNP_CUDA_PLANS) return NULL;
    hnp_cuda_plan *plan = &products->plan[products->count];
    products->hash[products->count++] = hash;
    *plan = (hnp_cuda_plan){.key = *key};
    *fresh = true;
    return plan;
}

/* --- what cuBLASLt is given --- */

static cublasLtEpilogue_t epilogue_of(const hnp_cuda_plan_key *key)
{
    bool kept = key->z_stride > 0;
    switch ((hnp_cuda_epilogue)key->epilogue) {
    case HNP_CUDA_BIAS: return CUBLASLT_EPILOGUE_BIAS;
    case HNP_CUDA_GELU:
        if (key->biased) return kept ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_BIAS;
        return kept ? CUBLASLT_EPILOGUE_GELU_AUX : CUBLASLT_EPILOGUE_GELU;
    case HNP_CUDA_GELU_SLOPE: return CUBLASLT_EPILOGUE_DGELU;
    case HNP_CUDA_ROW_SUMS: return CUBLASLT_EPILOGUE_BGRADB;
    case HNP_CUDA_PLAIN: break;
    }
    return CUBLASLT_EPILOGUE_DEFAULT;
}

static cublasStatus_t set(hnp_cuda_job *job, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t size)
{
    return cublasLtMatmulDescSetAttribute(&job->operation, attribute, value, size);
}

static cublasStatus_t init_operation(hnp_cuda_job *job, const hnp_cuda_plan_key *key, const hnp_cuda_operands *at)
{
    cublasOperation_t first = key->b_turned ? CUBLAS_OP_T : CUBLAS_OP_N, second = key->a_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = epilogue_of(key);
    cublasStatus_t status = cublasLtMatmulDescInit(&job->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (!status) status = set(job, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first);
    if (!status) status = set(job, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second);
    if (!status) status = set(job, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (!status && key->biased) status = set(job, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &at->vector, sizeof at->vector);
    if (!status && key->z_stride) status = set(job, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &at->z, sizeof at->z);
    if (!status && key->z_stride) status = set(job, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &key->z_stride, sizeof key->z_stride);
    return status;
}

/* A row-major [rows, columns], or what is the transpose of one. */
static cublasStatus_t init_layout(cublasLtMatrixLayoutOpaque_t *layout, bool bf16, bool turned, int64_t rows, int64_t columns,
                                  int64_t stride)
{
    return cublasLtMatrixLayoutInit(layout, bf16 ? CUDA_R_16BF : CUDA_R_32F, (uint64_t)(turned ? rows : columns),
                                    (uint64_t)(turned ? columns : rows), stride);
}

cublasStatus_t hnp_cuda_job_init(hnp_cuda_job *job, const hnp_cuda_plan_key *key, const hnp_cuda_operands *at)
{
    cublasStatus_t status = init_operation(job, key, at);
    if (!status) status = init_layout(&job->a, key->bf16, key->b_turned, key->k, key->n, key->b_stride);
    if (!status) status = init_layout(&job->b, key->bf16, key->a_turned, key->m, key->k, key->a_stride);
    if (!status) status = init_layout(&job->d, key->d_bf16, false, key->m, key->n, key->d_stride);
    return status;
}

cublasStatus_t hnp_cuda_job_run(hn_ops_context *ctx, const hnp_cuda_products *products, const hnp_cuda_job *job,
                                const hnp_cuda_operands *at, float scale, bool add, const cublasLtMatmulAlgo_t *algorithm)
{
    hnp_cuda_job j = *job; /* cuBLASLt takes no pointers to const */
    float beta = add ? 1.0f : 0.0f;
    char *share = share_of(ctx, "cuBLASLt", 0);
    if (!share) return CUBLAS_STATUS_ALLOC_FAILED;
    return cublasLtMatmul(products->handle, &j.operation, &scale, at->b, &j.a, at->a, &j.b, &beta, at->d, &j.d, at->d, &j.d,
                          algorithm, share, HNP_CUDA_PRODUCT_SCRATCH,
                          (cudaStream_t)hn_cuda_device_of(ctx->backend)->stream);
}

static cublasStatus_t prefer(cublasLtMatmulPreferenceOpaque_t *preference, const hnp_cuda_plan_key *key)
{
    uint64_t scratch = HNP_CUDA_PRODUCT_SCRATCH;
    uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    uint32_t a = (uint32_t)key->b_alignment, b = (uint32_t)key->a_alignment, d = (uint32_t)key->d_alignment;
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        const void *value;
        size_t size;
    } set[] = {{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &scratch, sizeof scratch},
               {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction},
               {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a, sizeof a},
               {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b, sizeof b},
               {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &d, sizeof d},
               {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &d, sizeof d}};
    cublasStatus_t status = cublasLtMatmulPreferenceInit(preference);
    for (size_t i = 0; !status && i < sizeof set / sizeof *set; i++)
        status = cublasLtMatmulPreferenceSetAttribute(preference, set[i].attribute, set[i].value, set[i].size);
    return status;
}

int hnp_cuda_plan_candidates(const hnp_cuda_products *products, const hnp_cuda_plan_key *key, int most,
                             cublasLtMatmulHeuristicResult_t *found)
{
    /* The heuristic follows no pointer: it reads alignments off the epilogue's. */
    hnp_cuda_operands at = {.z = (void *)(uintptr_t)key->z_alignment, .vector = (void *)(uintptr_t)key->vector_alignment}; // NOLINT
    cublasLtMatmulPreferenceOpaque_t preference;
    hnp_cuda_job job;
    int count = 0;
    cublasStatus_t status = hnp_cuda_job_init(&job, key, &at);
    if (!status) status = prefer(&preference, key);
    if (!status)
        status = cublasLtMatmulAlgoGetHeuristic(products->handle, &job.operation, &job.a, &job.b, &job.d, &job.d, &preference, most,
                                                found, &count);
    if (status) return 0;
    int good = 0;
    while (good < count && found[good].state == CUBLAS_STATUS_SUCCESS) good++;
    return good;
}

/* --- running --- */

static hnp_cuda_plan *plan_of(hnp_cuda_products *products, const hnp_cuda_plan_key *key)
{
    bool fresh;
    cublasLtMatmulHeuristicResult_t found;
    hnp_cuda_plan *plan = hnp_cuda_plan_place(products, key, &fresh);
    HN_ASSERT(plan);
    if (fresh && hnp_cuda_plan_candidates(products, key, 1, &found)) {
        plan->offered = true;
        plan->algorithm = found.algo;
    }
    return plan;
}

static bool refused(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
}

/* By the plan of the rounded key, or else by that of the exact one. */
static cublasStatus_t try_plans(hn_ops_context *ctx, const hnp_cuda_product *p, const hnp_cuda_operands *at)
{
    hnp_cuda_products *products = hnp_cuda_products_of(ctx);
    hnp_cuda_plan_key key = key_of(p, at, false), exact = key_of(p, at, true);
    hnp_cuda_job job;
    cublasStatus_t status = hnp_cuda_job_init(&job, &exact, at);
    if (status) return status;
    for (int round = 0; round < 2; round++) {
        hnp_cuda_plan *plan = plan_of(products, round ? &exact : &key);
        status = plan->offered ? hnp_cuda_job_run(ctx, products, &job, at, p->scale, p->add, &plan->algorithm)
                               : CUBLAS_STATUS_NOT_SUPPORTED;
        if (!refused(status) || !memcmp(&key, &exact, sizeof key)) break;
    }
    return status;
}

static void check(const hnp_cuda_product *p)
{
    int64_t m = p->d->shape[0], n = p->d->shape[1], k = p->a->shape[p->a_turned ? 0 : 1];
    bool biased = p->epilogue == HNP_CUDA_BIAS || (p->epilogue == HNP_CUDA_GELU && p->bias);
    HN_ASSERT(p->a->shape[p->a_turned ? 1 : 0] == m && p->b->shape[p->b_turned ? 1 : 0] == k);
    HN_ASSERT(p->b->shape[p->b_turned ? 0 : 1] == n && k > 0 && p->scale != 0.0f);
    HN_ASSERT(p->a->dtype == p->b->dtype && (p->d->dtype == HN_F32 || p->a->dtype == HN_BF16));
    HN_ASSERT(!biased || (p->bias && p->bias->shape[0] == n && p->bias->dtype == p->d->dtype));
    HN_ASSERT(p->epilogue != HNP_CUDA_GELU_SLOPE || p->z);
    HN_ASSERT(!p->z || (p->z->shape[0] == m && p->z->shape[1] == n && p->z->dtype == p->d->dtype));
    HN_ASSERT(p->epilogue != HNP_CUDA_ROW_SUMS || (p->sums && p->d->dtype == HN_F32));
}

static void fail(hn_ops_context *ctx, const char *operation, const hnp_cuda_product *p, cublasStatus_t status)
{
    hn_fail(ctx->error, HN_ERR_DEVICE, "%s: cuBLASLt: %s, product of [%lld, %lld] and [%lld, %lld], %s to %s", operation,
            cublasLtGetStatusString(status), (long long)p->a->shape[p->a_turned ? 1 : 0],
            (long long)p->a->shape[p->a_turned ? 0 : 1], (long long)p->b->shape[p->b_turned ? 1 : 0],
            (long long)p->b->shape[p->b_turned ? 0 : 1], hn_dtype_name(p->a->dtype), hn_dtype_name(p->d->dtype));
}

/* HN_CUDA_SYNC=1: a fault in a product is told with its operation. */
static void wait_if_asked(hn_ops_context *ctx, const char *operation)
{
    const hn_cuda_device *device = hn_cuda_device_of(ctx->backend);
    if (!device->synchronous) return;
    cudaError_t status = cudaStreamSynchronize((cudaStream_t)device->stream);
    if (status != cudaSuccess) hn_fail(ctx->error, HN_ERR_DEVICE, "%s: %s", operation, cudaGetErrorString(status));
}

bool hnp_cuda_product_run(hn_ops_context *ctx, const char *operation, const hnp_cuda_product *product)
{
    hnp_cuda_product p = *product;
    if (ctx->error && ctx->error->status) return false;
    if (!p.d->shape[0] || !p.d->shape[1]) return true;
    check(&p);
    if (!share_of(ctx, operation, 0)) return false;
    for (;;) {
        bool reads_z = p.epilogue == HNP_CUDA_GELU || p.epilogue == HNP_CUDA_GELU_SLOPE;
        bool reads_bias = p.epilogue == HNP_CUDA_BIAS || p.epilogue == HNP_CUDA_GELU;
        hnp_cuda_operands at = {.a = p.a->data, .b = p.b->data, .d = p.d->data};
        at.z = reads_z && p.z ? p.z->data : NULL;
        at.vector = reads_bias && p.bias ? p.bias->data : p.epilogue == HNP_CUDA_ROW_SUMS ? (void *)p.sums : NULL;
        cublasStatus_t status = try_plans(ctx, &p, &at);
        if (!refused(status) || p.epilogue == HNP_CUDA_PLAIN) {
            if (status) fail(ctx, operation, &p, status);
            else wait_if_asked(ctx, operation);
            return !status && p.epilogue == product->epilogue;
        }
        p.epilogue = HNP_CUDA_PLAIN;
    }
}

/* --- state --- */

hn_status hnp_cuda_products_open(hnp_cuda_products **out, const char *gpu, hn_error *error)
{
    hnp_cuda_products *products = hn_calloc(1, sizeof *products);
    if (!products) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the GPU's products");
    cublasStatus_t status = cublasLtCreate(&products->handle);
    if (status) {
        hn_free(products);
        return hn_fail(error, HN_ERR_DEVICE, "opening cuBLASLt: %s", cublasLtGetStatusString(status));
    }
    strncpy(products->gpu, gpu, sizeof products->gpu - 1);
    *out = products;
    return HN_OK;
}

void hnp_cuda_products_free(hnp_cuda_products *products)
{
    if (!products) return;
    cublasLtDestroy(products->handle);
    hn_free(products);
}

int hnp_cuda_products_count(const hnp_cuda_products *products)
{
    return products->count;
}

size_t hnp_cuda_products_version(void)
{
    return cublasLtGetVersion();
}
