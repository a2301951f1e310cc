/* Saving: the commit protocol of a checkpoint, and retention.
 *
 *     <folder>/.tmp-step-N/rank-0.h5   write, close; open again, read back, compare; fsync file and folder
 *     <folder>/step-N/                 rename; fsync <folder>
 *     <folder>/step-N/manifest.json    temp, fsync, rename, fsync
 *
 * A kill before the first rename leaves a temporary folder, which nobody reads and the next save or retention
 * removes; before the second one a folder without a manifest, which does not exist for the loader. From the
 * second rename on the checkpoint exists.
 *
 * Only then does anything older go. A failed fsync is a failed save: the kernel may have dropped the pages,
 * and asking again would only hide that. What a failed save leaves is removed, so that a full disk is not
 * kept full.
 *
 * The caller's memory is read twice, for the digests and by write(), and never again: what is read back is compared
 * with the digests. So who waits to change it (hn_checkpoint_release) is let go behind the last write, long before the
 * disk is done; and who changes it between the two reads is found out, since the file then has other digests. Nothing
 * before that write waits for the disk: the fsync of a busy one takes longer than a small model's step. */
#include "checkpoints/save.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "checkpoints/check.h"
#include "checkpoints/store.h"
#include "core/file.h"
#include "core/hdf5_structure.h"
#include "core/json.h"
#include "core/mem.h"

/* HDF5's own structures: some hundred bytes a tensor. */
#define BYTES_A_TENSOR 1024
#define BYTES_A_FILE ((uint64_t)64 << 10)

void hnp_source_release(hnp_source *source)
{
    if (source->release && !source->free) source->release->call(source->release->context);
    source->free = true;
}

hn_status hnp_save_check_names(const hn_named_tensor *tensors, size_t count, const char *path, hn_error *error)
{
    for (size_t i = 0; i < count; i++) {
        HN_ASSERT(hn_tensor_dense(&tensors[i].tensor));
        const char *name = tensors[i].name;
        if (!*name || strlen(name) >= HN_HDF5_NAME_ROOM || !strcmp(name, ".") || strchr(name, '/'))
            return hn_fail(error, HN_ERR_USAGE,
                           "%s: tensor \"%.80s\": a name in a checkpoint has 1 to %d bytes and holds no '/'", path,
                           name, HN_HDF5_NAME_ROOM - 1);
    }
    return HN_OK;
}

/* Better said before a gigabyte was written than after. */
hn_status hnp_save_check_space(const char *folder, uint64_t bytes, size_t tensors, int files, hn_error *error)
{
    uint64_t available = 0, need = bytes + tensors * BYTES_A_TENSOR + (uint64_t)files * BYTES_A_FILE;
    hn_status status = hn_file_space(&available, folder, error);
    if (status == HN_OK && available < need)
        status = hn_fail(error, HN_ERR_IO,
                         "%s: the disk is too full for a checkpoint: it needs %" PRIu64 " bytes, %" PRIu64
                         " are free",
                         folder, need, available);
    return status;
}

static uint64_t bytes_of(const hn_named_tensor *tensors, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) bytes += hn_tensor_bytes(&tensors[i].tensor);
    return bytes;
}

hn_status hnp_save_file(hnp_file *file, const char *path, hnp_source *source, hn_error *error)
{
    hnp_reader reader = {.fd = -1};
    for (size_t i = 0; i < source->count; i++)
        file->entries[i].digest = hn_digest_bytes(source->tensors[i].tensor.data, hn_tensor_bytes(&source->tensors[i].tensor));
    hn_status status = hnp_store_write(path, source->tensors, source->count, error);
    hnp_source_release(source);
    if (status == HN_OK) status = hnp_check_structure(path, file->entries, file->count, false, error);
    if (status == HN_OK) status = hnp_reader_open(&reader, path, error);
    if (status == HN_OK) status = hnp_reader_check(&file->digest, &reader, file->entries, file->count, NULL, error);
    file->bytes = reader.size;
    hnp_reader_close(&reader);
    if (status == HN_OK) status = hn_file_sync(path, error);
    if (status == HN_OK && source->release && source->release->then) status = source->release->then(source->release->context, error);
    return status;
}

