/* Bytes of a file, plain or compressed, behind one read function. Compression is told by the first bytes,
 * which no text can begin with (gzip 1f 8b, zstd 28 b5 2f fd); a name that promises compression and lacks it
 * is an error. */
#ifndef HONE_DATA_INPUT_H
#define HONE_DATA_INPUT_H

#include <stddef.h>

#include "core/error.h"

typedef struct hn_input hn_input;

/* A file, or standard input when `path` is "-". Folders, and anything that is not readable, are errors. */
hn_status hn_input_open(hn_input **out, const char *path, hn_error *error);
/* Bytes in memory (borrowed until free); `name` (copied) is what errors call them. */
hn_status hn_input_open_bytes(hn_input **out, const void *bytes, size_t size, const char *name,
                              hn_error *error);
/* Up to `capacity` (> 0) decompressed bytes; *got is 0 only at the end. Compressed data that is damaged or
 * ends early is an error that names the file. */
hn_status hn_input_read(hn_input *input, void *buffer, size_t capacity, size_t *got, hn_error *error);
const char *hn_input_name(const hn_input *input);
void hn_input_free(hn_input *input);

#endif
