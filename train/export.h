/* `hone export`: a run's newest good checkpoint as a Hugging Face folder, or a PEFT folder of its adapters. */
#ifndef HONE_TRAIN_EXPORT_H
#define HONE_TRAIN_EXPORT_H

#include "core/error.h"
#include "train/job.h"

typedef struct hn_export_options {
    bool merge;    /* adapters into the weights: a whole model */
    hn_dtype type; /* of a whole model's weights: F32, F16 or BF16 */
} hn_export_options;

/* `job` is opened (HN_JOB_MODEL) from the run's own config. *step: of the checkpoint that was written. */
hn_status hn_export(hn_job *job, const char *run, const char *path, const hn_export_options *options, int64_t *step,
                    hn_strbuf *passed_over, hn_error *error);

#endif
