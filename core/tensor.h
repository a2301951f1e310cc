/* A tensor is a view: a pointer, a type, a shape. It owns nothing. Rows lie `stride` elements apart, so that Q, K and V can
 * be views of one fused buffer. */
#ifndef HONE_CORE_TENSOR_H
#define HONE_CORE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef enum hn_dtype { HN_F32, HN_BF16, HN_F16, HN_F64, HN_I64, HN_I32, HN_I16, HN_I8, HN_U8, HN_BOOL, HN_DTYPES } hn_dtype;

#define HN_MAX_RANK 4

typedef struct hn_tensor {
    void *data;
    hn_dtype dtype;
    int rank;
    int64_t shape[HN_MAX_RANK];
    int64_t stride; /* elements from one row (first index) to the next; other indices are dense */
} hn_tensor;

/* A tensor with a name: what checkpoints save, safetensors hold and optimizers loop over. Borrowed name. */
typedef struct hn_named_tensor {
    const char *name;
    hn_tensor tensor;
} hn_named_tensor;

/* Where values come from that are not in memory as a whole. Gives elements [first, first + n) of tensors[index], both
 * multiples of its last dimension (its number of elements, when it has but one). Tensors are asked for one after the
 * other, each from its front, in any order among them. */
typedef struct hn_tensor_source {
    hn_status (*fill)(void *context, float *out, size_t index, int64_t first, int64_t n, hn_error *error);
    void *context;
} hn_tensor_source;

size_t hn_dtype_size(hn_dtype dtype);
const char *hn_dtype_name(hn_dtype dtype); /* "f32", "bf16", ... */

hn_tensor hn_tensor_1d(void *data, hn_dtype dtype, int64_t n);
hn_tensor hn_tensor_2d(void *data, hn_dtype dtype, int64_t rows, int64_t columns);
/* Rows [first, first + count). */
hn_tensor hn_tensor_rows(const hn_tensor *tensor, int64_t first, int64_t count);
/* Columns [first, first + count) of a matrix; the stride stays. */
hn_tensor hn_tensor_columns(const hn_tensor *tensor, int64_t first, int64_t count);
int64_t hn_tensor_count(const hn_tensor *tensor); /* elements */
size_t hn_tensor_bytes(const hn_tensor *tensor);  /* of a dense tensor */
bool hn_tensor_dense(const hn_tensor *tensor);

/* bf16 keeps the upper half of a float; rounding is to nearest, ties to even, NaN stays NaN. */
static inline float hn_bf16_to_float(uint16_t bits)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)bits << 16};
    return v.f;
}

static inline uint16_t hn_bf16_from_float(float value)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = value};
    uint32_t rounded = (v.u + 0x7fffu + ((v.u >> 16) & 1)) >> 16;
    uint32_t quiet = (v.u >> 16) | 0x40u;
    return (uint16_t)((v.u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

float hn_f16_to_float(uint16_t bits);
uint16_t hn_f16_from_float(float value);

#endif
