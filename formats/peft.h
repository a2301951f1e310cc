/* PEFT's folder of a LoRA adapter: adapter_config.json and adapter_model.safetensors. As untrusted as any (formats/README.md). What
 * the config asks for and hone lacks (DoRA, a rank of its own for some modules, ...) is refused by the field's name. */
#ifndef HONE_FORMATS_PEFT_H
#define HONE_FORMATS_PEFT_H

#include <jansson.h>
#include <stdbool.h>

#include "core/error.h"
#include "core/tensor.h"
#include "formats/folder.h"

typedef struct hn_peft_config {
    const char *base;      /* base_model_name_or_path, or NULL */
    const char *task_type; /* "CAUSAL_LM", "SEQ_CLS", ... or NULL */
    int rank;
    double alpha, dropout;
    bool rank_stabilised;
    bool turned; /* fan_in_fan_out: the base's matrices stand as [in, out] (GPT-2) */
    const char *const *targets; /* names of modules, or their last words; or "all-linear" alone */
    int target_count;
    const char *const *saved; /* modules_to_save */
    int saved_count;
} hn_peft_config;

typedef struct hn_peft hn_peft;

/* Whether a folder holds an adapter: adapter_config.json, and no weights of a whole model. */
bool hn_peft_is_folder(const char *path);
/* Reads the config and the headers of the weights (mapped, not copied). */
hn_status hn_peft_open(hn_peft **out, const char *path, hn_error *error);
void hn_peft_free(hn_peft *peft);
/* The config on its own; `out` borrows from `root`, and its lists from *lists (hn_free). `where` names it in errors. */
hn_status hn_peft_config_read(hn_peft_config *out, const char ***lists, const json_t *root, const char *where, hn_error *error);
const hn_peft_config *hn_peft_get_config(const hn_peft *peft);
const char *hn_peft_weights(const hn_peft *peft); /* the path of the weights, for messages */
const hn_named_tensor *hn_peft_tensors(const hn_peft *peft, size_t *count);
/* Ask after the tensors were read: an error when the file was cut short meanwhile. */
hn_status hn_peft_intact(const hn_peft *peft, hn_error *error);

/* Writes a folder that PEFT loads, as hn_folder_save_from: beside the adapter's two files the base's config.json as `model` has
 * it and the tokenizer's files. Tensors are F32 without data and come from the source. */
hn_status hn_peft_save(const char *path, const hn_peft_config *config, const json_t *model, const hn_named_tensor *tensors,
                       size_t count, const hn_tensor_source *source, const hn_folder *tokenizer_from, hn_error *error);

#endif
