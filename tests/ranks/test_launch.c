/* Who am I: each launcher's variables, and what lacks where half of them is there. */
#include "train/control/launch.h"

#include "tests/test.h"

/* "NAME=value" lines. */
static const char *from_text(void *context, const char *name)
{
    static char value[8][128];
    static int next;
    size_t length = strlen(name);
    for (const char *at = context; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
        if (strncmp(at, name, length) || at[length] != '=') continue;
        char *copy = value[next++ % 8];
        snprintf(copy, sizeof value[0], "%.*s", (int)strcspn(at + length + 1, "\n"), at + length + 1);
        return copy;
    }
    return NULL;
}

static hn_error error;

static hn_status read_text(hnp_launch *out, const char *text)
{
    hn_error_reset(&error);
    *out = (hnp_launch){0};
    return hnp_launch_read(out, from_text, (void *)(uintptr_t)text, &error);
}

TEST(one_process)
{
    hnp_launch l;
    static const char *const plain[] = {"", "HOME=/", "RANK=\nWORLD_SIZE=", "SLURM_PROCID=0\nSLURM_NTASKS=8\nSLURM_JOB_ID=7",
                                        "RANK=0\nWORLD_SIZE=1", "MASTER_ADDR=n1\nMASTER_PORT=29500"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        CHECK_OK(read_text(&l, plain[i]));
        CHECK_INT(l.rank, 0);
        CHECK_INT(l.size, 1);
    }
}

TEST(each_launcher)
{
    hnp_launch l;
    CHECK_OK(read_text(&l, "RANK=3\nWORLD_SIZE=8\nMASTER_ADDR=n1\nMASTER_PORT=29500\nOMPI_COMM_WORLD_RANK=1\nOMPI_COMM_WORLD_SIZE=2"));
    CHECK_INT(l.rank, 3);
    CHECK_INT(l.size, 8);
    CHECK_TEXT(l.host, "n1");
    CHECK_INT(l.port, 29500);
    CHECK_INT(l.ports, 1);
    CHECK_OK(read_text(&l, "OMPI_COMM_WORLD_RANK=1\nOMPI_COMM_WORLD_SIZE=2\nOMPI_COMM_WORLD_LOCAL_SIZE=2\nPMIX_NAMESPACE=77"));
    CHECK_INT(l.rank, 1);
    CHECK_TEXT(l.host, "127.0.0.1");
    CHECK(l.port >= 20000 && l.port < 40000 && l.ports == 16);
    CHECK_OK(read_text(&l, "OMPI_COMM_WORLD_RANK=1\nOMPI_COMM_WORLD_SIZE=4\nOMPI_COMM_WORLD_LOCAL_SIZE=2"));
    CHECK_TEXT(l.host, "");
    CHECK_OK(read_text(&l, "PMI_RANK=0\nPMI_SIZE=5"));
    CHECK_INT(l.size, 5);
    CHECK_TEXT(l.by, "PMI_RANK and PMI_SIZE");
    CHECK_OK(read_text(&l, "SLURM_PROCID=2\nSLURM_STEP_NUM_TASKS=4\nSLURM_JOB_ID=1000\nSLURM_STEP_ID=3\nSLURM_STEP_NODELIST=n[2-3,7]"));
    CHECK_INT(l.rank, 2);
    CHECK_TEXT(l.host, "n2");
    CHECK_INT(l.port, 20000 + (1000 * 31 + 3) % 20000);
}

TEST(first_of_a_list)
{
    static const char *const lists[][2] = {{"n1", "n1"}, {"n1,n2", "n1"}, {"gpu[007-123]", "gpu007"}, {"r[1-2]n[4,5],x", "r1n4"}, {"a[3]-ib,b", "a3-ib"}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        char text[128];
        hnp_launch l;
        snprintf(text, sizeof text, "SLURM_PROCID=0\nSLURM_STEP_NUM_TASKS=2\nSLURM_STEP_NODELIST=%s", lists[i][0]);
        CHECK_OK(read_text(&l, text));
        CHECK_TEXT(l.host, lists[i][1]);
    }
}

