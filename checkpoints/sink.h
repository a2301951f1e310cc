/* Where HDF5 writes to: a file driver of our own beneath it, that goes through core/file.h's table like every
 * other write. */
#ifndef HONE_CHECKPOINTS_SINK_H
#define HONE_CHECKPOINTS_SINK_H

#include <hdf5.h>

#include "core/error.h"

/* One new file. After H5Fclose `error` tells whether every byte of it was written. */
typedef struct hnp_sink {
    const char *path; /* borrowed */
    hn_error error;
} hnp_sink;

/* Makes files that are created with these access options go to `sink`. false: HDF5 or memory failed. */
bool hnp_sink_use(hid_t access, hnp_sink *sink);

#endif
