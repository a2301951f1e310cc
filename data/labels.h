/* Labels: from what stands in a row to a class number or a regression target.
 *
 * Three parties name classes: the config (task.labels), the model (id2label of its config.json) and the data.
 * The model's numbers win, because its head was trained with them; names are what ties the three together. A
 * swapped order is therefore mapped by name, and different names are refused; nothing is trained on a guess.
 */
#ifndef HONE_DATA_LABELS_H
#define HONE_DATA_LABELS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/config.h"
#include "core/digest.h"
#include "core/error.h"

typedef struct hn_labels hn_labels;

typedef struct hn_labels_options {
    const char *const *names; /* task.labels, in the user's order; count 0: the model's */
    int32_t count;
    const char *const *model_names; /* id2label by id; NULL or LABEL_0, LABEL_1, ...: the model names none */
    int32_t model_count;
    const hn_map *map; /* data.label_map: what stands in the data -> a name or number; NULL: none */
    const char *map_key; /* the key that `map` is of, for messages; NULL: data.label_map */
    bool regression;   /* labels are finite numbers; names are not used */
} hn_labels_options;

/* Copies what it needs. Errors: a name twice, names that differ from the model's, no names at all, a map to
 * nowhere. */
hn_status hn_labels_open(hn_labels **out, const hn_labels_options *options, hn_error *error);
void hn_labels_free(hn_labels *labels);

int32_t hn_labels_count(const hn_labels *labels); /* classes; 1 for regression */
const char *hn_labels_name(const hn_labels *labels,
                           int32_t label); /* final order: the model's where it names them */
bool hn_labels_regression(const hn_labels *labels);
bool hn_labels_remapped(const hn_labels *labels);    /* the config's order differs from the model's */
hn_digest hn_labels_digest(const hn_labels *labels); /* of all that decides what resolve gives */

typedef enum hn_label_kind { HN_LABEL_NONE, HN_LABEL_CLASS, HN_LABEL_VALUE, HN_LABEL_BAD } hn_label_kind;

/* What a row's label means: a name; else a number, which counts in the config's list when there is one, else
 * in the model's.
 * "-" and (for classes) "-1" mark a row without a label. HN_LABEL_BAD: none of these. */
hn_label_kind hn_labels_resolve(const hn_labels *labels, const char *text, int32_t *label, float *value);
/* "one of entailment, neutral, contradiction, or its number 0 to 2": for messages. At most `size` bytes. */
void hn_labels_describe(const hn_labels *labels, char *out, size_t size);

#endif
