/* GGUF, the file of llama.cpp and its kin: typed keys, a table of tensors, then the tensors' bytes, quantised
 * or not. Versions 2 and 3, little endian. Read by mapping; every count and length is checked against the
 * bytes that are there before it is believed. What the keys mean to a model is not known here
 * (gguf_import.h). */
#ifndef HONE_FORMATS_GGUF_H
#define HONE_FORMATS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/tensor.h"
#include "formats/gguf_dequantise.h"

typedef struct hn_gguf hn_gguf;

/* A value's type, by the numbers of the format. */
typedef enum hn_gguf_type {
    HN_GGUF_U8,
    HN_GGUF_I8,
    HN_GGUF_U16,
    HN_GGUF_I16,
    HN_GGUF_U32,
    HN_GGUF_I32,
    HN_GGUF_F32,
    HN_GGUF_BOOL,
    HN_GGUF_STRING,
    HN_GGUF_ARRAY,
    HN_GGUF_U64,
    HN_GGUF_I64,
    HN_GGUF_F64,
    HN_GGUF_TYPES
} hn_gguf_type;

/* A value as it stands in the file, checked. `bytes` is not aligned. Arrays lie item by item, a string among
 * them as its length (u64) and its bytes, an array among them as type (u32), length (u64) and items. */
typedef struct hn_gguf_value {
    hn_gguf_type type;
    hn_gguf_type item;          /* of an array */
    uint64_t count;             /* items of an array, bytes of a string, else 1 */
    const unsigned char *bytes; /* the first item, the text, or the number */
    size_t size;                /* of all of it */
} hn_gguf_value;

typedef struct hn_gguf_entry {
    const char *key;
    hn_gguf_value value;
} hn_gguf_entry;

/* UTF-8 without NUL, not terminated; a view into the file. */
typedef struct hn_gguf_text {
    const char *text;
    size_t length;
} hn_gguf_text;

/* A tensor's dimensions stand as in the rest of hone, the longest stride first (the file has them the other
 * way).
 */
typedef struct hn_gguf_tensor {
    const char *name;
    hn_gguf_quant type;
    int rank;
    int64_t shape[HN_MAX_RANK]; /* 1 behind the rank */
    uint64_t offset;            /* from where the file's data begin */
    const unsigned char *data;
    size_t size;
} hn_gguf_tensor;

/* Opens and checks a file; all that is given out are views until free. Keys and tensors are sorted by name.
 */
hn_status hn_gguf_open(hn_gguf **out, const char *path, hn_error *error);
/* The same on bytes in memory (borrowed until free); `name` is what errors call it. */
hn_status hn_gguf_open_bytes(hn_gguf **out, const unsigned char *bytes, size_t size, const char *name,
                             hn_error *error);
void hn_gguf_free(hn_gguf *file);
const char *hn_gguf_path(const hn_gguf *file); /* for messages */
const hn_gguf_entry *hn_gguf_entries(const hn_gguf *file, size_t *count);
const hn_gguf_tensor *hn_gguf_tensors(const hn_gguf *file, size_t *count);
const hn_gguf_value *hn_gguf_value_find(const hn_gguf *file, const char *key);    /* NULL: missing */
const hn_gguf_tensor *hn_gguf_tensor_find(const hn_gguf *file, const char *name); /* NULL: missing */

/* Values, checked. A missing key leaves *out as it is and returns HN_OK, so that defaults stand before the
 * call; another type, or a value out of range, is an error that names file, key, expected and got. An int is
 * any whole type, a double F32 or F64. */
hn_status hn_gguf_get_int(int64_t *out, const hn_gguf *file, const char *key, int64_t min, int64_t max,
                          hn_error *error);
hn_status hn_gguf_get_double(double *out, const hn_gguf *file, const char *key, double min, double max,
                             hn_error *error);
hn_status hn_gguf_get_bool(bool *out, const hn_gguf *file, const char *key, hn_error *error);
hn_status hn_gguf_get_string(hn_gguf_text *out, const hn_gguf *file, const char *key, hn_error *error);
/* Arrays, as memory of the caller's (hn_free); a missing key leaves *out and *count as they are. */
hn_status hn_gguf_get_strings(hn_gguf_text **out, size_t *count, const hn_gguf *file, const char *key,
                              hn_error *error);
hn_status hn_gguf_get_ints(int64_t **out, size_t *count, const hn_gguf *file, const char *key,
                           hn_error *error);
hn_status hn_gguf_get_doubles(double **out, size_t *count, const hn_gguf *file, const char *key,
                              hn_error *error);
/* An error when the key is missing. */
hn_status hn_gguf_require(const hn_gguf *file, const char *key, hn_error *error);

/* Ask after the tensors were read: an error when the file was cut short meanwhile (its missing bytes read as
 * zeros). */
hn_status hn_gguf_intact(const hn_gguf *file, hn_error *error);
/* Gives the pages of the tensors back until they are read again (hn_mapping_idle). */
void hn_gguf_idle(const hn_gguf *file);

#endif
