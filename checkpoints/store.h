/* The HDF5 file of a checkpoint: one contiguous dataset a tensor, nothing else. */
#ifndef HONE_CHECKPOINTS_STORE_H
#define HONE_CHECKPOINTS_STORE_H

#include "checkpoints/manifest.h"

/* Writes the tensors (dense, host memory) as a new file and closes it. Nothing is synced. */
hn_status hnp_store_write(const char *path, const hn_named_tensor *tensors, size_t count, hn_error *error);

#endif
