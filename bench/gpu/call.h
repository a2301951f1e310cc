/* A timed call of one operation at the shapes of a model's training step: its arguments, laid out as training lays them out. */
#ifndef HONE_BENCH_GPU_CALL_H
#define HONE_BENCH_GPU_CALL_H

#include "bench/gpu/bench.h"

/* The arguments of the call that is timed. */
typedef struct call {
    bench *b;
    const bench_model *m;
    int64_t rows;
    double pairs;              /* of a query and a key it sees, over all sequences */
    hn_tensor t[BENCH_TENSORS];
    float *mean, *rstd, *lse, *scale;
    int32_t *cu, *ids, *position, *type, *index, *uses; /* uses: where each fourth row begins */
    uint32_t *step, *example;
    double *loss;
    int64_t *count, *label_count;
    hn_random random;
    hn_dropout drop;
    hn_attention attention;
    hn_activation activation;
    char shape[64];
} call;

/* Lengths, indices and what every operation may ask for, of this model's batch. Its memory lives until bench_release. */
void call_open(call *c, bench *b, const bench_model *model);
/* c->t[which], filled as bench_tensor fills. */
hn_tensor *call_tensor(call *c, int which, hn_dtype dtype, int64_t rows, int64_t columns);
void call_vector(call *c, int which, hn_dtype dtype, int64_t count);

/* --- row_cases.c: passes over [rows, inner], and over [rows, width] --- */
void call_time_mlp_rows(bench *b, const bench_model *model);
void call_time_rows(bench *b, const bench_model *model);

#endif
