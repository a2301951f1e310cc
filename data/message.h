/* A turn of a conversation. */
#ifndef HONE_DATA_MESSAGE_H
#define HONE_DATA_MESSAGE_H

#include <stddef.h>

typedef enum hn_role { HN_ROLE_SYSTEM, HN_ROLE_USER, HN_ROLE_ASSISTANT, HN_ROLES } hn_role;

typedef struct hn_message {
    hn_role role;
    const char *text;
    size_t length;
    const char
        *input; /* of a user's turn: what the instruction is about (an Alpaca row's "input"); NULL: none */
    size_t input_length;
} hn_message;

#endif
