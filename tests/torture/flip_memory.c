/* Promise: a flipped bit in memory is noticed. A tiny run with train.check_every=1 is trained again and again, and each time one bit of it
 * flips, before a random operation of a random step: in weights, their bf16 copies, moments, gradients or activations, at a random
 * place. The run must stop with the message of train.check_every. A flip after which the run ends with the bits of the undisturbed one hit
 * memory that nothing reads any more; it is counted apart, and another one is tried for it.
 *
 *     torture_flip_memory [flips] [seed]        60 flips
 *
 * Prints `promise, tried, held` and the seed; fails below 99 in 100. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "core/clock.h"
#include "tests/torture/inject.h"

enum { ROWS = 12, STEPS = 6, MOST_TENSORS = 400 };
typedef enum place { WEIGHT, COPY, MOMENT, FROZEN, GRADIENT, ACTIVATION, PLACES } place;
static const char *const place_name[PLACES] = {"weights", "bf16 copies", "moments", "frozen weights", "gradients", "activations"};

static struct {
    int64_t step, call;
    place place;
    uint64_t element, bit; /* drawn; folded to the size of the place */
    bool armed, done;
    hn_operation operation;
    hn_digest end;
    int64_t calls[STEPS]; /* of the undisturbed run */
} plan;

/* The bytes of a place, piece by piece, as if they lay end to end. */
typedef struct pieces {
    struct {
        unsigned char *data;
        size_t size;
    } piece[MOST_TENSORS];
    size_t count, total;
} pieces;

static void add(pieces *out, void *bytes, size_t size)
{
    if (!bytes || !size) return;
    HN_ASSERT(out->count < MOST_TENSORS);
    out->piece[out->count].data = bytes;
    out->piece[out->count++].size = size;
    out->total += size;
}

static void gather(pieces *out, place where)
{
    hn_model *model = trainer->runner.model;
    const hn_optimizer *o = &trainer->optimizer;
    int params;
    const hn_param *param = hn_model_params(model, &params);
    *out = (pieces){.count = 0};
    if (where == ACTIVATION) add(out, trainer->runner.activations.base, trainer->runner.activations.used);
    for (int p = 0; p < params; p++) {
        size_t count = (size_t)(param[p].rows * param[p].columns);
        float *master = param[p].offset >= 0 ? hn_model_master(model) + param[p].offset : NULL;
        uint16_t *copy = param[p].copy_offset >= 0 ? hn_model_copy(model) + param[p].copy_offset : NULL;
        if (where == (param[p].frozen ? FROZEN : WEIGHT)) add(out, master, count * sizeof *master);
        if (where == (param[p].frozen ? FROZEN : COPY)) add(out, copy, count * sizeof *copy);
        if (where == MOMENT) add(out, hn_optimizer_moment(o, o->m, p), count * hn_dtype_size(o->moments));
        if (where == MOMENT) add(out, hn_optimizer_moment(o, o->v, p), count * hn_dtype_size(o->moments));
        if (where == GRADIENT) add(out, hn_model_gradient(model, p), count * sizeof(float));
    }
}

static void flip(void)
{
    pieces all;
    gather(&all, plan.place);
    HN_ASSERT(all.total);
    size_t at = plan.element % all.total;
    for (size_t i = 0; i < all.count; at -= all.piece[i++].size)
        if (at < all.piece[i].size) {
            all.piece[i].data[at] ^= (unsigned char)(1u << plan.bit);
            return;
        }
}

static void before_step(void)
{
}

static void before_operation(hn_operation operation)
{
    if (!plan.armed || plan.done || step != plan.step || calls != plan.call) return;
    plan.done = true;
    plan.operation = operation;
    flip();
}

static void after_step(void)
{
    if (!plan.armed && step < STEPS) plan.calls[step] = calls_made;
}

static void at_end(void)
{
    plan.end = state_digest();
}

static void configure(bool narrow)
{
    const char *more[] = {"data.dev=", narrow ? "train.precision=bf16" : "train.precision=fp32",
                          narrow ? "optim.moments=bf16" : "optim.moments=fp32", "train.check_every=1", "checkpoint.every=off",
                          "freeze.groups=embeddings", "optim.lr=1e-3", "optim.warmup=0", "eval.every=off"};
    tiny_configure(more, sizeof more / sizeof *more);
}

