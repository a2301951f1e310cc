/* Text from a language model: prompts in, answers out, a token at a time.
 *
 *     hn_generator_open -> hn_generator_alloc -> hn_generate (any number of times) -> hn_generator_free
 *
 * It stands on a runner that was opened with evaluation bounds of at least hn_generator_bounds and that others may use in between,
 * also to train: hn_generate lays its activations out for evaluation and reads the weights as they are then. Its own memory is the
 * cache of keys and values. Prompts run side by side in `sequences` places; where one ends, the next begins.
 *
 * The text of a prompt depends on the model, the options, the seed and the prompt's number only: the same whatever else is in the
 * batch, and for any number of threads. For that a prompt is read by itself, in pieces of `tokens` from its front, and tokens that
 * are chosen side by side are computed by operations whose rows know nothing of each other (kernels/linear.h). */
#ifndef HONE_INFER_GENERATE_H
#define HONE_INFER_GENERATE_H

#include "infer/runner.h"

#define HN_GENERATOR_SEQUENCES 16 /* at most, so that products of one token a sequence are few rows */

typedef struct hn_generator_options {
    int32_t sequences; /* 1 to HN_GENERATOR_SEQUENCES */
    int32_t capacity;  /* tokens of a prompt with its answer; at most the model's positions */
    int32_t tokens;    /* of a prompt in one forward */
} hn_generator_options;

typedef struct hn_generator hn_generator;

hn_bounds hn_generator_bounds(const hn_generator_options *options);
/* Counts; the model of the runner is a language model. */
hn_status hn_generator_open(hn_generator **out, hn_runner *runner, const hn_tokenizer *tokenizer,
                            const hn_generator_options *options, hn_error *error);
size_t hn_generator_bytes(const hn_generator *generator); /* that it allocates; SIZE_MAX: more than can be counted */
hn_status hn_generator_alloc(hn_generator *generator, hn_error *error);
void hn_generator_free(hn_generator *generator);

typedef struct hn_prompt {
    const int32_t *ids; /* one at least, and no more than the capacity */
    int32_t count;
    uint32_t number; /* keys its random numbers */
    bool fresh;      /* the answer is decoded by itself (a conversation's), not as what goes on from the prompt */
} hn_prompt;

typedef enum hn_finish {
    HN_FINISH_STOP,      /* a stop token or a stop string */
    HN_FINISH_LENGTH,    /* max_tokens */
    HN_FINISH_CONTEXT,   /* the capacity is used up */
    HN_FINISH_INTERRUPT, /* *interrupt */
} hn_finish;
const char *hn_finish_name(hn_finish finish); /* "stop", "length", "context", "interrupt" */

typedef struct hn_answer {
    const char *text; /* all of it */
    size_t length;
    const int32_t *ids; /* chosen; a stop token is not among them */
    int32_t count;
    hn_finish finish;
} hn_answer;

/* What is told while it runs; each may be NULL. An error ends it. */
typedef struct hn_listener {
    /* More text of an answer: valid UTF-8; all pieces together are the answer's text. */
    hn_status (*text)(void *context, size_t prompt, const char *text, size_t length, hn_error *error);
    hn_status (*end)(void *context, size_t prompt, const hn_answer *answer, hn_error *error);
    void *context;
} hn_listener;

typedef struct hn_generate_options {
    hn_sampling sampling;
    int32_t max_tokens;
    const int32_t *stop_ids;
    size_t stop_id_count;
    const char *const *stops; /* none is empty */
    size_t stop_count;
    bool resume; /* the first prompt goes on from what the first place has, as far as both begin alike */
    const volatile int *interrupt; /* nonzero: every answer ends here; or NULL */
} hn_generate_options;

typedef struct hn_generate_stats {
    int64_t prompt_tokens; /* read; those that resume found are not among them */
    int64_t new_tokens;    /* chosen */
    int64_t later_tokens;  /* chosen in new_seconds: all but the first of each answer, which comes of reading its prompt */
    double prompt_seconds, new_seconds;
} hn_generate_stats;

/* Adds to *stats. */
hn_status hn_generate(hn_generator *generator, hn_generate_stats *stats, const hn_prompt *prompts, size_t count,
                      const hn_generate_options *options, const hn_listener *listener, hn_error *error);

#endif
