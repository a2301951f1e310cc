/* Hands on a run's memory in the middle of its steps, without a hook in the product: the linker puts these functions in the place of
 * those of the same names (-Wl,--wrap, tests/CMakeLists.txt), which they call in their turn.
 *
 *     before_step(step)                  the trainer is at its beginning
 *     before_operation(step, call, op)   an operation of the step is about to run; call counts them from 0
 *     after_step(step)
 *     at_end()                           the trainer still has its memory */
#ifndef HONE_TESTS_TORTURE_INJECT_H
#define HONE_TESTS_TORTURE_INJECT_H

#include "tests/train/tiny_run.h"
#include "train/internal.h"

static hn_trainer *trainer; /* of the run under way */
static int64_t step;      /* of it */
static int64_t calls = -1; /* operations of the step so far; -1: between two steps */
static int64_t calls_made; /* of the last step */

static void before_step(void);
static void before_operation(hn_operation operation);
static void after_step(void);
static void at_end(void);

#define WRAP_OPERATION(isa)                                                                                            \
    double __real_hnp_operation_begin_##isa(hn_ops_context *ctx, hn_operation operation);                              \
    double __wrap_hnp_operation_begin_##isa(hn_ops_context *ctx, hn_operation operation);                              \
    double __wrap_hnp_operation_begin_##isa(hn_ops_context *ctx, hn_operation operation)                               \
    {                                                                                                                  \
        if (calls >= 0) {                                                                                              \
            before_operation(operation);                                                                               \
            calls++;                                                                                                   \
        }                                                                                                              \
        return __real_hnp_operation_begin_##isa(ctx, operation);                                                       \
    }
WRAP_OPERATION(base)
WRAP_OPERATION(avx2)
WRAP_OPERATION(avx512)

hn_status __real_hnp_trainer_step(hn_trainer *t, const uint32_t *examples, int32_t count, int64_t *tokens, hn_error *e);
hn_status __wrap_hnp_trainer_step(hn_trainer *t, const uint32_t *examples, int32_t count, int64_t *tokens, hn_error *e);
hn_status __wrap_hnp_trainer_step(hn_trainer *t, const uint32_t *examples, int32_t count, int64_t *tokens, hn_error *e)
{
    trainer = t;
    step = t->progress.step;
    before_step();
    calls = 0;
    hn_status status = __real_hnp_trainer_step(t, examples, count, tokens, e);
    calls_made = calls;
    calls = -1;
    after_step();
    return status;
}

void __real_hnp_trainer_close(hn_trainer *t);
void __wrap_hnp_trainer_close(hn_trainer *t);
void __wrap_hnp_trainer_close(hn_trainer *t)
{
    if (t == trainer) at_end();
    trainer = NULL;
    __real_hnp_trainer_close(t);
}

/* Runs tell of themselves on the terminal, hundreds of them. */
static void be_quiet(void)
{
    if (!freopen("/dev/null", "w", stderr)) abort();
}

/* splitmix64: Steele, Lea, Flood 2014. */
static uint64_t seed_state;

static inline uint64_t draw(uint64_t below)
{
    uint64_t z = seed_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}

/* Digest of everything that a run is about: weights with their copies, moments. */
static inline hn_digest state_digest(void)
{
    const hn_arena *arenas[] = {&trainer->runner.parameters, &trainer->moments};
    hn_digest digests[2];
    const hn_optimizer *o = &trainer->optimizer;
    int params;
    const hn_param *param = hn_model_params(trainer->runner.model, &params);
    hn_hasher *hasher = hn_hasher_open();
    digests[0] = hn_digest_bytes(arenas[0]->base, arenas[0]->used);
    for (int p = 0; p < params; p++) {
        size_t bytes = (size_t)(param[p].rows * param[p].columns) * hn_dtype_size(o->moments);
        const void *m = hn_optimizer_moment(o, o->m, p), *v = hn_optimizer_moment(o, o->v, p);
        if (m) hn_hasher_add(hasher, m, bytes), hn_hasher_add(hasher, v, bytes);
    }
    digests[1] = hn_hasher_digest(hasher);
    hn_hasher_free(hasher);
    return hn_digest_bytes(digests, sizeof digests);
}

/* Rows of one to three words of two letters. */
static inline void make_rows(char *out, size_t size, int count)
{
    size_t used = 0;
    for (int i = 0; i < count; i++)
        used += (size_t)snprintf(out + used, size - used, "{\"text\": \"%s\", \"label\": \"%s\"}\n",
                                 (const char *[]){"a", "b a", "a b b", "b", "a a"}[i % 5], i % 3 ? "x" : "y");
}

#endif
