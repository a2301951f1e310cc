/* A small run for the checkpoint tests: tensors of several types and shapes, a state, a folder of its own. */
#ifndef HONE_TESTS_CHECKPOINTS_COMMON_H
#define HONE_TESTS_CHECKPOINTS_COMMON_H

#include <errno.h>
#include <unistd.h>

#include "checkpoints/checkpoint.h"
#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "tests/test.h"

enum { TENSORS = 7 };

static char base[] =
    "/dev/shm/hone-checkpoint-XXXXXX"; /* hundreds of saves: in memory where that is possible */
static char folder[64];                /* the run's checkpoints; does not exist at the start of a test */

typedef struct run {
    float weights[6], moments[6], scalar;
    uint16_t half[3];
    int64_t counts[2];
    uint8_t flags[5];
    hn_named_tensor tensors[TENSORS];
} run;

/* Tensors that all follow from `seed`. */
static inline void run_fill(run *self, int seed)
{
    memset(self, 0, sizeof *self);
    for (int i = 0; i < 6; i++)
        self->weights[i] = (float)(seed * 10 + i), self->moments[i] = (float)(seed * 100 - i);
    for (int i = 0; i < 3; i++) self->half[i] = hn_bf16_from_float((float)(seed + i));
    for (int i = 0; i < 5; i++) self->flags[i] = (uint8_t)(seed + i);
    self->counts[0] = seed, self->counts[1] = -seed;
    self->scalar = (float)seed / 3;
    hn_named_tensor *t = self->tensors;
    t[0] = (hn_named_tensor){"layer.0.weight", hn_tensor_2d(self->weights, HN_F32, 2, 3)};
    t[1] = (hn_named_tensor){"layer.0.weight:m", hn_tensor_1d(self->moments, HN_F32, 6)};
    t[2] = (hn_named_tensor){"half", hn_tensor_1d(self->half, HN_BF16, 3)};
    t[3] = (hn_named_tensor){"counts", hn_tensor_1d(self->counts, HN_I64, 2)};
    t[4] = (hn_named_tensor){"empty", hn_tensor_2d(self->weights, HN_F32, 0, 3)};
    t[5] = (hn_named_tensor){"scalar", hn_tensor_1d(&self->scalar, HN_F32, 1)};
    t[5].tensor.rank = 0;
    t[6] = (hn_named_tensor){"flags", hn_tensor_1d(self->flags, HN_BOOL, 5)};
}

static inline bool run_equal(const run *a, const run *b)
{
    return !memcmp(a->weights, b->weights, sizeof a->weights) &&
           !memcmp(a->moments, b->moments, sizeof a->moments) && a->scalar == b->scalar &&
           !memcmp(a->half, b->half, sizeof a->half) && !memcmp(a->counts, b->counts, sizeof a->counts) &&
           !memcmp(a->flags, b->flags, sizeof a->flags);
}

static inline hn_status save_step(int step, hn_error *error)
{
    run self;
    run_fill(&self, step);
    json_t *state = json_pack("{s:i, s:f, s:{s:s}}", "cursor", step * 7, "best", 0.1 * step, "config", "name",
                              "na\xc3\xafve\n");
    hn_status status =
        state ? hn_checkpoint_save(folder, step, self.tensors, TENSORS, state, NULL, error) : HN_ERR_MEMORY;
    json_decref(state);
    return status;
}

/* Retention behind a save of step `good`. */
static inline hn_status retain(int keep, int64_t good, hn_error *error)
{
    return hn_checkpoint_retain(folder, keep, good, (const int64_t[HN_CHECKPOINT_STAY]){-1, -1}, error);
}

/* Whether step-<step> loads with its own values. */
static inline hn_status load_step(int step, hn_error *error)
{
    run self, expected;
    run_fill(&expected, step);
    run_fill(&self, -1000);
    hn_status status = hn_checkpoint_load(folder, step, self.tensors, TENSORS, error);
    if (status == HN_OK && !run_equal(&self, &expected))
        status = hn_fail(error, HN_ERR_NUMERIC, "other values were loaded");
    return status;
}

/* The newest step that the loader takes (loaded and compared), -1: none, -2: a failure. What it says goes to
 * `said`. */
static inline int newest(char said[2048])
{
    hn_error error = {0};
    hn_strbuf passed;
    int64_t step = -2;
    json_t *state = NULL;
    hn_strbuf_init(&passed);
    hn_status status = hn_checkpoint_find(folder, &step, &state, &passed, &error);
    if (status == HN_OK && step >= 0) status = load_step((int)step, &error);
    if (status == HN_OK && step >= 0 && json_integer_value(json_object_get(state, "cursor")) != step * 7)
        status = hn_fail(&error, HN_ERR_NUMERIC, "another state was loaded");
    snprintf(said, 2048, "%s", status == HN_OK ? passed.text : error.message);
    hn_strbuf_close(&passed);
    json_decref(state);
    return status == HN_OK ? (int)step : -2;
}

static inline char *file_of(char out[128], int step, const char *name)
{
    snprintf(out, 128, "%s/step-%d%s%s", folder, step, *name ? "/" : "", name);
    return out;
}

/* A byte of a file, changed in place. */
static inline void flip(const char *path, long offset, int bits)
{
    FILE *file = fopen(path, "r+b");
    int byte = 0;
    if (!file || fseek(file, offset, SEEK_SET) || (byte = getc(file)) < 0 || fseek(file, offset, SEEK_SET) ||
        putc(byte ^ bits, file) < 0 || fclose(file))
        abort();
}

static inline void fresh(void)
{
    if (hn_folder_remove(folder, NULL) != HN_OK) abort();
}

static inline void begin(void)
{
    hn_json_init();
    if (access("/dev/shm", W_OK)) strcpy(base, "/tmp/hone-checkpoint-XXXXXX");
    if (!mkdtemp(base)) abort();
    snprintf(folder, sizeof folder, "%s/checkpoints", base);
}

#define CHECKPOINT_MAIN(...) TEST_MAIN(begin(); __VA_ARGS__; hn_folder_remove(base, NULL))

#endif
