/* The HDF5 file of a checkpoint: one contiguous dataset a tensor, nothing else. */
#ifndef HONE_CHECKPOINTS_STORE_H
#define HONE_CHECKPOINTS_STORE_H

#include "checkpoints/manifest.h"

/* Writes the tensors (dense, host memory) as a new file and closes it. Nothing is synced. */
hn_status hnp_store_write(const char *path, const hn_named_tensor *tensors, size_t count, hn_error *error);

/* Opens the file and checks that it holds exactly these tensors: plain datasets of their type and shape,
 * contiguous, in this very file, without filters, no other link. Writes each one's offset, or, with
 * `expect_offsets`, compares it. */
hn_status hnp_store_check(const char *path, hnp_entry *entries, size_t count, bool expect_offsets,
                          hn_error *error);

#endif
