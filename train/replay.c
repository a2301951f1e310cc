/* See replay.h. Bits that memory or a processor got wrong: a step that is checked is computed twice from the same weights, and what
 * nothing writes meanwhile must have kept its bits:
 *
 *     step N - 1   ... optimizer | digests of weights, copies and moments
 *     step N       forward, backward | digests of gradients and loss
 *                  forward, backward | gradients and loss the same? weights, copies, moments the same as after N - 1?
 *                                      what is frozen the same as at the start?
 *                  norm, decision, optimizer | gradients still the same?
 *
 * so that a bit that flips in activations, gradients, weights or moments shows before it is stepped on, or at once behind it. Not seen
 * are a wrong result of AdamW itself, a moment or weight that flips in the instant between its digest and AdamW's reading it, and what flips
 * between two steps that are not checked; of these only what is frozen is seen later. A digest is XXH3-128 of a tensor's bytes, made by the host:
 * on a GPU everything is copied there first.
 *
 * Of several ranks each checks itself so, but for the last line: sums are made in the place of gradients. Their weights need no comparing: each
 * element comes anew from the one rank that keeps it, behind every step. */
#include "train/replay.h"

#include <stdio.h>

#include "core/mem.h"
#include "train/internal.h"

enum { NAME = 160 };

static void watched_close(hnp_watched *watched)
{
    hn_mirror_close(&watched->mirror);
    hn_free(watched->tensors);
    hn_free(watched->digests);
    *watched = (hnp_watched){0};
}

/* Room for `most` tensors, whose names lie behind them. */
static hn_status watched_init(hnp_watched *watched, size_t most, hn_error *error)
{
    watched->tensors = hn_calloc(most, sizeof *watched->tensors + NAME);
    watched->digests = hn_calloc(most, sizeof *watched->digests);
    watched->names = (char *)(watched->tensors + most);
    if (watched->tensors && watched->digests) return HN_OK;
    return hn_fail(error, HN_ERR_MEMORY, "out of memory for the digests of train.check_every");
}

static void watch_some(hnp_watched *watched, const char *kind, const hn_param *param, void *data, hn_dtype type, int64_t count)
{
    char *name = watched->names + watched->count * NAME;
    snprintf(name, NAME, "%s.%s", kind, param->name);
    watched->tensors[watched->count++] = (hn_named_tensor){name, hn_tensor_1d(data, type, count)};
}

static void watch(hnp_watched *watched, const char *kind, const hn_param *param, void *data, hn_dtype type)
{
    if (data) watch_some(watched, kind, param, data, type, param->rows * param->columns);
}

static hn_status list(hn_trainer *trainer, hn_error *error)
{
    hnp_replay *replay = &trainer->replay;
    hn_optimizer *optimizer = &trainer->optimizer;
    hn_model *model = trainer->runner.model;
    int params;
    const hn_param *param = hn_model_params(model, &params);
    const hnp_zero *zero = optimizer->zero;
    size_t count = (size_t)params, width = hn_dtype_size(optimizer->moments);
    hn_status status = watched_init(&replay->gradients, count + 1, error);
    if (status == HN_OK) status = watched_init(&replay->state, 2 * (count + (size_t)zero->runs), error);
    if (status == HN_OK) status = watched_init(&replay->frozen, 2 * count, error);
    if (status != HN_OK) return status;
    for (int p = 0; p < params; p++) {
        hnp_watched *weights = param[p].frozen ? &replay->frozen : &replay->state;
        float *master = param[p].offset >= 0 ? hn_model_master(model) + param[p].offset : NULL;
        uint16_t *copy = param[p].copy_offset >= 0 ? hn_model_copy(model) + param[p].copy_offset : NULL;
        watch(weights, "weight", &param[p], master, HN_F32);
        watch(weights, "copy", &param[p], copy, HN_BF16);
        watch(&replay->gradients, "gradient", &param[p], hn_model_gradient(model, p), HN_F32);
    }
    for (int64_t r = 0; r < zero->runs; r++) {
        const hnp_run *run = &zero->run[r];
        size_t at = (size_t)run->at * width;
        watch_some(&replay->state, "m", &param[run->param], optimizer->m + at, optimizer->moments, run->count);
        watch_some(&replay->state, "v", &param[run->param], optimizer->v + at, optimizer->moments, run->count);
    }
    replay->gradients.tensors[replay->gradients.count++] =
        (hn_named_tensor){"loss", hn_tensor_1d(hnp_reduce_sums(&trainer->reduce), HN_U8, trainer->reduce.mine * (int64_t)sizeof(hn_sums))};
    return HN_OK;
}

