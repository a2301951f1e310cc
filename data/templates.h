/* Shared by the files of templates: a template when its strings are taken apart. */
#ifndef HONE_DATA_TEMPLATES_H
#define HONE_DATA_TEMPLATES_H

#include "data/template.h"
#include "data/template_shapes.h"

typedef enum hnp_part_kind {
    HNP_PART_TEXT,
    HNP_PART_TOKEN,
    HNP_PART_CONTENT,
    HNP_PART_INPUT,
    HNP_PART_SYSTEM
} hnp_part_kind;

/* One part of a format string. */
typedef struct hnp_part {
    hnp_part_kind kind;
    int32_t id;          /* TOKEN */
    size_t from, length; /* TEXT: in hn_template.texts */
    bool trim_left,
        trim_right; /* placeholders: white space at its ends goes; TOKEN: it takes that beside it along */
} hnp_part;

typedef struct hnp_parts {
    bool given;
    hnp_part *items;
    size_t count, capacity;
    size_t words,
        end; /* parts [words, end) are what is trained on where this role is: the message and its end token */
} hnp_parts;

struct hn_template {
    const hn_tokenizer *tokenizer;
    const char *name; /* static */
    hn_strbuf texts;
    hnp_parts turn[HNP_TURNS];
    char *system, *system_input; /* NULL: none */
    bool alternate;
    unsigned loss;
    int32_t *tokens; /* [token_count] that its strings hold: no text may spell them */
    size_t token_count, token_capacity;
    int32_t stops[2];
    size_t stop_count;
    hn_digest digest;
};

/* template_parse.c: takes a format string apart. bos and eos are ids, -1: the model names none. */
hn_status hnp_parts_parse(hn_template *tmpl, hnp_turn turn, const char *text, int32_t bos, int32_t eos,
                          hn_error *error);

#endif