static hn_status train_once(void)
{
    hn_train_result result;
    hn_status status = run(&result);
    hn_error why = error;
    if (hn_folder_remove(run_path, &error)) abort();
    error = why;
    return status;
}

/* What came of all flips so far, in memory that outlives the process which makes them. */
typedef struct tally {
    int64_t tried[PLACES], noticed[PLACES], all, harmless, asserted;
    uint64_t state; /* of the draws */
    place place;    /* of the flip under way */
    bool under_way, half;
    char folder[sizeof folder];
} tally;

static void try_one(tally *t, bool narrow, hn_digest undisturbed)
{
    plan.step = (int64_t)draw(STEPS);
    plan.call = (int64_t)draw((uint64_t)plan.calls[plan.step]);
    plan.place = (place)draw(PLACES);
    if (plan.place == COPY && !narrow) return;
    plan.element = draw(UINT64_MAX), plan.bit = draw(8);
    plan.armed = true, plan.done = false;
    t->state = seed_state, t->place = plan.place, t->under_way = true;
    hn_status status = train_once();
    t->under_way = false;
    bool seen = status == HN_ERR_DEVICE && strstr(error.message, "train.check_every");
    if (!plan.done || (status == HN_OK && hn_digest_equal(plan.end, undisturbed))) {
        t->harmless++;
        return;
    }
    t->all++, t->tried[plan.place]++, t->noticed[plan.place] += seen;
    if (!seen)
        printf("missed: %s, step %lld, before operation %lld of %lld (%s)%s%s\n", place_name[plan.place], (long long)plan.step,
               (long long)plan.call, (long long)plan.calls[plan.step], hn_operation_name(plan.operation),
               status == HN_OK ? "" : ": ", status == HN_OK ? "" : error.message);
}

/* Goes on where the tally stands, until `wanted` flips were tried; half of them in bf16. */
static int try_all(tally *t, int64_t wanted)
{
    char rows[ROWS * 64];
    be_quiet();
    hn_json_init();
    make_rows(rows, sizeof rows, ROWS);
    tiny_open(2, rows);
    memcpy(t->folder, folder, sizeof folder);
    seed_state = t->state;
    for (int narrow = t->half; narrow < 2; narrow++) {
        t->half = narrow;
        configure(narrow);
        plan.armed = false;
        if (train_once() != HN_OK) return printf("%s\n", error.message), 1;
        hn_digest undisturbed = plan.end;
        while (t->all < wanted * (narrow + 1) / 2) try_one(t, narrow, undisturbed);
    }
    tiny_close();
    return 0;
}

/* An assertion of hone's own may see a flip first, in an index, and ends the process with its message: noticed too, and the next
 * process goes on. Any other end is a failure. */
static int try_in_processes(tally *t, int64_t wanted)
{
    for (;;) {
        int ended = 0;
        fflush(stdout);
        pid_t child = fork();
        if (!child) exit(try_all(t, wanted));
        if (child < 0 || waitpid(child, &ended, 0) != child) return perror("fork"), 1;
        if (WIFEXITED(ended)) return WEXITSTATUS(ended);
        hn_folder_remove(t->folder, NULL);
        if (WTERMSIG(ended) != SIGABRT || !t->under_way) return printf("FAILED: ended by signal %d\n", WTERMSIG(ended)), 1;
        t->under_way = false;
        t->all++, t->asserted++, t->tried[t->place]++, t->noticed[t->place]++;
    }
}

int main(int argc, char **argv)
{
    int64_t wanted = argc > 1 ? atoll(argv[1]) : 60, seed = argc > 2 ? atoll(argv[2]) : 1, held = 0;
    double began = hn_clock();
    tally *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (t == MAP_FAILED) return perror("mmap"), 1;
    t->state = (uint64_t)seed;
    if (try_in_processes(t, wanted)) return 1;
    for (int p = 0; p < PLACES; p++) {
        held += t->noticed[p];
        printf("%-15s tried %lld, noticed %lld\n", place_name[p], (long long)t->tried[p], (long long)t->noticed[p]);
    }
    printf("a flipped bit in memory is noticed: tried %lld, held %lld; at least 99 %%, %lld by an assertion, %lld more hit memory that nothing "
           "read, seed %lld, %.0f s\n", (long long)t->all, (long long)held, (long long)t->asserted, (long long)t->harmless, (long long)seed,
           hn_clock() - began);
    return held < t->all * 99 / 100;
}
