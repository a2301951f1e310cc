/* Matrix products by oneDNN: one primitive a shape, made on first use and kept. A primitive is made for one thread and run by
 * whichever thread holds the tile, so its bits depend on nothing but its shape (and on oneDNN and the hardware).
 *
 *     C [m, n] = A [m, k] B [k, n]   (or C += A B)
 *
 * oneDNN's scratch for each thread (at most a few hundred KiB) belongs to hnp_products and grows only when a plan is made.
 *
 * Element (i, j) of a matrix lies at i * row + j * column of its strides; one of the two is 1. A and B are of one type, fp32 or
 * bf16; C is fp32. */
#ifndef HONE_KERNELS_PRODUCT_H
#define HONE_KERNELS_PRODUCT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/tensor.h"

#define HNP_PRODUCT_PLANS 256

typedef struct hnp_products hnp_products;
typedef struct hnp_plan hnp_plan;

typedef struct hnp_product {
    int64_t m, n, k;
    int64_t a_row, a_column, b_row, b_column, c_row;
    int64_t bf16; /* the type of A and B */
    int64_t add;
} hnp_product;

/* For up to `threads` threads that run plans at a time. */
hn_status hnp_products_open(hnp_products **out, int threads, hn_error *error);
void hnp_products_free(hnp_products *products);
int hnp_products_threads(const hnp_products *products);
int hnp_products_count(const hnp_products *products);

/* The plan of a shape, made if there is none yet. Not from within a parallel region. NULL with `error` filled when oneDNN
 * refuses, memory is short, or HNP_PRODUCT_PLANS are there already. Plans live as long as `products`. */
hnp_plan *hnp_plan_get(hnp_products *products, const hnp_product *shape, hn_error *error);
/* Runs it; `thread` < threads numbers the caller among those that run at the same time. false: oneDNN failed. */
bool hnp_plan_run(hnp_plan *plan, int thread, float *c, const void *a, const void *b);

/* Whether products of bf16 tensors run as bf16 (see linear.h): the rule, which asks the processor and the environment, and what it
 * said when `products` was opened. Asking the processor takes microseconds on a virtual machine. */
bool hnp_products_bf16(void);
bool hnp_products_narrow(const hnp_products *products);

#endif
