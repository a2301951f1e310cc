/* A host double of cuBLASLt at its C interface: what product.c asks for is done by plain loops, on the emulated stream, as strictly as
 * the real library takes its arguments, or more strictly.
 *
 *     D = epilogue(alpha op(A) op(B) + beta C)      all counted by columns: element (i, j) of a layout lies at i + j ld
 *
 * Kept from the real one: sizes of descriptors and attributes are checked; dimensions, leading dimensions, types, pointers and their
 * alignment must fit; bias runs along D's rows and has D's type; aux (GELU's input) has D's type and a leading dimension that is a multiple
 * of 8; BGRADB sums op(B) over k, one number a column of D; GELU is the tanh form; with beta 0 C is not read; scratch is
 * aligned to 256 bytes, and may be overwritten from end to end; an algorithm is 64 bytes that carry a mark, and one that was made for other types or
 * another epilogue is refused.
 *
 * Types: bf16 x bf16 to bf16 or fp32, fp32 x fp32 to fp32, sums in fp32, as in the table under cublasLtMatmul() of NVIDIA's manual. */
#include "cublas_lt.h"

#include <cublasLt.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime.h"

#define MARK 0x68636e6544746cu
#define VERSION 130100u
#define POSSIBLE(size) ((size) > (uint64_t)INT32_MAX ? false : (size) > 0)

/* The opaque structs as they are here. */
typedef struct layout {
    uint64_t mark, type, rows, columns;
    int64_t ld;
} layout;
typedef struct operation {
    uint64_t mark;
    int32_t turn_a, turn_b;
    uint32_t epilogue;
    const void *bias;
    void *aux;
    int64_t aux_ld;
} operation;
typedef struct preference {
    uint64_t mark, workspace;
    uint32_t reduction, align[4]; /* of A, B, C, D */
} preference;
typedef struct algorithm {
    uint64_t mark, which, types, epilogue;
} algorithm;
_Static_assert(sizeof(layout) <= sizeof(cublasLtMatrixLayoutOpaque_t) && sizeof(operation) <= sizeof(cublasLtMatmulDescOpaque_t) &&
                   sizeof(preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t) && sizeof(algorithm) <= sizeof(cublasLtMatmulAlgo_t),
               "they fit into cuBLASLt's");

static emu_lt_counts counts;
static struct {
    bool refused[1024];
    int fastest, fail;
    uint64_t version;
} knob = {.fastest = -1};
static int open_handles;

void emu_lt_reset(void)
{
    memset(&counts, 0, sizeof counts);
    memset(&knob, 0, sizeof knob);
    knob.fastest = -1;
}
const emu_lt_counts *emu_lt_counted(void)
{
    return &counts;
}
void emu_lt_refuse(int epilogue)
{
    knob.refused[epilogue] = true;
}
void emu_lt_fastest(int which)
{
    knob.fastest = which;
}
void emu_lt_fail(int status)
{
    knob.fail = status;
}
void emu_lt_version(uint64_t version)
{
    knob.version = version;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    const char *fastest = getenv("HONE_EMU_LT_FASTEST");
    if (fastest) knob.fastest = (int)strtol(fastest, NULL, 10);
    open_handles++;
    *handle = (cublasLtHandle_t)(void *)&open_handles;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    if (handle != (cublasLtHandle_t)(void *)&open_handles || !open_handles) return CUBLAS_STATUS_NOT_INITIALIZED;
    open_handles--;
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void)
{
    return knob.version ? knob.version : VERSION;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "the library was not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED: return "the resource allocation failed";
    case CUBLAS_STATUS_INVALID_VALUE: return "an invalid value was used as an argument";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "an absent device architectural feature is required";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "the function failed to launch on the GPU";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "the functionality is not supported";
    case CUBLAS_STATUS_INTERNAL_ERROR: break;
    }
    return "an internal operation failed";
}

