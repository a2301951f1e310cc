/* Questions as a language model is asked them: ids of the text before the answer (heading, solved examples, the question) and of every
 * option behind it. */
#ifndef HONE_EVAL_PROMPTS_H
#define HONE_EVAL_PROMPTS_H

#include "data/tokenizer.h"
#include "eval/questions.h"

/* What stands behind the prompt and is scored: " A", " B", ..., as MMLU does it, or " " and the option's text. */
typedef enum hn_answer_kind { HN_ANSWER_LETTERS, HN_ANSWER_TEXTS } hn_answer_kind;

typedef struct hn_prompts_options {
    int kind;            /* hn_answer_kind */
    int64_t shots;       /* solved examples before a question: the first ones of its subject */
    const char *heading; /* before everything; may hold {subject}. NULL: MMLU's for letters, none for texts */
    const char *prompt;  /* {question}, {options} (a line each: "A. text") and {subject}. NULL: the kind's own */
    int64_t every;       /* only each so many-th question, from the first; 1: all */
    int32_t positions;   /* of the model */
} hn_prompts_options;

typedef struct hn_prompt_item {
    const hn_question *question;
    int32_t *ids;     /* [end of the last option] the context, then every option's own ids */
    int32_t context;  /* at least 1 */
    int32_t *end;     /* [option_count] where each option ends in `ids`; none is empty */
    int32_t shots;    /* fewer than asked for where the subject has fewer, or where all would not fit in the positions */
} hn_prompt_item;

typedef struct hn_prompts {
    hn_prompt_item *items; /* in the order of the questions */
    size_t count;
    int32_t longest; /* tokens of a context with one of its options */
} hn_prompts;

/* `examples` NULL: none. Borrows the questions. A format with an unknown {name}, a subject without examples, and a question that is too
 * long without any are errors. */
hn_status hn_prompts_open(hn_prompts *out, const hn_questions *questions, const hn_questions *examples, const hn_tokenizer *tokenizer,
                          const hn_prompts_options *options, hn_error *error);
void hn_prompts_close(hn_prompts *prompts);

/* Ids of option k. */
static inline const int32_t *hn_prompt_option(const hn_prompt_item *item, size_t k, int32_t *count)
{
    int32_t start = k ? item->end[k - 1] : item->context;
    *count = item->end[k] - start;
    return item->ids + start;
}

#endif
