/* A data set: examples already encoded, in the token cache, and the batches of an epoch. The way there is
 *
 *     files -> reader (data/reader.h) -> rows -> encode (data/tokenizer.h) -> token cache (data/cache.h) ->
 * this
 *
 * Examples are numbered 0, 1, 2, ... in file order over all files; that number keys random numbers and is
 * what batches carry. */
#ifndef HONE_DATA_DATASET_H
#define HONE_DATA_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/batch.h"
#include "core/digest.h"
#include "core/error.h"
#include "data/config.h"
#include "data/labels.h"
#include "data/rows.h"
#include "data/template.h"
#include "data/tokenizer.h"

typedef struct hn_dataset hn_dataset;

/* What an example is, and what of it is trained on. */
typedef enum hn_data_task {
    HN_DATA_SEQUENCE, /* a text or a pair, with one label */
    HN_DATA_TEXT,     /* a block of a document: every token is predicted from those before it */
    HN_DATA_INSTRUCT, /* a conversation by a template: its answers are predicted, token by token */
    HN_DATA_TAGS,     /* words, each with a tag that its first token is given */
    HN_DATA_MASKED,   /* a block of a document with special tokens: some tokens are hidden, and predicted from all others */
} hn_data_task;

/* How files become examples, beside what the config says. */
typedef struct hn_dataset_options {
    hn_data_task task;
    const hn_labels *labels; /* of SEQUENCE and TAGS; NULL: labels are not read (predict), and files without rows are fine */
    const hn_template *chat; /* of INSTRUCT */
    int32_t end_token;       /* of TEXT: stands behind every document that does not end with it; -1: none does */
    const char *cache_folder; /* NULL: the tokens stay in memory */
    uint64_t *pulse;          /* hn_pulse while rows are encoded; NULL: nobody looks */
} hn_dataset_options;

/* What reading the files found; stored in the cache, so that a warm start says the same. */
typedef struct hn_data_report {
    int64_t rows; /* in the files: examples (of TEXT: documents) + skipped + unlabeled */
    int64_t examples;
    int64_t skipped;   /* bad rows that were passed over */
    int64_t unlabeled; /* rows whose label is -1 or "-" */
    int64_t truncated; /* examples cut to data.max_tokens */
    int64_t tokens;
    int32_t longest;
    bool cached;     /* read from the token cache */
    hn_bad_rows bad; /* by kind, with the first of each */
    char note[512];  /* why a cache that was there could not be used, or "" */
} hn_data_report;

/* Reads and encodes the files, by the fields and options of `config`. A cache in options->cache_folder is used
 * when it is of just these files, tokenizer and options, and is made (or made anew) when not. "-" is standard
 * input, never cached. No example at all is an error, except for SEQUENCE without labels. Nothing is borrowed
 * but during the call. */
hn_status hn_dataset_open(hn_dataset **out, const hn_data_config *config, const hn_list *files,
                          const hn_tokenizer *tokenizer, const hn_dataset_options *options, hn_error *error);

/* The same from texts in memory, without labels. */
typedef struct hn_texts {
    const char *const *texts, *const *pairs; /* [count]; pairs NULL: single texts */
    int64_t count;
    bool whole_pairs;                        /* only `texts` are cut; a pair that does not fit is an error */
} hn_texts;
hn_status hn_dataset_open_texts(hn_dataset **out, const hn_texts *from, const hn_tokenizer *tokenizer, int32_t max_tokens,
                                int threads, hn_error *error);

const hn_data_report *hn_dataset_report(const hn_dataset *dataset);

/* File and line an example came from; the path is borrowed. */
int64_t hn_dataset_line(const hn_dataset *dataset, int64_t example, const char **path);
int32_t hn_dataset_label(const hn_dataset *dataset, int64_t example); /* class, or HN_NO_TARGET */

/* What `hone data` shows beyond the report; costs a pass over all tokens and 16 bytes an example while it
 * runs. */
#define HN_SURVEY_BINS 16
typedef struct hn_data_survey {
    int32_t bin_width;            /* lengths 1 .. bin_width are in the first bin */
    int64_t bins[HN_SURVEY_BINS]; /* examples by length */
    int64_t duplicates;           /* examples whose tokens all stood in an earlier one */
    int64_t conflicts;            /* of these, with another label */
    int64_t targets;              /* tokens that are trained on; of SEQUENCE the examples */
} hn_data_survey;
/* label_counts[labels]: examples of each class, or NULL. */
hn_status hn_dataset_survey(const hn_dataset *dataset, hn_data_survey *out, int64_t *label_counts,
                            int32_t labels, hn_error *error);

