/* HDF5 files as hone has them written, read without HDF5: plain datasets in the root group, contiguous, in this very file, without
 * filters. Whatever is found lies inside the mapping; nothing else is believed of it, so that a caller bounds what the bytes say.
 *
 *     hn_hdf5_open(&file, &map, 0, 2, path, error)     its links: two datasets, no more
 *     hn_hdf5_find(&offset, &shape, &file, ...)        one of them: checked against type and shape, and where its bytes are
 *     hn_hdf5_close(&file)
 *
 * The mapping may be cut short at any time: ask hn_mapping_intact when all is read. */
#ifndef HONE_CORE_HDF5_STRUCTURE_H
#define HONE_CORE_HDF5_STRUCTURE_H

#include "core/file.h"
#include "core/tensor.h"

#define HN_HDF5_NAME_ROOM 1024 /* bytes of a dataset's name at most, with its end */
#define HN_HDF5_U16 HN_BF16    /* bf16 and f16 stand in a file as 16 bits without a sign */
#define HN_HDF5_ANY (-1)       /* an extent that the file decides */

typedef struct hn_hdf5 {
    const hn_mapping *map; /* borrowed, as is the path */
    const char *path;      /* what errors call the file */
    uint64_t start;        /* bytes before HDF5's own: the user block */
    struct hn_hdf5_link *links;
    size_t count;
} hn_hdf5;

/* Reads the links of the file's root group, which must be `count`. On failure there is nothing to close. */
hn_status hn_hdf5_open(hn_hdf5 *out, const hn_mapping *map, uint64_t user_block, size_t count, const char *path, hn_error *error);
void hn_hdf5_close(hn_hdf5 *file);

/* The dataset `name`, which must be of this type and shape; extents of HN_HDF5_ANY are filled in. *offset: of its bytes in the
 * mapping; 0 when it has none. `kind`: what errors call a dataset. */
hn_status hn_hdf5_find(uint64_t *offset, hn_tensor *shape, const hn_hdf5 *file, const char *kind, const char *name, hn_error *error);

#endif