TEST(half_a_set_names_what_lacks)
{
    static const char *const halves[][2] = {
        {"RANK=0", "RANK is set and WORLD_SIZE is not"},
        {"WORLD_SIZE=2", "WORLD_SIZE is set and RANK is not"},
        {"RANK=0\nOMPI_COMM_WORLD_RANK=0\nOMPI_COMM_WORLD_SIZE=2", "WORLD_SIZE is not"},
        {"OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE is not"},
        {"PMI_SIZE=2", "PMI_RANK is not"},
        {"SLURM_STEP_NUM_TASKS=2", "SLURM_PROCID is not"},
        {"RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=n1", "MASTER_PORT is not"},
        {"RANK=0\nWORLD_SIZE=2\nMASTER_PORT=1", "MASTER_ADDR is not"},
    };
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++) {
        hnp_launch l;
        CHECK_INT(read_text(&l, halves[i][0]), HN_ERR_USAGE);
        CHECK_CONTAINS(error.message, halves[i][1]);
        CHECK_INT(l.size, 0);
    }
}

TEST(values_that_cannot_be)
{
    static const char *const wrong[] = {"RANK=2\nWORLD_SIZE=2", "RANK=-1\nWORLD_SIZE=2", "RANK=x\nWORLD_SIZE=2", "RANK=1x\nWORLD_SIZE=2",
                                        "RANK=0\nWORLD_SIZE=0", "RANK=0\nWORLD_SIZE=99999999999999999999", "RANK=0\nWORLD_SIZE=5000",
                                        "RANK= 0\nWORLD_SIZE=2", "RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=a\nMASTER_PORT=70000",
                                        "RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=a\nMASTER_PORT=0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        hnp_launch l;
        CHECK_INT(read_text(&l, wrong[i]), HN_ERR_USAGE);
        CHECK_CONTAINS(error.message, "expected a number of");
    }
}

/* The same on every rank of a launch, another for another launch. */
TEST(tokens)
{
    static const char *const launches[] = {
        "RANK=%d\nWORLD_SIZE=2\nHONE_LAUNCH=a\nMASTER_ADDR=n%d\nMASTER_PORT=9", "RANK=%d\nWORLD_SIZE=2\nHONE_LAUNCH=b",
        "RANK=%d\nWORLD_SIZE=2\nMASTER_ADDR=n%d\nMASTER_PORT=9", "RANK=%d\nWORLD_SIZE=2\nMASTER_ADDR=n%d\nMASTER_PORT=8",
        "OMPI_COMM_WORLD_RANK=%d\nOMPI_COMM_WORLD_SIZE=2\nPMIX_NAMESPACE=1\nSLURM_STEP_ID=%d",
        "OMPI_COMM_WORLD_RANK=%d\nOMPI_COMM_WORLD_SIZE=2\nPMIX_NAMESPACE=2\nSLURM_STEP_ID=%d",
        "SLURM_PROCID=%d\nSLURM_STEP_NUM_TASKS=2\nSLURM_JOB_ID=1\nSLURM_STEP_ID=1", "SLURM_PROCID=%d\nSLURM_STEP_NUM_TASKS=2\nSLURM_JOB_ID=1\nSLURM_STEP_ID=2",
        "SLURM_PROCID=%d\nSLURM_STEP_NUM_TASKS=2\nSLURM_JOB_ID=1\nSLURM_STEP_ID=1\nSLURM_RESTART_COUNT=1"};
    uint64_t token[sizeof launches / sizeof *launches];
    for (size_t i = 0; i < sizeof launches / sizeof *launches; i++)
        for (int rank = 0; rank < 2; rank++) {
            char text[200];
            hnp_launch l;
            snprintf(text, sizeof text, launches[i], rank, rank);
            CHECK_OK(read_text(&l, text));
            if (rank) CHECK(l.token == token[i]);
            token[i] = l.token;
            for (size_t j = 0; j < i; j++) CHECK(token[j] != token[i]);
        }
}

TEST_MAIN(RUN(one_process); RUN(each_launcher); RUN(first_of_a_list); RUN(half_a_set_names_what_lacks); RUN(values_that_cannot_be);
          RUN(tokens))
