/* `hone export`: a run's newest good checkpoint as a Hugging Face folder. */
#ifndef HONE_TRAIN_EXPORT_H
#define HONE_TRAIN_EXPORT_H

#include "core/error.h"
#include "train/job.h"

/* `job` is opened (HN_JOB_MODEL) from the run's own config. *step: of the checkpoint that was written. */
hn_status hn_export(hn_job *job, const char *run, const char *path, int64_t *step, hn_strbuf *passed_over, hn_error *error);

#endif
