/* What the files of train/ share: the trainer. */
#ifndef HONE_TRAIN_INTERNAL_H
#define HONE_TRAIN_INTERNAL_H

#include "checkpoints/pieces.h"
#include "checkpoints/writer.h"
#include "core/digest.h"
#include "core/lock.h"
#include "core/mirror.h"
#include "eval/early_stopping.h"
#include "eval/evaluator.h"
#include "infer/generate.h"
#include "kernels/profile.h"
#include "track/event.h"
#include "train/freeze.h"
#include "train/graphs.h"
#include "train/job.h"
#include "train/optimizer.h"
#include "train/plan.h"
#include "train/reduce.h"
#include "train/replay.h"
#include "train/schedule.h"
#include "train/trainer.h"
#include "train/trunk_cache.h"

/* Everything that changes from step to step beside weights and moments: what a checkpoint's state holds. */
typedef struct hn_progress {
    int64_t step;  /* optimizer steps done */
    int64_t epoch; /* of the next step */
    int64_t batch; /* of the next step, within its epoch */
    /* The last step whose turn of each kind is over; so an action that a signal interrupted is done on resume, and no other
     * twice. */
    int64_t logged, thawed, evaluated;
    int64_t bad_in_a_row, spikes_in_a_row, skipped;
    /* With train.spike_action=rollback: how often the run went back, the step before which it is to do so next (0: none), and the checkpoint
     * that it goes back to (-1: the disk took none). */
    int64_t rollbacks, rollback_due, good;
    int64_t events;    /* in the log: what it is cut back to */
    double elapsed; /* seconds of training before this process */
    /* Since the last line of metrics: */
    double window_loss, window_norm;
    int64_t window_count, window_steps;
    int64_t best_lost; /* the step of an evaluation that was the best while best/ could not be written; 0: best/ is the best's */
    char finished[32]; /* why: "steps", "early stopping"; empty: not yet */
} hn_progress;

/* answers.c: sample answers of an evaluation. */
typedef struct hnp_answer {
    hn_strbuf text;
    int32_t tokens;
    hn_finish finish;
} hnp_answer;
typedef struct hnp_answers {
    hn_generator *generator; /* NULL: the run asks nothing */
    hnp_answer *items;       /* of the samples of the job, in their order */
    size_t count;
    bool interrupted;
    hn_error problem; /* why there are none this time; HN_OK: there are */
} hnp_answers;

/* saving.c: checkpoints on their way to the disk. */
typedef struct hnp_saving {
    hn_checkpoint_writer *writer; /* NULL: with other ranks, and while training waits */
    hn_named_tensor *tensors; /* [count] what is saved, in the backend's memory; with other ranks: */
    hn_piece *pieces;         /* [count] */
    size_t count;
    hn_mirror mirror;  /* they as the writer reads them: a GPU's copied to pinned memory, the host's where they stand */
    int64_t last;      /* step of the save that was started last, or of the checkpoint that the run goes on from; 0: none */
    int64_t safe;      /* the last one of progress.good that the disk has; -1: none */
    bool good;         /* the save that was started last is of progress.good */
    bool told;         /* a wait for the disk */
    uint64_t bytes;    /* of the tensors */
    double last_held;  /* seconds that training waited for the last save */
    double window_held; /* and for any since the last line of the log */
    /* For the profile: saves while training went on, what they held it up (one at most, all), and what the writer took. */
    int64_t saves;
    double most_held, held, written;
} hnp_saving;

