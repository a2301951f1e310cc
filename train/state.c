/* A run's state in its checkpoints: weights, both moments and everything of hn_progress. Numbers that later arithmetic uses are
 * saved as hexadecimal text, so that the resumed run goes on with the same bits. What never trains in the run is not saved: it is in
 * model.path, whose digest is. Weights and moments are read for the groups that were stepped; the others are as model.path has them,
 * with moments of zero, and whether they have a place depends on train.epochs, which may change. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/checkpoint.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/mirror.h"
#include "train/internal.h"

#define STATE "checkpoint state"

enum { NAME = 160, PARTS = 3 };

/* What stands for one parameter: its weights and, with an optimizer, its moments; of those that are not asked for the data is NULL. */
static void list_parts(hn_named_tensor out[PARTS], char *names, const hn_param *param, float *weights, unsigned char *m, unsigned char *v,
                       hn_dtype moments)
{
    static const char *const kinds[PARTS] = {"weight", "m", "v"};
    void *data[PARTS] = {weights, m, v};
    for (int k = 0; k < PARTS; k++) {
        hn_dtype type = k ? moments : HN_F32;
        snprintf(names + k * NAME, NAME, "%s.%s", kinds[k], param->name);
        hn_tensor tensor = param->rank == 1 ? hn_tensor_1d(data[k], type, param->rows) : hn_tensor_2d(data[k], type, param->rows, param->columns);
        out[k] = (hn_named_tensor){names + k * NAME, tensor};
    }
}

hn_status hnp_list_tensors(const hn_model *model, const hn_optimizer *optimizer, const int64_t *applied, hn_named_tensor **out, size_t *count,
                           hn_error *error)
{
    int params;
    const hn_param *param = hn_model_params(model, &params);
    hn_named_tensor *list = hn_calloc(PARTS * (size_t)params, sizeof *list + NAME), each[PARTS];
    if (!list) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the list of %d parameters", params);
    char *name = (char *)(list + PARTS * (size_t)params);
    *count = 0;
    for (int p = 0; p < params; p++) {
        if (param[p].frozen || (applied && !applied[param[p].group])) continue;
        list_parts(each, name, &param[p], hn_model_master(model) + param[p].offset, optimizer ? hn_optimizer_moment(optimizer, optimizer->m, p) : NULL,
                   optimizer ? hn_optimizer_moment(optimizer, optimizer->v, p) : NULL, optimizer ? optimizer->moments : HN_F32);
        for (int k = 0; k < PARTS; k++)
            if (each[k].tensor.data) list[(*count)++] = each[k];
        name += PARTS * NAME;
    }
    *out = list;
    return HN_OK;
}

hn_status hnp_list_pieces(const hn_model *model, const hn_optimizer *optimizer, const hnp_zero *zero, const int64_t *applied, hn_piece **out,
                          size_t *count, hn_error *error)
{
    int params;
    const hn_param *param = hn_model_params(model, &params);
    hn_named_tensor each[PARTS];
    hn_piece *list = hn_calloc(PARTS * (size_t)zero->runs, sizeof *list + NAME);
    if (!list) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the list of %lld pieces", (long long)zero->runs);
    char *name = (char *)(list + PARTS * (size_t)zero->runs);
    *count = 0;
    for (int64_t r = 0; r < zero->runs; r++, name += PARTS * NAME) {
        const hnp_run *run = &zero->run[r];
        const hn_param *one = &param[run->param];
        size_t width = hn_dtype_size(optimizer ? optimizer->moments : HN_F32), at = (size_t)run->at * width;
        if (applied && !applied[one->group]) continue;
        list_parts(each, name, one, hn_model_master(model) + one->offset + run->element, optimizer ? optimizer->m + at : NULL,
                   optimizer ? optimizer->v + at : NULL, optimizer ? optimizer->moments : HN_F32);
        for (int k = 0; k < PARTS; k++)
            if (each[k].tensor.data) list[(*count)++] = (hn_piece){.of = each[k], .first = run->element, .count = run->count};
    }
    *out = list;
    return HN_OK;
}

