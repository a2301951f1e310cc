/* The structure of a checkpoint's HDF5 file, read without HDF5. */
#ifndef HONE_CHECKPOINTS_STRUCTURE_H
#define HONE_CHECKPOINTS_STRUCTURE_H

#include "checkpoints/manifest.h"

#define HNP_NAME_ROOM 1024 /* bytes of a tensor's name at most, with its end */

/* Checks that the file holds exactly these tensors, as hnp_store_write writes them: plain datasets of their type and shape in the
 * root group, contiguous, in this very file, without filters, no other link. Writes each one's offset, or, with `expect_offsets`,
 * compares it. */
hn_status hnp_structure_check(const char *path, hnp_entry *entries, size_t count, bool expect_offsets, hn_error *error);

#endif
