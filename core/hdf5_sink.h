/* Where HDF5 writes to: a file driver of our own beneath it, that goes through core/file.h's table like every
 * other write. HDF5 1.10.8 crashes or leaks after a write that failed, so it never sees one. Whoever has HDF5 write a file, has it
 * write here. */
#ifndef HONE_CORE_HDF5_SINK_H
#define HONE_CORE_HDF5_SINK_H

#include <hdf5.h>

#include "core/error.h"

/* One new file. After H5Fclose `error` tells whether every byte of it was written. */
typedef struct hn_hdf5_sink {
    const char *path; /* borrowed */
    hn_error error;
} hn_hdf5_sink;

/* Makes files that are created (H5F_ACC_EXCL or H5F_ACC_TRUNC) with these access options go to `sink`, in the format that
 * core/hdf5_structure.c reads, whichever a later HDF5 would choose. false: HDF5 or memory failed. */
bool hn_hdf5_sink_use(hid_t access, hn_hdf5_sink *sink);

#endif
