/* Finding, checking and loading checkpoints (saving is in checkpoint_save.c and pieces_save.c, the tensors' bytes are read in read.c).
 *
 * Invariant: nothing of a checkpoint is believed, and no byte of it reaches the run, before every byte of it
 * had its digest. A checkpoint that fails is passed over and named; two failures are no reason to fall back
 * and end the search instead: memory that ran out, and a manifest that another version of hone wrote (falling
 * back would throw good work away).
 *
 * Processes that read together share out the checking, and come to one result at every turn, since each of them goes on with it: rank 0
 * lists and reads manifests, so that no two of them see different states of a shared disk, and whatever may fail on one rank is agreed
 * on before it is acted on. One process is the case in which there is nobody to ask. */
#include "checkpoints/pieces.h"

#include <inttypes.h>
#include <string.h>

#include "checkpoints/check.h"
#include "checkpoints/read.h"
#include "core/file.h"
#include "core/mem.h"

struct hn_checkpoint {
    char *path;
    hnp_manifest manifest;
};

void hn_checkpoint_free(hn_checkpoint *checkpoint)
{
    if (!checkpoint) return;
    hnp_manifest_close(&checkpoint->manifest);
    hn_free(checkpoint->path);
    hn_free(checkpoint);
}

int64_t hn_checkpoint_step(const hn_checkpoint *checkpoint)
{
    return checkpoint->manifest.step;
}

int hn_checkpoint_ranks(const hn_checkpoint *checkpoint)
{
    return checkpoint->manifest.ranks;
}

const json_t *hn_checkpoint_state(const hn_checkpoint *checkpoint)
{
    return checkpoint->manifest.state;
}

static bool is_first(const hn_checkpoint_readers *readers)
{
    return !readers || readers->rank == 0;
}

static hn_status agree(const hn_checkpoint_readers *readers, hn_status mine, hn_error *error)
{
    return readers ? readers->agree(readers->context, mine, error) : mine;
}

static hn_status share(const hn_checkpoint_readers *readers, void **bytes, size_t *size, hn_error *error)
{
    return readers ? readers->share(readers->context, bytes, size, error) : HN_OK;
}

/* Rank 0's number to everybody. */
static hn_status share_number(const hn_checkpoint_readers *readers, int64_t *number, hn_error *error)
{
    int64_t mine = *number;
    void *bytes = &mine;
    size_t size = sizeof mine;
    hn_status status = share(readers, &bytes, &size, error);
    if (status != HN_OK || is_first(readers)) return status;
    if (size == sizeof mine) memcpy(number, bytes, sizeof mine);
    else status = hn_fail(error, HN_ERR_DEVICE, "rank 0's step: expected %zu bytes, got %zu", sizeof mine, size);
    hn_free(bytes);
    return status;
}

/* Makes *out of the manifest's text, and checks this rank's share of its files. */
static hn_status check(hn_checkpoint **out, const char *folder, int64_t step, const char *text, size_t size,
                       const hn_checkpoint_readers *readers, hn_error *error)
{
    hn_checkpoint *self = hn_calloc(1, sizeof *self);
    hn_status status = HN_OK;
    if (!self || !(self->path = hnp_step_path(folder, "", step))) status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    if (status == HN_OK) status = hnp_manifest_take(&self->manifest, text, size, self->path, step, error);
    if (status == HN_OK)
        status = hnp_check_files(&self->manifest, self->path, readers ? readers->rank : 0, readers ? readers->ranks : 1, NULL, error);
    if (status == HN_OK) *out = self;
    else hn_checkpoint_free(self);
    return status;
}

static hn_status read_text(void **text, size_t *size, const char *folder, int64_t step, hn_error *error)
{
    char *read = NULL, *path = hnp_step_path(folder, "", step);
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    hn_status status = hnp_manifest_text(&read, size, path, error);
    *text = read;
    hn_free(path);
    return status;
}

/* What is wrong with the checkpoint goes to `problem`, the same everywhere; the status is of the ranks' talk alone. */
static hn_status examine(hn_checkpoint **out, const char *folder, int64_t step, const hn_checkpoint_readers *readers, hn_error *problem,
                         hn_error *error)
{
    void *text = NULL;
    size_t size = 0;
    hn_checkpoint *mine = NULL;
    hn_status status = is_first(readers) ? read_text(&text, &size, folder, step, problem) : HN_OK;
    if (agree(readers, status, problem) != HN_OK) goto out;
    if ((status = share(readers, &text, &size, error))) return status;
    status = check(&mine, folder, step, text, size, readers, problem);
    if (agree(readers, status, problem) == HN_OK) {
        *out = mine;
        mine = NULL;
    }
out:
    hn_checkpoint_free(mine);
    hn_free(text);
    return HN_OK;
}

hn_status hn_checkpoint_open(hn_checkpoint **out, const char *folder, int64_t step, const hn_checkpoint_readers *readers, hn_error *error)
{
    hn_error problem = {0};
    hn_status status = examine(out, folder, step, readers, &problem, error);
    return status == HN_OK && problem.status != HN_OK ? hn_fail(error, problem.status, "%s", problem.message) : status;
}