typedef struct hn_trainer {
    hn_job *job;
    const hn_train_config *config;
    const hn_train_options *options;
    hn_runner runner;
    hn_arena gradients, moments;
    hnp_reduce reduce;
    hn_link *link;                   /* world.c; NULL: one process */
    hn_share share;
    hn_checkpoint_readers readers;
    bool stopping_together;          /* some rank was asked to stop */
    uint64_t entered;                /* what it is at, in the flight recorder; 0: nothing yet */
    hn_freeze_plan plan;
    size_t totals[HN_PLAN_RECOMPUTES]; /* bytes that the run takes with each setting of train.recompute; SIZE_MAX: not to be counted */
    size_t available;                  /* bytes that were free when one was chosen; 0: unknown */
    hn_optimizer optimizer;
    hn_schedule schedule;
    hn_early_stopping stopping;
    hn_spikes spikes;
    hn_progress progress;
    int pending; /* steps enqueued, of which progress.step counts all and the rest of progress none */
    bool resumed; /* progress is a checkpoint's */
    char tuned[HN_DIGEST_TEXT]; /* digest of the tuned products (tuning.c): the checkpoint's, then those that run; empty: none */
    hn_batch_buffer buffer;
    bool rounds; /* batches of training are rounded */
    hnp_graphs graphs;
    hn_order *order;
    int64_t order_epoch; /* that `order` is of, -1: none */
    hn_trunk_cache *cache;
    int first;           /* lowest group that trains now */
    hn_tensor trunk;     /* a slice's trunk output, with a cache */
    hnp_answers answers;
    hnp_replay replay;
    hn_profile profile; /* with train.profile */
    hn_sinks sinks;
    hn_sink *log;        /* one of them: metrics.jsonl */
    bool log_waits;      /* the disk did not take its last line */
    hn_lock lock;        /* of the run folder */
    char *checkpoints;   /* folder */
    hnp_saving saving;
    double started;      /* clock at the start of this process's loop */
    double window_started;
    int64_t window_tokens, window_examples;
} hn_trainer;

/* trainer_setup.c: memory, layout, resume. */
hn_status hnp_trainer_init(hn_trainer *trainer, hn_job *job, const hn_train_options *options, hn_error *error);
/* Counts (before allocation) or places gradients, moments and the trunk's output. */
void hnp_trainer_place(hn_trainer *trainer);
/* What it allocates, in the order in which `hone plan` shows it; gives the sum. */
size_t hnp_trainer_memory(const hn_trainer *trainer, hn_plan_row rows[HN_PLAN_ROWS]);
/* Allocates them; HN_ERR_MEMORY, with the keys to turn, when the machine has less than they take. */
hn_status hnp_trainer_alloc(hn_trainer *trainer, hn_error *error);
/* The layout for the groups that train at the current step. */
void hnp_trainer_select(hn_trainer *trainer);
void hnp_trainer_close(hn_trainer *trainer);

/* answers.c. init before the runner's memory is allocated, alloc after it. */
hn_status hnp_answers_init(hnp_answers *answers, hn_trainer *trainer, hn_error *error);
size_t hnp_answers_bytes(const hnp_answers *answers);
hn_status hnp_answers_alloc(hnp_answers *answers, hn_error *error);
void hnp_answers_close(hnp_answers *answers);
/* The current weights answer; HN_ERR_INTERRUPTED when a signal ended that. The caller lays out the activations anew. */
hn_status hnp_trainer_ask(hn_trainer *trainer, hn_error *error);
/* What they answered last, as events. */
hn_status hnp_trainer_log_answers(hn_trainer *trainer, hn_error *error);

/* world.c: what the ranks of a run do together. All of it is nothing of one process. */
/* The link, when memory is allocated. */
hn_status hnp_world_open(hn_trainer *trainer, hn_error *error);
void hnp_world_close(hn_trainer *trainer, bool orderly);
bool hnp_world_first(const hn_trainer *trainer);
/* HN_ERR_MISMATCH, on all: a rank has another config, other data or another machine's products than rank 0. */
hn_status hnp_world_compare(const hn_trainer *trainer, hn_error *error);
/* Ends every part that may fail on one rank alone: the first failing rank's status and message, on all. */
hn_status hnp_world_agree(const hn_trainer *trainer, const char *what, hn_status status, hn_error *error);
/* Of what rank 0 alone looks at. */
hn_status hnp_world_share_bool(const hn_trainer *trainer, const char *what, bool *value, hn_error *error);
/* Of what ended the loop: a failure that the others do not have too ends the job, and this does not return. */
void hnp_world_local(const hn_trainer *trainer, hn_status status, const hn_error *error);
/* Where the run stops is known to all: how long that takes counts no longer. */
void hnp_world_stop_agreed(const hn_trainer *trainer);
void hnp_world_enter(hn_trainer *trainer, hn_activity activity, const char *operation);
/* Where a job that fails leaves what each rank was last at: <run>/logs/rank-R.log. */
hn_status hnp_world_log(hn_trainer *trainer, hn_error *error);
const hn_share *hnp_world_share(hn_trainer *trainer);
/* `bytes`: of the pieces of all ranks. */
hn_checkpoint_party hnp_world_party(hn_trainer *trainer, uint64_t bytes);
const hn_checkpoint_readers *hnp_world_readers(hn_trainer *trainer);

