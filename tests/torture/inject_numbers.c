/* Promise: NaN and Inf never reach the weights. Into a tiny run that skips spikes, one value that is not finite is put in the middle of a
 * step, at each place of the detector's window in turn: into the loss, into a gradient, or into activations; and into weights in the file that
 * is trained. What must hold:
 *
 *     a step with a loss or gradient that is not finite changes no bit of weights and moments
 *     weights and moments are finite after every step (a value in activations may have been dead, or be swallowed by what saturates)
 *     a spike, finite, behind it is recognised: its step changes nothing either
 *     every other step is made
 *     a file with such a weight is refused, by name
 *
 *     torture_inject_numbers [rounds] [seed]        one round
 *
 * A round is one injection a place of the window, a value and a kind. Prints `promise, tried, held` and the seed. */
#include <math.h>

#include "core/clock.h"
#include "tests/torture/inject.h"

enum { WINDOW = 12, ROWS = 80, SPIKE_BEHIND = 3 };
typedef enum kind { LOSS, GRADIENT, ACTIVATION, FILE_WEIGHT, KINDS } kind;
static const char *const kind_name[KINDS] = {"loss", "gradients", "activations", "weights of the file"};
static const double values[] = {NAN, INFINITY, -INFINITY};

static struct {
    kind kind;
    double value;
    int64_t step, spike, operation; /* the last: of an injection into activations */
    uint64_t place;
    bool injected;
    hn_digest before;
    char problem[200];
} plan;

static void before_step(void)
{
    plan.before = state_digest();
}

/* A number of the trainable gradients. */
static float *any_gradient(uint64_t place)
{
    const hn_optimizer *o = &trainer->optimizer;
    const hn_adamw_segment *segment = &o->segments[place % (uint64_t)o->segment_count];
    return &segment->gradient[(place >> 20) % (uint64_t)segment->count];
}

static void before_operation(hn_operation operation)
{
    if (step == plan.spike && operation == HN_OP_SUM_SQUARES)
        for (int64_t i = 0; i < (int64_t)(trainer->gradients.used / sizeof(float)); i++) ((float *)trainer->gradients.base)[i] *= 1e9f;
    if (step != plan.step || plan.injected) return;
    if (plan.kind == ACTIVATION ? calls != plan.operation : operation != HN_OP_SUM_SQUARES) return;
    plan.injected = true;
    if (plan.kind == LOSS) hnp_reduce_sums(&trainer->reduce)->loss = plan.value;
    if (plan.kind == GRADIENT) *any_gradient(plan.place) = (float)plan.value;
    if (plan.kind == ACTIVATION)
        ((float *)trainer->runner.activations.base)[plan.place % (trainer->runner.activations.used / sizeof(float))] = (float)plan.value;
}

static void complain(const char *what)
{
    if (!plan.problem[0]) snprintf(plan.problem, sizeof plan.problem, "step %lld: %s", (long long)step, what);
}

static bool all_finite(const float *x, int64_t count)
{
    bool finite = true;
    for (int64_t i = 0; i < count; i++) finite &= isfinite(x[i]) != 0;
    return finite;
}

static void after_step(void)
{
    const hn_optimizer *o = &trainer->optimizer;
    bool same = hn_digest_equal(plan.before, state_digest()), may_skip = plan.kind == ACTIVATION;
    for (int64_t s = 0; s < o->segment_count; s++) {
        const hn_adamw_segment *g = &o->segments[s];
        if (!all_finite(g->master, g->count) || !all_finite(g->m, g->count) || !all_finite(g->v, g->count))
            complain("a weight or moment is not finite");
    }
    if (step == plan.step && !same && !may_skip) complain("was made");
    if (step == plan.spike && !same) complain("a spike was made");
    if (step != plan.step && step != plan.spike && same) complain("was not made, for no reason");
}

static void at_end(void)
{
}

/* One run with one injection. */
static bool held(void)
{
    hn_train_result result;
    plan.injected = false;
    plan.problem[0] = 0;
    if (run(&result) != HN_OK) snprintf(plan.problem, sizeof plan.problem, "%.180s", error.message);
    else if (!plan.injected) complain("nothing was injected");
    if (hn_folder_remove(run_path, &error)) abort();
    return !plan.problem[0];
}

/* One weight of the file, by its place among all of them, is `value`: the run must be refused, naming a tensor and an element. */
static bool file_refused(uint64_t place, float value)
{
    hn_train_result result;
    char path[96];
    uint64_t header;
    float kept;
    snprintf(path, sizeof path, "%s/model.safetensors", model_path);
    FILE *file = fopen(path, "r+b");
    if (!file || fread(&header, sizeof header, 1, file) != 1 || fseek(file, 0, SEEK_END)) abort();
    long at = (long)(8 + header + 4 * (place % (((uint64_t)ftell(file) - 8 - header) / 4)));
    if (fseek(file, at, SEEK_SET) || fread(&kept, 4, 1, file) != 1 || fseek(file, at, SEEK_SET) || fwrite(&value, 4, 1, file) != 1 || fflush(file)) abort();
    hn_status status = run(&result);
    snprintf(plan.problem, sizeof plan.problem, "status %d: %.150s", (int)status, error.message);
    bool refused = status == HN_ERR_NUMERIC && strstr(error.message, "tensor ") && strstr(error.message, "at element ");
    if (fseek(file, at, SEEK_SET) || fwrite(&kept, 4, 1, file) != 1 || fclose(file)) abort();
    hn_folder_remove(run_path, NULL);
    return refused;
}

int main(int argc, char **argv)
{
    int64_t rounds = argc > 1 ? atoll(argv[1]) : 1, seed = argc > 2 ? atoll(argv[2]) : 1, tried = 0, well = 0;
    char rows[ROWS * 64];
    double began = hn_clock();
    const char *more[] = {"data.dev=", "train.spike_action=skip", "train.spike_window=12", "checkpoint.every=off", "optim.lr=1e-4",
                          "optim.warmup=0", "optim.schedule=constant", "train.max_steps=32", "train.log_every=1000"};
    be_quiet();
    hn_json_init();
    make_rows(rows, sizeof rows, ROWS);
    tiny_open(2, rows);
    tiny_configure(more, sizeof more / sizeof *more);
    seed_state = (uint64_t)seed;
    for (int64_t round = 0; round < rounds; round++)
        for (int64_t at = 0; at < WINDOW; at++)
            for (int v = 0; v < 3; v++)
                for (int k = 0; k < KINDS; k++, tried++) {
                    plan.kind = (kind)k, plan.value = values[v], plan.place = draw(UINT64_MAX), plan.operation = (int64_t)draw(40);
                    plan.step = WINDOW / 2 + at, plan.spike = plan.step + SPIKE_BEHIND + (int64_t)draw(WINDOW);
                    bool good = k == FILE_WEIGHT ? file_refused(plan.place, (float)values[v]) : held();
                    well += good;
                    if (!good) printf("FAILED %f in %s, step %lld: %s\n", values[v], kind_name[k], (long long)plan.step, plan.problem);
                }
    tiny_close();
    printf("NaN and Inf never reach the weights: tried %lld, held %lld; seed %lld, %.0f s\n", (long long)tried, (long long)well, (long long)seed,
           hn_clock() - began);
    return well != tried;
}