/* The newest step of the list up to `last`, which it is cut to; -1: none. */
static int64_t next_step(const int64_t *steps, size_t *count, int64_t last)
{
    while (*count && steps[*count - 1] > last) --*count;
    return *count ? steps[--*count] : -1;
}

hn_status hn_checkpoint_open_newest(hn_checkpoint **out, const char *folder, int64_t last, const hn_checkpoint_readers *readers,
                                    hn_strbuf *passed_over, hn_error *error)
{
    int64_t *steps = NULL, step;
    size_t count = 0;
    hn_checkpoint *found = NULL;
    hn_status status = is_first(readers) ? hnp_steps_list(&steps, &count, folder, false, error) : HN_OK;
    status = agree(readers, status, error);
    while (status == HN_OK && !found) {
        hn_error why = {0};
        step = next_step(steps, &count, last);
        status = share_number(readers, &step, error);
        if (status != HN_OK || step < 0) break;
        status = examine(&found, folder, step, readers, &why, error);
        if (why.status == HN_ERR_MEMORY || why.status == HN_ERR_UNSUPPORTED) status = hn_fail(error, why.status, "%s", why.message);
        else if (why.status != HN_OK) hn_strbuf_printf(passed_over, "step-%" PRId64 ": %s\n", step, why.message);
    }
    hn_free(steps);
    if (status == HN_OK) *out = found;
    return status;
}

hn_status hn_checkpoint_find_until(const char *folder, int64_t last, int64_t *step, json_t **state, hn_strbuf *passed_over,
                                   hn_error *error)
{
    hn_checkpoint *found = NULL;
    hn_status status = hn_checkpoint_open_newest(&found, folder, last, NULL, passed_over, error);
    if (status != HN_OK) return status;
    *step = found ? found->manifest.step : -1;
    *state = found ? json_incref((json_t *)found->manifest.state) : NULL;
    hn_checkpoint_free(found);
    return HN_OK;
}

hn_status hn_checkpoint_find(const char *folder, int64_t *step, json_t **state, hn_strbuf *passed_over, hn_error *error)
{
    return hn_checkpoint_find_until(folder, INT64_MAX, step, state, passed_over, error);
}

hn_status hn_checkpoint_read(const hn_checkpoint *checkpoint, const hn_piece *pieces, size_t count, hn_error *error)
{
    hn_status status = hnp_read_match(&checkpoint->manifest, pieces, count, false, checkpoint->path, error);
    return status == HN_OK ? hnp_read_pieces(&checkpoint->manifest, pieces, count, checkpoint->path, error) : status;
}

/* Whole tensors. */
static hn_status load(const char *folder, int64_t step, const hn_named_tensor *tensors, size_t count,
                      bool all, hn_error *error)
{
    hn_checkpoint *self = NULL;
    hn_piece *pieces = hn_calloc(count, sizeof *pieces);
    if (!pieces) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for %zu tensors", folder, count);
    for (size_t i = 0; i < count; i++) {
        HN_ASSERT(hn_tensor_dense(&tensors[i].tensor));
        pieces[i] = (hn_piece){.of = tensors[i], .count = hn_tensor_count(&tensors[i].tensor)};
    }
    hn_status status = hn_checkpoint_open(&self, folder, step, NULL, error);
    if (status == HN_OK) status = hnp_read_match(&self->manifest, pieces, count, all, self->path, error);
    if (status == HN_OK) status = hnp_read_pieces(&self->manifest, pieces, count, self->path, error);
    hn_checkpoint_free(self);
    hn_free(pieces);
    return status;
}

hn_status hn_checkpoint_load(const char *folder, int64_t step, const hn_named_tensor *tensors, size_t count,
                             hn_error *error)
{
    return load(folder, step, tensors, count, true, error);
}

hn_status hn_checkpoint_load_some(const char *folder, int64_t step, const hn_named_tensor *tensors,
                                  size_t count, hn_error *error)
{
    return load(folder, step, tensors, count, false, error);
}

hn_status hn_checkpoint_verify(const char *path, hn_strbuf *report, hn_error *error)
{
    hnp_manifest manifest = {0};
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    char *whole = hn_strndup(path, length);
    if (!whole) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    const char *slash = strrchr(whole, '/');
    int64_t step = hnp_step_of(slash ? slash + 1 : whole);
    hn_status status =
        step < 0 ? hn_fail(error, HN_ERR_USAGE, "%s: expected a checkpoint's folder, called step-N", path)
                 : hnp_check_folder(&manifest, whole, step, report, error);
    hnp_manifest_close(&manifest);
    hn_free(whole);
    return status;
}

hn_status hn_checkpoint_list(const char *folder, int64_t **steps, size_t *count, hn_error *error)
{
    return hnp_steps_list(steps, count, folder, true, error);
}
