/* What the tests of emulated kernels share: a context, and matrices whose memory is exactly as large as their
 * contents, so that AddressSanitizer stands at both ends. Outputs start as NaN, and so do the gaps between
 * the rows of a strided view. */
#ifndef HONE_TESTS_DEVICE_H
#define HONE_TESTS_DEVICE_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/sizes.h"
#include "kernels/device.h"
#include "tests/cuda_on_cpu/emulator.h"
#include "tests/cuda_on_cpu/runtime.h"
#include "tests/test.h"
#include "tests/tolerance.h"

static uint32_t test_random = 1;
static inline double uniform(void) /* in [-1, 1) */
{
    test_random = test_random * 1664525u + 1013904223u;
    return (test_random >> 8) * 0x1p-23 - 1.0;
}

static inline double get(const hn_tensor *t, int64_t row, int64_t column)
{
    int64_t at = row * t->stride + column;
    return t->dtype == HN_F32 ? ((const float *)t->data)[at]
                              : hn_bf16_to_float(((const uint16_t *)t->data)[at]);
}

static inline void put(const hn_tensor *t, int64_t row, int64_t column, double value)
{
    int64_t at = row * t->stride + column;
    if (t->dtype == HN_F32)
        ((float *)t->data)[at] = (float)value;
    else
        ((uint16_t *)t->data)[at] = hn_bf16_from_float((float)value);
}

static inline double rounded(hn_dtype dtype, double value)
{
    return dtype == HN_F32 ? (double)(float)value : hn_bf16_to_float(hn_bf16_from_float((float)value));
}

/* [rows, columns] with rows `stride` apart, all NaN; free() its data. */
static inline hn_tensor matrix_new(hn_dtype dtype, int64_t rows, int64_t columns, int64_t stride)
{
    hn_tensor t = {.dtype = dtype, .rank = 2, .shape = {rows, columns}, .stride = stride};
    size_t count = rows ? (size_t)((rows - 1) * stride + columns) : 0, size = count * hn_dtype_size(dtype);
    t.data = malloc(size);
    if (size) memset(t.data, 0xFF, size);
    return t;
}

static inline hn_tensor matrix_random(hn_dtype dtype, int64_t rows, int64_t columns, int64_t stride,
                                      double spread)
{
    hn_tensor t = matrix_new(dtype, rows, columns, stride);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) put(&t, r, c, spread * uniform());
    return t;
}

static inline float *floats_new(int64_t count)
{
    size_t size = (size_t)count * sizeof(float);
    float *f = malloc(size);
    if (size) memset(f, 0xFF, size);
    return f;
}

/* Index of the first element that differs by more than tolerance * max(1, |expected|), or -1; `worst` gets
 * the largest error on that scale. A NaN differs. expected is dense. */
static inline int64_t first_difference(const hn_tensor *got, const double *expected, double limit,
                                       double *worst)
{
    int64_t columns = got->shape[1];
    for (int64_t i = 0; i < got->shape[0] * columns; i++) {
        double error = fabs(get(got, i / columns, i % columns) - expected[i]) / fmax(1.0, fabs(expected[i]));
        if (!(error <= limit)) return i;
        *worst = fmax(*worst, error);
    }
    return -1;
}

#define CHECK_MATRIX(got, expected, limit)                                                                   \
    do {                                                                                                     \
        double worst_ = 0;                                                                                   \
        const hn_tensor *got_ = (got);                                                                       \
        int64_t at_ = first_difference(got_, expected, limit, &worst_);                                      \
        if (at_ >= 0)                                                                                        \
            TEST_FAIL("%s [%lld, %lld] of [%lld, %lld] %s: got %.9g, expected %.9g", #got,                   \
                      (long long)(at_ / got_->shape[1]), (long long)(at_ % got_->shape[1]),                  \
                      (long long)got_->shape[0], (long long)got_->shape[1], hn_dtype_name(got_->dtype),      \
                      get(got_, at_ / got_->shape[1], at_ % got_->shape[1]), (expected)[at_]);               \
    } while (0)

