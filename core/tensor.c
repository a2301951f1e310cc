/* See tensor.h. */
#include "core/tensor.h"

#include "core/error.h"

static const struct {
    size_t size;
    const char *name;
} dtypes[HN_DTYPES] = {
    [HN_F32] = {4, "f32"}, [HN_BF16] = {2, "bf16"}, [HN_F16] = {2, "f16"}, [HN_F64] = {8, "f64"}, [HN_I64] = {8, "i64"},
    [HN_I32] = {4, "i32"}, [HN_I16] = {2, "i16"},   [HN_I8] = {1, "i8"},   [HN_U8] = {1, "u8"},   [HN_BOOL] = {1, "bool"},
};

size_t hn_dtype_size(hn_dtype dtype)
{
    HN_ASSERT((unsigned)dtype < HN_DTYPES);
    return dtypes[dtype].size;
}

const char *hn_dtype_name(hn_dtype dtype)
{
    HN_ASSERT((unsigned)dtype < HN_DTYPES);
    return dtypes[dtype].name;
}

hn_tensor hn_tensor_1d(void *data, hn_dtype dtype, int64_t n)
{
    return (hn_tensor){.data = data, .dtype = dtype, .rank = 1, .shape = {n, 1, 1, 1}, .stride = 1};
}

hn_tensor hn_tensor_2d(void *data, hn_dtype dtype, int64_t rows, int64_t columns)
{
    return (hn_tensor){.data = data, .dtype = dtype, .rank = 2, .shape = {rows, columns, 1, 1}, .stride = columns};
}

hn_tensor hn_tensor_rows(const hn_tensor *tensor, int64_t first, int64_t count)
{
    HN_ASSERT(first >= 0 && count >= 0 && first + count <= tensor->shape[0]);
    hn_tensor view = *tensor;
    if (view.data) view.data = (char *)view.data + (size_t)(first * tensor->stride) * hn_dtype_size(tensor->dtype);
    view.shape[0] = count;
    return view;
}

hn_tensor hn_tensor_columns(const hn_tensor *tensor, int64_t first, int64_t count)
{
    HN_ASSERT(tensor->rank == 2 && first >= 0 && count >= 0 && first + count <= tensor->shape[1]);
    hn_tensor view = *tensor;
    if (view.data) view.data = (char *)view.data + (size_t)first * hn_dtype_size(tensor->dtype);
    view.shape[1] = count;
    return view;
}

int64_t hn_tensor_count(const hn_tensor *tensor)
{
    int64_t count = 1;
    for (int i = 0; i < tensor->rank; i++) count *= tensor->shape[i];
    return count;
}

size_t hn_tensor_bytes(const hn_tensor *tensor)
{
    return (size_t)hn_tensor_count(tensor) * hn_dtype_size(tensor->dtype);
}

bool hn_tensor_dense(const hn_tensor *tensor)
{
    int64_t row = 1;
    for (int i = 1; i < tensor->rank; i++) row *= tensor->shape[i];
    return tensor->rank == 0 || tensor->shape[0] <= 1 || tensor->stride == row;
}

float hn_f16_to_float(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, mantissa = bits & 1023u;
    union {
        uint32_t u;
        float f;
    } v;
    if (exponent == 31) {
        v.u = sign | 0x7f800000u | mantissa << 13;
    } else if (exponent) {
        v.u = sign | (exponent + 112) << 23 | mantissa << 13;
    } else { /* subnormal: mantissa * 2^-24, exact in float */
        v.f = (float)mantissa * 0x1p-24f;
        v.u |= sign;
    }
    return v.f;
}

uint16_t hn_f16_from_float(float value)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = value};
    uint32_t sign = (v.u >> 16) & 0x8000u, magnitude = v.u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to 65536 or more */
    if (magnitude < 0x38800000u) {                                    /* subnormal: adding 0.5 aligns and rounds to even */
        v.u = magnitude;
        v.f += 0.5f;
        return (uint16_t)(sign | (v.u - 0x3f000000u));
    }
    magnitude += 0xfffu + ((magnitude >> 13) & 1u);
    return (uint16_t)(sign | ((magnitude - 0x38000000u) >> 13));
}
