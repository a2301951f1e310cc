/* What the readers of config.json share: config.c looks at the model's type and calls one of them. */
#ifndef HONE_MODELS_CONFIG_INTERNAL_H
#define HONE_MODELS_CONFIG_INTERNAL_H

#include "core/json.h"
#include "models/model.h"

#define HNP_MAX_DROPOUT 0.99

/* The class of transformers that an export names; NULL: not a model of this kind. */
const char *hnp_encoder_architecture(const char *model_type);
const char *hnp_decoder_architecture(const char *model_type);
/* For a model type that has an architecture. */
hn_status hnp_encoder_config_read(hn_model_config *out, const char *model_type, const json_t *root,
                                  const char *where, hn_error *error);
hn_status hnp_decoder_config_read(hn_model_config *out, const char *model_type, const json_t *root,
                                  const char *where, hn_error *error);

/* A size that must be given. */
hn_status hnp_config_size(int *out, const json_t *root, const char *key, int64_t min, int64_t max,
                          const char *where, hn_error *error);
/* config->head_size, when it is not set yet, from the width and the number of heads; checks the sizes of attention. */
hn_status hnp_config_head_size(hn_model_config *config, const char *hidden_key, const char *heads_key,
                               const char *where, hn_error *error);
/* A flag that hone has one value of; `what` is said of it in brackets. A missing flag is right. */
hn_status hnp_config_flag(const json_t *root, const char *key, bool expected, const char *what,
                          const char *where, hn_error *error);
/* One of `names` (NULL ends them), by default the given one. */
hn_status hnp_config_activation(hn_activation *out, const json_t *root, const char *key, const char *name,
                                const char *const *names, const char *where, hn_error *error);
/* The norms' epsilon (key NULL: always the default) and the init rule's range. */
hn_status hnp_config_numbers(hn_model_config *config, const json_t *root, const char *epsilon_key,
                             double epsilon, const char *where, hn_error *error);

#endif
