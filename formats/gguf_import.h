/* A GGUF file as a Hugging Face folder: llama, qwen2, qwen3, gpt2 and bert. */
#ifndef HONE_FORMATS_GGUF_IMPORT_H
#define HONE_FORMATS_GGUF_IMPORT_H

#include "core/error.h"
#include "core/tensor.h"

typedef struct hn_gguf_summary {
    const char *architecture; /* static */
    size_t tensors;
    int64_t parameters;
} hn_gguf_summary;

/* Writes config.json, model.safetensors (F32, or rounded to BF16 or F16), tokenizer.json and
 * tokenizer_config.json into `folder`, as hn_folder_save does. Values are dequantised as they are written: at
 * most one tensor stands in memory, and only one that is turned. A key, tensor, type or tokenizer that hone
 * does not know is refused by name before anything is written. */
hn_status hn_gguf_import(hn_gguf_summary *out, const char *path, const char *folder, hn_dtype dtype,
                         hn_error *error);

#endif
