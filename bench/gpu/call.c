/* Lengths are spread evenly between a model's shortest and longest; ids are random, the other indices walk. */
#include "bench/gpu/call.h"

#include <stdlib.h>

#include "core/philox.h"

hn_tensor *call_tensor(call *c, int which, hn_dtype dtype, int64_t rows, int64_t columns)
{
    c->t[which] = bench_tensor(c->b, dtype, rows, columns);
    return &c->t[which];
}

void call_vector(call *c, int which, hn_dtype dtype, int64_t count)
{
    const hn_tensor *row = call_tensor(c, which, dtype, 1, count);
    c->t[which] = hn_tensor_1d(row->data, dtype, count);
}

/* Lengths, positions and indices of a batch, in the GPU's memory. */
static void lay_out(call *c)
{
    const bench_model *m = c->m;
    const int64_t n = m->sequences, spread = m->longest - m->shortest + 1;
    int32_t *cu = calloc((size_t)n + 1, 4);
    HN_ASSERT(cu);
    for (int64_t s = 0; s < n; s++) cu[s + 1] = cu[s] + (int32_t)(m->shortest + s * 7919 % spread);
    c->rows = cu[n];
    int32_t *word = calloc((size_t)c->rows * 6 + 1, 4), *position = word + c->rows, *type = position + c->rows,
            *index = type + c->rows, *example = index + c->rows, *uses = example + c->rows;
    HN_ASSERT(word);
    for (int64_t s = 0, r = 0; s < n; s++) {
        double length = cu[s + 1] - cu[s];
        c->pairs += m->causal ? length * (length + 1) / 2 : length * length;
        for (; r < cu[s + 1]; r++) {
            position[r] = (int32_t)(r - cu[s]);
            example[r] = (int32_t)s;
            type[r] = r % 2;
            uses[r] = (int32_t)(4 * r);
            index[r] = (int32_t)(c->rows - 1 - r);
            word[r] = m->vocabulary ? (int32_t)(hn_philox(1, (uint32_t)r, 0, 0, 0).word[0] % (uint32_t)m->vocabulary) : 0;
        }
    }
    const size_t size = (size_t)c->rows * 4;
    c->cu = bench_upload(c->b, cu, ((size_t)n + 1) * 4);
    c->ids = bench_upload(c->b, word, size);
    c->position = bench_upload(c->b, position, size);
    c->type = bench_upload(c->b, type, size);
    c->index = bench_upload(c->b, index, size);
    c->uses = bench_upload(c->b, uses, size + 4);
    c->example = bench_upload(c->b, example, size);
    free(word);
    free(cu);
}

void call_open(call *c, bench *b, const bench_model *m)
{
    *c = (call){.b = b, .m = m};
    lay_out(c);
    c->mean = bench_memory(b, (size_t)c->rows * 4);
    c->rstd = bench_memory(b, (size_t)c->rows * 4);
    c->lse = bench_memory(b, (size_t)(c->rows * m->heads) * 4);
    c->scale = bench_upload(b, &(float){1e-3f}, 4);
    c->step = bench_upload(b, &(uint32_t){1}, 4);
    c->loss = bench_memory(b, 8);
    c->count = bench_memory(b, 8);
    c->label_count = bench_memory(b, 8);
    c->random = (hn_random){42, c->step, c->example, c->position};
    c->drop = (hn_dropout){m->causal ? 0 : 0.1f, HN_SITE(1, HN_SITE_MLP_OUT, 0), &c->random};
}