/* --- descriptors --- */

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t desc, size_t size, cublasComputeType_t compute,
                                               cudaDataType_t scale)
{
    if (size < sizeof *desc) return CUBLAS_STATUS_ALLOC_FAILED;
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
    memset(desc, 0, sizeof *desc);
    *(operation *)desc = (operation){.mark = MARK, .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t size)
{
    operation *o = (operation *)desc;
    const struct {
        cublasLtMatmulDescAttributes_t attribute;
        void *field;
        size_t size;
    } fields[] = {{CUBLASLT_MATMUL_DESC_TRANSA, &o->turn_a, sizeof o->turn_a},
                  {CUBLASLT_MATMUL_DESC_TRANSB, &o->turn_b, sizeof o->turn_b},
                  {CUBLASLT_MATMUL_DESC_EPILOGUE, &o->epilogue, sizeof o->epilogue},
                  {CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o->bias, sizeof o->bias},
                  {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &o->aux, sizeof o->aux},
                  {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &o->aux_ld, sizeof o->aux_ld}};
    if (o->mark != MARK || !value) return CUBLAS_STATUS_INVALID_VALUE;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].attribute == attribute && fields[i].size == size) {
            memcpy(fields[i].field, value, size);
            return CUBLAS_STATUS_SUCCESS;
        }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t desc, size_t size, cudaDataType type, uint64_t rows,
                                                 uint64_t columns, int64_t ld)
{
    if (size < sizeof *desc) return CUBLAS_STATUS_ALLOC_FAILED;
    memset(desc, 0, sizeof *desc);
    *(layout *)desc = (layout){MARK, type, rows, columns, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t desc, size_t size)
{
    if (size < sizeof *desc) return CUBLAS_STATUS_ALLOC_FAILED;
    memset(desc, 0, sizeof *desc);
    *(preference *)desc = (preference){MARK, 0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t desc, cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t size)
{
    preference *p = (preference *)desc;
    void *field = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES     ? (void *)&p->workspace
                  : attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK ? (void *)&p->reduction
                                                                           : (void *)&p->align[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES];
    if (p->mark != MARK || !value || size != (field == &p->workspace ? sizeof(uint64_t) : sizeof(uint32_t)))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

/* --- what a product is --- */

/* One call, copied: the caller's descriptors may be gone when it runs. */
typedef struct job {
    operation o;
    layout la, lb, ld;
    int64_t m, n, k;
    bool turn_a, turn_b, d_bf16, ab_bf16;
    const void *a, *b, *c;
    void *d;
    float alpha, beta;
    algorithm how;
    char *workspace;
    size_t workspace_size;
} job;

static uint64_t types_of(const job *j)
{
    return (uint64_t)j->ab_bf16 << 1 | (uint64_t)j->d_bf16;
}

static bool layout_good(const layout *l, bool turned, int64_t rows, int64_t columns)
{
    int64_t stored_rows = turned ? columns : rows, stored_columns = turned ? rows : columns;
    return l->mark == MARK && POSSIBLE(l->rows) && POSSIBLE(l->columns) && (int64_t)l->rows == stored_rows &&
           (int64_t)l->columns == stored_columns && l->ld >= stored_rows && (l->type == CUDA_R_16BF || l->type == CUDA_R_32F);
}

static bool epilogue_known(uint32_t epilogue)
{
    switch ((cublasLtEpilogue_t)epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DGELU:
    case CUBLASLT_EPILOGUE_BGRADB: return true;
    }
    return false;
}

static bool has_aux(uint32_t epilogue)
{
    return epilogue & 128;
}
static bool has_bias(uint32_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_BGRADB || epilogue & 4;
}

static cublasStatus_t describe(job *j, const operation *o, const layout *a, const layout *b, const layout *c, const layout *d)
{
    if (o->mark != MARK || (o->turn_a | o->turn_b) & ~1) return CUBLAS_STATUS_INVALID_VALUE;
    *j = (job){.o = *o, .la = *a, .lb = *b, .ld = *d, .turn_a = o->turn_a, .turn_b = o->turn_b};
    j->m = (int64_t)d->rows;
    j->n = (int64_t)d->columns;
    j->k = (int64_t)(o->turn_a ? a->rows : a->columns);
    j->ab_bf16 = a->type == CUDA_R_16BF;
    j->d_bf16 = d->type == CUDA_R_16BF;
    if (!layout_good(a, j->turn_a, j->m, j->k) || !layout_good(b, j->turn_b, j->k, j->n) || !layout_good(d, false, j->m, j->n) ||
        memcmp(c, d, sizeof *c) != 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (a->type != b->type || (j->d_bf16 && !j->ab_bf16)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!epilogue_known(o->epilogue)) return CUBLAS_STATUS_INVALID_VALUE;
    if (has_bias(o->epilogue) && !o->bias) return CUBLAS_STATUS_INVALID_VALUE;
    if (has_aux(o->epilogue) && (!o->aux || o->aux_ld < j->m || o->aux_ld % 8)) return CUBLAS_STATUS_INVALID_VALUE;
    return knob.refused[o->epilogue] ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

static bool aligned(const void *pointer, size_t to)
{
    return (uintptr_t)pointer % to == 0;
}

/* Epilogues read vectors. */
static bool epilogue_aligned(const operation *o)
{
    return (!has_bias(o->epilogue) || aligned(o->bias, 16)) && (!has_aux(o->epilogue) || aligned(o->aux, 16));
}

static size_t workspace_of(const job *j, uint64_t which)
{
    return which == EMU_LT_SPLIT ? (size_t)(2 * j->m * j->n) * sizeof(float) : 0;
}

/* Whether an algorithm runs a product; `align` are those of A, B, C and D. */
static bool runs(const job *j, uint64_t which, const uint32_t align[4])
{
    size_t ab = j->ab_bf16 ? 2 : 4, d = j->d_bf16 ? 2 : 4;
    if (which != EMU_LT_TILED) return align[0] >= ab && align[1] >= ab && align[3] >= d;
    if (align[0] < 16 || align[1] < 16 || align[2] < 16 || align[3] < 16) return false;
    return (size_t)j->la.ld * ab % 16 == 0 && (size_t)j->lb.ld * ab % 16 == 0 && (size_t)j->ld.ld * d % 16 == 0 &&
           (j->n < 8 || j->n % 8 == 0);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t wish, int most, cublasLtMatmulHeuristicResult_t found[],
                                              int *count)
{
    const preference *p = (const preference *)wish;
    job j;
    counts.queries++;
    *count = 0;
    if (!handle || p->mark != MARK || most <= 0) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t status = describe(&j, (operation *)desc, (layout *)a, (layout *)b, (layout *)c, (layout *)d);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (!epilogue_aligned(&j.o)) return CUBLAS_STATUS_NOT_SUPPORTED;
    for (uint64_t which = 0; which < EMU_LT_ALGORITHMS && *count < most; which++) {
        if (!runs(&j, which, p->align) || workspace_of(&j, which) > p->workspace) continue;
        if (which == EMU_LT_SPLIT && !(p->reduction & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)) continue;
        cublasLtMatmulHeuristicResult_t *result = &found[(*count)++];
        memset(result, 0, sizeof *result);
        *(algorithm *)&result->algo = (algorithm){MARK, which, types_of(&j), j.o.epilogue};
        result->workspaceSize = workspace_of(&j, which);
    }
    return *count ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

static cublasStatus_t check_algorithm(const job *j, const algorithm *how, const uint32_t align[4])
{
    if (!how || how->mark != MARK || how->which >= EMU_LT_ALGORITHMS) return CUBLAS_STATUS_INVALID_VALUE;
    if (how->types != types_of(j) || how->epilogue != j->o.epilogue) return CUBLAS_STATUS_INVALID_VALUE;
    return runs(j, how->which, align) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *how, cublasLtMatmulHeuristicResult_t *result)
{
    static const uint32_t best[4] = {256, 256, 256, 256};
    job j;
    if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t status = describe(&j, (operation *)desc, (layout *)a, (layout *)b, (layout *)c, (layout *)d);
    if (status == CUBLAS_STATUS_SUCCESS) status = check_algorithm(&j, (const algorithm *)how, best);
    if (status == CUBLAS_STATUS_SUCCESS) result->workspaceSize = workspace_of(&j, ((const algorithm *)how)->which);
    return status;
}

/* --- arithmetic --- */

static float get(const void *memory, bool bf16, int64_t at)
{
    if (!bf16) return ((const float *)memory)[at];
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)((const uint16_t *)memory)[at] << 16};
    return v.f;
}

static void put(void *memory, bool bf16, int64_t at, float value)
{
    if (!bf16) {
        ((float *)memory)[at] = value;
        return;
    }
    union {
        float f;
        uint32_t u;
    } v = {.f = value};
    uint32_t rounded = (v.u + 0x7fffu + ((v.u >> 16) & 1)) >> 16;
    ((uint16_t *)memory)[at] = (uint16_t)(value != value ? v.u >> 16 | 0x40u : rounded);
}

/* op(A) as floats, dense: element (i, l) at i + l rows. */
static float *widened(const void *memory, const layout *l, bool turned, int64_t rows, int64_t columns)
{
    float *out = malloc((size_t)(rows * columns) * sizeof *out);
    bool bf16 = l->type == CUDA_R_16BF;
    for (int64_t c = 0; out && c < columns; c++)
        for (int64_t r = 0; r < rows; r++) out[r + c * rows] = get(memory, bf16, turned ? c + r * l->ld : r + c * l->ld);
    return out;
}

/* sum[0..m) += A [m, from..to) column[from..to), one k after the other. On memory of this file alone. */
__attribute__((no_sanitize("address", "undefined"), noinline)) static void add_columns(float *restrict sum, const float *restrict a, const float *column, int64_t m, int64_t from, int64_t to)
{
    for (int64_t l = from; l < to; l++)
        for (int64_t i = 0; i < m; i++) sum[i] += a[i + l * m] * column[l];
}

/* One column of op(A) op(B) in the algorithm's own order. */
static void multiply(const job *j, float *sum, const float *a, const float *column, int64_t index)
{
    enum { BLOCK = 32 };
    memset(sum, 0, (size_t)j->m * sizeof *sum);
    if (j->how.which == EMU_LT_TILED) {
        add_columns(sum, a, column, j->m, 0, j->k);
    } else if (j->how.which == EMU_LT_SPLIT) {
        float *half[2] = {(float *)(void *)j->workspace + index * j->m, (float *)(void *)j->workspace + (j->n + index) * j->m};
        for (int side = 0; side < 2; side++) {
            memset(half[side], 0, (size_t)j->m * sizeof(float));
            add_columns(half[side], a, column, j->m, side ? j->k / 2 : 0, side ? j->k : j->k / 2);
        }
        for (int64_t i = 0; i < j->m; i++) sum[i] = half[0][i] + half[1][i];
    } else {
        for (int64_t to = j->k; to > 0; to -= BLOCK) add_columns(sum, a, column, j->m, to > BLOCK ? to - BLOCK : 0, to);
    }
}

static float gelu(float x)
{
    return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}
static float gelu_slope(float x)
{
    float t = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.7978845608f * (1.0f + 3 * 0.044715f * x * x);
}

static void finish(const job *j, const float *sum, int64_t column)
{
    uint32_t epilogue = j->o.epilogue;
    for (int64_t i = 0; i < j->m; i++) {
        int64_t at = i + column * j->ld.ld, aux = i + column * j->o.aux_ld;
        float v = j->alpha * sum[i];
        if (j->beta != 0.0f) v += j->beta * get(j->c, j->d_bf16, at);
        if (epilogue & 4) v += get(j->o.bias, j->d_bf16, i);
        if (epilogue == CUBLASLT_EPILOGUE_DGELU) v *= gelu_slope(get(j->o.aux, j->d_bf16, aux));
        else if (has_aux(epilogue)) put(j->o.aux, j->d_bf16, aux, v);
        if (epilogue & 32) v = gelu(v);
        put(j->d, j->d_bf16, at, v);
    }
}

static void spin(double seconds)
{
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((double)(now.tv_sec - start.tv_sec) + 1e-9 * (double)(now.tv_nsec - start.tv_nsec) < seconds);
}

/* The library may use its scratch as it likes: both ends of it are spoiled. */
static void spoil(const job *j)
{
    size_t end = j->workspace_size < 4096 ? j->workspace_size : 4096;
    memset(j->workspace, 0xFF, end);
    memset(j->workspace + j->workspace_size - end, 0xFF, end);
}

static bool run(void *context)
{
    job *j = context;
    float *a = widened(j->a, &j->la, j->turn_a, j->m, j->k), *b = widened(j->b, &j->lb, j->turn_b, j->k, j->n);
    float *sum = malloc((size_t)j->m * sizeof *sum);
    if (a && b && sum) {
        spoil(j);
        for (int64_t c = 0; c < j->n; c++) {
            multiply(j, sum, a, b + c * j->k, c);
            finish(j, sum, c);
        }
        for (int64_t c = 0; c < j->n && j->o.epilogue == CUBLASLT_EPILOGUE_BGRADB; c++) {
            float total = 0;
            for (int64_t l = 0; l < j->k; l++) total += b[l + c * j->k];
            put((void *)(uintptr_t)j->o.bias, j->d_bf16, c, total); // NOLINT
        }
        if (knob.fastest >= 0 && j->how.which != (uint64_t)knob.fastest) spin(2e-4);
    }
    bool done = a && b && sum;
    free(a);
    free(b);
    free(sum);
    return done;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
                              const void *c, cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *how, void *workspace, size_t workspace_size, cudaStream_t stream)
{
    const void *const pointers[4] = {a, b, c, d};
    uint32_t align[4];
    job j;
    if (!handle || !stream || !alpha || !beta || !a || !b || !d || c != d || !aligned(workspace, 256)) return CUBLAS_STATUS_INVALID_VALUE;
    if (knob.fail) {
        cublasStatus_t status = (cublasStatus_t)knob.fail;
        knob.fail = 0;
        return status;
    }
    cublasStatus_t status =
        describe(&j, (operation *)desc, (layout *)a_layout, (layout *)b_layout, (layout *)c_layout, (layout *)d_layout);
    for (int i = 0; i < 4; i++) align[i] = (uint32_t)((uintptr_t)pointers[i] % 256 ? (uintptr_t)pointers[i] & -(uintptr_t)pointers[i] : 256);
    if (status == CUBLAS_STATUS_SUCCESS) status = check_algorithm(&j, (const algorithm *)how, align);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (!epilogue_aligned(&j.o)) return CUBLAS_STATUS_INVALID_VALUE;
    j.how = *(const algorithm *)how;
    if (!workspace || !aligned(workspace, 256) || workspace_size < workspace_of(&j, j.how.which)) return CUBLAS_STATUS_INVALID_VALUE;
    j.a = a, j.b = b, j.c = c, j.d = d, j.alpha = *(const float *)alpha, j.beta = *(const float *)beta;
    j.workspace = workspace, j.workspace_size = workspace_size;
    job *copy = malloc(sizeof *copy);
    if (!copy) return CUBLAS_STATUS_ALLOC_FAILED;
    *copy = j;
    if (!emu_enqueue(run, free, copy)) return CUBLAS_STATUS_EXECUTION_FAILED;
    counts.products[j.how.which]++;
    counts.epilogue[j.o.epilogue]++;
    return CUBLAS_STATUS_SUCCESS;
}
