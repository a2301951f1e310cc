/* What the end of a step passes over: every parameter, once. */
#include "bench/gpu/bench.h"

enum { SEGMENTS = 64, SLICES = 64, MASTER = 0, GRADIENT, FIRST_MOMENT, SECOND_MOMENT, COPY };

typedef struct pass {
    bench *b;
    hn_tensor t[5];
    hn_adamw_segment *segments;
    hn_adamw_step *step;
    double *sum;
    hn_sums *sums;
    float *factor;
    int64_t count, chunks;
} pass;

static void run_adamw(void *context)
{
    pass *p = context;
    p->b->ops->adamw(&p->b->ctx, p->segments, SEGMENTS, p->chunks, p->step);
}

static void run_sum_squares(void *context)
{
    pass *p = context;
    p->b->ops->sum_squares(&p->b->ctx, p->sum, p->t[GRADIENT].data, p->count);
}

static void run_zero(void *context)
{
    pass *p = context;
    p->b->ops->zero(&p->b->ctx, p->t[GRADIENT].data, (size_t)p->count * 4);
}

static void run_scale(void *context)
{
    pass *p = context;
    p->b->ops->scale(&p->b->ctx, p->t[GRADIENT].data, p->count, p->factor);
}

static void run_cast(void *context)
{
    pass *p = context;
    p->b->ops->cast(&p->b->ctx, &p->t[COPY], &p->t[MASTER]);
}

static void run_add(void *context)
{
    pass *p = context;
    p->b->ops->add(&p->b->ctx, p->t[MASTER].data, p->t[GRADIENT].data, p->count);
}

static void run_copy(void *context)
{
    pass *p = context;
    p->b->ops->copy(&p->b->ctx, p->t[FIRST_MOMENT].data, p->t[GRADIENT].data, (size_t)p->count * 4);
}

static void run_add_sums(void *context)
{
    pass *p = context;
    p->b->ops->add_sums(&p->b->ctx, p->sums, p->sums + 1, SLICES);
}

/* Segments of one size, as fp32 moments have them, with bf16 copies. */
static void lay_out(pass *p)
{
    hn_adamw_segment segment[SEGMENTS];
    const int64_t each = p->count / SEGMENTS;
    for (int64_t i = 0; i < SEGMENTS; i++)
        segment[i] = (hn_adamw_segment){.master = (float *)p->t[MASTER].data + i * each,
                                        .gradient = (float *)p->t[GRADIENT].data + i * each,
                                        .m = (float *)p->t[FIRST_MOMENT].data + i * each,
                                        .v = (float *)p->t[SECOND_MOMENT].data + i * each,
                                        .copy = (uint16_t *)p->t[COPY].data + i * each,
                                        .count = each,
                                        .lr_scale = 1,
                                        .weight_decay = 0.01f,
                                        .moments = HN_F32,
                                        .parameter = (uint32_t)i};
    p->chunks = hn_adamw_chunks(segment, SEGMENTS);
    p->segments = bench_upload(p->b, segment, sizeof segment);
    const float *correction = bench_upload(p->b, &(float){0.1f}, 4);
    const hn_adamw_step step = {.lr = 1e-6f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .gradient_scale = 1,
                                .correction1 = correction, .correction2 = correction, .seed = 42, .step = 1};
    p->step = bench_upload(p->b, &step, sizeof step);
}

void bench_optimizer_cases(bench *b, int64_t parameters)
{
    pass p = {.b = b, .count = parameters / SEGMENTS * SEGMENTS};
    char shape[64];
    const bench_model smallest = {"optimizer", 1, 1, 1, 64, 1, 1, 64, 64, 0, false};
    const double count = (double)p.count;
    bench_workspace(b, &smallest, 1);
    for (int i = MASTER; i <= COPY; i++) p.t[i] = bench_tensor(b, i == COPY ? HN_BF16 : HN_F32, 1, p.count);
    b->ops->zero(&b->ctx, p.t[SECOND_MOMENT].data, (size_t)p.count * 4); /* no negative one */
    p.sum = bench_memory(b, sizeof *p.sum);
    p.sums = bench_memory(b, (1 + SLICES) * sizeof *p.sums);
    p.factor = bench_upload(b, &(float){1}, 4);
    lay_out(&p);
    snprintf(shape, sizeof shape, "%lld parameters", (long long)parameters);
    bench_row(b, "adamw", shape, 30 * count, 0, run_adamw, &p);
    bench_row(b, "sum_squares", shape, 4 * count, 0, run_sum_squares, &p);
    bench_row(b, "scale", shape, 8 * count, 0, run_scale, &p);
    bench_row(b, "cast", shape, 6 * count, 0, run_cast, &p);
    bench_row(b, "add", shape, 12 * count, 0, run_add, &p);
    bench_row(b, "copy", shape, 8 * count, 0, run_copy, &p);
    bench_row(b, "zero", shape, 4 * count, 0, run_zero, &p);
    snprintf(shape, sizeof shape, "%d slices", SLICES);
    bench_row(b, "add_sums", shape, (SLICES + 2) * sizeof *p.sums, 0, run_add_sums, &p);
    bench_release(b);
}