hn_status hnp_save_make(const char *temporary, hn_error *error)
{
    hn_status status = hn_folder_remove(temporary, error);
    if (status == HN_OK && hn_file_calls.mkdir(temporary, 0777)) /* the rename's fsync is early enough for its name */
        status = hn_fail_errno(error, "%s: cannot make this folder", temporary);
    return status;
}

static hn_status put_manifest(const hn_strbuf *text, const char *folder, hn_error *error)
{
    char *path = hn_path_join(folder, HNP_MANIFEST_NAME);
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for the manifest", folder);
    hn_status status = hn_file_commit(path, text->text, text->length, error);
    hn_free(path);
    return status;
}

hn_status hnp_save_read_back(hnp_manifest *out, const hn_strbuf *text, const json_t *state, const char *folder, int64_t step, hn_error *error)
{
    hnp_manifest again = {0};
    hn_status status = text->failed ? hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for the manifest", folder)
                                    : hnp_manifest_take(&again, text->text, text->length, folder, step, error);
    if (status == HN_OK && !json_equal(again.state, state))
        status = hn_fail(error, HN_ERR_FORMAT, "%s/%s: the run's state does not survive being written as JSON", folder, HNP_MANIFEST_NAME);
    if (status == HN_OK) *out = again;
    else hnp_manifest_close(&again);
    return status;
}

hn_status hnp_save_commit(const char *temporary, const char *path, bool replace, const hn_strbuf *text, hn_error *error)
{
    hn_status status = replace ? put_manifest(text, temporary, error) : HN_OK;
    if (status != HN_OK) {
        hn_folder_remove(temporary, NULL);
        return status;
    }
    /* When this fails the temporary folder may hold what stood there before: it is left to the next save. */
    status = hn_folder_commit(temporary, path, true, error);
    if (status == HN_OK && !replace) {
        status = put_manifest(text, path, error);
        if (status != HN_OK) hn_folder_remove(path, NULL);
    }
    return status;
}

/* Steps 1 to 4 of one process. */
static hn_status commit(hnp_file *file, int64_t step, const json_t *state, const char *temporary, const char *path, bool replace,
                        hnp_source *source, hn_error *error)
{
    char name[HNP_FILE_NAME], *place = hn_path_join(temporary, hnp_file_name(name, 0));
    hn_strbuf text;
    hnp_manifest manifest = {.format = HNP_MANIFEST_WHOLE, .step = step, .ranks = 1, .files = file, .state = state}, again = {0};
    if (!place) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", temporary);
    hn_strbuf_init(&text);
    hn_status status = hnp_save_make(temporary, error);
    if (status == HN_OK) status = hnp_save_file(file, place, source, error);
    if (status == HN_OK) {
        hnp_manifest_encode(&text, &manifest);
        status = hnp_save_read_back(&again, &text, state, path, step, error);
    }
    if (status == HN_OK) status = hnp_save_commit(temporary, path, replace, &text, error);
    else hn_folder_remove(temporary, NULL);
    hnp_manifest_close(&again);
    hn_strbuf_close(&text);
    hn_free(place);
    return status;
}

hn_status hnp_save_is_good(bool *good, const char *path, int64_t step, hn_error *error)
{
    hn_error why = {0};
    hnp_manifest manifest = {0};
    hn_status status = hn_path_exists(path) ? hnp_check_folder(&manifest, path, step, NULL, &why) : HN_ERR_IO;
    hnp_manifest_close(&manifest);
    *good = status == HN_OK;
    return status == HN_ERR_MEMORY || status == HN_ERR_UNSUPPORTED ? hn_fail(error, status, "%s", why.message)
                                                                   : HN_OK;
}