static json_t *hexadecimal(double value)
{
    char text[40];
    snprintf(text, sizeof text, "%a", value);
    return json_string(text);
}

static json_t *digest_text(hn_digest digest)
{
    char text[HN_DIGEST_TEXT];
    hn_digest_format(text, digest);
    return json_string(text);
}

hn_digest hnp_dev_digest(const hn_job *job)
{
    hn_digest both[2] = {{0}};
    for (size_t d = 0; d < job->dev_count; d++) {
        both[1] = hn_dataset_digest(job->dev[d].dataset);
        both[0] = hn_digest_bytes(both, sizeof both);
    }
    return both[0];
}

static json_t *pack_groups(const hn_trainer *trainer)
{
    json_t *groups = json_array();
    for (int g = 0; groups && g < trainer->plan.groups; g++) {
        int64_t thaw = trainer->plan.thaw[g];
        json_t *group = json_pack("{s:s, s:I, s:I}", "name", hn_model_group_name(trainer->runner.model, g), "from_step",
                                  (json_int_t)(thaw == HN_NEVER ? -1 : thaw), "applied",
                                  (json_int_t)trainer->optimizer.applied[g]);
        if (!group || json_array_append_new(groups, group)) {
            json_decref(groups);
            groups = NULL;
        }
    }
    return groups;
}

json_t *hnp_state_pack(const hn_trainer *trainer)
{
    const hn_progress *p = &trainer->progress;
    const hn_job *job = trainer->job;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o, s:I, s:I, s:s?, s:o, "
                     "s:o, s:o, s:o, s:o, "
                     "s:o, s:s, s:s?, s:o, s:I, s:o, s:I, s:I, s:I, s:I}",
                     "step", (json_int_t)p->step, "epoch", (json_int_t)p->epoch, "batch",
                     (json_int_t)p->batch, "logged", (json_int_t)p->logged, "thawed", (json_int_t)p->thawed,
                     "evaluated", (json_int_t)p->evaluated, "bad_in_a_row", (json_int_t)p->bad_in_a_row,
                     "skipped", (json_int_t)p->skipped, "events", (json_int_t)p->events, "seed",
                     (json_int_t)trainer->config->train.seed, "elapsed", hnp_trainer_elapsed(trainer),
                     "window_loss", hexadecimal(p->window_loss), "window_norm", hexadecimal(p->window_norm),
                     "window_count", (json_int_t)p->window_count, "window_steps", (json_int_t)p->window_steps,
                     "finished", p->finished[0] ? p->finished : NULL, "groups", pack_groups(trainer),
                     "early_stopping", hn_early_stopping_save(&trainer->stopping), "weights_digest",
                     digest_text(job->weights), "data_digest", digest_text(hn_dataset_digest(job->train)),
                     "dev_digest", digest_text(hnp_dev_digest(job)), "tokenizer_digest",
                     digest_text(hn_tokenizer_digest(job->source->tokenizer)), "products",
                     trainer->runner.ops->products(&trainer->runner.ctx), "tuned", trainer->tuned[0] ? trainer->tuned : NULL,
                     "config", json_deep_copy(trainer->options->resolved), "spikes_in_a_row",
                     (json_int_t)p->spikes_in_a_row, "spikes", hn_spikes_save(&trainer->spikes), "best_lost",
                     (json_int_t)p->best_lost, "rollbacks", (json_int_t)p->rollbacks, "rollback_due", (json_int_t)p->rollback_due,
                     "good", (json_int_t)p->good);
}

/* Through the host's memory. */
static hn_status read_pieces(hn_backend *backend, const hn_checkpoint *checkpoint, hn_piece *pieces, size_t count, hn_error *error)
{
    hn_mirror mirror;
    hn_named_tensor *flat = hn_calloc(count, sizeof *flat);
    if (!flat) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the list of %zu tensors", count);
    for (size_t i = 0; i < count; i++)
        flat[i] = (hn_named_tensor){pieces[i].of.name, hn_tensor_1d(pieces[i].of.tensor.data, pieces[i].of.tensor.dtype, pieces[i].count)};
    hn_status status = hn_mirror_open(&mirror, backend, flat, count, error);
    for (size_t i = 0; status == HN_OK && i < count; i++) pieces[i].of.tensor.data = mirror.tensors[i].tensor.data;
    if (status == HN_OK) status = hn_checkpoint_read(checkpoint, pieces, count, error);
    if (status == HN_OK) status = hn_mirror_store(&mirror, error);
    hn_mirror_close(&mirror);
    hn_free(flat);
    return status;
}

