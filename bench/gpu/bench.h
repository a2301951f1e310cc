/* What the cases of bench_gpu stand on: tensors in the GPU's memory, a clock made of CUDA's events, and rows of a table. */
#ifndef HONE_BENCH_GPU_BENCH_H
#define HONE_BENCH_GPU_BENCH_H

#include <stdbool.h>
#include <stdio.h>

#include "kernels/device.h"
#include "kernels/ops.h"

enum { BENCH_TENSORS = 12, BENCH_BLOCKS = 64 };

typedef struct bench {
    hn_backend backend;
    const hn_ops *ops;
    hn_ops_context ctx;
    hn_error error;
    void *start, *end;            /* cudaEvent_t */
    void *block[BENCH_BLOCKS];    /* memory of the case at hand */
    int blocks;
    bool rehearse;                /* sizes so small that an emulator gets through; times mean nothing */
    const char *only;             /* names of cases that contain it; NULL: all */
    double copy_rate, product_rate; /* ceilings of this GPU in this run: bytes and flop a second; 0: not measured */
    FILE *json;
    int rows;
} bench;

/* A shape of a model's training step. */
typedef struct bench_model {
    const char *name;
    int64_t sequences, shortest, longest; /* lengths are spread evenly between the two */
    int64_t width, heads, kv_heads, head_size, inner, vocabulary;
    bool causal;
} bench_model;

/* Exits with 77 where there is no GPU, with 1 where it fails. */
void bench_open(bench *b);
void bench_close(bench *b);
/* The workspace for one model's operations, in place of the last one. */
void bench_workspace(bench *b, const bench_model *model, int64_t rows);

/* Memory until bench_release; numbers in [-1, 1) where it is a tensor. */
void *bench_memory(bench *b, size_t size);
void *bench_upload(bench *b, const void *host, size_t size);
hn_tensor bench_tensor(bench *b, hn_dtype dtype, int64_t rows, int64_t columns);
void bench_release(bench *b);

/* Whether a case is wanted. */
bool bench_wanted(const bench *b, const char *operation);

/* Seconds of one run(context): the median of rounds, each of enough runs that an event's grain does not matter. */
double bench_time(bench *b, void (*run)(void *context), void *context);

/* Times run(context) and prints its row. `bytes` must move and `flop` must be done at least, whatever the method; the share of the
 * ceiling is the time that the slower of the two takes at this GPU's rates over the time it took. */
void bench_row(bench *b, const char *operation, const char *shape, double bytes, double flop, void (*run)(void *context),
               void *context);

/* --- cases.c (with row_cases.c), optimizer_cases.c, token_cases.c --- */
void bench_ceilings(bench *b);
void bench_model_cases(bench *b, const bench_model *model);
void bench_optimizer_cases(bench *b, int64_t parameters);
void bench_token_cases(bench *b, int64_t vocabulary);

#endif
