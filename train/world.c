/* What the ranks of a run do together, in terms of ranks.h and link.h. Of one process all of it is nothing.
 *
 * Two kinds of failure. What all ranks find alike (a config, a data set, a NaN) or have agreed on (hnp_world_agree) is returned on all of them,
 * and they end in order. What one rank alone knows, in the middle of a step, ends the job (hnp_world_local): the others wait in a
 * collective, and nothing but the end of this process tells them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "train/internal.h"

static hn_status exchange(void *context, void *all, const void *mine, size_t size, hn_error *error)
{
    hn_trainer *trainer = context;
    hn_blobs blobs = {0};
    hn_status status = hn_ranks_gather(trainer->options->ranks, "addresses", mine, size, &blobs, error);
    for (int r = 0; status == HN_OK && r < blobs.count; r++) {
        if (hn_blobs_size(&blobs, r) == size) memcpy((char *)all + (size_t)r * size, hn_blobs_view(&blobs, r), size);
        else status = hn_fail(error, HN_ERR_MISMATCH, "rank %d gave an address of %zu bytes, expected %zu", r, hn_blobs_size(&blobs, r), size);
    }
    hn_blobs_close(&blobs);
    return status;
}

static void pulse(void *context)
{
    hn_trainer *trainer = context;
    hn_link_progress now;
    hn_ranks_pulse(trainer->options->ranks);
    if (!trainer->link) return; /* it is being opened */
    trainer->link->progress(trainer->link, &now);
    hn_ranks_moved(trainer->options->ranks, now.begun, now.finished, now.bytes);
}

/* A connection that ended may be a peer that died: the control plane knows which one, and at what it was. */
static void fail(void *context, const hn_error *error)
{
    hn_ranks *ranks = ((hn_trainer *)context)->options->ranks;
    if (error->status == HN_ERR_IO) hn_ranks_lost(ranks, error);
    hn_ranks_fail(ranks, error);
}

hn_status hnp_world_open(hn_trainer *trainer, hn_error *error)
{
    hn_ranks *ranks = trainer->options->ranks;
    hn_link_options options = {.rank = hn_ranks_rank(ranks), .size = hn_ranks_size(ranks), .transfers = HNP_TRANSFERS,
                               .connect = trainer->config->train.connect_timeout, .mpi = trainer->config->train.transport == HN_TRANSPORT_MPI,
                               .interface = getenv("HONE_INTERFACE"), .exchange = exchange, .pulse = pulse, .fail = fail,
                               .context = trainer};
    if (!ranks) return HN_OK;
    hn_status status = trainer->runner.backend.host
                           ? HN_OK
                           : hn_fail(error, HN_ERR_UNSUPPORTED, "several processes train on CPUs alone; expected train.device=cpu");
    if (status == HN_OK) status = hn_link_open_cpu(&trainer->link, &options, error);
    trainer->reduce.link = trainer->link;
    trainer->runner.ctx.pulse = hn_ranks_pulses(ranks);
    return hn_ranks_agree(ranks, "the link", status, error);
}

void hnp_world_close(hn_trainer *trainer, bool orderly)
{
    if (trainer->link) trainer->link->close(trainer->link, orderly);
    trainer->link = trainer->reduce.link = NULL;
}

/* What has to be the same on all ranks, as text: a name and a value in turn. */
static void describe(const hn_trainer *trainer, hn_strbuf *out)
{
    const hn_job *job = trainer->job;
    static const char *const own[] = {"threads", "device", "rendezvous"}; /* of train: a rank may have its own */
    const struct {
        const char *name;
        hn_digest digest;
    } digests[] = {{"the weights in model.path", job->weights},
                   {"the training data", hn_dataset_digest(job->train)},
                   {"the dev data", hnp_dev_digest(job)},
                   {"the tokenizer", hn_tokenizer_digest(job->source->tokenizer)}};
    char text[HN_DIGEST_TEXT];
    json_t *config = json_deep_copy(trainer->options->resolved);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) json_object_del(json_object_get(config, "train"), own[i]);
    hn_strbuf_puts(out, "the config\n");
    hn_json_write(out, config, 0);
    for (size_t i = 0; i < sizeof digests / sizeof *digests; i++) {
        hn_digest_format(text, digests[i].digest);
        hn_strbuf_printf(out, "\n%s\n%s", digests[i].name, text);
    }
    hn_strbuf_printf(out, "\nthe products\n%s\n", trainer->runner.ops->products(&trainer->runner.ctx));
    out->failed |= !config;
    json_decref(config);
}

static size_t line_length(const char *text, const char *end)
{
    const char *newline = memchr(text, '\n', (size_t)(end - text));
    return newline ? (size_t)(newline - text) : (size_t)(end - text);
}

