/* Products chosen by time (train.tune). Other algorithms give other bits, so the choice is made once, before the first step, and is
 * part of the run:
 *
 *     plans.jsonl in the run folder     the table, as hn_tuning writes it
 *     "tuned" in every checkpoint       its digest
 *
 *     table in the folder?   checkpoint says            then
 *     none                   nothing                    rehearse, time, write it
 *     fits                   nothing, or its digest     it is used
 *     of other hardware      nothing (state.c)          as if there were none
 *     none, damaged, other   a digest                   an error; with resume.force what is there is used, or a new one made
 *
 * Shapes are met by a rehearsal: forward, loss and backward of the first batches, which leaves nothing behind but gradients, and those
 * every step zeroes. Operands lie in the activations, which are laid out anew then, or in the gradients, whichever are larger. What
 * has other shapes (a thawed layer, an evaluation, a batch of another size) goes by the table's rule. */
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "train/internal.h"

enum {
    REHEARSED = 8,       /* batches; they differ in size */
    TABLE_MOST = 4 << 20 /* bytes of the file */
};

static void tell(const hn_trainer *trainer, const char *what, const char *path)
{
    char text[1024];
    snprintf(text, sizeof text, "train.tune: %s %s", what, path);
    trainer->options->notice(text);
}

static hn_status rehearse(hn_trainer *trainer, hn_error *error)
{
    const hn_job *job = trainer->job;
    hn_order *order = NULL;
    hn_order_options options = hn_job_order(job, 0);
    hn_status status = hn_order_open(&order, job->train, &options, error);
    for (int64_t b = 0; status == HN_OK && b < REHEARSED && b < job->epoch_batches[0]; b++) {
        int32_t count;
        const uint32_t *examples = hn_order_examples(order, b, &count);
        status = hnp_trainer_rehearse(trainer, examples, count, error);
    }
    hn_order_free(order);
    return status;
}

static hn_status make(hn_trainer *trainer, const hn_tuning *tuning, const char *path, hn_error *error)
{
    hn_runner *runner = &trainer->runner;
    const hn_arena *lent = runner->activations.size > trainer->gradients.size ? &runner->activations : &trainer->gradients;
    hn_strbuf text;
    hn_strbuf_init(&text);
    hn_status status = rehearse(trainer, error);
    if (status == HN_OK) status = tuning->run(&runner->ctx, lent->base, lent->size, error);
    if (status != HN_OK) goto out;
    hnp_trainer_select(trainer);
    tuning->save(&runner->ctx, &text);
    status = text.failed ? hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path) : hn_file_commit(path, text.text, text.length, error);
    if (status != HN_OK) goto out;
    hn_digest_format(trainer->tuned, hn_digest_bytes(text.text, text.length));
    tell(trainer, "the fastest products were chosen and stand in", path);
out:
    hn_strbuf_close(&text);
    return status;
}

/* The table in the folder, and its digest. */
static hn_status load(hn_trainer *trainer, const hn_tuning *tuning, const char *path, char digest[HN_DIGEST_TEXT], hn_error *error)
{
    char *text = NULL;
    size_t size = 0;
    hn_status status = hn_file_read(&text, &size, path, TABLE_MOST, error);
    if (status == HN_OK) status = tuning->load(&trainer->runner.ctx, text, path, error);
    if (status == HN_OK) hn_digest_format(digest, hn_digest_bytes(text, size));
    hn_free(text);
    return status;
}

/* Takes the run's table; *found: it is in use. Fails when the checkpoint was made with another one. */
static hn_status take(hn_trainer *trainer, const hn_tuning *tuning, const char *path, bool *found, hn_error *error)
{
    char digest[HN_DIGEST_TEXT] = "", text[1024];
    hn_error problem = {0};
    hn_status status = load(trainer, tuning, path, digest, &problem);
    if (status == HN_ERR_MEMORY) return hn_fail(error, status, "%s", problem.message);
    *found = status == HN_OK;
    if (trainer->tuned[0] && strcmp(trainer->tuned, digest) != 0) {
        if (*found) hn_fail(&problem, HN_ERR_MISMATCH, "%s has the digest %s", path, digest);
        snprintf(text, sizeof text, "the checkpoint was made with tuned products of the digest %s, but %.800s", trainer->tuned,
                 problem.message);
        if (!trainer->config->resume.force)
            return hn_fail(error, HN_ERR_MISMATCH, "%s: restore the file, or resume.force=true goes on with %s, and other bits", text,
                           *found ? "what it holds now" : "products chosen anew");
        trainer->options->notice(text);
    } else if (!*found && hn_path_exists(path)) {
        trainer->options->notice(problem.message);
    }
    memcpy(trainer->tuned, digest, sizeof digest);
    if (*found) tell(trainer, "products as they stand in", path);
    return HN_OK;
}

hn_status hnp_trainer_tune(hn_trainer *trainer, hn_error *error)
{
    const hn_runner *runner = &trainer->runner;
    const hn_tuning *tuning = runner->ops->tuning();
    bool found = false;
    if (!trainer->config->train.tune || !tuning) {
        if (trainer->config->train.tune) tell(trainer, "nothing to choose among", runner->ops->products(&runner->ctx));
        trainer->tuned[0] = 0;
        return HN_OK;
    }
    char *path = hn_path_join(trainer->config->output.dir, "plans.jsonl");
    hn_status status = path ? take(trainer, tuning, path, &found, error) : hn_fail(error, HN_ERR_MEMORY, "out of memory for a path");
    if (status == HN_OK && !found) status = make(trainer, tuning, path, error);
    hn_free(path);
    return status;
}
