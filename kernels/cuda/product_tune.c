/* The tuned table: the fastest of the algorithms that cuBLASLt offers for each plan met so far, by CUDA events, and its way into a file
 * and back.
 *
 * An algorithm is 64 bytes that only the library that made them can read, so the file begins with the library's version and the
 * GPU's name, and every plan is shown to the library again before it is believed:
 *
 *     {"cublaslt":130100,"gpu":"NVIDIA H200","scratch":33554432}
 *     {"m":4096,"n":1536,"k":384, ... ,"algorithm":"00d1..."}
 *
 * Times are taken of whole runs of launches, the shortest of some, so that a neighbour's noise chooses nothing; operands are whatever
 * lies in the memory that was lent. */
#include <cuda_runtime_api.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/plans.h"

enum { CANDIDATES = 8, RUNS = 5, ROUNDS = 3, HEX = 2 * sizeof(cublasLtMatmulAlgo_t) };

/* --- timing --- */

static size_t matrix_size(int64_t rows, int64_t columns, int64_t stride, bool bf16)
{
    return (size_t)((rows - 1) * stride + columns) * (bf16 ? 2 : 4);
}

/* The next `size` bytes of the memory that was lent, aligned to `alignment` bytes and no better. */
static void *take(char **next, size_t size, int64_t alignment)
{
    char *start = *next + 256 - (uintptr_t)*next % 256 + (alignment < HNP_CUDA_ALIGNMENT ? alignment : 0);
    *next = start + size;
    return start;
}

/* Lays a plan's operands out; false: there is no room. */
static bool place(hnp_cuda_operands *at, const hnp_cuda_plan_key *key, char *memory, size_t size)
{
    char *next = memory;
    int64_t m = key->m, n = key->n, k = key->k, vector = key->epilogue == HNP_CUDA_ROW_SUMS ? m : n;
    *at = (hnp_cuda_operands){0};
    at->a = take(&next, matrix_size(key->a_turned ? k : m, key->a_turned ? m : k, key->a_stride, key->bf16), key->a_alignment);
    at->b = take(&next, matrix_size(key->b_turned ? n : k, key->b_turned ? k : n, key->b_stride, key->bf16), key->b_alignment);
    at->d = take(&next, matrix_size(m, n, key->d_stride, key->d_bf16), key->d_alignment);
    if (key->z_stride) at->z = take(&next, matrix_size(m, n, key->z_stride, key->d_bf16), key->z_alignment);
    if (key->biased) at->vector = take(&next, (size_t)vector * (key->d_bf16 ? 2 : 4), key->vector_alignment);
    return (size_t)(next - memory) <= size;
}

typedef struct stopwatch {
    cudaEvent_t start, end;
    cudaStream_t stream;
} stopwatch;

/* Milliseconds of RUNS products; negative when the algorithm does not run, with *failure set if the GPU failed. */
static float measure(hn_ops_context *ctx, stopwatch *c, const hnp_cuda_plan *plan, const hnp_cuda_operands *at,
                     const cublasLtMatmulAlgo_t *algorithm, cudaError_t *failure)
{
    const hnp_cuda_products *products = hnp_cuda_products_of(ctx);
    float best = -1.0f;
    hnp_cuda_job job;
    if (hnp_cuda_job_init(&job, &plan->key, at)) return best;
    if (hnp_cuda_job_run(ctx, products, &job, at, 1.0f, plan->key.add, algorithm)) return best;
    for (int round = 0; round < ROUNDS; round++) {
        float time = 0;
        cudaError_t status = cudaEventRecord(c->start, c->stream);
        for (int i = 0; i < RUNS; i++)
            if (hnp_cuda_job_run(ctx, products, &job, at, 1.0f, plan->key.add, algorithm)) return -1.0f;
        if (status == cudaSuccess) status = cudaEventRecord(c->end, c->stream);
        if (status == cudaSuccess) status = cudaEventSynchronize(c->end);
        if (status == cudaSuccess) status = cudaEventElapsedTime(&time, c->start, c->end);
        if (status != cudaSuccess) {
            *failure = status;
            return -1.0f;
        }
        if (best < 0 || time < best) best = time;
    }
    return best;
}

static cudaError_t tune_plan(hn_ops_context *ctx, stopwatch *c, hnp_cuda_plan *plan, const hnp_cuda_operands *at)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    cudaError_t failure = cudaSuccess;
    float best = -1.0f;
    int count = hnp_cuda_plan_candidates(hnp_cuda_products_of(ctx), &plan->key, CANDIDATES, found);
    for (int i = 0; i < count && failure == cudaSuccess; i++) {
        float time = measure(ctx, c, plan, at, &found[i].algo, &failure);
        if (time < 0 || (best >= 0 && time >= best)) continue;
        best = time;
        plan->algorithm = found[i].algo;
        plan->tuned = true;
    }
    return failure;
}