/* Nothing was written between the rows. */
static inline bool gaps_untouched(const hn_tensor *t)
{
    const unsigned char *bytes = t->data;
    size_t size = hn_dtype_size(t->dtype);
    for (int64_t r = 0; r + 1 < t->shape[0]; r++)
        for (size_t i = (size_t)(r * t->stride + t->shape[1]) * size;
             i < (size_t)((r + 1) * t->stride) * size; i++)
            if (bytes[i] != 0xFF) return false;
    return true;
}

typedef struct device {
    hn_backend backend;
    const hn_ops *ops;
    hn_ops_context ctx;
    hn_error error;
    char *scratch;
} device;

enum { SCRATCH_OFFSET = 64 }; /* an arena aligns no better */

/* The GPU's table with `workspace` bytes of scratch, exactly; every launch is waited for. */
static inline void device_open(device *d, size_t workspace)
{
    memset(d, 0, sizeof *d);
    emu_reset();
    d->ops = hn_ops_cuda();
    HN_ASSERT(hn_backend_cuda_init(&d->backend, &d->error) == HN_OK);
    hn_cuda_device_of(&d->backend)->synchronous = true;
    d->scratch = malloc(SCRATCH_OFFSET + workspace);
    d->ctx = (hn_ops_context){
        .backend = &d->backend, .workspace = d->scratch + SCRATCH_OFFSET, .workspace_size = workspace, .error = &d->error};
    if (workspace) memset(d->ctx.workspace, 0xFF, workspace);
    HN_ASSERT(d->ops->open(&d->ctx, &d->error) == HN_OK);
}

/* What kernels found wrong with their input, if anything, goes to d->error. */
static inline void device_wait(device *d)
{
    d->backend.synchronize(&d->backend, &d->error);
}

static inline void device_close(device *d)
{
    d->ops->close(&d->ctx);
    d->backend.close(&d->backend);
    free(d->scratch);
}

/* dropout's factor of one element: 0 or 1 / (1 - p). */
static inline double drop_factor(const hn_dropout *drop, uint32_t head, int64_t row, uint64_t element)
{
    if (!drop || !drop->random || drop->probability <= 0) return 1;
    const hn_random *random = drop->random;
    hn_philox4 drawn = hn_philox(random->seed, (uint32_t)(element / 4), drop->site + head,
                                 random->example[row], *random->step);
    bool kept = drawn.word[element % 4] >= hn_drop_threshold(drop->probability);
    return kept ? 1 / (1 - (double)drop->probability) : 0;
}

/* The CPU's table, to agree with. */
typedef struct table {
    hn_ops_context ctx;
    hn_backend backend;
    hn_error error;
} table;

static inline void cpu_open(table *t)
{
    memset(t, 0, sizeof *t);
    hn_backend_cpu_init(&t->backend);
    t->ctx = (hn_ops_context){.backend = &t->backend, .error = &t->error, .workspace_size = 16 << 20};
    t->ctx.workspace = aligned_alloc(64, t->ctx.workspace_size);
    hn_ops_cpu()->open(&t->ctx, &t->error);
}

static inline void cpu_close(table *t)
{
    hn_ops_cpu()->close(&t->ctx);
    free(t->ctx.workspace);
}

/* Largest difference over the largest value; infinite with a NaN in either. */
static inline double apart(const hn_tensor *a, const hn_tensor *b)
{
    double most = 0, difference = 0;
    for (int64_t i = 0; i < a->shape[0] * a->shape[1]; i++) {
        double x = get(a, i / a->shape[1], i % a->shape[1]), y = get(b, i / a->shape[1], i % a->shape[1]);
        if (!(fabs(x - y) < INFINITY)) return INFINITY;
        most = fmax(most, fabs(x));
        difference = fmax(difference, fabs(x - y));
    }
    return most > 0 ? difference / most : difference;
}

#endif