/* step.c: one optimizer step over the examples of a batch. */
typedef struct hn_step_result {
    int64_t step; /* steps done with this one */
    double loss_sum, norm;
    int64_t count;
    bool applied;
} hn_step_result;
/* Enqueues the step after progress.step, which the caller counts then, and adds it to those that are pending (two at most). */
hn_status hnp_trainer_step(hn_trainer *trainer, const uint32_t *examples, int32_t count, int64_t *tokens, hn_error *error);
/* Gradients and loss of a batch as the next step would make them, which begins anew: nothing of the run changes. */
hn_status hnp_trainer_rehearse(hn_trainer *trainer, const uint32_t *examples, int32_t count, hn_error *error);
/* What the oldest pending step came to; waits for it. */
hn_status hnp_trainer_collect(hn_trainer *trainer, hn_step_result *result, hn_error *error);

/* settle.c: counts what steps came to, in their order, until `left` of them are still pending. */
hn_status hnp_trainer_settle(hn_trainer *trainer, int left, hn_error *error);
/* Goes back to the good checkpoint if that is due before the next step. */
hn_status hnp_trainer_roll_back(hn_trainer *trainer, hn_error *error);

/* tuning.c: with train.tune the products of the run, from its folder or made now. Before the first step, with the groups that train
 * selected. */
hn_status hnp_trainer_tune(hn_trainer *trainer, hn_error *error);

/* state.c: checkpoints. */
/* Weights of every parameter that trains in this run, and with an optimizer their moments; with `applied` ([groups] steps) only of
 * groups that were stepped. Names and list are one allocation (hn_free). */
hn_status hnp_list_tensors(const hn_model *model, const hn_optimizer *optimizer, const int64_t *applied, hn_named_tensor **out, size_t *count,
                           hn_error *error);
/* The same of what this process keeps, whole tensors or not. */
hn_status hnp_list_pieces(const hn_model *model, const hn_optimizer *optimizer, const hnp_zero *zero, const int64_t *applied, hn_piece **out,
                          size_t *count, hn_error *error);
/* Whole tensors from an open checkpoint into the backend's memory. */
hn_status hnp_read_tensors(hn_backend *backend, const hn_checkpoint *checkpoint, const hn_named_tensor *tensors, size_t count, hn_error *error);
/* Weights, and with `moments` those too, of the groups that were stepped, from an open checkpoint; every rank has all weights then. All ranks. */
hn_status hnp_trainer_load(hn_trainer *trainer, const hn_checkpoint *checkpoint, bool moments, hn_error *error);
/* Of all dev sets together: early stopping and the best compare evaluations of the same rows. */
hn_digest hnp_dev_digest(const hn_job *job);
/* Everything of a checkpoint but the tensors, as a new object; NULL: out of memory. */
json_t *hnp_state_pack(const hn_trainer *trainer);
/* Finds and loads the newest good checkpoint; progress.step stays 0 when there is none. */
hn_status hnp_trainer_resume(hn_trainer *trainer, hn_error *error);

/* Weights, moments, step counts and the window of spikes as the checkpoint of progress.good has them, or the newest good one before it
 * (*step); all else goes on. *step -1: there is none, and nothing changed. */
hn_status hnp_trainer_return(hn_trainer *trainer, int64_t *step, hn_error *error);

