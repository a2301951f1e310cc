/* A MODEL as users name it: a Hugging Face folder, a .gguf file, a PEFT folder (the base that it names, with its adapter), or a run
 * folder (its best, else its final weights). */
#ifndef HONE_INFER_SOURCE_H
#define HONE_INFER_SOURCE_H

#include "core/digest.h"
#include "core/error.h"
#include "data/template.h"
#include "data/tokenizer.h"
#include "formats/folder.h"
#include "formats/peft.h"
#include "models/model.h"

typedef struct hn_source {
    char *path; /* the Hugging Face folder or GGUF file that was opened: of an adapter its base */
    hn_folder *folder;
    hn_peft *adapter;   /* NULL: none */
    char *adapter_path; /* its folder, or NULL */
    json_t *own_config; /* the config.json beside it, which says its head and labels, or NULL */
    hn_tokenizer *tokenizer;
    hn_model_config config; /* head and labels as the checkpoint says: labels 0 when it has no head */
    char **labels;          /* [label_count] id2label in order; NULL when it has none or only LABEL_0, LABEL_1, ... */
    int32_t end_token;      /* the (first) id of config.json's eos_token_id that the tokenizer has; -1: none */
    int label_count;        /* outputs of the checkpoint's head, 0: it has none */
} hn_source;

/* The adapters that a PEFT folder holds, as a model's config asks for them; the lists stay the folder's. */
static inline hn_lora_config hn_lora_of_peft(const hn_peft_config *from)
{
    return (hn_lora_config){.rank = from->rank,
                            .alpha = (float)from->alpha,
                            .dropout = (float)from->dropout,
                            .rank_stabilised = from->rank_stabilised,
                            .targets = from->targets,
                            .target_count = from->target_count,
                            .saved = from->saved,
                            .saved_count = from->saved_count};
}

/* The Hugging Face folder that a MODEL stands for (hn_free): of a run folder best/, else final/; another path is itself. */
hn_status hn_source_resolve(char **out, const char *path, hn_error *error);
hn_status hn_source_open(hn_source **out, const char *path, hn_error *error);
/* With the adapter of a PEFT folder on it, whatever base that one names. NULL, or a path that is an adapter itself: as
 * hn_source_open. */
hn_status hn_source_open_with(hn_source **out, const char *path, const char *adapter, hn_error *error);
/* Config and tokenizer alone: what training from scratch starts from. */
hn_status hn_source_open_bare(hn_source **out, const char *path, hn_error *error);
/* config.json as it describes the model with its adapter. */
const json_t *hn_source_config(const hn_source *source);
/* Of all weights, the adapter's with them. */
hn_status hn_source_digest(hn_digest *out, const hn_source *source, hn_error *error);
/* Only the tokenizer of a MODEL; its folder needs no weights. */
hn_status hn_source_open_tokenizer(hn_tokenizer **out, const char *path, hn_error *error);
/* The template of conversations with this model (hn_template_free, before the source); hn_data_template gives the options. */
hn_status hn_source_template(hn_template **out, const hn_template_options *options, const hn_source *source, hn_error *error);
/* The ids (hn_free) that end an answer: the template's (NULL: none), and those of eos_token_id in generation_config.json, or where
 * there is none in the config, some of which may be among them; *count 0: nothing does. */
hn_status hn_source_stops(int32_t **out, size_t *count, const hn_source *source, const hn_template *tmpl, hn_error *error);
/* The model of an encoder's checkpoint with a head that predicts hidden tokens. */
hn_status hn_source_masked(hn_model_config *out, const hn_source *source, hn_error *error);
void hn_source_free(hn_source *source);

#endif
