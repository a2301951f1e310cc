/* One slot for one job, whose state says who may touch it:
 *
 *     IDLE --start--> ASKED --thread--> READ --thread--> DONE --poll, wait--> IDLE
 *
 * It is the caller's while IDLE and DONE, the thread's while ASKED and READ, and the tensors' bytes are the thread's while ASKED alone; the
 * state itself changes under the lock. So the caller's objects (the state's JSON, whose reference counts are not for two threads) are made
 * and released on the caller's side alone.
 *
 * There is no queue: a second save would find the first one's tensors changed, and training that is faster than its disk has to wait for
 * it anyhow. */
#include "checkpoints/writer.h"

#include <pthread.h>
#include <string.h>

#include "checkpoints/checkpoint.h"
#include "core/clock.h"
#include "core/mem.h"
#include "core/threads.h"

typedef enum slot_state { IDLE, ASKED, READ, DONE, ENDED } slot_state;

struct hn_checkpoint_writer {
    char *folder;
    int keep;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* state */
    slot_state state;
    hn_checkpoint_job job;
    hn_checkpoint_outcome outcome;
};

static void set_state(hn_checkpoint_writer *writer, slot_state state)
{
    pthread_mutex_lock(&writer->lock);
    writer->state = state;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
}

static void set_read(void *writer)
{
    set_state(writer, READ);
}

static hn_status run_before(void *writer, hn_error *error)
{
    const hn_checkpoint_job *job = &((hn_checkpoint_writer *)writer)->job;
    return job->before ? job->before(job->context, error) : HN_OK;
}

static hn_status save(hn_checkpoint_writer *writer, hn_error *error)
{
    const hn_checkpoint_job *job = &writer->job;
    const hn_checkpoint_release release = {.call = set_read, .context = writer, .then = run_before};
    const hn_checkpoint_retention retention = {.keep = writer->keep, .stay = {job->stay[0], job->stay[1]}};
    if (job->party)
        return hn_checkpoint_save_pieces(writer->folder, job->step, job->pieces, job->count, job->state, &release, job->party, &retention,
                                         &writer->outcome.safe, error);
    hn_status status = hn_checkpoint_save(writer->folder, job->step, job->tensors, job->count, job->state, &release, error);
    writer->outcome.safe = status == HN_OK;
    if (status == HN_OK) status = hn_checkpoint_retain(writer->folder, writer->keep, job->step, job->stay, error);
    return status;
}

static void run_job(hn_checkpoint_writer *writer)
{
    double before = hn_clock();
    writer->outcome = (hn_checkpoint_outcome){.step = writer->job.step};
    save(writer, &writer->outcome.error);
    writer->outcome.seconds = hn_clock() - before;
}

static void *work(void *argument)
{
    hn_checkpoint_writer *writer = argument;
    pthread_mutex_lock(&writer->lock);
    for (;;) {
        while (writer->state != ASKED && writer->state != ENDED) pthread_cond_wait(&writer->changed, &writer->lock);
        if (writer->state == ENDED) break;
        pthread_mutex_unlock(&writer->lock);
        run_job(writer);
        pthread_mutex_lock(&writer->lock);
        writer->state = DONE;
        pthread_cond_broadcast(&writer->changed);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

static void release(hn_checkpoint_writer *writer)
{
    pthread_cond_destroy(&writer->changed);
    pthread_mutex_destroy(&writer->lock);
    hn_free(writer->folder);
    hn_free(writer);
}

hn_status hn_checkpoint_writer_open(hn_checkpoint_writer **out, const char *folder, int keep, hn_error *error)
{
    hn_checkpoint_writer *writer = hn_calloc(1, sizeof *writer);
    char *copy = hn_strdup(folder);
    if (!writer || !copy) {
        hn_free(writer);
        hn_free(copy);
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for the writer of checkpoints", folder);
    }
    writer->folder = copy;
    writer->keep = keep;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->changed, NULL);
    int code = hn_thread_start(&writer->thread, work, writer);
    if (code) {
        release(writer);
        return hn_fail(error, HN_ERR_DEVICE, "%s: a thread for writing checkpoints could not be started: %s", folder, strerror(code));
    }
    *out = writer;
    return HN_OK;
}

void hn_checkpoint_writer_free(hn_checkpoint_writer *writer)
{
    hn_checkpoint_outcome ignored;
    if (!writer) return;
    hn_checkpoint_writer_wait(writer, &ignored);
    set_state(writer, ENDED);
    pthread_join(writer->thread, NULL);
    release(writer);
}

void hn_checkpoint_writer_start(hn_checkpoint_writer *writer, const hn_checkpoint_job *job)
{
    pthread_mutex_lock(&writer->lock);
    HN_ASSERT(writer->state == IDLE);
    writer->job = *job;
    writer->state = ASKED;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
}

void hn_checkpoint_writer_wait_read(hn_checkpoint_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    while (writer->state == ASKED) pthread_cond_wait(&writer->changed, &writer->lock);
    pthread_mutex_unlock(&writer->lock);
}

/* Takes the outcome of a job that is over. */
static bool take(hn_checkpoint_writer *writer, hn_checkpoint_outcome *outcome, bool waits)
{
    pthread_mutex_lock(&writer->lock);
    while (waits && (writer->state == ASKED || writer->state == READ)) pthread_cond_wait(&writer->changed, &writer->lock);
    bool over = writer->state == DONE;
    if (over) writer->state = IDLE;
    pthread_mutex_unlock(&writer->lock);
    if (!over) return false;
    *outcome = writer->outcome;
    json_decref(writer->job.state);
    writer->job.state = NULL;
    return true;
}

bool hn_checkpoint_writer_poll(hn_checkpoint_writer *writer, hn_checkpoint_outcome *outcome)
{
    return take(writer, outcome, false);
}

bool hn_checkpoint_writer_wait(hn_checkpoint_writer *writer, hn_checkpoint_outcome *outcome)
{
    return take(writer, outcome, true);
}