hn_status hn_checkpoint_save(const char *folder, int64_t step, const hn_named_tensor *tensors, size_t count,
                             const json_t *state, const hn_checkpoint_release *release, hn_error *error)
{
    HN_ASSERT(step >= 0 && json_is_object(state));
    hnp_source source = {.tensors = tensors, .count = count, .release = release};
    bool there = false;
    char *path = hnp_step_path(folder, "", step), *temporary = hnp_step_path(folder, ".tmp-", step);
    hnp_file file = {.count = count, .entries = hn_calloc(count, sizeof *file.entries)};
    hn_status status = HN_OK;
    if (!path || !temporary || !file.entries) {
        status =
            hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for a checkpoint of %zu tensors", folder, count);
        goto out;
    }
    for (size_t i = 0; i < count; i++) file.entries[i] = hnp_entry_whole(tensors[i].name, &tensors[i].tensor);
    if ((status = hnp_save_check_names(tensors, count, path, error))) goto out;
    if ((status = hnp_save_is_good(&there, path, step, error))) goto out;
    if ((status = hn_folder_make(folder, error))) goto out;
    if ((status = hnp_save_check_space(folder, bytes_of(tensors, count), count, 1, error))) goto out;
    status = commit(&file, step, state, temporary, path, there, &source, error);
out:
    hnp_source_release(&source);
    hn_free(file.entries);
    hn_free(path);
    hn_free(temporary);
    return status;
}

/* Takes the name away in one step, so that no half of a checkpoint is ever seen under it; then the bytes. */
static hn_status delete_step(const char *folder, int64_t step, hn_error *error)
{
    char *path = hnp_step_path(folder, "", step), *temporary = hnp_step_path(folder, ".tmp-", step);
    hn_status status = HN_OK;
    if (!path || !temporary) status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    if (status == HN_OK) status = hn_folder_remove(temporary, error);
    if (status == HN_OK && hn_file_calls.rename(path, temporary, 0))
        status = hn_fail_errno(error, "%s: cannot rename to %s", path, temporary);
    if (status == HN_OK) status = hn_folder_remove(temporary, error);
    hn_free(path);
    hn_free(temporary);
    return status;
}

/* Removes what interrupted saves left: temporary folders, and steps without a manifest. */
static hn_status sweep(const char *folder, hn_error *error)
{
    hn_status status = HN_OK;
    struct dirent *entry;
    DIR *list = opendir(folder);
    if (!list)
        return errno == ENOENT ? HN_OK : hn_fail_errno(error, "%s: cannot list the checkpoints", folder);
    while (status == HN_OK && (entry = readdir(list))) {
        bool temporary = !strncmp(entry->d_name, ".tmp-", 5);
        if (hnp_step_of(entry->d_name + (temporary ? 5 : 0)) < 0) continue;
        char *path = hn_path_join(folder, entry->d_name),
             *manifest = path ? hn_path_join(path, HNP_MANIFEST_NAME) : NULL;
        if (!manifest)
            status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
        else if (temporary || !hn_path_exists(manifest))
            status = hn_folder_remove(path, error);
        hn_free(manifest);
        hn_free(path);
    }
    closedir(list);
    return status;
}

hn_status hn_checkpoint_retain(const char *folder, int keep, int64_t good, const int64_t stay[HN_CHECKPOINT_STAY], hn_error *error)
{
    HN_ASSERT(keep >= 1);
    int64_t *steps = NULL;
    size_t count = 0;
    hn_status status = sweep(folder, error);
    if (status == HN_OK) status = hnp_steps_list(&steps, &count, folder, true, error);
    for (size_t i = 0; status == HN_OK && i + (size_t)keep < count; i++)
        if (steps[i] != good && steps[i] != stay[0] && steps[i] != stay[1]) status = delete_step(folder, steps[i], error);
    hn_free(steps);
    return status;
}

hn_status hn_checkpoint_check_space(const char *folder, const hn_named_tensor *tensors, size_t count, hn_error *error)
{
    hn_status status = hn_folder_make(folder, error);
    if (status == HN_OK) status = sweep(folder, error);
    if (status == HN_OK) status = hnp_save_check_space(folder, bytes_of(tensors, count), count, 1, error);
    return status;
}