hn_status hnp_read_tensors(hn_backend *backend, const hn_checkpoint *checkpoint, const hn_named_tensor *tensors, size_t count, hn_error *error)
{
    hn_piece *pieces = hn_calloc(count, sizeof *pieces);
    if (!pieces) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the list of %zu tensors", count);
    for (size_t i = 0; i < count; i++) pieces[i] = (hn_piece){.of = tensors[i], .count = hn_tensor_count(&tensors[i].tensor)};
    hn_status status = read_pieces(backend, checkpoint, pieces, count, error);
    hn_free(pieces);
    return status;
}

hn_status hnp_trainer_load(hn_trainer *trainer, const hn_checkpoint *checkpoint, bool moments, hn_error *error)
{
    hn_piece *pieces = NULL;
    size_t count;
    hn_optimizer *optimizer = &trainer->optimizer;
    hnp_world_enter(trainer, HN_ACTIVITY_DISK, "reading a checkpoint");
    hn_status status = hnp_list_pieces(trainer->runner.model, moments ? optimizer : NULL, &trainer->reduce.zero, optimizer->applied, &pieces,
                                       &count, error);
    if (status == HN_OK) status = read_pieces(&trainer->runner.backend, checkpoint, pieces, count, error);
    if (status == HN_OK && moments) status = hn_optimizer_restore(optimizer, error);
    hn_free(pieces);
    status = hnp_world_agree(trainer, "reading a checkpoint", status, error);
    if (status == HN_OK) status = hnp_reduce_spread_masters(&trainer->reduce, error);
    if (status == HN_OK) hn_model_refresh_copy(trainer->runner.model, &trainer->runner.ctx);
    return status;
}

static hn_status get_hexadecimal(double *out, const json_t *state, const char *key, hn_error *error)
{
    const char *text = NULL;
    char *end = NULL;
    hn_status status = hn_json_get_string(&text, state, key, STATE, error);
    if (status != HN_OK) return status;
    double value = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end)
        return hn_fail(error, HN_ERR_FORMAT, STATE ": %s: expected a number as text, got \"%s\"", key, text ? text : "");
    *out = value;
    return HN_OK;
}

/* The digest saved under `key` must be `now`. */
static hn_status same_digest(const json_t *state, const char *key, hn_digest now, const char *what, hn_error *error)
{
    const char *text = NULL;
    hn_digest saved;
    hn_status status = hn_json_get_string(&text, state, key, STATE, error);
    if (status != HN_OK) return status;
    if (!text || !hn_digest_parse(&saved, text))
        return hn_fail(error, HN_ERR_FORMAT, STATE ": %s: expected a digest, got \"%s\"", key, text ? text : "");
    if (hn_digest_equal(saved, now)) return HN_OK;
    char mine[HN_DIGEST_TEXT];
    hn_digest_format(mine, now);
    return hn_fail(error, HN_ERR_MISMATCH, "this run was started with other %s (digest %s, now %s): restore it, or choose "
                   "another output.dir", what, text, mine);
}

