/* The tensor types of GGUF that hone reads, and their values as fp32. */
#ifndef HONE_FORMATS_GGUF_DEQUANTISE_H
#define HONE_FORMATS_GGUF_DEQUANTISE_H

#include <stddef.h>
#include <stdint.h>

/* By the numbers of the format. */
typedef enum hn_gguf_quant {
    HN_GGUF_TENSOR_F32 = 0,
    HN_GGUF_TENSOR_F16 = 1,
    HN_GGUF_TENSOR_Q4_0 = 2,
    HN_GGUF_TENSOR_Q4_1 = 3,
    HN_GGUF_TENSOR_Q5_0 = 6,
    HN_GGUF_TENSOR_Q5_1 = 7,
    HN_GGUF_TENSOR_Q8_0 = 8,
    HN_GGUF_TENSOR_Q4_K = 12,
    HN_GGUF_TENSOR_Q5_K = 13,
    HN_GGUF_TENSOR_Q6_K = 14,
    HN_GGUF_TENSOR_BF16 = 30
} hn_gguf_quant;

#define HN_GGUF_QUANT_NAMES "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K"

/* How a type lays out its elements: blocks of `elements` in `bytes`. elements = 0: hone lacks the type.
 * `name` is NULL when the format has no such number. */
typedef struct hn_gguf_layout {
    const char *name;
    int elements, bytes;
} hn_gguf_layout;
hn_gguf_layout hn_gguf_layout_of(uint32_t type);

/* out[0 .. count) = the first `count` elements at `bytes` (any address), a multiple of the block's. The
 * values are those of the reference (the Python package gguf), each product and sum rounded once. */
void hn_gguf_dequantise(float *out, hn_gguf_quant type, const unsigned char *bytes, int64_t count);

#endif
