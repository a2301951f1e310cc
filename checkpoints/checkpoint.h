/* Checkpoints: HDF5 files of named tensors with a manifest, written by the commit protocol
 * (docs/checkpoints.md). Knows no model: tensors come as a list, the run's state as a JSON object.
 *
 *     <folder>/step-N/rank-0.h5       one contiguous dataset a tensor, nothing else
 *     <folder>/step-N/manifest.json   written last; without a valid one the loader sees no checkpoint
 *
 * Write: .tmp-step-N/ -> datasets -> close -> reopen, read back, compare digests -> fsync file and folder ->
 * rename -> fsync parent -> manifest by temp + fsync + rename + fsync -> then retention. */
#ifndef HONE_CHECKPOINTS_CHECKPOINT_H
#define HONE_CHECKPOINTS_CHECKPOINT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/strbuf.h"
#include "core/tensor.h"

/* Who waits to change the tensors of a save. */
typedef struct hn_checkpoint_release {
    void (*call)(void *context);
    void *context;
    hn_status (*then)(void *context, hn_error *error); /* NULL: nothing; see below */
} hn_checkpoint_release;

/* Saves `tensors` (dense, host memory, names of 1 to 1,023 bytes without '/') and `state` (borrowed; any JSON object: RNG key,
 * data cursor, schedule, freezing, early stopping, config, digests) as <folder>/step-<step>. An existing
 * checkpoint of that step is replaced, a good one in one step. After a failure the folder's other checkpoints
 * are as they were, and this step exists for the loader only if it is whole.
 *
 * `release` (may be NULL) is called once, also by a save that fails, as soon as the tensors' bytes are not read
 * any more: they are in the kernel's hands, and from there on the file is compared with their digests. Names
 * and shapes stay until the end. Nothing waits for the disk before that. `then` is called once the file is whole and
 * before the checkpoint takes its name; its failure is the save's. */
hn_status hn_checkpoint_save(const char *folder, int64_t step, const hn_named_tensor *tensors, size_t count,
                             const json_t *state, const hn_checkpoint_release *release, hn_error *error);

/* Whether the disk of `folder` (made, if need be) has room for such a checkpoint beside those that are there. What interrupted saves left
 * is removed first. A save asks again. */
hn_status hn_checkpoint_check_space(const char *folder, const hn_named_tensor *tensors, size_t count, hn_error *error);

/* Deletes the oldest checkpoints beyond the newest `keep` (at least 1), and what interrupted saves left; never `good`, the step that was
 * saved last, whose bytes were read back, nor the steps `stay` (or -1). */
#define HN_CHECKPOINT_STAY 2
hn_status hn_checkpoint_retain(const char *folder, int keep, int64_t good, const int64_t stay[HN_CHECKPOINT_STAY], hn_error *error);

/* The newest checkpoint of the folder whose manifest and every byte verify. What was passed over and why goes
 * to `passed_over`, a line each. HN_OK with *step = -1 (and *state NULL) when there is none. *state is a new
 * reference. A checkpoint of another version of hone (HN_ERR_UNSUPPORTED) is an error: falling back behind it
 * would throw its steps away. */
hn_status hn_checkpoint_find(const char *folder, int64_t *step, json_t **state, hn_strbuf *passed_over,
                             hn_error *error);

/* The same among those of step `last` and before. */
hn_status hn_checkpoint_find_until(const char *folder, int64_t last, int64_t *step, json_t **state, hn_strbuf *passed_over,
                                   hn_error *error);

/* Reads step-<step> into `tensors`: every name, type and shape must match the manifest, and nothing may be
 * missing or left over (HN_ERR_MISMATCH). The whole file's digests are checked before anything is written to
 * the caller's memory. */
hn_status hn_checkpoint_load(const char *folder, int64_t step, const hn_named_tensor *tensors, size_t count,
                             hn_error *error);

/* The same for some of its tensors: those that are left over are not read. */
hn_status hn_checkpoint_load_some(const char *folder, int64_t step, const hn_named_tensor *tensors,
                                  size_t count, hn_error *error);

/* Every byte of one checkpoint folder (".../step-N") against its digests; a line per file, and one per
 * damaged tensor, into `report`. */
hn_status hn_checkpoint_verify(const char *path, hn_strbuf *report, hn_error *error);
/* Steps of the checkpoints with a manifest, ascending (hn_free). */
hn_status hn_checkpoint_list(const char *folder, int64_t **steps, size_t *count, hn_error *error);

#endif