static hn_status note(hnp_watched *watched, hn_error *error)
{
    hn_status status = hn_mirror_fetch(&watched->mirror, error);
    for (size_t i = 0; status == HN_OK && i < watched->count; i++)
        watched->digests[i] = hn_digest_bytes(watched->mirror.tensors[i].tensor.data, hn_tensor_bytes(&watched->tensors[i].tensor));
    return status;
}

/* The first tensor of another digest than when it was noted, and how many; none: *first is NULL. */
static hn_status compare(const hnp_watched *watched, const char **first, size_t *others, hn_error *error)
{
    hn_status status = hn_mirror_fetch((hn_mirror *)&watched->mirror, error);
    *first = NULL;
    *others = 0;
    for (size_t i = 0; status == HN_OK && i < watched->count; i++) {
        hn_digest now = hn_digest_bytes(watched->mirror.tensors[i].tensor.data, hn_tensor_bytes(&watched->tensors[i].tensor));
        if (hn_digest_equal(now, watched->digests[i])) continue;
        if (*first) ++*others;
        else *first = watched->tensors[i].name;
    }
    return status;
}

static hn_status expect(const hnp_watched *watched, const char *what, hn_error *error)
{
    const char *first;
    size_t others;
    hn_status status = compare(watched, &first, &others, error);
    if (status != HN_OK || !first) return status;
    char more[48] = "";
    if (others) snprintf(more, sizeof more, ", and %zu tensors more,", others);
    return hn_fail(error, HN_ERR_DEVICE, "%s%s %s: memory or a processor of this machine got bits wrong. Nothing was saved since; the same "
                   "command goes on from the last checkpoint, better on another machine (train.check_every)", first, more, what);
}

hn_status hnp_replay_open(hn_trainer *trainer, hn_error *error)
{
    hnp_replay *replay = &trainer->replay;
    hnp_watched *all[] = {&replay->gradients, &replay->state, &replay->frozen};
    replay->noted = -1;
    if (!trainer->config->train.check_every) return HN_OK;
    hn_status status = list(trainer, error);
    for (int i = 0; i < 3 && status == HN_OK; i++)
        status = hn_mirror_open(&all[i]->mirror, &trainer->runner.backend, all[i]->tensors, all[i]->count, error);
    return status == HN_OK ? note(&replay->frozen, error) : status;
}

void hnp_replay_close(hnp_replay *replay)
{
    watched_close(&replay->gradients);
    watched_close(&replay->state);
    watched_close(&replay->frozen);
}

bool hnp_replay_due(const hn_trainer *trainer, int64_t step)
{
    int64_t every = trainer->config->train.check_every;
    return every > 0 && step % every == 0;
}

hn_status hnp_replay_note_state(hn_trainer *trainer, int64_t step, hn_error *error)
{
    if (trainer->replay.noted == step) return HN_OK;
    trainer->replay.noted = step;
    return note(&trainer->replay.state, error);
}

hn_status hnp_replay_note_gradients(hn_trainer *trainer, hn_error *error)
{
    return note(&trainer->replay.gradients, error);
}

hn_status hnp_replay_expect_all(hn_trainer *trainer, hn_error *error)
{
    hnp_replay *replay = &trainer->replay;
    hn_status status = expect(&replay->frozen, "changed since the start, though it is frozen", error);
    if (status == HN_OK) status = expect(&replay->state, "changed since the last step's end, though nothing wrote it", error);
    if (status == HN_OK) status = expect(&replay->gradients, "came out with other bits when the step was computed again", error);
    return status;
}

hn_status hnp_replay_expect_gradients(hn_trainer *trainer, hn_error *error)
{
    return expect(&trainer->replay.gradients, "changed while the optimizer read it", error);
}