static int tuned_count(const hnp_cuda_products *products)
{
    int tuned = 0;
    for (int i = 0; i < products->count; i++) tuned += products->plan[i].tuned;
    return tuned;
}

hn_status hnp_cuda_products_tune(hn_ops_context *ctx, void *memory, size_t size, hn_error *error)
{
    hnp_cuda_products *products = hnp_cuda_products_of(ctx);
    stopwatch c = {.stream = (cudaStream_t)hn_cuda_device_of(ctx->backend)->stream};
    cudaError_t status = cudaEventCreateWithFlags(&c.start, 0);
    if (status == cudaSuccess) status = cudaEventCreateWithFlags(&c.end, 0);
    for (int i = 0; status == cudaSuccess && i < products->count && tuned_count(products) < HNP_CUDA_TUNED; i++) {
        hnp_cuda_plan *plan = &products->plan[i];
        hnp_cuda_operands at;
        if (plan->offered && !plan->tuned && place(&at, &plan->key, memory, size)) status = tune_plan(ctx, &c, plan, &at);
    }
    if (c.start) cudaEventDestroy(c.start);
    if (c.end) cudaEventDestroy(c.end);
    if (status == cudaSuccess) return HN_OK;
    return hn_fail(error, HN_ERR_DEVICE, "timing products: %s", cudaGetErrorString(status));
}

/* --- out --- */

static const char *const key_names[HNP_CUDA_KEY_WORDS] = {
    "m", "n", "k", "a_stride", "b_stride", "d_stride", "z_stride", "a_turned", "b_turned", "add",
    "bf16", "d_bf16", "epilogue", "biased", "a_alignment", "b_alignment", "d_alignment", "z_alignment", "vector_alignment"};

static void export_plan(const hnp_cuda_plan *plan, hn_strbuf *out)
{
    unsigned char bytes[sizeof plan->algorithm];
    int64_t word[HNP_CUDA_KEY_WORDS];
    memcpy(word, &plan->key, sizeof word);
    memcpy(bytes, &plan->algorithm, sizeof bytes);
    for (int i = 0; i < HNP_CUDA_KEY_WORDS; i++) hn_strbuf_printf(out, "%c\"%s\":%" PRId64, i ? ',' : '{', key_names[i], word[i]);
    hn_strbuf_puts(out, ",\"algorithm\":\"");
    for (size_t i = 0; i < sizeof bytes; i++) hn_strbuf_printf(out, "%02x", bytes[i]);
    hn_strbuf_puts(out, "\"}\n");
}

void hnp_cuda_products_export(const hnp_cuda_products *products, hn_strbuf *out)
{
    hn_strbuf_printf(out, "{\"cublaslt\":%zu,\"gpu\":", cublasLtGetVersion());
    hn_json_quote(out, products->gpu, strlen(products->gpu));
    hn_strbuf_printf(out, ",\"scratch\":%zu}\n", HNP_CUDA_PRODUCT_SCRATCH);
    for (int i = 0; i < products->count; i++)
        if (products->plan[i].tuned) export_plan(&products->plan[i], out);
}

/* --- in --- */

/* One line of a text as a JSON object; *text goes on to the next. */
static hn_status read_line(json_t **out, const char **text, const char *name, hn_error *error)
{
    size_t length = strcspn(*text, "\n");
    hn_status status = hn_json_parse(out, *text, length, name, HN_JSON_LIMITS_SMALL, error);
    *text += length + ((*text)[length] == '\n');
    return status;
}

static hn_status check_header(const hnp_cuda_products *products, const json_t *header, const char *name, hn_error *error)
{
    int64_t version = 0, scratch = 0;
    const char *gpu = "";
    hn_status status = hn_json_get_int(&version, header, "cublaslt", 0, INT64_MAX, name, error);
    if (status == HN_OK) status = hn_json_get_int(&scratch, header, "scratch", 0, INT64_MAX, name, error);
    if (status == HN_OK) status = hn_json_get_string(&gpu, header, "gpu", name, error);
    if (status != HN_OK) return status;
    if ((size_t)version == cublasLtGetVersion() && (size_t)scratch == HNP_CUDA_PRODUCT_SCRATCH && !strcmp(gpu, products->gpu))
        return HN_OK;
    return hn_fail(error, HN_ERR_MISMATCH,
                   "%s: products were tuned on \"%s\" by cuBLASLt %" PRId64 " with %" PRId64 " bytes of scratch, here are \"%s\", %zu and %zu",
                   name, gpu, version, scratch, products->gpu, cublasLtGetVersion(), HNP_CUDA_PRODUCT_SCRATCH);
}

