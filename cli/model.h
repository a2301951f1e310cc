/* A MODEL with its data, ready to run: what eval and predict share. */
#ifndef HONE_CLI_MODEL_H
#define HONE_CLI_MODEL_H

#include "cli/cli.h"
#include "data/dataset.h"
#include "data/labels.h"
#include "eval/metrics.h"
#include "infer/runner.h"
#include "infer/source.h"

typedef struct hn_cli_model {
    hn_source *source;
    hn_labels *labels; /* the model's, mapped by data.label_map; NULL: it predicts tokens */
    hn_runner runner;
    hn_batch_buffer buffer;
} hn_cli_model;

/* Opens the checkpoint, which must have a head, and its labels if it has any. */
hn_status hn_cli_model_open(hn_cli_model *out, const char *path, const hn_cli_config *config, hn_error *error);
/* Allocates for batches of this config that hold sequences up to `longest` tokens, and loads the weights. */
hn_status hn_cli_model_start(hn_cli_model *model, const hn_cli_config *config, int32_t longest, hn_error *error);
/* The same for bounds that the caller worked out. */
hn_status hn_cli_model_start_within(hn_cli_model *model, const hn_cli_config *config, hn_bounds bounds, hn_error *error);
/* Tokens of one batch of an evaluation, as the config says. */
int32_t hn_cli_batch_tokens(const hn_cli_config *config);
/* Gives back what start took; it may be started again. */
void hn_cli_model_stop(hn_cli_model *model);
void hn_cli_model_close(hn_cli_model *model);

/* Prints the metrics of a set: a table, or a JSON object. labels: of classes. */
hn_status hn_cli_metrics(const char *set, const hn_metrics *metrics, const hn_labels *labels, bool json, hn_error *error);

#endif
