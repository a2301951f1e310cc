/* What a run asks its model at each evaluation, so that a person watches it learn: questions of the dev set (eval.samples), spread
 * evenly over its rows, or the user's own (eval.sample_prompts). They are chosen and encoded once, before anything is
 * allocated for training; train/answers.c asks them. */
#ifndef HONE_TRAIN_SAMPLES_H
#define HONE_TRAIN_SAMPLES_H

#include "core/error.h"
#include "infer/generate.h"

struct hn_job;

typedef struct hn_sample {
    int32_t *ids; /* of the prompt */
    int32_t count;
    char *prompt;    /* its text, without what the template puts around every question */
    char *reference; /* what stands in the data behind it; NULL: the prompt is the user's */
    char *row;       /* "FILE:LINE" that it is from; NULL likewise */
} hn_sample;

typedef struct hn_samples {
    hn_sample *items;
    size_t count; /* 0: the run asks nothing */
    int32_t *stop_ids;
    size_t stop_id_count;
    hn_generator_options generator;
} hn_samples;

/* Of a job whose data sets are open and measured; it widens job->evaluation.longest so that the generator runs within those
 * bounds, and leaves the batches of an evaluation what they are. A task that writes no text is an error. */
hn_status hn_samples_open(hn_samples *out, struct hn_job *job, hn_error *error);
void hn_samples_close(hn_samples *samples);

#endif
