/* One rank's side of a save by several. The conversation is the same three calls on every rank, whatever has failed on it by then, so that
 * no rank waits for one that has left:
 *
 *     rank 0   make .tmp-step-N | go  | write, read back, fsync | parts | rename, manifest, retention | done
 *     others                    | go  | write, read back, fsync | parts |                             | done
 *
 * What a rank could not do travels as its message with `parts`, and makes the save fail on all of them. Nothing of another checkpoint is
 * touched before every file is durable. A kill of any rank leaves what it leaves with one process: until rank 0 renames, a temporary folder,
 * which the next save of that step or retention removes; then a folder without a manifest; then the checkpoint. Rank 0 cannot see who is
 * slow and who is gone: that is the caller's, whose `parts` fails when a rank is gone.
 *
 * All ranks must see one folder. Where they do not (a disk of each node's own), rank 0 finds files missing, or of another size than their
 * writers said, and the save fails. */
#include "checkpoints/pieces.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoints/save.h"
#include "core/file.h"
#include "core/mem.h"

typedef struct part {
    char *path, *temporary; /* the step's folder, before and after */
    char *names;            /* of the datasets */
    hn_named_tensor *datasets;
    hnp_file file;
    hnp_source source;
    bool replaces; /* rank 0: a good checkpoint of that step stands there */
} part;

static void close_part(part *self)
{
    hnp_source_release(&self->source);
    hn_free(self->path);
    hn_free(self->temporary);
    hn_free(self->names);
    hn_free(self->datasets);
    hn_free(self->file.entries);
}

/* self->source.release is there; whatever fails, close_part is due. */
static hn_status list_part(part *self, const char *folder, int64_t step, const hn_piece *pieces, size_t count, hn_error *error)
{
    self->path = hnp_step_path(folder, "", step);
    self->temporary = hnp_step_path(folder, ".tmp-", step);
    self->datasets = hn_calloc(count, sizeof *self->datasets);
    self->file.entries = hn_calloc(count, sizeof *self->file.entries);
    if (!self->path || !self->temporary || !self->datasets || !self->file.entries)
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for a checkpoint of %zu pieces", folder, count);
    for (size_t i = 0; i < count; i++) {
        hnp_entry *entry = &self->file.entries[i];
        *entry = hnp_entry_whole(pieces[i].of.name, &pieces[i].of.tensor);
        HN_ASSERT(pieces[i].first >= 0 && pieces[i].count >= 0 && pieces[i].count <= entry->count - pieces[i].first);
        entry->first = pieces[i].first;
        entry->count = pieces[i].count;
    }
    if (!(self->names = hnp_entries_name(self->file.entries, count)))
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for the names of %zu pieces", folder, count);
    for (size_t i = 0; i < count; i++) {
        self->datasets[i] = (hn_named_tensor){self->file.entries[i].dataset, hnp_entry_stored(&self->file.entries[i])};
        self->datasets[i].tensor.data = pieces[i].of.tensor.data;
    }
    self->file.count = self->source.count = count;
    self->source.tensors = self->datasets;
    return hnp_save_check_names(self->datasets, count, self->path, error);
}

/* Rank 0, before anybody writes. */
static hn_status make_folder(part *self, const char *folder, int64_t step, const hn_checkpoint_party *party, hn_error *error)
{
    hn_status status = hnp_save_is_good(&self->replaces, self->path, step, error);
    if (status == HN_OK) status = hn_folder_make(folder, error);
    if (status == HN_OK) status = hnp_save_check_space(folder, party->bytes, self->file.count * (size_t)party->ranks, party->ranks, error);
    return status == HN_OK ? hnp_save_make(self->temporary, error) : status;
}