/* How many examples of `dataset` stand in `other` too, token by token, and the first of them (-1: none). Both have the same
 * tokenizer. Costs as a survey of both. */
hn_status hn_dataset_overlap(const hn_dataset *dataset, const hn_dataset *other, int64_t *count, int64_t *first,
                             hn_error *error);

int64_t hn_dataset_count(const hn_dataset *dataset);  /* examples */
int64_t hn_dataset_tokens(const hn_dataset *dataset); /* of all examples */
int32_t hn_dataset_longest(const hn_dataset *dataset);
int32_t hn_dataset_length(const hn_dataset *dataset, int64_t example); /* tokens of one */
hn_digest hn_dataset_digest(const hn_dataset *dataset); /* of data files, tokenizer and options */
void hn_dataset_free(hn_dataset *dataset);

/* The batches of one epoch: examples are shuffled by (seed, epoch), sorted by length inside windows of
 * `window` batches so that batches are of like lengths (0: never sorted, as for evaluation in file order),
 * cut so that no batch has more than `batch_tokens` tokens or `batch_examples` examples, and the batches are
 * shuffled. A pure function of its arguments. */
typedef struct hn_order_options {
    uint64_t seed;
    int64_t epoch;
    int32_t batch_tokens, batch_examples;
    int32_t window;
    bool shuffle; /* false: file order */
} hn_order_options;

typedef struct hn_order hn_order;
/* An example of more than batch_tokens tokens is an error that names it and the knobs. */
hn_status hn_order_open(hn_order **out, const hn_dataset *dataset, const hn_order_options *options,
                        hn_error *error);
void hn_order_free(hn_order *order);
int64_t hn_order_batches(const hn_order *order);
/* Examples of batch `index`, in order (borrowed). */
const uint32_t *hn_order_examples(const hn_order *order, int64_t index, int32_t *count);

/* What the random choices of a batch are keyed by, for tasks that have any. */
typedef struct hn_draw {
    uint64_t seed;
    uint32_t step;
} hn_draw;

/* How many targets these examples have together, as hn_dataset_fill with this draw (NULL: of zeros) gives them: what
 * a step's loss is divided by, before its first slice. Of SEQUENCE: the examples. */
int64_t hn_dataset_targets(const hn_dataset *dataset, const uint32_t *examples, int32_t count,
                           const hn_draw *draw);

/* How many rows these examples have in a batch in which they share them: of INSTRUCT, an example begins with rows of an earlier
 * one as far as their tokens are the same and nothing is trained on there. Of other tasks, all their tokens. */
int32_t hn_dataset_shared_rows(const hn_dataset *dataset, const uint32_t *examples, int32_t count);

/* Host arrays of a batch, for at most the bounds given. */
typedef struct hn_batch_buffer {
    hn_batch batch; /* host pointers into `memory` */
    void *memory;
    size_t size;
    int32_t *target;          /* [tokens] what batch.target points to, for tasks that have targets */
    int32_t *key_row;         /* [keys] what batch.key_row points to, when rows are shared */
    int32_t tokens, examples, keys; /* bounds: rows, examples, and tokens of all examples together (0: rows are not shared) */
    hn_draw draw;             /* set before a fill */
} hn_batch_buffer;
hn_status hn_batch_buffer_init(hn_batch_buffer *buffer, int32_t tokens, int32_t examples, hn_error *error);
/* Examples that begin alike share rows, of which there are up to `tokens`. */
hn_status hn_batch_buffer_init_shared(hn_batch_buffer *buffer, int32_t tokens, int32_t examples, int32_t keys, hn_error *error);
void hn_batch_buffer_close(hn_batch_buffer *buffer);
/* Fills the buffer with these examples, end to end; more than the buffer holds is an error. batch.target[t] is,
 * of TEXT and INSTRUCT, the token at t + 1 of the same example when that one is trained on, else HN_NO_TARGET;
 * of TAGS the tag of the word that begins at t (0 where tags are not read), of MASKED the token that was hidden at t, by the buffer's draw; NULL for SEQUENCE. */
hn_status hn_dataset_fill(const hn_dataset *dataset, hn_batch_buffer *buffer, const uint32_t *examples,
                          int32_t count, hn_error *error);

#endif
