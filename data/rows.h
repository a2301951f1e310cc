/* What a reader gives and how bad rows are dealt with; shared by the readers (JSON, tables), labels and the
 * encoder. */
#ifndef HONE_DATA_ROWS_H
#define HONE_DATA_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "data/message.h"

/* One labelled text or pair of texts. Everything is borrowed from the reader until its next row. */
typedef struct hn_row {
    const char *text;
    size_t text_length;
    const char *pair; /* NULL: no second text */
    size_t pair_length;
    const char *label; /* as it stands in the file; NULL: none */
    const char *path;
    int64_t line; /* where the row begins, from 1 */
    int32_t file; /* number of the file, from 0 */
    /* A document that comes in pieces (plain text): this is not its first; more of it follow. */
    bool continues, unfinished;
    /* Of a row that is a conversation, or words with their tags as `input` (then there is no text). */
    const hn_message *messages;
    size_t message_count;
    /* Of a row that is a question with options (then `text` is the question). */
    const char *const *options; /* [option_count] */
    size_t option_count;
    int32_t answer;      /* the right one's number, from 0 */
    const char *subject; /* NULL: the row says nothing of it */
} hn_row;

/* The names of a question's fields; NULL: the usual ones, whichever a row has. */
typedef struct hn_question_fields {
    const char *question; /* "question" */
    const char *options;  /* "choices", "options" or "endings": strings, or {"text": strings, "label": their names} */
    const char *answer;   /* "answer", "answerKey" or "label": a letter or name, a number from 0, or the option itself */
    const char *subject;  /* "subject"; may be missing */
} hn_question_fields;
#define HN_MAX_OPTIONS 26 /* they are called A to Z */

/* How a row holds a conversation. */
typedef enum hn_turn_kind {
    HN_TURNS_AUTO,     /* told by the fields of each file's first row */
    HN_TURNS_ALPACA,   /* {"instruction", "input" (may be left out), "output"} */
    HN_TURNS_MESSAGES, /* {"messages": [{"role", "content"}, ...]} or {"conversations": [{"from", "value"}, ...]} */
    HN_TURNS_PROMPT    /* {"prompt", "completion"} */
} hn_turn_kind;

/* The names of its fields. */
typedef struct hn_turn_fields {
    int kind; /* hn_turn_kind */
    const char *instruction, *input, *output, *messages, *prompt, *completion; /* messages NULL: either name */
} hn_turn_fields;

typedef enum hn_bad_kind {
    HN_BAD_SYNTAX,   /* not JSON, quotes that do not pair up */
    HN_BAD_ENCODING, /* not UTF-8 */
    HN_BAD_NUL,
    HN_BAD_LONG,    /* over HN_ROW_BYTES */
    HN_BAD_COLUMNS, /* another number of columns than the header's */
    HN_BAD_MISSING, /* a field is not there */
    HN_BAD_TYPE,    /* a field is there, as something else than text (or a number, for labels) */
    HN_BAD_LABEL,   /* not one of the labels */
    HN_BAD_TURNS,   /* no conversation that the template takes */
    HN_BAD_TOKENS,  /* over data.max_tokens, where those are left out */
    HN_BAD_NOTHING, /* nothing in it is trained on */
    HN_BAD_REFUSED, /* the tokenizer refuses its text */
    HN_BAD_EMPTY,   /* a file without a row (counts files, not rows) */
    HN_BAD_KINDS
} hn_bad_kind;

#define HN_ROW_BYTES ((size_t)16 << 20) /* a longer row is a bad row, and memory stays bounded */
#define HN_BAD_MESSAGE 320

/* Bad rows so far: how many of each kind, and the message of the first. */
typedef struct hn_bad_rows {
    bool skip; /* data.on_bad_row: false stops at the first */
    int64_t count[HN_BAD_KINDS];
    char first[HN_BAD_KINDS][HN_BAD_MESSAGE]; /* printable UTF-8 */
} hn_bad_rows;

/* Counts a bad row. The message becomes "PATH:LINE: ...". HN_OK when rows are skipped, else the error. */
hn_status hn_bad_row(hn_bad_rows *bad, hn_bad_kind kind, const char *path, int64_t line, hn_error *error,
                     const char *format, ...) __attribute__((format(printf, 6, 7)));
const char *hn_bad_kind_name(hn_bad_kind kind);    /* "not UTF-8", ... */
int64_t hn_bad_rows_count(const hn_bad_rows *bad); /* rows of all kinds (not files) */

/* Copies what fits, with whatever is not printable or not UTF-8 as \xNN. */
void hnp_printable(char *out, size_t capacity, const char *text);

#endif