static hn_status write_part(part *self, int rank, hn_strbuf *entry, hn_error *error)
{
    char name[HNP_FILE_NAME], *place = hn_path_join(self->temporary, hnp_file_name(name, rank));
    if (!place) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", self->temporary);
    hn_status status = hnp_save_file(&self->file, place, &self->source, error);
    hn_free(place);
    if (status != HN_OK) return status;
    hnp_manifest_encode_file(entry, &self->file, rank);
    return entry->failed ? hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for what %s holds", self->temporary, name) : HN_OK;
}

/* Rank 0 sees the files that the others say they have written. */
static hn_status see_files(const hnp_manifest *manifest, const char *temporary, hn_error *error)
{
    hn_status status = HN_OK;
    for (int rank = 0; rank < manifest->ranks && status == HN_OK; rank++) {
        struct stat info;
        char name[HNP_FILE_NAME], *place = hn_path_join(temporary, hnp_file_name(name, rank));
        if (!place) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", temporary);
        if (stat(place, &info))
            status = hn_fail_errno(error, "%s: rank %d wrote it, and rank 0 does not see it: is this folder the same on all nodes?", place, rank);
        else if ((uint64_t)info.st_size != manifest->files[rank].bytes)
            status = hn_fail(error, HN_ERR_IO, "%s: rank %d wrote %" PRIu64 " bytes, and rank 0 sees %lld: is this folder the same on all nodes?",
                             place, rank, manifest->files[rank].bytes, (long long)info.st_size);
        hn_free(place);
    }
    return status;
}

/* Rank 0, when every file is durable. */
static hn_status conclude(const part *self, const hn_blobs *files, int64_t step, const json_t *state, hn_error *error)
{
    hn_strbuf text;
    hnp_manifest manifest = {0};
    hn_strbuf_init(&text);
    hnp_manifest_join(&text, step, files, state);
    hn_status status = hnp_save_read_back(&manifest, &text, state, self->path, step, error);
    if (status == HN_OK) status = see_files(&manifest, self->temporary, error);
    if (status == HN_OK) status = hnp_save_commit(self->temporary, self->path, self->replaces, &text, error);
    else hn_folder_remove(self->temporary, NULL);
    hnp_manifest_close(&manifest);
    hn_strbuf_close(&text);
    return status;
}

hn_status hn_checkpoint_save_pieces(const char *folder, int64_t step, const hn_piece *pieces, size_t count, const json_t *state,
                                    const hn_checkpoint_release *release, const hn_checkpoint_party *party,
                                    const hn_checkpoint_retention *retention, bool *safe, hn_error *error)
{
    bool first = party->rank == 0;
    HN_ASSERT(step >= 0 && party->rank < party->ranks && party->ranks <= HNP_MANIFEST_RANKS && (!first || json_is_object(state)));
    part self = {.source = {.release = release}};
    hn_error mine = {0}, came_to = {0};
    hn_strbuf entry;
    hn_blobs files = {0};
    *safe = false;
    hn_strbuf_init(&entry);
    hn_status status = list_part(&self, folder, step, pieces, count, &mine);
    if (first && status == HN_OK) make_folder(&self, folder, step, party, &mine);
    if ((status = party->go(party->context, step, &mine, error))) goto out;
    if (mine.status == HN_OK) write_part(&self, party->rank, &entry, &mine);
    hnp_source_release(&self.source); /* of a part that never came to its file */
    status = party->parts(party->context, step, &mine, &entry, first ? &files : NULL, &came_to);
    if (first && status == HN_OK) status = conclude(&self, &files, step, state, &came_to);
    else if (first) hn_folder_remove(self.temporary, NULL);
    *safe = first && status == HN_OK;
    if (*safe && retention) hn_checkpoint_retain(folder, retention->keep, step, retention->stay, &came_to);
    if (!first) hn_error_reset(&came_to); /* rank 0 says it */
    status = party->done(party->context, step, safe, &came_to);
    if (status != HN_OK) hn_fail(error, status, "%s", came_to.message);
out:
    hn_blobs_close(&files);
    hn_strbuf_close(&entry);
    close_part(&self);
    return status;
}
