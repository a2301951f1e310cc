/* Questions with options, read whole into memory, in groups of one subject. */
#ifndef HONE_EVAL_QUESTIONS_H
#define HONE_EVAL_QUESTIONS_H

#include "core/config.h"
#include "data/rows.h"

typedef struct hn_question {
    const char *text;            /* without white space at its ends */
    const char *const *options;  /* [option_count] */
    size_t option_count;
    int32_t answer;              /* from 0 */
    const char *subject;         /* the row's own, else the file's name without its ending and _dev, _val, _test or _train */
    const char *path;
    int64_t line;
    void *memory; /* all of it */
} hn_question;

typedef struct hn_questions {
    hn_question *items;
    size_t count, capacity;
    hn_bad_rows bad;
} hn_questions;

/* Reads the files; of a folder all whose names end as one of the readers' formats does, by name. Questions of a subject
 * come one behind the other, subjects in the order of their first question. skip: bad rows are counted in out->bad and passed over. None
 * at all is an error, which names the key `where`. */
hn_status hn_questions_open(hn_questions *out, const hn_list *files, const hn_question_fields *fields, bool skip, const char *where,
                            hn_error *error);
void hn_questions_close(hn_questions *questions);

#endif
