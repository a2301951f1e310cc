/* What the tests of operations share: matrices in blocks of exactly their size (so that AddressSanitizer sees a byte too far),
 * a second copy in double, comparison, and the loop over instruction sets and types. */
#ifndef HONE_TESTS_KERNELS_OPS_TEST_H
#define HONE_TESTS_KERNELS_OPS_TEST_H

#include <omp.h>

#include "core/philox.h"
#include "kernels/ops.h"
#include "kernels/product.h"
#include "kernels/table.h"
#include "tests/test.h"
#include "tests/tolerance.h"

typedef struct matrix {
    hn_tensor t;
    double *d; /* [rows, columns] the values as stored */
    void *block;
} matrix;

static uint64_t test_seed = 1;

static inline double test_random(void) /* in [-1, 1) */
{
    static uint32_t counter;
    return 2.0 * (double)hn_uniform(hn_philox(test_seed, counter++, 0, 0, 0).word[0]) - 1.0;
}

static inline double value_at(const hn_tensor *t, int64_t r, int64_t c)
{
    int64_t i = r * t->stride + c;
    return t->dtype == HN_F32 ? (double)((float *)t->data)[i] : (double)hn_bf16_to_float(((uint16_t *)t->data)[i]);
}

static inline void value_set(const hn_tensor *t, int64_t r, int64_t c, double value)
{
    int64_t i = r * t->stride + c;
    if (t->dtype == HN_F32) ((float *)t->data)[i] = (float)value;
    else ((uint16_t *)t->data)[i] = hn_bf16_from_float((float)value);
}

static inline void matrix_sync(matrix *m)
{
    for (int64_t r = 0; r < m->t.shape[0]; r++)
        for (int64_t c = 0; c < m->t.shape[1]; c++) m->d[r * m->t.shape[1] + c] = value_at(&m->t, r, c);
}

/* Random in [-scale, scale), rows `stride` apart; the last row ends the block. */
static inline matrix matrix_strided(hn_dtype type, int64_t rows, int64_t columns, int64_t stride, double scale)
{
    size_t count = rows ? (size_t)((rows - 1) * stride + columns) : 0;
    matrix m = {.block = calloc(count ? count : 1, hn_dtype_size(type)), .d = calloc((size_t)(rows * columns) + 1, sizeof(double))};
    m.t = hn_tensor_2d(m.block, type, rows, columns);
    m.t.stride = stride;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) value_set(&m.t, r, c, scale * test_random());
    matrix_sync(&m);
    return m;
}

static inline matrix matrix_random(hn_dtype type, int64_t rows, int64_t columns, double scale)
{
    return matrix_strided(type, rows, columns, columns, scale);
}

static inline void matrix_free(matrix *m)
{
    free(m->block);
    free(m->d);
}

/* The largest difference between what the tensor holds and `expected`, over the largest expected magnitude (at least 0.1: inputs are near 1);
 * infinite when either holds a NaN. */
static inline double distance(const hn_tensor *got, const double *expected)
{
    double most = 0.1, apart = 0;
    for (int64_t r = 0; r < got->shape[0]; r++)
        for (int64_t c = 0; c < got->shape[1]; c++) {
            double e = expected[r * got->shape[1] + c], difference = fabs(value_at(got, r, c) - e);
            if (!(difference <= 1e300)) return INFINITY;
            most = fmax(most, fabs(e));
            apart = fmax(apart, difference);
        }
    return apart / most;
}

#define CHECK_CLOSE(tensor, expected, limit)                                                                           \
    do {                                                                                                               \
        double apart_ = distance(tensor, expected), limit_ = (limit);                                                  \
        if (!(apart_ <= limit_)) TEST_FAIL("%s [%s, %s]: %g apart, allowed %g", #tensor, ops_now->name,                 \
                                           hn_dtype_name((tensor)->dtype), apart_, limit_);                            \
    } while (0)

static const hn_ops *ops_now;
static hn_ops_context context_now;
static hn_error error_now;
static hn_backend backend_now;

static inline void table_begin(const hn_ops *ops, size_t workspace)
{
    hn_backend_cpu_init(&backend_now);
    hn_error_reset(&error_now);
    ops_now = ops;
    context_now = (hn_ops_context){.backend = &backend_now, .error = &error_now, .workspace_size = workspace,
                                   .workspace = malloc(workspace)};
    if (ops->open(&context_now, &error_now) != HN_OK) abort();
}

static inline void table_end(void)
{
    if (error_now.status) {
        fprintf(stderr, "recorded: %s\n", error_now.message);
        test_failures++;
    }
    ops_now->close(&context_now);
    free(context_now.workspace);
}

/* Runs body(type) on every table this machine has, for fp32 and bf16. */
static inline void on_every_table(void (*body)(hn_dtype type), int64_t rows, int64_t widest, int64_t longest, int heads)
{
    static const char *const isas[] = {"base", "avx2", "avx512"};
    static const hn_dtype types[] = {HN_F32, HN_BF16};
    for (int i = 0; i < 3; i++)
        for (int t = 0; t < 2; t++) {
            const hn_ops *ops = hnp_ops_cpu_named(isas[i]);
            if (!ops) continue;
            table_begin(ops, ops->workspace(rows, widest, longest, heads, types[t]));
            body(types[t]);
            table_end();
        }
}

#endif
