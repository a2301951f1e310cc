/* Reading tokenizer.json: what its readers share. Shared inside data/. */
#ifndef HONE_DATA_TOKENIZER_JSON_H
#define HONE_DATA_TOKENIZER_JSON_H

#include "data/tokenizer_stages.h"

typedef struct hnp_reader {
    hn_tokenizer *tokenizer;
    const char *name; /* of the file */
    hn_error *error;
} hnp_reader;

/* The place of a member, "FILE: path", for messages. */
typedef struct hnp_place {
    char text[512];
} hnp_place;

hnp_place hnp_json_at(const hnp_reader *from, const char *path);
hnp_place hnp_json_at_item(const hnp_reader *from, const char *path, size_t index);
/* "FILE: path: hone reads KNOWN, got ..." */
hn_status hnp_json_refuse(const hnp_reader *from, const char *path, const char *got, const char *known);
/* The "type" of a stage; NULL for a stage that is null or missing. */
hn_status hnp_json_type(const char **type, const json_t *stage, const hnp_reader *from, const char *path);

/* tokenizer_json_model.c */
hn_status hnp_json_model(const hnp_reader *from, const json_t *root);
/* tokenizer_json_stages.c */
hn_status hnp_json_normalizer(const hnp_reader *from, const json_t *root);
hn_status hnp_json_pre_tokenizer(const hnp_reader *from, const json_t *root);
hn_status hnp_json_decoder(const hnp_reader *from, const json_t *root);
/* A list of steps: the stage itself, or the items of nested Sequences; `key` is their member. Each is given
 * to `read` with its place, at most HNP_MAX_STEPS. */
typedef hn_status hnp_step_reader(const hnp_reader *from, const json_t *stage, const char *type,
                                  const char *path);
hn_status hnp_json_steps(const hnp_reader *from, const json_t *stage, const char *path, const char *key,
                         hnp_step_reader *read);

#endif
