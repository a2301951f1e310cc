/* Shared inside data/: the templates that hone knows by name, and telling which one a model's chat template
 * is. */
#ifndef HONE_DATA_TEMPLATE_SHAPES_H
#define HONE_DATA_TEMPLATE_SHAPES_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

/* The format strings of a template (template.h says what they may hold). */
typedef enum hnp_turn {
    HNP_TURN_BEGIN,
    HNP_TURN_SYSTEM,
    HNP_TURN_OPENING, /* the first user's turn behind a system prompt, for templates that put it there:
                         {system} */
    HNP_TURN_USER,
    HNP_TURN_INPUT,
    HNP_TURN_PROMPT,
    HNP_TURN_ASSISTANT,
    HNP_TURNS
} hnp_turn;

typedef struct hnp_shape {
    const char *name;
    const char *turn[HNP_TURNS]; /* NULL: not given */
    const char *system;          /* system prompt of conversations without one; NULL: none */
    const char *system_input;    /* the same where the first turn has an input; NULL: no other */
    bool alternate;              /* user and assistant by turns, a system prompt at the beginning only */
    const char *needs[3];        /* special tokens without which it makes no sense */
} hnp_shape;

const hnp_shape *hnp_shape_find(const char *name); /* NULL: none of that name */
/* The names of all, with commas between. */
const char *hnp_shape_names(void);

/* Which shape a chat template (Jinja) is; NULL: not known. *system: the system prompt that it puts in by
 * itself (hn_free), or NULL. Out of memory is an error. */
hn_status hnp_shape_recognise(const hnp_shape **out, char **system, const char *jinja, hn_error *error);

#endif
