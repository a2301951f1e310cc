/* See rope_table.h. An angle p f in fp32 is off by up to 6e-8 of itself, 1e-4 at position 2,048: far more than fp32 rounding of its
 * cosine. A model was trained, and is compared, with angles so rounded; so every step here is the reference's, in fp32, in
 * its order: a power, its reciprocal, the scaling (a number divided by a tensor is a reciprocal times the number), the
 * product with the position. */
#include "kernels/rope_table.h"

#include <math.h>

#include "core/error.h"

static float scale_llama3(float frequency, const hn_rope *rope)
{
    float factor = (float)rope->factor, low = (float)rope->low_freq_factor;
    float original = (float)rope->original_positions;
    float wavelength = 1.0f / frequency * (float)(2 * M_PI);
    if (wavelength > (float)((double)rope->original_positions / rope->low_freq_factor)) return frequency / factor;
    if (wavelength < (float)((double)rope->original_positions / rope->high_freq_factor)) return frequency;
    float smooth = (1.0f / wavelength * original - low) / (float)(rope->high_freq_factor - rope->low_freq_factor);
    return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

static float frequency_of(const hn_rope *rope, int i, int head_size)
{
    float frequency = 1.0f / powf((float)rope->theta, (float)(2 * i) / (float)head_size);
    if (rope->kind == HN_ROPE_LINEAR) return frequency / (float)rope->factor;
    return rope->kind == HN_ROPE_LLAMA3 ? scale_llama3(frequency, rope) : frequency;
}

void hn_rope_table_fill(float *rows, const hn_rope *rope, int64_t first, int64_t count, int head_size)
{
    HN_ASSERT(head_size > 0 && head_size % 2 == 0 && rope->theta > 0);
    HN_ASSERT(rope->kind == HN_ROPE_DEFAULT || rope->factor > 0);
    int half = head_size / 2;
    for (int i = 0; i < half; i++) {
        float frequency = frequency_of(rope, i, head_size);
        for (int64_t p = 0; p < count; p++) {
            float angle = (float)(first + p) * frequency;
            rows[p * head_size + i] = cosf(angle);
            rows[p * head_size + half + i] = sinf(angle);
        }
    }
}
