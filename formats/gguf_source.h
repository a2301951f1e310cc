/* A GGUF file as the folder that an import makes of it: named tensors in Hugging Face's order, whose values come block by
 * block. Inside formats/ only; everybody else opens it as a folder (folder.h). */
#ifndef HONE_FORMATS_GGUF_SOURCE_H
#define HONE_FORMATS_GGUF_SOURCE_H

#include "formats/gguf_internal.h"

typedef struct hnp_gguf_source {
    hn_gguf *file;
    hnp_gguf_model model;
    hnp_gguf_import_tensor *tensors;
    hn_named_tensor *named; /* the same, F32, without data */
    size_t count;
    float *turned;       /* memory for the largest transposed tensor */
    size_t turned_index; /* whose values it holds, or `count` */
    float *row;          /* of the longest of these tensors */
} hnp_gguf_source;

/* A key, tensor or type that hone does not know is refused by name. */
hn_status hnp_gguf_source_open(hnp_gguf_source **out, const char *path, hn_error *error);
void hnp_gguf_source_free(hnp_gguf_source *source);
/* The fill of an hn_tensor_source whose context is the source. */
hn_status hnp_gguf_source_fill(void *context, float *out, size_t index, int64_t first, int64_t n, hn_error *error);

#endif
