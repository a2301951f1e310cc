/* See optimizer.h. All of it is bound by memory: one pass, long runs for each thread. Rounding bf16 moments costs more than the memory
 * that they save: 1.43 ms a million parameters against 1.11 with fp32 (one thread, Intel family 6 model 207, AVX-512, busy). */
#include "kernels/optimizer.h"

#include <math.h>

#include "core/error.h"
#include "kernels/scratch.h"
#include "kernels/vecmath.h"

enum {
    SUM_BLOCK = 1 << 16, /* elements of one partial sum of squares */
    RUN = 1 << 14,       /* elements that a thread takes at a time */
    ROUNDED = 512        /* elements whose random numbers are drawn at a time; a multiple of 4, as RUN is of it */
};

typedef double vd __attribute__((vector_size(HN_LANES * 8)));

static double block_squares(const float *x, int64_t count)
{
    vd sum = {0};
    for (int64_t i = 0; i < count; i += HN_LANES) {
        vd v = __builtin_convertvector(vf_get(x, HN_F32, i, count - i), vd);
        sum += v * v;
    }
    double total = 0;
    for (int i = 0; i < HN_LANES; i++) total += sum[i];
    return total;
}

void HN_ISA_NAME(hnp_sum_squares)(hn_ops_context *ctx, double *sum, const float *x, int64_t count)
{
    int64_t blocks = hnp_ceil_div(count, SUM_BLOCK);
    hnp_scratch scratch = {.ctx = ctx};
    double *partial = blocks ? hnp_scratch_take(&scratch, (size_t)blocks * sizeof *partial) : NULL;
    if (!partial) return;
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < blocks; b++)
        partial[b] = block_squares(x + b * SUM_BLOCK, hnp_least(SUM_BLOCK, count - b * SUM_BLOCK));
    for (int64_t b = 0; b < blocks; b++) *sum += partial[b];
}

/* A bf16 number beside `value`, as fp32: the upper one with the probability of the bits that are cut off. noise < 65536. NaN stays. */
HN_BODY vf round_at_random(vf value, vu noise)
{
    return vf_select((vi)(value != value), value, (vf)(((vu)value + noise) & 0xffff0000u));
}

/* Elements [first, end), at most ROUNDED when the moments are bf16. */
HN_BODY void adamw_run(const hn_adamw_segment *s, const hn_adamw_step *step, int64_t first, int64_t end, bool copy, hn_dtype moments)
{
    float lr = step->lr * s->lr_scale * (step->group_lr ? step->group_lr[s->group] : 1.0f);
    float keep = 1.0f - lr * s->weight_decay, rate = lr / step->correction1[s->group];
    float root = 1.0f / sqrtf(step->correction2[s->group]);
    float rest1 = 1.0f - step->beta1, rest2 = 1.0f - step->beta2;
    uint32_t words[ROUNDED + 2 * HN_LANES];
    hnp_stream stream = {step->seed, HN_SITE(0, HN_SITE_ROUNDING, 0), s->parameter, step->step};
    if (moments == HN_BF16) hnp_philox_fill(words, &stream, (uint64_t)(s->offset + first), end - first);
    for (int64_t i = first; i < end; i += HN_LANES) {
        int64_t left = end - i;
        vf g = vf_get(s->gradient, HN_F32, i, left) * step->gradient_scale;
        vf m = vf_get(s->m, moments, i, left), v = vf_get(s->v, moments, i, left);
        m = m + rest1 * (g - m);
        v = v + rest2 * (g * g - v);
        vf w = vf_get(s->master, HN_F32, i, left) * keep - rate * m / (vf_sqrt(v) * root + step->epsilon);
        if (moments == HN_BF16) {
            vu word;
            memcpy(&word, words + (i - first), sizeof word);
            m = round_at_random(m, word & 0xffffu);
            v = round_at_random(v, word >> 16);
        }
        vf_put(s->m, moments, i, left, m);
        vf_put(s->v, moments, i, left, v);
        vf_put(s->master, HN_F32, i, left, w);
        if (copy) vf_put(s->copy, HN_BF16, i, left, w);
    }
}

static void adamw_range(const hn_adamw_segment *s, const hn_adamw_step *step, int64_t first, int64_t end)
{
    if (s->moments == HN_F32) {
        if (s->copy) adamw_run(s, step, first, end, true, HN_F32);
        else adamw_run(s, step, first, end, false, HN_F32);
        return;
    }
    for (; first < end; first += ROUNDED) {
        if (s->copy) adamw_run(s, step, first, hnp_least(first + ROUNDED, end), true, HN_BF16);
        else adamw_run(s, step, first, hnp_least(first + ROUNDED, end), false, HN_BF16);
    }
}

