/* The config sections that training owns: model, task, train, optim, freeze, lora, eval, checkpoint, output, resume. */
#ifndef HONE_TRAIN_CONFIG_H
#define HONE_TRAIN_CONFIG_H

#include "core/config.h"

typedef enum hn_task_kind { HN_TASK_CLASSIFY, HN_TASK_REGRESS, HN_TASK_LM, HN_TASK_SFT, HN_TASK_MLM, HN_TASK_TAG } hn_task_kind;
typedef enum hn_model_start { HN_START_PRETRAINED, HN_START_SCRATCH } hn_model_start;
typedef enum hn_precision { HN_PRECISION_FP32, HN_PRECISION_BF16 } hn_precision;
typedef enum hn_schedule_kind {
    HN_SCHEDULE_LINEAR, HN_SCHEDULE_COSINE, HN_SCHEDULE_CONSTANT, HN_SCHEDULE_INVERSE_SQRT, HN_SCHEDULE_WSD
} hn_schedule_kind;
enum { HN_RECOMPUTE_AUTO = 3 }; /* behind hn_recompute of models/model.h: the first of them that fits the memory */
typedef enum hn_spike_action { HN_SPIKE_WARN, HN_SPIKE_SKIP, HN_SPIKE_ROLL_BACK } hn_spike_action;
#define HN_ELASTIC_PARTS 1024 /* of a batch at most */
typedef enum hn_direction { HN_DIRECTION_AUTO, HN_DIRECTION_MAX, HN_DIRECTION_MIN } hn_direction;

typedef struct hn_train_config {
    struct {
        const char *path;
        int init; /* hn_model_start */
    } model;
    struct {
        int kind; /* hn_task_kind */
        hn_list labels;
    } task;
    struct {
        double epochs;
        int64_t max_steps, batch_tokens, batch_examples, slice_tokens, elastic_parts;
        int precision; /* hn_precision */
        int64_t seed;
        double label_smoothing;
        int64_t max_bad_steps, threads, log_every, check_every;
        double spike_threshold; /* MADs */
        int spike_action;       /* hn_spike_action */
        int64_t spike_window, spike_patience, max_rollbacks;
        bool profile, share_prefixes, tune, graphs, elastic;
        int device; /* hn_device */
        int transport; /* HN_TRANSPORT_AUTO, _NONE, _SOCKETS of train/ranks.h */
        const char *rendezvous;
        double timeout, silence, connect_timeout, stop_within; /* seconds */
        int recompute; /* hn_recompute, or HN_RECOMPUTE_AUTO */
    } train;
    struct {
        double lr, warmup, weight_decay, clip, beta1, beta2, epsilon, final, decay;
        int schedule; /* hn_schedule_kind */
        int moments;  /* hn_precision */
    } optim;
    struct {
        const char *below;
        hn_list groups;
        hn_interval unfreeze;
        int64_t unfreeze_warmup;
        double lr_decay;
        bool cache;
        double cache_budget; /* GiB */
    } freeze;
    struct {
        int64_t r;
        double alpha, dropout;
        hn_list targets, modules_to_save;
        bool rslora;
        const char *adapter;
    } lora;
    struct {
        hn_interval every;
        int metric;    /* hn_metric */
        int direction; /* hn_direction */
        int64_t patience;
        double min_delta;
        int64_t batch_tokens;
        bool restore_best;
        int64_t samples, sample_tokens;
        hn_list sample_prompts;
    } eval;
    struct {
        hn_interval every;
        int64_t keep;
    } checkpoint;
    struct {
        const char *dir;
    } output;
    struct {
        bool force;
    } resume;
} hn_train_config;

extern const hn_key hn_train_keys[];
extern const size_t hn_train_key_count;

#endif
