/* GGUF's tensor types to fp32 (layouts: ggml-common.h of llama.cpp; arithmetic: quants.py of the package
 * gguf).
 *
 * A block holds its scale (and minimum) as fp16 beside small whole numbers; the value is scale * number, or
 * scale * number + minimum. Numbers of 4 bits stand in bytes, element i in the low half and element i + 16
 * (of 32) in the high half; a fifth bit stands apart in a word of 32. Bytes in a block:
 *
 *     Q4_0   d 2                 | 16 x 4+4 bits        number - 8
 *     Q4_1   d 2, min 2          | 16 x 4+4 bits
 *     Q5_0   d 2,        high 4  | 16 x 4+4 bits        number - 16
 *     Q5_1   d 2, min 2, high 4  | 16 x 4+4 bits
 *     Q8_0   d 2                 | 32 x i8
 *
 * The K types hold 256 elements, which have scales of their own, themselves of 6 or 8 bits, for every 32 or
 * 16:
 *
 *     Q4_K   d 2, dmin 2, scales 12            | 4 x (32 x 4+4 bits): 32 low halves, then 32 high halves
 *     Q5_K   d 2, dmin 2, scales 12, high 32   | the same; bit g of high[i] belongs to element i of group g
 *     Q6_K   low 128, high 64, scales 16 x i8, d 2                   number - 32
 *
 * Types are read where they stand, in any alignment; there is no second copy of a tensor. */
#include "formats/gguf_dequantise.h"

#include <string.h>

#include "core/error.h"
#include "core/tensor.h"

enum { BLOCK = 32, HALF = BLOCK / 2, BLOCK_K = 256, GROUPS = BLOCK_K / BLOCK, SCALES = 12 };

hn_gguf_layout hn_gguf_layout_of(uint32_t type)
{
    static const hn_gguf_layout layouts[] = {
        [0] = {"F32", 1, 4},
        [1] = {"F16", 1, 2},
        [2] = {"Q4_0", BLOCK, 2 + 16},
        [3] = {"Q4_1", BLOCK, 4 + 16},
        [4] = {"Q4_2", 0, 0},
        [5] = {"Q4_3", 0, 0},
        [6] = {"Q5_0", BLOCK, 2 + 4 + 16},
        [7] = {"Q5_1", BLOCK, 4 + 4 + 16},
        [8] = {"Q8_0", BLOCK, 2 + 32},
        [9] = {"Q8_1", 0, 0},
        [10] = {"Q2_K", 0, 0},
        [11] = {"Q3_K", 0, 0},
        [12] = {"Q4_K", BLOCK_K, 4 + SCALES + 128},
        [13] = {"Q5_K", BLOCK_K, 4 + SCALES + 32 + 128},
        [14] = {"Q6_K", BLOCK_K, 128 + 64 + 16 + 2},
        [15] = {"Q8_K", 0, 0},
        [16] = {"IQ2_XXS", 0, 0},
        [17] = {"IQ2_XS", 0, 0},
        [18] = {"IQ3_XXS", 0, 0},
        [19] = {"IQ1_S", 0, 0},
        [20] = {"IQ4_NL", 0, 0},
        [21] = {"IQ3_S", 0, 0},
        [22] = {"IQ2_S", 0, 0},
        [23] = {"IQ4_XS", 0, 0},
        [24] = {"I8", 0, 0},
        [25] = {"I16", 0, 0},
        [26] = {"I32", 0, 0},
        [27] = {"I64", 0, 0},
        [28] = {"F64", 0, 0},
        [29] = {"IQ1_M", 0, 0},
        [30] = {"BF16", 1, 2},
        [31] = {"Q4_0_4_4", 0, 0},
        [32] = {"Q4_0_4_8", 0, 0},
        [33] = {"Q4_0_8_8", 0, 0},
        [34] = {"TQ1_0", 0, 0},
        [35] = {"TQ2_0", 0, 0},
        [36] = {"IQ4_NL_4_4", 0, 0},
        [37] = {"IQ4_NL_4_8", 0, 0},
        [38] = {"IQ4_NL_8_8", 0, 0},
        [39] = {"MXFP4", 0, 0},
        [40] = {"NVFP4", 0, 0},
        [41] = {"Q1_0", 0, 0},
    };
    return type < sizeof layouts / sizeof *layouts ? layouts[type] : (hn_gguf_layout){NULL, 0, 0};
}

