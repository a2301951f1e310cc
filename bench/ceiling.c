/* What this machine can do at most: a large matrix product by oneDNN, in fp32 and bf16, and a large copy.
 *
 * A training rate means little on its own; beside these figures, taken in the same run, it is a share of what
 * the machine gives. Products are 2048 x 2048 x 2048, big enough that starting one costs nothing (17 GFLOP).
 * Each is repeated for about a second and the fastest run counts, for a ceiling is what was possible, not
 * what was usual. Threads are those of OpenMP (OMP_NUM_THREADS). Prints one JSON object; bf16 is null where
 * the CPU has no way to do it. */
#include <dnnl.h>
#include <omp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIDE = 2048, COPY_BYTES = 256 << 20 };
static const double seconds_each = 1.0;

typedef struct product {
    dnnl_primitive_t primitive;
    dnnl_memory_t memory[3]; /* A, B, C */
    dnnl_exec_arg_t arguments[3];
} product;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Fills a square matrix with small numbers that bf16 holds exactly. */
static void fill(void *data, dnnl_data_type_t type)
{
    for (size_t i = 0; i < (size_t)SIDE * SIDE; i++) {
        float value = (float)(i % 7) - 3.0f;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (type == dnnl_bf16)
            ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
        else
            ((uint32_t *)data)[i] = bits;
    }
}

static dnnl_status_t product_init(product *p, dnnl_engine_t engine, dnnl_data_type_t type,
                                  void *const *buffers)
{
    static const int names[3] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    dnnl_memory_desc_t shape[3];
    dnnl_matmul_desc_t operation;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t status = dnnl_success;
    for (int i = 0; i < 3 && status == dnnl_success; i++)
        status = dnnl_memory_desc_init_by_tag(&shape[i], 2, (dnnl_dims_t){SIDE, SIDE},
                                              i < 2 ? type : dnnl_f32, dnnl_ab);
    if (status == dnnl_success)
        status = dnnl_matmul_desc_init(&operation, &shape[0], &shape[1], NULL, &shape[2]);
    if (status == dnnl_success) status = dnnl_primitive_desc_create(&desc, &operation, NULL, engine, NULL);
    if (status == dnnl_success) status = dnnl_primitive_create(&p->primitive, desc);
    for (int i = 0; i < 3 && status == dnnl_success; i++) {
        status = dnnl_memory_create(&p->memory[i], &shape[i], engine, buffers[i]);
        p->arguments[i] = (dnnl_exec_arg_t){names[i], p->memory[i]};
    }
    if (desc) dnnl_primitive_desc_destroy(desc);
    return status;
}

static void product_close(product *p)
{
    for (int i = 0; i < 3; i++)
        if (p->memory[i]) dnnl_memory_destroy(p->memory[i]);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
}

/* GFLOP/s of the fastest product; 0: this CPU has none of that type. */
static double measure_product(dnnl_engine_t engine, dnnl_stream_t stream, dnnl_data_type_t type,
                              void *const *buffers)
{
    product p = {0};
    double best = 0, end;
    dnnl_status_t status = product_init(&p, engine, type, buffers);
    if (status != dnnl_success) goto out;
    fill(buffers[0], type);
    fill(buffers[1], type);
    end = now() + seconds_each;
    do {
        double start = now();
        status = dnnl_primitive_execute(p.primitive, stream, 3, p.arguments);
        if (status == dnnl_success) status = dnnl_stream_wait(stream);
        double rate = 2e-9 * SIDE * (double)SIDE * SIDE / (now() - start);
        if (status == dnnl_success && rate > best) best = rate;
    } while (status == dnnl_success && now() < end);
out:
    product_close(&p);
    return best;
}

/* GB/s read and written by the fastest copy, every thread its own part. */
static double measure_copy(char *to, const char *from)
{
    double best = 0, end = now() + seconds_each;
    do {
        double start = now();
#pragma omp parallel
        {
            size_t threads = (size_t)omp_get_num_threads(), thread = (size_t)omp_get_thread_num();
            size_t part = COPY_BYTES / threads;
            memcpy(to + thread * part, from + thread * part, part);
        }
        double rate = 2e-9 * COPY_BYTES / (now() - start);
        if (rate > best) best = rate;
    } while (now() < end);
    return best;
}

int main(void)
{
    dnnl_engine_t engine = NULL;
    dnnl_stream_t stream = NULL;
    void *buffers[3] = {NULL};
    bool ready = dnnl_engine_create(&engine, dnnl_cpu, 0) == dnnl_success &&
                 dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) == dnnl_success;
    for (int i = 0; i < 3; i++) {
        buffers[i] = aligned_alloc(64, COPY_BYTES);
        if (buffers[i])
            memset(buffers[i], 1, COPY_BYTES);
        else
            ready = false;
    }
    if (ready) {
        double fp32 = measure_product(engine, stream, dnnl_f32, buffers);
        double bf16 = measure_product(engine, stream, dnnl_bf16, buffers);
        printf("{\"threads\": %d, \"fp32_gflops\": %.1f, \"bf16_gflops\": ", omp_get_max_threads(), fp32);
        if (bf16 > 0)
            printf("%.1f", bf16);
        else
            printf("null");
        printf(", \"copy_gb_per_second\": %.1f}\n", measure_copy(buffers[0], buffers[1]));
    } else {
        fputs("ceiling: cannot start oneDNN or allocate 768 MiB\n", stderr);
    }
    for (int i = 0; i < 3; i++) free(buffers[i]);
    if (stream) dnnl_stream_destroy(stream);
    if (engine) dnnl_engine_destroy(engine);
    return !ready;
}
