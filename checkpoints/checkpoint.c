/* Finding, checking and loading checkpoints (saving and retention are in checkpoint_save.c).
 *
 * Invariant: nothing of a checkpoint is believed, and no byte of it reaches the run, before every byte of it
 * had its digest. A checkpoint that fails is passed over and named; two failures are no reason to fall back
 * and end the search instead: memory that ran out, and a manifest that another version of hone wrote (falling
 * back would throw good work away). */
#include "checkpoints/checkpoint.h"

#include <inttypes.h>
#include <string.h>

#include "checkpoints/check.h"
#include "core/file.h"
#include "core/mem.h"

hn_status hn_checkpoint_find_until(const char *folder, int64_t last, int64_t *step, json_t **state, hn_strbuf *passed_over,
                                   hn_error *error)
{
    int64_t *steps = NULL, found = -1;
    size_t count = 0;
    json_t *found_state = NULL;
    hn_status status = hnp_steps_list(&steps, &count, folder, false, error);
    while (status == HN_OK && found < 0 && count-- > 0) {
        if (steps[count] > last) continue;
        hn_error why = {0};
        hnp_manifest manifest = {0};
        char *path = hnp_step_path(folder, "", steps[count]);
        if (!path) {
            status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
            break;
        }
        hn_status one = hnp_check_folder(&manifest, path, steps[count], NULL, &why);
        if (one == HN_OK) {
            found = steps[count];
            found_state = json_incref((json_t *)manifest.state);
        } else if (one == HN_ERR_MEMORY || one == HN_ERR_UNSUPPORTED) {
            status = hn_fail(error, one, "%s", why.message);
        } else {
            hn_strbuf_printf(passed_over, "step-%" PRId64 ": %s\n", steps[count], why.message);
        }
        hnp_manifest_close(&manifest);
        hn_free(path);
    }
    hn_free(steps);
    if (status == HN_OK) {
        *step = found;
        *state = found_state;
    }
    return status;
}

hn_status hn_checkpoint_find(const char *folder, int64_t *step, json_t **state, hn_strbuf *passed_over, hn_error *error)
{
    return hn_checkpoint_find_until(folder, INT64_MAX, step, state, passed_over, error);
}

static void describe(hn_strbuf *out, const hn_tensor *tensor)
{
    hn_strbuf_printf(out, "%s [", hn_dtype_name(tensor->dtype));
    for (int i = 0; i < tensor->rank; i++)
        hn_strbuf_printf(out, "%s%" PRId64, i ? ", " : "", tensor->shape[i]);
    hn_strbuf_putc(out, ']');
}

static bool same_shape(const hn_tensor *a, const hn_tensor *b)
{
    bool same = a->dtype == b->dtype && a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++) same = a->shape[i] == b->shape[i];
    return same;
}

static hn_status match_one(const hnp_manifest *manifest, const hn_named_tensor *wanted, const char *path,
                           hn_error *error)
{
    const hnp_entry *entry = hnp_manifest_find(manifest, wanted->name);
    if (!entry) return hn_fail(error, HN_ERR_MISMATCH, "%s: tensor \"%s\" is missing", path, wanted->name);
    if (same_shape(&entry->shape, &wanted->tensor)) return HN_OK;
    hn_strbuf expected, got;
    hn_strbuf_init(&expected);
    hn_strbuf_init(&got);
    describe(&expected, &wanted->tensor);
    describe(&got, &entry->shape);
    hn_status status = hn_fail(error, HN_ERR_MISMATCH, "%s: tensor \"%s\": expected %s, got %s", path,
                               wanted->name, expected.text, got.text);
    hn_strbuf_close(&expected);
    hn_strbuf_close(&got);
    return status;
}

/* The caller's tensors are the manifest's: with `all`, every one of them. */
static hn_status match_all(const hnp_manifest *manifest, const hn_named_tensor *tensors, size_t count,
                           bool all, const char *path, hn_error *error)
{
    for (size_t i = 0; i < count; i++) {
        hn_status status = match_one(manifest, &tensors[i], path, error);
        if (status != HN_OK) return status;
    }
    for (size_t i = 0; all && i < manifest->count && manifest->count != count; i++) {
        bool wanted = false;
        for (size_t k = 0; k < count && !wanted; k++)
            wanted = !strcmp(manifest->entries[i].name, tensors[k].name);
        if (!wanted)
            return hn_fail(error, HN_ERR_MISMATCH,
                           "%s: tensor \"%s\" of the checkpoint is not one of this run's", path,
                           manifest->entries[i].name);
    }
    return HN_OK;
}

static hn_status read_all(const hnp_manifest *manifest, const hn_named_tensor *tensors, size_t count,
                          const char *path, hn_error *error)
{
    hnp_reader reader = {.fd = -1};
    hn_status status = hnp_reader_open(&reader, path, error);
    for (size_t i = 0; i < count && status == HN_OK; i++) {
        hn_digest digest;
        const hnp_entry *entry = hnp_manifest_find(manifest, tensors[i].name);
        HN_ASSERT(hn_tensor_dense(&tensors[i].tensor));
        status = hnp_reader_digest(&digest, tensors[i].tensor.data, &reader, entry->offset,
                                   hn_tensor_bytes(&entry->shape), error);
        if (status == HN_OK && !hn_digest_equal(digest, entry->digest))
            status = hn_fail(error, HN_ERR_IO, "%s: tensor \"%s\": its bytes changed while they were read",
                             path, entry->name);
    }
    hnp_reader_close(&reader);
    return status;
}

static hn_status load(const char *folder, int64_t step, const hn_named_tensor *tensors, size_t count,
                      bool all, hn_error *error)
{
    hnp_manifest manifest = {0};
    char *path = hnp_step_path(folder, "", step), *file = path ? hn_path_join(path, HNP_FILE_NAME) : NULL;
    hn_status status = HN_OK;
    if (!file) status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    if (status == HN_OK) status = hnp_check_folder(&manifest, path, step, NULL, error);
    if (status == HN_OK) status = match_all(&manifest, tensors, count, all, path, error);
    if (status == HN_OK) status = read_all(&manifest, tensors, count, file, error);
    hnp_manifest_close(&manifest);
    hn_free(file);
    hn_free(path);
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