static hn_status unpack_groups(hn_trainer *trainer, const json_t *groups, hn_error *error)
{
    if (json_array_size(groups) != (size_t)trainer->plan.groups)
        return hn_fail(error, HN_ERR_MISMATCH, STATE ": groups: expected %d, got %zu", trainer->plan.groups,
                       json_array_size(groups));
    for (int g = 0; g < trainer->plan.groups; g++) {
        int64_t from = HN_NEVER, planned = trainer->plan.thaw[g] == HN_NEVER ? -1 : trainer->plan.thaw[g];
        const json_t *group = json_array_get(groups, (size_t)g);
        hn_status status = hn_json_get_int(&from, group, "from_step", -1, INT64_MAX, STATE ": groups", error);
        if (status == HN_OK)
            status = hn_json_get_int(&trainer->optimizer.applied[g], group, "applied", 0, INT64_MAX, STATE ": groups",
                                     error);
        if (status == HN_OK && from != planned)
            status = hn_fail(error, HN_ERR_MISMATCH, STATE ": group %s trains from step %lld in the checkpoint, from %lld "
                             "by this config", hn_model_group_name(trainer->runner.model, g), (long long)from,
                             (long long)planned);
        if (status != HN_OK) return status;
    }
    return HN_OK;
}

static hn_status unpack_progress(hn_progress *p, const json_t *state, hn_error *error)
{
    const struct {
        const char *key;
        int64_t *value;
    } integers[] = {{"step", &p->step},         {"epoch", &p->epoch},
                    {"batch", &p->batch},       {"logged", &p->logged},
                    {"thawed", &p->thawed},     {"evaluated", &p->evaluated},
                    {"skipped", &p->skipped},   {"bad_in_a_row", &p->bad_in_a_row},
                    {"events", &p->events},     {"spikes_in_a_row", &p->spikes_in_a_row},
                    {"rollbacks", &p->rollbacks}, {"rollback_due", &p->rollback_due},
                    {"good", &p->good},
                    {"best_lost", &p->best_lost},
                    {"window_count", &p->window_count}, {"window_steps", &p->window_steps}};
    hn_status status = HN_OK;
    for (size_t i = 0; status == HN_OK && i < sizeof integers / sizeof *integers; i++)
        status = hn_json_get_int(integers[i].value, state, integers[i].key, -1, INT64_MAX, STATE, error);
    if (status == HN_OK) status = hn_json_get_double(&p->elapsed, state, "elapsed", 0, 1e18, STATE, error);
    if (status == HN_OK) status = get_hexadecimal(&p->window_loss, state, "window_loss", error);
    if (status == HN_OK) status = get_hexadecimal(&p->window_norm, state, "window_norm", error);
    const char *finished = NULL;
    if (status == HN_OK) status = hn_json_get_string(&finished, state, "finished", STATE, error);
    snprintf(p->finished, sizeof p->finished, "%s", finished ? finished : "");
    return status;
}

/* Epoch and batch must be those that the order of the data puts `step` at. */
static hn_status check_cursor(const hn_trainer *trainer, hn_error *error)
{
    const hn_progress *p = &trainer->progress;
    const hn_job *job = trainer->job;
    int64_t before = 0;
    for (int64_t e = 0; e < p->epoch && e < job->epoch_count; e++) before += job->epoch_batches[e];
    bool fits = p->epoch < job->epoch_count && before + p->batch == p->step && p->batch <= job->epoch_batches[p->epoch];
    bool over = p->step >= job->total_steps; /* the end was moved to before it */
    if (p->step >= 0 && p->epoch >= 0 && p->batch >= 0 && (fits || over)) return HN_OK;
    return hn_fail(error, HN_ERR_FORMAT, STATE ": expected step %lld to be batch %lld of epoch %lld, got batch %lld",
                   (long long)p->step, (long long)(p->step - before), (long long)p->epoch, (long long)p->batch);
}

/* Other hardware or another library is no other run, but its bits are others; products tuned for what is no longer there bind nobody. */
static hn_status unpack_products(hn_trainer *trainer, const json_t *state, hn_error *error)
{
    const char *saved = NULL, *tuned = NULL, *now = trainer->runner.ops->products(&trainer->runner.ctx);
    char text[1024];
    hn_status status = hn_json_get_string(&saved, state, "products", STATE, error);
    if (status == HN_OK) status = hn_json_get_string(&tuned, state, "tuned", STATE, error);
    if (status != HN_OK) return status;
    if (saved && !strcmp(saved, now)) {
        snprintf(trainer->tuned, sizeof trainer->tuned, "%s", tuned ? tuned : "");
        return HN_OK;
    }
    snprintf(text, sizeof text, "the checkpoint was made with %.400s products, here are %s: the run goes on, with other bits than it would "
             "have had there", saved ? saved : "unknown", now);
    trainer->options->notice(text);
    return HN_OK;
}

