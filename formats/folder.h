/* A Hugging Face folder: config.json, model.safetensors (or shards with an index), the tokenizer's files. A GGUF file can
 * be opened as the folder that an import (gguf_import.h) would make of it, with nothing written anywhere. */
#ifndef HONE_FORMATS_FOLDER_H
#define HONE_FORMATS_FOLDER_H

#include <jansson.h>

#include "core/digest.h"
#include "core/error.h"
#include "core/tensor.h"
#include "formats/safetensors.h"

typedef struct hn_folder hn_folder;

/* Whether a path is taken for a GGUF file: it ends in .gguf and is no folder. */
bool hn_folder_is_gguf(const char *path);
/* Opens a folder, or a GGUF file: reads the config and the headers of the weights (mapped, not copied). */
hn_status hn_folder_open(hn_folder **out, const char *path, hn_error *error);
/* A folder whose weights are not looked at and need not be there: it has no tensors. A GGUF file is opened whole. */
hn_status hn_folder_open_bare(hn_folder **out, const char *path, hn_error *error);
void hn_folder_free(hn_folder *folder);
const char *hn_folder_path(const hn_folder *folder);
/* model.safetensors, or the index of the shards, with the folder's path, or the GGUF file: for messages about tensors.
 * NULL where they were not looked at. */
const char *hn_folder_weights(const hn_folder *folder);
const json_t *hn_folder_config(const hn_folder *folder); /* borrowed */
/* Those of a GGUF file have no data: their values come from the source below. */
const hn_named_tensor *hn_folder_tensors(const hn_folder *folder, size_t *count);
/* NULL: the tensors have data. */
const hn_tensor_source *hn_folder_source(const hn_folder *folder);
/* Of all tensors: names, types, shapes, bytes as they stand in the file. */
hn_status hn_folder_digest(hn_digest *out, const hn_folder *folder, hn_error *error);
/* The bytes of one of its other files, tokenizer.json and such, NUL-terminated (hn_free); *out = NULL: it has none. */
hn_status hn_folder_read(char **out, size_t *size, const hn_folder *folder, const char *name, size_t limit, hn_error *error);
/* Ask after the tensors were read: an error when one of the files was cut short meanwhile. */
hn_status hn_folder_intact(const hn_folder *folder, hn_error *error);
/* The weights were read and are not needed for a while: their pages leave this process's memory. */
void hn_folder_idle(const hn_folder *folder);

/* Writes a folder that transformers loads into `path`, through `<parent>/.tmp-<name>` and a rename (exchange
 * when it exists): config.json from `config`, model.safetensors from `tensors`, and the tokenizer files
 * of `tokenizer_from` (those of tokenizer.json, tokenizer_config.json, special_tokens_map.json, vocab.txt, ... that
 * exist), and extra files {name, text}. */
typedef struct hn_folder_file {
    const char *name, *text;
} hn_folder_file;
hn_status hn_folder_save(const char *path, const json_t *config, const hn_named_tensor *tensors, size_t count,
                         hn_dtype dtype, const hn_folder *tokenizer_from, const hn_folder_file *extra,
                         size_t extra_count, hn_error *error);
/* The same for F32 tensors without data, whose values come from the source (core/tensor.h). tokenizer_from may be NULL: its
 * files are among the extra ones. */
hn_status hn_folder_save_from(const char *path, const json_t *config, const hn_named_tensor *tensors, size_t count,
                              const hn_tensor_source *source, hn_dtype dtype, const hn_folder *tokenizer_from,
                              const hn_folder_file *extra, size_t extra_count, hn_error *error);
/* The same, with the weights in a file of this name; the source may be NULL. */
hn_status hn_folder_save_weights(const char *path, const char *weights, const json_t *config, const hn_named_tensor *tensors,
                                 size_t count, const hn_tensor_source *source, hn_dtype dtype, const hn_folder *tokenizer_from,
                                 const hn_folder_file *extra, size_t extra_count, hn_error *error);
/* A copy of a folder that hn_folder_save wrote: its files, byte for byte, a piece at a time. */
hn_status hn_folder_copy(const char *path, const char *from, hn_error *error);

#endif