static uint16_t u16(const unsigned char *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static float f16(const unsigned char *bytes)
{
    return hn_f16_to_float(u16(bytes));
}

static uint32_t u32(const unsigned char *bytes)
{
    return (uint32_t)u16(bytes) | (uint32_t)u16(bytes + 2) << 16;
}

static void from_f32(float *out, const unsigned char *bytes)
{
    uint32_t bits = u32(bytes);
    memcpy(out, &bits, sizeof bits);
}

static void from_f16(float *out, const unsigned char *bytes)
{
    *out = f16(bytes);
}

static void from_bf16(float *out, const unsigned char *bytes)
{
    *out = hn_bf16_to_float(u16(bytes));
}

/* Numbers of 4 bits, with a fifth from `high`, less `zero`. */
static void unpack(float out[BLOCK], const unsigned char *low, uint32_t high, int zero)
{
    for (int i = 0; i < HALF; i++) {
        int fifth = (int)(high >> i & 1) << 4, other = (int)(high >> (i + HALF) & 1) << 4;
        out[i] = (float)(((low[i] & 15) | fifth) - zero);
        out[i + HALF] = (float)((low[i] >> 4 | other) - zero);
    }
}

static void scale(float out[BLOCK], float d)
{
    for (int i = 0; i < BLOCK; i++) out[i] *= d;
}

static void scale_add(float out[BLOCK], float d, float min)
{
    for (int i = 0; i < BLOCK; i++) {
        float product = d * out[i];
        out[i] = product + min;
    }
}

static void from_q4_0(float *out, const unsigned char *bytes)
{
    unpack(out, bytes + 2, 0, 8);
    scale(out, f16(bytes));
}

static void from_q4_1(float *out, const unsigned char *bytes)
{
    unpack(out, bytes + 4, 0, 0);
    scale_add(out, f16(bytes), f16(bytes + 2));
}

static void from_q5_0(float *out, const unsigned char *bytes)
{
    unpack(out, bytes + 6, u32(bytes + 2), 16);
    scale(out, f16(bytes));
}

static void from_q5_1(float *out, const unsigned char *bytes)
{
    unpack(out, bytes + 8, u32(bytes + 4), 0);
    scale_add(out, f16(bytes), f16(bytes + 2));
}

static void from_q8_0(float *out, const unsigned char *bytes)
{
    for (int i = 0; i < BLOCK; i++) out[i] = (float)(int8_t)bytes[2 + i];
    scale(out, f16(bytes));
}

/* Scale and minimum of group g: 6 bits each. The first four stand in the low 6 bits of their bytes; the
 * others have 4 bits in the last four bytes and their upper 2 in the upper bits of the first eight. */
static void scale_and_min(int *scale_of, int *min_of, const unsigned char scales[SCALES], int g)
{
    if (g < 4) {
        *scale_of = scales[g] & 63;
        *min_of = scales[g + 4] & 63;
    } else {
        *scale_of = (scales[g + 4] & 15) | (scales[g - 4] >> 6) << 4;
        *min_of = scales[g + 4] >> 4 | (scales[g] >> 6) << 4;
    }
}

/* Q4_K, and Q5_K with its fifth bits in `high`. */
static void from_k(float *out, const unsigned char *bytes, const unsigned char *low,
                   const unsigned char *high)
{
    float d = f16(bytes), dmin = f16(bytes + 2);
    for (int g = 0; g < GROUPS; g++, out += BLOCK) {
        const unsigned char *quarter = low + g / 2 * BLOCK;
        int scale_of, min_of;
        scale_and_min(&scale_of, &min_of, bytes + 4, g);
        for (int i = 0; i < BLOCK; i++) {
            int four = g % 2 ? quarter[i] >> 4 : quarter[i] & 15;
            out[i] = (float)(four | (high ? (high[i] >> g & 1) << 4 : 0));
        }
        scale_add(out, d * (float)scale_of, -(dmin * (float)min_of));
    }
}

static void from_q4_k(float *out, const unsigned char *bytes)
{
    from_k(out, bytes, bytes + 4 + SCALES, NULL);
}

static void from_q5_k(float *out, const unsigned char *bytes)
{
    from_k(out, bytes, bytes + 4 + SCALES + 32, bytes + 4 + SCALES);
}

/* Groups of 32: in each half of the block, 64 bytes of low bits hold groups 0 and 1 in their low halves, 2
 * and 3 in their high ones; 32 bytes hold the upper 2 bits of all four. */
static void from_q6_k(float *out, const unsigned char *bytes)
{
    const unsigned char *scales = bytes + 192;
    float d = f16(bytes + 208);
    for (int g = 0; g < GROUPS; g++, out += BLOCK) {
        const unsigned char *low = bytes + g / 4 * 64 + g % 2 * 32, *high = bytes + 128 + g / 4 * 32;
        for (int i = 0; i < BLOCK; i++) {
            int four = g % 4 < 2 ? low[i] & 15 : low[i] >> 4;
            int number = (four | (high[i] >> (g % 4 * 2) & 3) << 4) - 32;
            float scaled = d * (float)(int8_t)scales[g * 2 + i / 16];
            out[i] = scaled * (float)number;
        }
    }
}

void hn_gguf_dequantise(float *out, hn_gguf_quant type, const unsigned char *bytes, int64_t count)
{
    static void (*const readers[])(float *, const unsigned char *) = {
        [HN_GGUF_TENSOR_F32] = from_f32,   [HN_GGUF_TENSOR_F16] = from_f16,
        [HN_GGUF_TENSOR_BF16] = from_bf16, [HN_GGUF_TENSOR_Q4_0] = from_q4_0,
        [HN_GGUF_TENSOR_Q4_1] = from_q4_1, [HN_GGUF_TENSOR_Q5_0] = from_q5_0,
        [HN_GGUF_TENSOR_Q5_1] = from_q5_1, [HN_GGUF_TENSOR_Q8_0] = from_q8_0,
        [HN_GGUF_TENSOR_Q4_K] = from_q4_k, [HN_GGUF_TENSOR_Q5_K] = from_q5_k,
        [HN_GGUF_TENSOR_Q6_K] = from_q6_k,
    };
    hn_gguf_layout layout = hn_gguf_layout_of((uint32_t)type);
    HN_ASSERT(layout.elements && count % layout.elements == 0);
    for (int64_t i = 0; i < count; i += layout.elements, bytes += layout.bytes) readers[type](out + i, bytes);
}
