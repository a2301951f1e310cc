/* Regular expressions of tokenizer.json, by PCRE2 with its JIT. Shared inside data/.
 *
 * The reference runs them through Oniguruma (Ruby's syntax). What means the same in both is taken as it
 * stands; \s, \S and \w are spelled out, since the two libraries take different characters for them; what
 * differs otherwise (\h, \b, nested classes, (?m), {,3}) is refused by name, and so are back references. */
#ifndef HONE_DATA_REGEX_H
#define HONE_DATA_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

typedef struct hnp_regex hnp_regex;

/* What a thread needs to match. */
typedef struct hnp_regex_room {
    void *data, *context, *stack; /* of PCRE2; NULL before the first match */
    size_t left;          /* steps that the text has left */
    size_t start, last;   /* where a match is tried, and where the last step was taken */
    const hnp_regex *regex; /* that is matched now */
} hnp_regex_room;

hn_status hnp_regex_open(hnp_regex **out, const char *pattern, const char *where, hn_error *error);
void hnp_regex_free(hnp_regex *regex);

typedef enum hnp_regex_result {
    HNP_REGEX_NONE,
    HNP_REGEX_FOUND,
    HNP_REGEX_MEMORY,
    HNP_REGEX_LIMIT
} hnp_regex_result;
/* A text of `length` bytes begins: the steps that all its matches may take together. */
void hnp_regex_room_bound(hnp_regex_room *room, size_t length);
/* The leftmost match in text[from, length), valid UTF-8. LIMIT: it took too many steps. */
hnp_regex_result hnp_regex_find(const hnp_regex *regex, hnp_regex_room *room, const char *text, size_t length,
                                size_t from, size_t *start, size_t *end);
void hnp_regex_room_close(hnp_regex_room *room);

#endif
