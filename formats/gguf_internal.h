/* What the files of GGUF share. Inside formats/ only. */
#ifndef HONE_FORMATS_GGUF_INTERNAL_H
#define HONE_FORMATS_GGUF_INTERNAL_H

#include "formats/gguf.h"

const char *hnp_gguf_type_name(hn_gguf_type type);
/* Bytes of a number; of a string or an array, the bytes that every one has. */
int hnp_gguf_type_bytes(hn_gguf_type type);
/* A little-endian number of `size` bytes. */
uint64_t hnp_gguf_load(const unsigned char *bytes, int size);

#endif
