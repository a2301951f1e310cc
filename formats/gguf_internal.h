/* What the files of GGUF share. Inside formats/ only. */
#ifndef HONE_FORMATS_GGUF_INTERNAL_H
#define HONE_FORMATS_GGUF_INTERNAL_H

#include <jansson.h>

#include "core/strbuf.h"
#include "formats/gguf.h"

const char *hnp_gguf_type_name(hn_gguf_type type);
/* Bytes of a number; of a string or an array, the bytes that every one has. */
int hnp_gguf_type_bytes(hn_gguf_type type);
/* A little-endian number of `size` bytes. */
uint64_t hnp_gguf_load(const unsigned char *bytes, int size);

/* How a tensor's rows stand in the file, against Hugging Face's. */
typedef enum hnp_gguf_order {
    HNP_GGUF_PLAIN,
    HNP_GGUF_TRANSPOSED,
    HNP_GGUF_ROTATED, /* rows of a head: x0 y0 x1 y1 ... here, x0 x1 ... y0 y1 ... there */
} hnp_gguf_order;

/* A tensor by both its names. Shapes are strings of letters: see size_of in gguf_model.c. */
typedef struct hnp_gguf_rule {
    const char *gguf; /* behind "blk.N." when it stands in a layer */
    const char *name; /* behind the family's prefix of a layer; NULL: not a tensor there */
    const char *shape;
    hnp_gguf_order order;
    bool layered, optional;
} hnp_gguf_rule;

typedef struct hnp_gguf_family {
    const char *architecture, *model_type, *class_name;
    const char *layer_prefix;   /* before "N." */
    const char *pre;            /* tokenizer.ggml.pre of files that say none; NULL: they are refused */
    const hnp_gguf_rule *rules; /* up to one without a name in the file */
} hnp_gguf_family;

/* A model's sizes, as the keys tell them. */
typedef struct hnp_gguf_model {
    const hn_gguf *file;
    const hnp_gguf_family *family;
    int64_t layers, width, inner, heads, kv_heads, head_size, positions, vocabulary, types;
    bool tied; /* the head is the embedding */
} hnp_gguf_model;

/* A tensor of the import: its name (owned), Hugging Face's shape, and where it comes from. */
typedef struct hnp_gguf_import_tensor {
    char *name;
    const hn_gguf_tensor *from;
    hnp_gguf_order order;
    int64_t head_size; /* rows of a head, for HNP_GGUF_ROTATED */
} hnp_gguf_import_tensor;

/* The key "ARCHITECTURE.name". */
typedef struct hnp_gguf_key {
    char text[128];
} hnp_gguf_key;
hnp_gguf_key hnp_gguf_key_of(const hnp_gguf_model *model, const char *name);

/* Sizes and their bounds; keys of the architecture that are not known are refused. */
hn_status hnp_gguf_model_read(hnp_gguf_model *out, const hn_gguf *file, hn_error *error);
/* Every tensor of the file by its other name, all that the family needs, each of its shape. On failure too
 * the caller frees what was made. */
hn_status hnp_gguf_model_tensors(hnp_gguf_import_tensor **out, size_t *count, const hnp_gguf_model *model,
                                 hn_error *error);
void hnp_gguf_tensors_free(hnp_gguf_import_tensor *tensors, size_t count);

hn_status hnp_gguf_config(json_t **out, const hnp_gguf_model *model, hn_dtype dtype, hn_error *error);

/* tokenizer.json and tokenizer_config.json. */
hn_status hnp_gguf_tokenizer(hn_strbuf *tokenizer, hn_strbuf *config, const hnp_gguf_model *model,
                             hn_error *error);

/* A special token's id by the key that names it; -1: the file names none. */
typedef enum hnp_gguf_special {
    HNP_GGUF_BOS,
    HNP_GGUF_EOS,
    HNP_GGUF_UNK,
    HNP_GGUF_PAD,
    HNP_GGUF_CLS,
    HNP_GGUF_SEP,
    HNP_GGUF_MASK,
    HNP_GGUF_SPECIALS
} hnp_gguf_special;
extern const char *const hnp_gguf_special_names[HNP_GGUF_SPECIALS]; /* "bos_token", ... */
hn_status hnp_gguf_special_ids(int64_t ids[HNP_GGUF_SPECIALS], const hnp_gguf_model *model, hn_error *error);

#endif