static bool from_hex(unsigned char *bytes, const char *text)
{
    if (strlen(text) != HEX || strspn(text, "0123456789abcdef") != HEX) return false;
    for (size_t i = 0; i < HEX / 2; i++) {
        unsigned byte = 0;
        sscanf(text + 2 * i, "%2x", &byte);
        bytes[i] = (unsigned char)byte;
    }
    return true;
}

static hn_status read_plan(hnp_cuda_plan *plan, const json_t *line, const char *name, hn_error *error)
{
    int64_t word[HNP_CUDA_KEY_WORDS] = {0};
    const char *algorithm = "";
    for (int i = 0; i < HNP_CUDA_KEY_WORDS; i++) {
        hn_status status = hn_json_get_int(&word[i], line, key_names[i], 0, INT32_MAX, name, error);
        if (status != HN_OK) return status;
    }
    hn_status status = hn_json_get_string(&algorithm, line, "algorithm", name, error);
    if (status != HN_OK) return status;
    *plan = (hnp_cuda_plan){.offered = true, .tuned = true};
    memcpy(&plan->key, word, sizeof word);
    if (!from_hex((unsigned char *)&plan->algorithm, algorithm))
        return hn_fail(error, HN_ERR_FORMAT, "%s: an algorithm is %d hexadecimal digits, got \"%.140s\"", name, (int)HEX, algorithm);
    return HN_OK;
}

/* Whether the library knows the algorithm and would run this product by it. */
static hn_status check_plan(const hnp_cuda_products *products, const hnp_cuda_plan *plan, const char *name, hn_error *error)
{
    const hnp_cuda_plan_key *key = &plan->key;
    hnp_cuda_operands at = {.z = (void *)(uintptr_t)key->z_alignment, .vector = (void *)(uintptr_t)key->vector_alignment}; // NOLINT
    cublasLtMatmulHeuristicResult_t result = {0};
    hnp_cuda_job job;
    cublasStatus_t status = hnp_cuda_job_init(&job, key, &at);
    if (!status)
        status = cublasLtMatmulAlgoCheck(products->handle, &job.operation, &job.a, &job.b, &job.d, &job.d, &plan->algorithm, &result);
    if (!status && result.workspaceSize <= HNP_CUDA_PRODUCT_SCRATCH) return HN_OK;
    return hn_fail(error, HN_ERR_MISMATCH, "%s: cuBLASLt does not run the plan of [%" PRId64 ", %" PRId64 ", %" PRId64 "]: %s", name,
                   key->m, key->n, key->k, status ? cublasLtGetStatusString(status) : "too little scratch");
}

/* All plans of the text, which are at most HNP_CUDA_TUNED; *count of them. */
static hn_status read_plans(hnp_cuda_plan *plans, int *count, const hnp_cuda_products *products, const char *text, const char *name,
                            hn_error *error)
{
    json_t *line = NULL;
    hn_status status = read_line(&line, &text, name, error);
    if (status == HN_OK) status = check_header(products, line, name, error);
    for (*count = 0; status == HN_OK && *text; ++*count) {
        json_decref(line);
        line = NULL;
        if (*count == HNP_CUDA_TUNED)
            return hn_fail(error, HN_ERR_FORMAT, "%s: more than %d tuned plans", name, HNP_CUDA_TUNED);
        status = read_line(&line, &text, name, error);
        if (status == HN_OK) status = read_plan(&plans[*count], line, name, error);
        if (status == HN_OK) status = check_plan(products, &plans[*count], name, error);
    }
    json_decref(line);
    return status;
}

hn_status hnp_cuda_products_import(hnp_cuda_products *products, const char *text, const char *name, hn_error *error)
{
    int count = 0;
    bool fresh;
    hnp_cuda_plan *plans = hn_calloc(HNP_CUDA_TUNED, sizeof *plans);
    if (!plans) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", name);
    hn_status status = read_plans(plans, &count, products, text, name, error);
    if (status == HN_OK) products->count = 0; /* the rule makes again what is not in the table */
    for (int i = 0; status == HN_OK && i < count; i++) *hnp_cuda_plan_place(products, &plans[i].key, &fresh) = plans[i];
    hn_free(plans);
    return status;
}
