/* A job: config, model and data brought together and checked, before anything is allocated for training. What `train`, `plan`
 * and `data` start from. */
#ifndef HONE_TRAIN_JOB_H
#define HONE_TRAIN_JOB_H

#include "core/digest.h"
#include "core/error.h"
#include "data/config.h"
#include "data/dataset.h"
#include "data/labels.h"
#include "infer/runner.h"
#include "infer/source.h"
#include "train/config.h"
#include "train/samples.h"

typedef struct hn_dev_set {
    char *name;
    hn_dataset *dataset;
} hn_dev_set;

typedef struct hn_job {
    const hn_train_config *config;
    const hn_data_config *data;
    uint64_t *pulse; /* hn_job_world's */
    hn_source *source;
    hn_model_config model; /* with the task's head */
    hn_template *chat;     /* of conversations; NULL for other tasks */
    hn_labels *labels;     /* in the order of the head's outputs; NULL for a language model */
    hn_dataset *train;
    hn_dev_set *dev;
    size_t dev_count;
    int64_t *epoch_batches; /* [epoch_count] optimizer steps of each epoch */
    int64_t epoch_count;
    int64_t total_steps;    /* after max_steps */
    int parts;              /* that every batch is cut into: one a rank, or train.elastic_parts */
    hn_bounds training;     /* the largest slice of those epochs */
    hn_bounds evaluation;   /* the largest batch of the dev sets; `longest` also of the samples */
    hn_samples samples;
    hn_digest weights;      /* of the checkpoint that training starts from */
} hn_job;

/* HN_JOB_MODEL: source, model and labels alone. */
typedef enum hn_job_parts { HN_JOB_MODEL, HN_JOB_ALL } hn_job_parts;
/* The processes that a run is shared out among; the same job on each. */
typedef struct hn_job_world {
    int ranks;
    uint64_t *pulse; /* hn_pulse while data are read; NULL: nobody looks */
} hn_job_world;
/* `world`: NULL: one process. */
hn_status hn_job_open(hn_job **out, const hn_train_config *config, const hn_data_config *data, hn_job_parts parts,
                      const hn_job_world *world, hn_error *error);
void hn_job_free(hn_job *job);

/* What a data set of this task (hn_task_kind) is made of; labels and template are borrowed. */
hn_dataset_options hn_job_data(int kind, const hn_source *source, const hn_labels *labels, const hn_template *chat);
/* The template of a task whose data are conversations, as the config asks for it; *out = NULL for other tasks. */
hn_status hn_job_chat(hn_template **out, int kind, const hn_source *source, const hn_data_config *data, hn_error *error);
/* What the task is measured by, as hn_metrics_init takes it. */
int hn_job_measured(const hn_job *job);
hn_order_options hn_job_order(const hn_job *job, int64_t epoch);
/* Where the batch's parts end: end[p] is the first example behind part p. A part is a run of examples with about as many tokens as the
 * others, or empty; depends on the batch alone. */
void hn_job_cut(const hn_job *job, const uint32_t *examples, int32_t count, int32_t *end);
/* How many of a part's `count` examples make its next slice: what train.slice_tokens holds, at least one. */
int32_t hn_job_slice(const hn_job *job, const uint32_t *examples, int32_t count);

#endif