/* The first line that differs, with the name before it; all ranks find the same. */
static hn_status compare(const hn_blobs *all, const hn_ranks *ranks, hn_error *error)
{
    const char *first = (const char *)hn_blobs_view(all, 0), *first_end = first + hn_blobs_size(all, 0);
    for (int r = 1; r < all->count; r++) {
        const char *a = first, *b = (const char *)hn_blobs_view(all, r), *b_end = b + hn_blobs_size(all, r), *name = a;
        size_t named = 0;
        for (bool value = false; a < first_end && b < b_end; value = !value) {
            size_t n = line_length(a, first_end), m = line_length(b, b_end);
            if (n != m || memcmp(a, b, n))
                return hn_fail(error, HN_ERR_MISMATCH, "rank %d (%s): %.*s differ%s: \"%.200s\", rank 0 (%s) has \"%.200s\"", r, hn_ranks_host(ranks, r),
                               (int)named, name, named > 4 && name[named - 1] == 's' ? "" : "s", b, hn_ranks_host(ranks, 0), a);
            if (!value) name = a, named = n;
            a += n + 1;
            b += m + 1;
        }
    }
    return HN_OK;
}

hn_status hnp_world_compare(const hn_trainer *trainer, hn_error *error)
{
    hn_ranks *ranks = trainer->options->ranks;
    hn_strbuf mine;
    hn_blobs all = {0};
    if (!ranks) return HN_OK;
    hn_strbuf_init(&mine);
    describe(trainer, &mine);
    hn_status status = mine.failed ? hn_fail(error, HN_ERR_MEMORY, "out of memory to compare the ranks") : HN_OK;
    status = hn_ranks_agree(ranks, "what ranks share", status, error);
    if (status == HN_OK) status = hn_ranks_gather(ranks, "what ranks share", mine.text, mine.length, &all, error);
    if (status == HN_OK) status = compare(&all, ranks, error);
    hn_blobs_close(&all);
    hn_strbuf_close(&mine);
    return status;
}

bool hnp_world_first(const hn_trainer *trainer)
{
    return hn_ranks_first(trainer->options->ranks);
}

hn_status hnp_world_agree(const hn_trainer *trainer, const char *what, hn_status status, hn_error *error)
{
    return hn_ranks_agree(trainer->options->ranks, what, status, error);
}

hn_status hnp_world_share_bool(const hn_trainer *trainer, const char *what, bool *value, hn_error *error)
{
    bool mine = *value;
    void *bytes = &mine;
    size_t size = sizeof mine;
    hn_ranks *ranks = trainer->options->ranks;
    if (!ranks) return HN_OK;
    hn_status status = hn_ranks_broadcast(ranks, what, &bytes, &size, error);
    if (status != HN_OK || hn_ranks_first(ranks)) return status;
    *value = size == sizeof mine && *(const bool *)bytes;
    hn_free(bytes);
    return HN_OK;
}

void hnp_world_local(const hn_trainer *trainer, hn_status status, const hn_error *error)
{
    bool alike = status == HN_OK || status == HN_ERR_NUMERIC || status == HN_ERR_INTERRUPTED || status == HN_ERR_USAGE || status == HN_ERR_MISMATCH;
    if (!alike && trainer->options->ranks) hn_ranks_fail(trainer->options->ranks, error);
}

void hnp_world_stop_agreed(const hn_trainer *trainer)
{
    if (trainer->options->ranks) hn_ranks_stop_agreed(trainer->options->ranks);
}

void hnp_world_enter(hn_trainer *trainer, hn_activity activity, const char *operation)
{
    hn_ranks *ranks = trainer->options->ranks;
    if (!ranks) return;
    if (trainer->entered) hn_ranks_record_end(ranks, trainer->entered);
    hn_ranks_enter(ranks, activity, operation, trainer->progress.step);
    trainer->entered = hn_ranks_record(ranks, operation, 0);
}

hn_status hnp_world_log(hn_trainer *trainer, hn_error *error)
{
    hn_ranks *ranks = trainer->options->ranks;
    char *folder = ranks ? hn_path_join(trainer->config->output.dir, "logs") : NULL;
    if (!ranks) return HN_OK;
    hn_status status = folder ? hn_ranks_log(ranks, folder, error) : hn_fail(error, HN_ERR_MEMORY, "out of memory for paths");
    hn_free(folder);
    return status;
}

/* --- an evaluation --- */

