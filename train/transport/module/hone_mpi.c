/* Messages over MPI: the one file that is compiled against an MPI. It is a library of its own, loaded when it is asked for (mpi_load.c),
 * because MPIs differ in their binary interface: hone itself then starts anywhere, and a cluster builds this for the MPI that it has:
 *
 *     mpicc -O2 -shared -fPIC -I HONE -o hone_mpi.so HONE/train/transport/module/hone_mpi.c
 *
 * Next to nothing of MPI is used: messages that do not block, on a communicator of our own, and the test of whether they are over. Messages
 * move only while MPI is called, so `progress` is that call, again and again; after a hundred in vain it sleeps between them, for
 * whoever computes on this core is what we wait for. One thread does all of this, and began MPI: MPI_THREAD_FUNNELED is enough.
 *
 * MPI's own ways of ending a job are not for us. MPI_Abort may hang, and MPI_Finalize waits for ranks that are gone: where anything has
 * failed neither is called, and the process's end is left to hone. A call that fails returns (MPI_ERRORS_RETURN) and is told. */
#include <mpi.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "train/transport/p2p.h"

enum { MESSAGES = 64, PATIENCE = 100 }; /* under way at most; tests in vain before it sleeps */

static const double leave_within = 10; /* seconds, see p2p.h */

typedef struct mpi {
    hn_p2p table;
    MPI_Comm world;
    bool began; /* by us, who end it then */
    int count, in_vain;
    MPI_Request requests[MESSAGES]; /* [count] under way, in no order */
    hn_message *messages[MESSAGES];
    bool receives[MESSAGES];
    char name[128];
} mpi;

hn_p2p *hone_p2p_open(int layout, int rank, int size, hn_error *error);

static hn_status fail(hn_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

static hn_status fail(hn_error *error, const char *format, ...)
{
    if (error && error->status == HN_OK) {
        va_list args;
        va_start(args, format);
        error->status = HN_ERR_DEVICE;
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
    }
    return HN_ERR_DEVICE;
}

/* HN_OK, or the failure of a call that concerned `peer` (-1: nobody). */
static hn_status check(int code, const char *call, int peer, hn_error *error)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (code == MPI_SUCCESS) return HN_OK;
    MPI_Error_string(code, text, &length);
    if (peer < 0) return fail(error, "%s: %s", call, text);
    return fail(error, "rank %d: %s: %s", peer, call, text);
}

static hn_status begin(mpi *m, hn_message *message, bool receives, hn_error *error)
{
    if (m->count == MESSAGES) return fail(error, "more than %d messages under way over MPI", MESSAGES);
    message->done = false;
    MPI_Request *request = &m->requests[m->count];
    int size = (int)message->size;
    int code = receives ? MPI_Irecv(message->bytes, size, MPI_BYTE, message->peer, message->tag, m->world, request)
                        : MPI_Isend(message->bytes, size, MPI_BYTE, message->peer, message->tag, m->world, request);
    hn_status status = check(code, receives ? "MPI_Irecv" : "MPI_Isend", message->peer, error);
    if (status != HN_OK) return status;
    m->messages[m->count] = message;
    m->receives[m->count++] = receives;
    return HN_OK;
}

static hn_status mpi_send(hn_p2p *p2p, hn_message *message, hn_error *error)
{
    return begin(p2p->state, message, false, error);
}

static hn_status mpi_receive(hn_p2p *p2p, hn_message *message, hn_error *error)
{
    return begin(p2p->state, message, true, error);
}

static hn_status conclude(mpi *m, int i, const MPI_Status *came, int code, hn_error *error)
{
    hn_message *message = m->messages[i];
    int got = (int)message->size;
    hn_status status = check(code == MPI_ERR_IN_STATUS ? came->MPI_ERROR : code, "MPI_Testsome", message->peer, error);
    if (status == HN_OK && m->receives[i]) MPI_Get_count(came, MPI_BYTE, &got);
    if (status == HN_OK && got != (int)message->size)
        status = fail(error, "rank %d sent %d bytes; rank %d expected %zu", message->peer, got, m->table.rank, message->size);
    message->done = status == HN_OK;
    return status;
}

/* Moves the last entry into each place whose request is over. */
static void compact(mpi *m)
{
    for (int i = m->count - 1; i >= 0; i--) {
        if (m->requests[i] != MPI_REQUEST_NULL) continue;
        m->count--;
        m->requests[i] = m->requests[m->count];
        m->messages[i] = m->messages[m->count];
        m->receives[i] = m->receives[m->count];
    }
}