void HN_ISA_NAME(hnp_adamw_decide)(hn_ops_context *ctx, hn_adamw_step *step, hn_adamw_outcome *outcome,
                                   const hn_adamw_groups *groups, const double *norm_squared, const double *loss,
                                   const int64_t *count, const hn_adamw_control *control)
{
    (void)ctx;
    double norm = sqrt(*norm_squared), clip = control->clip;
    if (clip <= 0 && norm > HN_ADAMW_LARGEST_NORM) norm = INFINITY;
    bool skip = !isfinite(norm) || !isfinite(*loss) || (control->most_norm > 0 && norm > control->most_norm) ||
                (control->most_loss > 0 && *loss > control->most_loss * (double)*count);
    *outcome = (hn_adamw_outcome){.loss = *loss, .norm = norm, .count = *count, .skipped = skip};
    *step = (hn_adamw_step){.lr = control->lr,
                            .beta1 = (float)control->beta1,
                            .beta2 = (float)control->beta2,
                            .epsilon = control->epsilon,
                            .gradient_scale = clip > 0 && norm > clip ? (float)(clip / (norm + 1e-6)) : 1,
                            .skip = skip,
                            .correction1 = groups->correction1,
                            .correction2 = groups->correction2,
                            .group_lr = groups->lr,
                            .seed = control->seed,
                            .step = control->step};
    for (int g = 0; g < groups->count; g++) {
        groups->applied[g] += !skip && groups->trains[g];
        double t = (double)groups->applied[g];
        groups->correction1[g] = (float)(1 - pow(control->beta1, t));
        groups->correction2[g] = (float)(1 - pow(control->beta2, t));
    }
}

void HN_ISA_NAME(hnp_adamw)(hn_ops_context *ctx, const hn_adamw_segment *segments, int64_t segment_count, int64_t chunks,
                            const hn_adamw_step *step)
{
    (void)ctx, (void)chunks;
    if (step->skip) return;
#pragma omp parallel
    for (int64_t s = 0; s < segment_count; s++) {
        const hn_adamw_segment *segment = &segments[s];
#pragma omp for schedule(static) nowait
        for (int64_t first = 0; first < segment->count; first += RUN)
            adamw_range(segment, step, first, hnp_least(first + RUN, segment->count));
    }
}

void HN_ISA_NAME(hnp_cast)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *x)
{
    (void)ctx;
    int64_t count = hn_tensor_count(x);
    HN_ASSERT(hn_tensor_count(y) == count && hn_tensor_dense(x) && hn_tensor_dense(y));
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < count; first += RUN) {
        int64_t end = hnp_least(first + RUN, count);
        for (int64_t i = first; i < end; i += HN_LANES)
            vf_put(y->data, y->dtype, i, end - i, vf_get(x->data, x->dtype, i, end - i));
    }
}

void HN_ISA_NAME(hnp_zero)(hn_ops_context *ctx, void *memory, size_t size)
{
    (void)ctx;
#pragma omp parallel for schedule(static)
    for (size_t first = 0; first < size; first += RUN * sizeof(float))
        memset((char *)memory + first, 0, size - first < RUN * sizeof(float) ? size - first : RUN * sizeof(float));
}

void HN_ISA_NAME(hnp_scale)(hn_ops_context *ctx, float *x, int64_t count, const float *factor)
{
    (void)ctx;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < count; first += RUN) {
        int64_t end = hnp_least(first + RUN, count);
        for (int64_t i = first; i < end; i += HN_LANES)
            vf_put(x, HN_F32, i, end - i, vf_get(x, HN_F32, i, end - i) * *factor);
    }
}

void HN_ISA_NAME(hnp_add)(hn_ops_context *ctx, float *y, const float *x, int64_t count)
{
    (void)ctx;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < count; first += RUN) {
        int64_t end = hnp_least(first + RUN, count);
        for (int64_t i = first; i < end; i += HN_LANES)
            vf_put(y, HN_F32, i, end - i, vf_get(y, HN_F32, i, end - i) + vf_get(x, HN_F32, i, end - i));
    }
}

void HN_ISA_NAME(hnp_add_sums)(hn_ops_context *ctx, hn_sums *to, const hn_sums *from, int64_t count)
{
    (void)ctx;
    for (int64_t i = 0; i < count; i++) {
        to->loss += from[i].loss;
        to->count += from[i].count;
        to->squares += from[i].squares;
    }
}

void HN_ISA_NAME(hnp_copy)(hn_ops_context *ctx, void *to, const void *from, size_t size)
{
    const size_t run = RUN * sizeof(float);
    (void)ctx;
#pragma omp parallel for schedule(static)
    for (size_t first = 0; first < size; first += run)
        memcpy((char *)to + first, (const char *)from + first, size - first < run ? size - first : run);
}