static hn_status gather_notes(void *context, hn_status status, const void *mine, size_t size, void **all, size_t *all_size, hn_error *error)
{
    hn_trainer *trainer = context;
    hn_ranks *ranks = trainer->options->ranks;
    hn_blobs blobs = {0};
    status = hn_ranks_agree(ranks, "an evaluation", status, error);
    if (status == HN_OK) status = hn_ranks_gather(ranks, "an evaluation's results", mine, size, &blobs, error);
    if (status != HN_OK) return status;
    *all = blobs.bytes;
    *all_size = blobs.begin[blobs.count];
    blobs.bytes = NULL;
    hn_blobs_close(&blobs);
    return HN_OK;
}

const hn_share *hnp_world_share(hn_trainer *trainer)
{
    hn_ranks *ranks = trainer->options->ranks;
    if (!ranks) return NULL;
    trainer->share = (hn_share){.part = hn_ranks_rank(ranks), .parts = hn_ranks_size(ranks), .gather = gather_notes, .context = trainer};
    return &trainer->share;
}

/* --- a checkpoint --- */

/* Rank 0's failure, or none, is everybody's. */
static hn_status hear_first(hn_ranks *ranks, const char *what, const hn_error *mine, hn_error *error)
{
    hn_error told = *mine;
    void *bytes = &told;
    size_t size = sizeof told;
    hn_status status = hn_ranks_broadcast(ranks, what, &bytes, &size, error);
    if (status != HN_OK) return status;
    if (!hn_ranks_first(ranks)) {
        if (size == sizeof told) memcpy(&told, bytes, sizeof told);
        else hn_fail(&told, HN_ERR_MISMATCH, "rank 0 told of %s in %zu bytes, expected %zu", what, size, sizeof told);
        hn_free(bytes);
    }
    return told.status == HN_OK ? HN_OK : hn_fail(error, told.status, "%s", told.message);
}

static hn_status go(void *context, int64_t step, const hn_error *mine, hn_error *error)
{
    (void)step;
    return hear_first(((hn_trainer *)context)->options->ranks, "a checkpoint's folder", mine, error);
}

static hn_status parts(void *context, int64_t step, const hn_error *mine, const hn_strbuf *entry, hn_blobs *all, hn_error *error)
{
    (void)step;
    hn_ranks *ranks = ((hn_trainer *)context)->options->ranks;
    hn_blobs blobs = {0};
    hn_error problem = *mine;
    hn_status status = hn_ranks_agree(ranks, "a checkpoint's parts", problem.status, &problem);
    if (status != HN_OK) return hn_fail(error, status, "%s", problem.message);
    status = hn_ranks_gather(ranks, "a checkpoint's parts", entry->text, entry->length, &blobs, error);
    if (status == HN_OK && all) *all = blobs;
    else hn_blobs_close(&blobs);
    return status;
}

typedef struct verdict {
    hn_error error;
    bool safe;
} verdict;

static hn_status done(void *context, int64_t step, bool *safe, hn_error *came_to)
{
    (void)step;
    hn_ranks *ranks = ((hn_trainer *)context)->options->ranks;
    verdict mine = {*came_to, *safe}, told = mine;
    void *bytes = &mine;
    size_t size = sizeof mine;
    hn_error problem = {0};
    hn_status status = hn_ranks_broadcast(ranks, "a checkpoint", &bytes, &size, &problem);
    if (status != HN_OK) {
        *came_to = problem;
        return status;
    }
    if (!hn_ranks_first(ranks)) {
        if (size == sizeof told) memcpy(&told, bytes, sizeof told);
        hn_free(bytes);
    }
    *came_to = told.error;
    *safe = told.safe;
    return told.error.status;
}

hn_checkpoint_party hnp_world_party(hn_trainer *trainer, uint64_t bytes)
{
    hn_ranks *ranks = trainer->options->ranks;
    return (hn_checkpoint_party){.rank = hn_ranks_rank(ranks), .ranks = hn_ranks_size(ranks), .bytes = bytes, .context = trainer,
                                 .go = go, .parts = parts, .done = done};
}

static hn_status share_bytes(void *context, void **bytes, size_t *size, hn_error *error)
{
    return hn_ranks_broadcast(((hn_trainer *)context)->options->ranks, "a manifest", bytes, size, error);
}

static hn_status agree_checkpoint(void *context, hn_status mine, hn_error *error)
{
    return hn_ranks_agree(((hn_trainer *)context)->options->ranks, "a checkpoint's files", mine, error);
}

const hn_checkpoint_readers *hnp_world_readers(hn_trainer *trainer)
{
    hn_ranks *ranks = trainer->options->ranks;
    if (!ranks) return NULL;
    trainer->readers = (hn_checkpoint_readers){.rank = hn_ranks_rank(ranks), .ranks = hn_ranks_size(ranks), .context = trainer,
                                               .share = share_bytes, .agree = agree_checkpoint};
    return &trainer->readers;
}