static void nap(mpi *m)
{
    static const struct timespec moment = {.tv_nsec = 50000};
    if (m->in_vain++ < PATIENCE)
        sched_yield();
    else
        nanosleep(&moment, NULL);
}

static hn_status mpi_progress(hn_p2p *p2p, hn_error *error)
{
    mpi *m = p2p->state;
    int over = 0, which[MESSAGES];
    MPI_Status came[MESSAGES];
    int code = MPI_Testsome(m->count, m->requests, &over, which, came);
    if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) return check(code, "MPI_Testsome", -1, error);
    if (over == MPI_UNDEFINED) over = 0; /* nothing is under way */
    hn_status status = HN_OK;
    for (int i = 0; i < over; i++) {
        hn_status one = conclude(m, which[i], &came[i], code, error);
        if (status == HN_OK) status = one;
    }
    compact(m);
    if (over)
        m->in_vain = 0;
    else
        nap(m);
    return status;
}

/* Waits until all ranks are here; false: they did not come in time. */
static bool all_leave(mpi *m)
{
    static const struct timespec moment = {.tv_nsec = 1000000};
    MPI_Request barrier;
    int here = 0;
    if (MPI_Ibarrier(m->world, &barrier) != MPI_SUCCESS) return false;
    for (double end = MPI_Wtime() + leave_within; !here && MPI_Wtime() < end;) {
        if (MPI_Test(&barrier, &here, MPI_STATUS_IGNORE) != MPI_SUCCESS) return false;
        if (!here) nanosleep(&moment, NULL);
    }
    return here;
}

/* What is not ended in order stays as it is: MPI, and this struct, until the process's end. */
static bool mpi_close(hn_p2p *p2p, bool orderly)
{
    mpi *m = p2p->state;
    if (!orderly || !all_leave(m)) return false;
    MPI_Comm_free(&m->world);
    if (m->began) MPI_Finalize();
    free(m);
    return true;
}

/* "mpi 3.1 Open MPI v4.1.4": the standard, and the first words of the library's own line. */
static void find_name(mpi *m)
{
    char library[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int version = 0, part = 0, length = 0;
    MPI_Get_version(&version, &part);
    MPI_Get_library_version(library, &length);
    library[strcspn(library, ",\n")] = '\0';
    snprintf(m->name, sizeof m->name, "mpi %d.%d %.80s", version, part, library);
}

static hn_status begin_mpi(mpi *m, hn_error *error)
{
    int running = 0, provided = MPI_THREAD_SINGLE;
    hn_status status = check(MPI_Initialized(&running), "MPI_Initialized", -1, error);
    if (status == HN_OK && !running) {
        status = check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread", -1, error);
        m->began = status == HN_OK;
    }
    if (status == HN_OK && running) status = check(MPI_Query_thread(&provided), "MPI_Query_thread", -1, error);
    if (status == HN_OK && provided < MPI_THREAD_FUNNELED)
        status = fail(error, "this MPI cannot be used in a process with threads (it provides level %d)", provided);
    return status;
}

static hn_status join_world(mpi *m, int rank, int size, hn_error *error)
{
    int own = 0, all = 0;
    hn_status status = begin_mpi(m, error);
    if (status == HN_OK) status = check(MPI_Comm_dup(MPI_COMM_WORLD, &m->world), "MPI_Comm_dup", -1, error);
    if (status != HN_OK) return status;
    MPI_Comm_set_errhandler(m->world, MPI_ERRORS_RETURN);
    MPI_Comm_rank(m->world, &own);
    MPI_Comm_size(m->world, &all);
    if (own != rank || all != size)
        return fail(error, "MPI counts rank %d of %d, the launcher rank %d of %d: is hone_mpi.so built for the MPI that started this?",
                    own, all, rank, size);
    return HN_OK;
}

hn_p2p *hone_p2p_open(int layout, int rank, int size, hn_error *error)
{
    mpi *m = calloc(1, sizeof *m);
    if (!m || layout != HN_P2P_LAYOUT) {
        if (m)
            fail(error, "hone_mpi.so has layout %d, hone %d: build it from this hone's sources", HN_P2P_LAYOUT, layout);
        else
            fail(error, "out of memory for messages over MPI");
        free(m);
        return NULL;
    }
    if (join_world(m, rank, size, error) != HN_OK) {
        free(m); /* MPI, if it runs, goes with the process */
        return NULL;
    }
    find_name(m);
    m->table = (hn_p2p){m->name, m, rank, size, mpi_send, mpi_receive, mpi_progress, mpi_close};
    return &m->table;
}