static hn_status unpack_state(hn_trainer *trainer, const json_t *state, hn_error *error)
{
    const hn_job *job = trainer->job;
    hn_status status = same_digest(state, "weights_digest", job->weights, "weights in model.path", error);
    if (status == HN_OK)
        status = same_digest(state, "data_digest", hn_dataset_digest(job->train), "training data", error);
    if (status == HN_OK) status = same_digest(state, "dev_digest", hnp_dev_digest(job), "dev data", error);
    if (status == HN_OK)
        status = same_digest(state, "tokenizer_digest", hn_tokenizer_digest(job->source->tokenizer), "tokenizer", error);
    if (status == HN_OK) status = unpack_groups(trainer, json_object_get(state, "groups"), error);
    if (status == HN_OK)
        status = hn_early_stopping_load(&trainer->stopping, json_object_get(state, "early_stopping"), error);
    if (status == HN_OK) status = hn_spikes_load(&trainer->spikes, json_object_get(state, "spikes"), error);
    if (status == HN_OK) status = unpack_progress(&trainer->progress, state, error);
    if (status == HN_OK) status = check_cursor(trainer, error);
    if (status == HN_OK) status = unpack_products(trainer, state, error);
    return status;
}

/* The newest good checkpoint up to `last`; what was passed over is told. NULL: there is none. */
static hn_status open_newest(hn_trainer *trainer, int64_t last, hn_checkpoint **out, hn_error *error)
{
    hn_strbuf passed_over;
    hn_strbuf_init(&passed_over);
    hnp_world_enter(trainer, HN_ACTIVITY_DISK, "reading checkpoints");
    hn_status status = hn_checkpoint_open_newest(out, trainer->checkpoints, last, hnp_world_readers(trainer), &passed_over, error);
    if (passed_over.length) trainer->options->notice(passed_over.text);
    hn_strbuf_close(&passed_over);
    return status;
}

hn_status hnp_trainer_return(hn_trainer *trainer, int64_t *step, hn_error *error)
{
    hn_checkpoint *checkpoint = NULL;
    *step = -1;
    hn_status status = hnp_saving_wait(trainer, error); /* progress.good is on the disk, or it is another one */
    if (status == HN_OK) status = open_newest(trainer, trainer->progress.good, &checkpoint, error);
    if (status != HN_OK || !checkpoint) return status;
    const json_t *state = hn_checkpoint_state(checkpoint);
    *step = hn_checkpoint_step(checkpoint);
    status = hn_optimizer_fetch(&trainer->optimizer, error); /* groups that were not stepped by now are as they were */
    if (status == HN_OK) status = hnp_trainer_load(trainer, checkpoint, true, error);
    if (status == HN_OK) status = unpack_groups(trainer, json_object_get(state, "groups"), error);
    if (status == HN_OK) status = hn_spikes_load(&trainer->spikes, json_object_get(state, "spikes"), error);
    if (status == HN_OK) status = hn_optimizer_restore(&trainer->optimizer, error);
    trainer->replay.noted = -1;
    hn_checkpoint_free(checkpoint);
    return status;
}

hn_status hnp_trainer_resume(hn_trainer *trainer, hn_error *error)
{
    hn_checkpoint *checkpoint = NULL;
    hn_status status = open_newest(trainer, INT64_MAX, &checkpoint, error);
    if (status != HN_OK || !checkpoint) return status;
    status = hnp_world_agree(trainer, "a checkpoint's state", unpack_state(trainer, hn_checkpoint_state(checkpoint), error), error);
    if (status == HN_OK) status = hnp_trainer_load(trainer, checkpoint, true, error);
    trainer->resumed = status == HN_OK;
    hn_checkpoint_free(checkpoint);
    return status;
}
