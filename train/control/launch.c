/* Launchers tell each process its place by variables of their own. The first of these sets that is there is believed:
 *
 *     RANK, WORLD_SIZE                                torchrun, sbatch scripts, by hand
 *     OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE      mpirun of Open MPI
 *     PMI_RANK, PMI_SIZE                              mpirun of MPICH and Intel MPI, srun --mpi=pmi2
 *     SLURM_PROCID, SLURM_STEP_NUM_TASKS              srun
 *
 * Half a set is an error that names what lacks, with one exception: a batch script has SLURM_PROCID=0 and no SLURM_STEP_NUM_TASKS, and a
 * `hone train` in it without srun is one process. (SLURM_NTASKS is there in both cases and says nothing.)
 *
 * Where they meet: MASTER_ADDR and MASTER_PORT; or for mpirun on one machine that machine; or for srun the first host of the step and
 * a port made of job and step, so that two jobs on a node seldom ask for the same one. Some ports behind it are tried too.
 *
 * The token is a digest of what names the launch and is the same for all its processes. It differs by launcher: under mpirun inside a
 * Slurm job SLURM_STEP_ID is the step of mpirun's daemon and not the same on all nodes, so only srun's ranks count it. */
#include "train/control/launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/digest.h"
#include "core/mem.h"
#include "train/ranks.h"

#define PORT_FIRST 20000
#define PORT_RANGE 20000
#define PORTS 16 /* tried in order, where the port is of our own choice */

typedef struct launcher {
    const char *rank, *size, *both;
    bool batch; /* `rank` alone is no half of a set */
    const char *named[5]; /* what tells this launch from others */
} launcher;

static const launcher launchers[] = {
    {"RANK", "WORLD_SIZE", "RANK and WORLD_SIZE", false, {"MASTER_PORT", "TORCHELASTIC_RUN_ID"}},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE", false,
     {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"}},
    {"PMI_RANK", "PMI_SIZE", "PMI_RANK and PMI_SIZE", false, {"PMI_JOBID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"}},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID and SLURM_STEP_NUM_TASKS", true,
     {"SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"}},
};
#define LAUNCHERS ((int)(sizeof launchers / sizeof *launchers))
#define BY_MPIRUN (&launchers[1])
#define BY_SRUN (&launchers[3])

typedef struct environment {
    hnp_variable *variable;
    void *context;
} environment;

/* Set and empty is not set: that is how scripts unset. */
static const char *get(const environment *e, const char *name)
{
    const char *value = e->variable(e->context, name);
    return value && *value ? value : NULL;
}

static hn_status get_number(int *out, const environment *e, const char *name, int least, int most, hn_error *error)
{
    const char *text = get(e, name);
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || *text < '0' || *text > '9' || value < least || value > most)
        return hn_fail(error, HN_ERR_USAGE, "%s is \"%.40s\"; expected a number of %d to %d", name, text, least, most);
    *out = (int)value;
    return HN_OK;
}

/* The launcher that made this process, or NULL. */
static hn_status find_launcher(const launcher **out, const environment *e, hn_error *error)
{
    *out = NULL;
    for (int i = 0; i < LAUNCHERS && !*out; i++) {
        const launcher *l = &launchers[i];
        const char *rank = get(e, l->rank), *size = get(e, l->size);
        if (rank && size) *out = l;
        if (!rank == !size || (rank && l->batch)) continue;
        return hn_fail(error, HN_ERR_USAGE, "%s is set and %s is not; expected both, or none for one process", rank ? l->rank : l->size,
                       rank ? l->size : l->rank);
    }
    return HN_OK;
}

/* "rack[1-2]n[07,9],m4" begins with "rack1n07". */
static void first_host(char *host, size_t size, const char *list)
{
    size_t used = 0;
    for (bool inside = false, skip = false; *list && (*list != ',' || inside); list++) {
        if (*list == '[')
            inside = true;
        else if (*list == ']')
            inside = skip = false;
        else if (inside && (*list == ',' || *list == '-'))
            skip = true;
        else if (!skip && used + 1 < size)
            host[used++] = *list;
    }
    host[used] = '\0';
}

/* Digits of an identity that is a number, as Slurm's are; other texts have none, and count as 0. */
static unsigned long number_of(const char *text) { return text ? strtoul(text, NULL, 10) : 0; }

static hn_status find_place(hnp_launch *out, const environment *e, const launcher *by, hn_error *error)
{
    const char *address = get(e, "MASTER_ADDR"), *port = get(e, "MASTER_PORT"), *hosts = get(e, "SLURM_STEP_NODELIST");
    const char *local = get(e, "OMPI_COMM_WORLD_LOCAL_SIZE");
    unsigned long spread = out->token;
    out->ports = PORTS;
    if (!address != !port)
        return hn_fail(error, HN_ERR_USAGE, "%s is set and %s is not; expected both, or none", address ? "MASTER_ADDR" : "MASTER_PORT",
                       address ? "MASTER_PORT" : "MASTER_ADDR");
    if (address) {
        out->ports = 1;
        snprintf(out->host, sizeof out->host, "%s", address);
        return get_number(&out->port, e, "MASTER_PORT", 1, 65535, error);
    }
    if (by == BY_MPIRUN && local && number_of(local) == (unsigned long)out->size)
        snprintf(out->host, sizeof out->host, "127.0.0.1");
    else if (by == BY_SRUN && hosts) {
        first_host(out->host, sizeof out->host, hosts);
        spread = number_of(get(e, "SLURM_JOB_ID")) * 31 + number_of(get(e, "SLURM_STEP_ID"));
    }
    if (out->host[0]) out->port = PORT_FIRST + (int)(spread % PORT_RANGE);
    return HN_OK;
}

static hn_status find_token(uint64_t *out, const environment *e, const launcher *by, hn_error *error)
{
    hn_hasher *hasher = hn_hasher_open();
    const char *own = get(e, "HONE_LAUNCH");
    char user[24];
    if (!hasher) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the digest of the launch");
    snprintf(user, sizeof user, "%lu", (unsigned long)getuid());
    hn_hasher_add_text(hasher, user);
    if (own) hn_hasher_add_text(hasher, own);
    for (int i = 0; !own && by->named[i]; i++) {
        const char *value = get(e, by->named[i]);
        hn_hasher_add_text(hasher, value ? value : "");
    }
    *out = hn_hasher_digest(hasher).low;
    hn_hasher_free(hasher);
    return HN_OK;
}

hn_status hnp_launch_read(hnp_launch *out, hnp_variable *variable, void *context, hn_error *error)
{
    environment e = {variable, context};
    hnp_launch made = {.size = 1, .by = ""};
    const launcher *by;
    hn_status status = find_launcher(&by, &e, error);
    if (status == HN_OK && by) {
        made.by = by->both;
        status = get_number(&made.size, &e, by->size, 1, HN_RANKS_MOST, error);
        if (status == HN_OK) status = get_number(&made.rank, &e, by->rank, 0, made.size - 1, error);
        if (status == HN_OK) status = find_token(&made.token, &e, by, error);
        if (status == HN_OK && made.size > 1) status = find_place(&made, &e, by, error);
    }
    if (status == HN_OK) *out = made;
    return status;
}