/* saving.c. */
/* Bytes of what is saved that have to be copied to the host's memory: all of a GPU's, none of the host's. */
size_t hnp_saving_bytes(const hn_trainer *trainer);
/* The writer, the mirror, and whether the disk has room for a checkpoint. */
hn_status hnp_saving_open(hn_trainer *trainer, hn_error *error);
void hnp_saving_close(hnp_saving *saving);
/* Waits until no save is under way, and tells what became of it. */
hn_status hnp_saving_wait(hn_trainer *trainer, hn_error *error);
/* To be called after every step; what the writer could not save is told. */
hn_status hnp_saving_poll(hn_trainer *trainer, hn_error *error);
/* To be called before weights or moments change: waits until no save reads them. */
void hnp_saving_release(hn_trainer *trainer);
/* A save between steps, with none of them pending: it is started, and training goes on. What the disk refuses costs no training and is
 * told, now or later; only a failure of the backend or the host's memory is returned. */
hn_status hnp_trainer_save(hn_trainer *trainer, hn_error *error);
/* The last save of this process: waits until it is safe; HN_OK means that. */
hn_status hnp_trainer_save_last(hn_trainer *trainer, hn_error *error);
/* The run ends without a last save: waits for one that is under way, and tells what became of it. */
void hnp_saving_end(hn_trainer *trainer);

/* publish.c: Hugging Face and PEFT folders. `type` is that of a whole model's weights. */
hn_status hnp_publish(const hn_job *job, const hn_model *model, const char *path, hn_export_kind kind, hn_dtype type,
                      hn_error *error);
/* As best/ and final/ are: whole, or adapters alone where there are any. */
hn_export_kind hnp_publish_kind(const hn_job *job);
/* The current weights as <run>/<name>. */
hn_status hnp_trainer_publish(hn_trainer *trainer, const char *name, hn_error *error);
/* The same from <run>/best, whose weights need not be the current ones. */
hn_status hnp_trainer_publish_best_as(hn_trainer *trainer, const char *name, hn_error *error);

/* best.c: best/, which the disk may refuse. */
/* The current weights as best/; what the disk refuses is told and noted (progress.best_lost). */
hn_status hnp_best_publish(hn_trainer *trainer, hn_error *error);
/* What is missing, if it can be made: at the start, when weights and disk are of the same step, and before the end. */
hn_status hnp_best_recover(hn_trainer *trainer, hn_error *error);
hn_status hnp_best_finish(hn_trainer *trainer, hn_error *error);
/* The run is over and its best weights are nowhere. */
hn_status hnp_best_fail(const hn_trainer *trainer, hn_error *error);

/* report.c: events. */
hn_status hnp_trainer_log_step(hn_trainer *trainer, hn_error *error);
hn_status hnp_trainer_log_evaluation(hn_trainer *trainer, const char *set, const hn_metrics *metrics, bool best,
                                     hn_error *error);
hn_status hnp_trainer_log_sample(hn_trainer *trainer, int64_t number, const hn_sample *sample, const hnp_answer *answer,
                                 hn_error *error);
hn_status hnp_trainer_log_bad_step(hn_trainer *trainer, int64_t step, const char *reason, hn_error *error);
hn_status hnp_trainer_log_spike(hn_trainer *trainer, const hn_step_result *result, const char *reason, hn_error *error);
hn_status hnp_trainer_log_text(hn_trainer *trainer, const char *kind, const char *name, const char *text,
                               hn_error *error);
/* Something at `step` that does not end the run. */
hn_status hnp_trainer_warn(hn_trainer *trainer, int64_t step, const char *message, hn_error *error);
/* A save that is over, for people. */
hn_status hnp_trainer_show_save(hn_trainer *trainer, const hn_checkpoint_outcome *outcome, hn_error *error);
/* Lines of the log that wait for the disk are tried again; that it does not take them is no error. */
hn_status hnp_trainer_settle_log(hn_trainer *trainer, hn_error *error);
/* The same at the end of a run, which tells what the disk still does not take. */
void hnp_trainer_end_log(hn_trainer *trainer);
/* With train.profile: where the time of the operations went, as a table. */
void hnp_trainer_print_profile(const hn_trainer *trainer);
double hnp_trainer_elapsed(const hn_trainer *trainer);

#endif
