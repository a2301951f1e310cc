/* best/ on a disk that refuses it. Its weights are in memory at one step alone; so a refused best/ has a checkpoint of that step saved at
 * once, which stays (saving.c) until best/ was made from it: at the end of the run, or when the run is started again. Only a
 * disk that refused both, and took later ones, loses them; the end of the run says so. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoints/checkpoint.h"
#include "core/mem.h"
#include "train/internal.h"

hn_status hnp_best_publish(hn_trainer *trainer, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    hn_error failure = {0};
    hn_status status = hnp_trainer_publish(trainer, "best", &failure);
    p->best_lost = status == HN_OK ? 0 : p->step;
    if (status == HN_OK) return HN_OK;
    return status == HN_ERR_IO ? hnp_trainer_warn(trainer, p->step, failure.message, error) : hn_fail(error, status, "%s", failure.message);
}

static hn_status load_weights(hn_trainer *trainer, int64_t step, hn_error *error)
{
    hn_checkpoint *checkpoint = NULL;
    hn_status status = hn_checkpoint_open(&checkpoint, trainer->checkpoints, step, hnp_world_readers(trainer), error);
    if (status == HN_OK) status = hnp_trainer_load(trainer, checkpoint, false, error);
    hn_checkpoint_free(checkpoint);
    return status;
}

static hn_status is_saved(bool *out, const hn_trainer *trainer, int64_t step, hn_error *error)
{
    int64_t *steps = NULL;
    size_t count = 0;
    hn_status status = hnp_world_first(trainer) ? hn_checkpoint_list(trainer->checkpoints, &steps, &count, error) : HN_OK;
    *out = false;
    for (size_t i = 0; status == HN_OK && i < count; i++) *out |= steps[i] == step;
    hn_free(steps);
    status = hnp_world_agree(trainer, "the list of checkpoints", status, error);
    return status == HN_OK ? hnp_world_share_bool(trainer, "the list of checkpoints", out, error) : status;
}

/* From the checkpoint of its step; then the weights are those of the current step's again, which is on the disk. */
static hn_status from_checkpoint(hn_trainer *trainer, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    hn_error failure = {0};
    char text[128];
    int64_t step = p->best_lost;
    hn_status status = load_weights(trainer, step, &failure);
    if (status == HN_OK) status = hnp_trainer_publish(trainer, "best", &failure);
    if (status == HN_OK) p->best_lost = 0;
    snprintf(text, sizeof text, "best/ holds the weights of step %" PRId64 " now, from its checkpoint", step);
    if (status == HN_ERR_MEMORY || status == HN_ERR_DEVICE) return hn_fail(error, status, "%s", failure.message);
    status = load_weights(trainer, p->step, error);
    return status == HN_OK ? hnp_trainer_warn(trainer, p->step, p->best_lost ? failure.message : text, error) : status;
}

hn_status hnp_best_recover(hn_trainer *trainer, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    bool saved = false;
    hn_status status = p->best_lost ? is_saved(&saved, trainer, p->best_lost, error) : HN_OK;
    return status == HN_OK && saved ? from_checkpoint(trainer, error) : status;
}

hn_status hnp_best_finish(hn_trainer *trainer, hn_error *error)
{
    hn_progress *p = &trainer->progress;
    char finished[sizeof p->finished];
    hn_error failure = {0};
    bool saved = false;
    if (!p->best_lost) return HN_OK;
    if (p->best_lost == p->step) return hnp_best_publish(trainer, error);
    hn_status status = hnp_saving_wait(trainer, error); /* that checkpoint may be on its way */
    if (status == HN_OK) status = is_saved(&saved, trainer, p->best_lost, error);
    if (status != HN_OK || !saved) return status;
    memcpy(finished, p->finished, sizeof finished);
    p->finished[0] = 0; /* what is saved now has no final/ yet */
    status = hnp_trainer_save_last(trainer, &failure);
    memcpy(p->finished, finished, sizeof finished);
    if (status == HN_OK) return from_checkpoint(trainer, error);
    return status == HN_ERR_IO ? hnp_trainer_warn(trainer, p->step, failure.message, error) : hn_fail(error, status, "%s", failure.message);
}

hn_status hnp_best_fail(const hn_trainer *trainer, hn_error *error)
{
    bool saved = false;
    hn_error ignored = {0};
    long long step = (long long)trainer->progress.best_lost;
    if (is_saved(&saved, trainer, trainer->progress.best_lost, &ignored) == HN_OK && saved)
        return hn_fail(error, HN_ERR_IO, "%s/best: the disk did not take it; the weights of step %lld, the best, are in %s/step-%lld: the same "
                       "command makes best/ of them", trainer->config->output.dir, step, trainer->checkpoints, step);
    return hn_fail(error, HN_ERR_IO, "%s/best: the weights of step %lld were the best and could not be written then; what stands there is "
                   "older, and final/ holds the last weights", trainer->config->output.dir, step);
}
