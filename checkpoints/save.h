/* The parts of the commit protocol, of which one process and several make a save. Shared inside this room. */
#ifndef HONE_CHECKPOINTS_SAVE_H
#define HONE_CHECKPOINTS_SAVE_H

#include "checkpoints/check.h"
#include "checkpoints/checkpoint.h"

/* What a process saves, and who waits to change it. */
typedef struct hnp_source {
    const hn_named_tensor *tensors; /* as datasets are called */
    size_t count;
    const hn_checkpoint_release *release; /* NULL: nobody */
    bool free;                            /* they are let go */
} hnp_source;

/* Lets them go, once. */
void hnp_source_release(hnp_source *source);

/* `path`: what errors call the checkpoint. */
hn_status hnp_save_check_names(const hn_named_tensor *tensors, size_t count, const char *path, hn_error *error);
hn_status hnp_save_check_space(const char *folder, uint64_t bytes, size_t tensors, int files, hn_error *error);
/* Whether a good checkpoint stands there. Without memory nothing can be said, and what a later hone wrote is
 * not ours to replace; anything else that speaks against it means no. */
hn_status hnp_save_is_good(bool *good, const char *path, int64_t step, hn_error *error);

/* The temporary folder, empty. */
hn_status hnp_save_make(const char *temporary, hn_error *error);
/* Writes the file, lets the source go, reads the file back, syncs it and calls release->then. file->entries say what the tensors are; the
 * rest of `file` is filled in. */
hn_status hnp_save_file(hnp_file *file, const char *path, hnp_source *source, hn_error *error);
/* Reads a manifest's text back: a state that JSON cannot carry is found now, not when it is needed. */
hn_status hnp_save_read_back(hnp_manifest *out, const hn_strbuf *text, const json_t *state, const char *folder, int64_t step, hn_error *error);
/* Gives the finished folder its name, and the manifest. A good checkpoint of that step that is to be replaced is swapped for a whole one:
 * the manifest then goes into the temporary folder first, so that at every moment there is one that verifies. What a failure leaves is
 * removed. */
hn_status hnp_save_commit(const char *temporary, const char *path, bool replace, const hn_strbuf *text, hn_error *error);

#endif
