/* Templates: how the turns of a conversation become the ids that a model is trained on, and that it is asked
 * with.
 *
 *     [begin] [system turn] [user turn] [prompt] ANSWER [user turn] [prompt] ANSWER ...
 *
 * A template is a handful of format strings. An answer is encoded apart from what stands before it, so that
 * what is trained on is what generation meets. Control tokens come out of the template's own text only: the
 * text of a message that spells one stays text. */
#ifndef HONE_DATA_TEMPLATE_H
#define HONE_DATA_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/digest.h"
#include "core/error.h"
#include "data/message.h"
#include "data/tokenizer.h"

/* Whose words are trained on: 1 << role, or everything. */
#define HN_LOSS_ANSWERS (1u << HN_ROLE_ASSISTANT)
#define HN_LOSS_ALL (1u << HN_ROLES)

/* What the files beside a model say of conversations. Owned strings; NULL: they say nothing. */
typedef struct hn_chat_source {
    char *chat;      /* chat template, as Jinja text */
    char *bos, *eos; /* tokens */
} hn_chat_source;
/* The files' texts; NULL: there is no such file. chat_template.jinja wins over the text in
 * tokenizer_config.json, and tokenizer_config.json over special_tokens_map.json. */
typedef struct hn_chat_files {
    const char *config; /* tokenizer_config.json */
    const char *tokens; /* special_tokens_map.json */
    const char *jinja;  /* chat_template.jinja */
} hn_chat_files;
/* `where` is the folder that errors name. */
hn_status hn_chat_source_init(hn_chat_source *out, const hn_chat_files *files, const char *where,
                              hn_error *error);
void hn_chat_source_close(hn_chat_source *source);

/* The user's own format strings. Each may hold {content}, {bos}, {eos}, and special tokens as they are
 * spelled; {content|trim} is without white space at its ends; {{ is a brace. */
typedef struct hn_template_turns {
    const char *begin;  /* before everything; NULL: what the tokenizer puts before any text */
    const char *system; /* NULL: conversations cannot have a system prompt */
    const char *user;   /* required */
    const char
        *input; /* for a user's turn that has an input, with {input} too; NULL: a blank line between both */
    const char *prompt;    /* between a user's turn and the answer; NULL: nothing */
    const char *assistant; /* the answer with its end: a special token or {eos} behind {content}; NULL:
                              "{content}{eos}" */
} hn_template_turns;

typedef struct hn_template_options {
    const char *name; /* one of hn_template_names; "auto" or NULL: `turns` where they are given, else the
                         model's own */
    hn_template_turns turns; /* turns.user NULL: none */
    const char *system;      /* system prompt of conversations without one; NULL: the template's; "": none */
    unsigned loss;           /* HN_LOSS_...; 0: HN_LOSS_ANSWERS */
} hn_template_options;

typedef struct hn_template hn_template;

/* Borrows the tokenizer. `source` NULL: the model says nothing. A chat template that is not known is an error
 * that names the ones to choose from; so is a token that the template needs and the tokenizer lacks. */
hn_status hn_template_open(hn_template **out, const hn_template_options *options,
                           const hn_chat_source *source, const hn_tokenizer *tokenizer, hn_error *error);
void hn_template_free(hn_template *tmpl);
const char *hn_template_name(const hn_template *tmpl); /* "chatml", ...; "own" for the user's */
hn_digest
hn_template_digest(const hn_template *tmpl); /* of all that decides ids and marks, the tokenizer aside */
const char *hn_template_names(void);         /* "alpaca, chatml, ...": for messages */
unsigned hn_template_loss(const hn_template *tmpl); /* HN_LOSS_... */
/* Ids that end an answer: the template's end token first, then the model's eos where that is another one. */
const int32_t *hn_template_stops(const hn_template *tmpl, size_t *count);

/* Ids of a conversation, grown by encode and kept between calls. One per thread. */
typedef struct hn_dialog {
    int32_t *ids;    /* [count] */
    uint16_t *marks; /* [count] 1: trained on */
    int32_t count;
    size_t capacity;
    hn_encoding encoding; /* encode's own */
    hn_strbuf run;
} hn_dialog;
void hn_dialog_init(hn_dialog *dialog);
void hn_dialog_close(hn_dialog *dialog);

/* What makes these messages no conversation for this template (roles out of order, a system prompt without a
 * place), or NULL. */
const char *hn_template_refusal(const hn_template *tmpl, const hn_message *messages, size_t count);
/* Encodes a conversation that is not refused. prompt_only: ends where the next answer of the assistant
 * begins, nothing marked. Errors: memory, and what hn_tokenizer_encode_part refuses. */
hn_status hn_template_encode(const hn_template *tmpl, hn_dialog *out, const hn_message *messages,
                             size_t count, bool prompt_only, hn_error *error);

#endif
