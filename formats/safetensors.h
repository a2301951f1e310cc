/* safetensors: 8 bytes of little-endian header length, a JSON header, then the tensors' bytes. Read by
 * mapping, every length checked against the bytes that are there before it is believed; written by the commit
 * protocol. */
#ifndef HONE_FORMATS_SAFETENSORS_H
#define HONE_FORMATS_SAFETENSORS_H

#include "core/error.h"
#include "core/file.h"
#include "core/tensor.h"

typedef struct hn_safetensors hn_safetensors;

/* Opens and checks a file; the tensors' data are views into the mapping, valid until free, sorted by name. */
hn_status hn_safetensors_open(hn_safetensors **out, const char *path, hn_error *error);
/* The same on bytes in memory (borrowed until free); `name` is what errors call it. */
hn_status hn_safetensors_open_bytes(hn_safetensors **out, const unsigned char *bytes, size_t size,
                                    const char *name, hn_error *error);
void hn_safetensors_free(hn_safetensors *file);
const hn_named_tensor *hn_safetensors_tensors(const hn_safetensors *file, size_t *count);
const hn_named_tensor *hn_safetensors_find(const hn_safetensors *file, const char *name);

/* Ask after the tensors were read: an error when the file was cut short meanwhile (its missing bytes read as
 * zeros). */
hn_status hn_safetensors_intact(const hn_safetensors *file, hn_error *error);
/* Gives the pages of the tensors back until they are read again (hn_mapping_idle). */
void hn_safetensors_idle(const hn_safetensors *file);

/* Writes tensors (dense, host memory) as F32, or converted to `dtype` when it is BF16 or F16, with {"format":
 * "pt"}. */
hn_status hn_safetensors_save(const char *path, const hn_named_tensor *tensors, size_t count, hn_dtype dtype,
                              hn_error *error);

/* The same for F32 tensors whose `data` is NULL: their values come from the source, a block at a time. */
hn_status hn_safetensors_save_from(const char *path, const hn_named_tensor *tensors, size_t count,
                                   const hn_tensor_source *source, hn_dtype dtype, hn_error *error);

#endif
