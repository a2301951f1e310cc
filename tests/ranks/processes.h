/* Several ranks as processes of one test, over loopback, on ports that the kernel chooses. The test forks them, disturbs them, and
 * looks at how each ended and what it said. Nothing here can last: every process has an alarm.
 *
 *     static void body(hn_ranks *ranks, int scene) { ... }
 *     world w;
 *     world_start(&w, 4, body, scene);     forks 4 ranks, each opens the ranks and runs the body, closes them, and exits with 0
 *     world_wait(&w, 5);                   until all have ended, at most so many seconds
 *     w.status[2], w.said[2]               its wait status; its stderr and notices */
#ifndef HONE_TESTS_RANKS_PROCESSES_H
#define HONE_TESTS_RANKS_PROCESSES_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/mem.h"
#include "tests/test.h"
#include "train/ranks.h"

enum { WORLD_MOST = 8, WORLD_ALARM = 60 };

typedef void world_body(hn_ranks *ranks, int scene);
typedef struct world {
    int size;
    pid_t pid[WORLD_MOST];
    int status[WORLD_MOST]; /* of waitpid */
    double ended[WORLD_MOST];
    char said[WORLD_MOST][4096];
    char folder[40]; /* where they meet, and write */
    double seconds;  /* from the start of world_wait until the last one ended */
} world;

static hn_ranks_options world_options = {.timeout = 2, .silence = 1.5, .connect = 20, .stop_within = 20};
static volatile int world_stop;
static size_t world_memory[WORLD_MOST];     /* of a rank, which of its allocations fails first; 0: none */
static bool world_meets_by_folder = true; /* else by the environment of the test */

static void world_nap(double seconds)
{
    nanosleep(&(struct timespec){(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)}, NULL);
}

static void world_notice(const char *text) { fprintf(stderr, "%s\n", text); }
static void world_on_signal(int number)
{
    (void)number;
    world_stop = 1;
}

static void world_set(const char *name, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

/* In a forked process: stderr into its file, the environment of its rank. */
static void world_be(world *w, int rank)
{
    char path[80];
    alarm(WORLD_ALARM);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(path, sizeof path, "%s/said-%d", w->folder, rank);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || dup2(fd, 2) < 0) _exit(97);
    close(fd);
    world_set("RANK", rank);
    world_set("WORLD_SIZE", w->size);
    setenv("HONE_LAUNCH", w->folder, 1);
    setenv("HONE_INTERFACE", "lo", 1);
    signal(SIGTERM, world_on_signal);
    world_options.rendezvous = world_meets_by_folder ? w->folder : NULL;
    world_options.notice = world_notice;
    world_options.stop = &world_stop;
}

/* One rank. Its exit code: 0 after an orderly end, 10 + the status where the ranks did not come together. */
static void world_start_rank(world *w, int rank, world_body *body, int scene)
{
    fflush(NULL);
    w->status[rank] = -1;
    w->pid[rank] = fork();
    if (w->pid[rank] < 0) abort();
    if (w->pid[rank]) return;
    hn_ranks *ranks = NULL;
    hn_error error = {0};
    world_be(w, rank);
    if (world_memory[rank]) hn_mem_fail_at(world_memory[rank]);
    if (hn_ranks_open(&ranks, &world_options, &error) != HN_OK) {
        fprintf(stderr, "%s\n", error.message);
        exit(10 + (int)error.status);
    }
    body(ranks, scene);
    hn_ranks_close(ranks);
    exit(0);
}

static void world_make(world *w, int size)
{
    *w = (world){.size = size};
    strcpy(w->folder, "/tmp/hone-ranks-XXXXXX");
    if (!mkdtemp(w->folder)) abort();
}

static void world_start(world *w, int size, world_body *body, int scene)
{
    world_make(w, size);
    for (int i = 0; i < size; i++) world_start_rank(w, i, body, scene);
}

static void world_read(world *w, int rank)
{
    char path[80];
    snprintf(path, sizeof path, "%s/said-%d", w->folder, rank);
    FILE *file = fopen(path, "r");
    size_t n = file ? fread(w->said[rank], 1, sizeof w->said[0] - 1, file) : 0;
    w->said[rank][n] = '\0';
    if (file) fclose(file);
}

/* Until every rank that was started has ended, at most `seconds`; what is left then is killed. Whether nothing was. */
static bool world_wait(world *w, double seconds)
{
    double begin = hn_clock();
    int left = 0;
    for (bool over = false; !over; world_nap(0.01)) {
        left = 0;
        for (int i = 0; i < w->size; i++) {
            if (w->pid[i] <= 0) continue;
            if (waitpid(w->pid[i], &w->status[i], WNOHANG) == w->pid[i]) {
                w->pid[i] = 0;
                w->ended[i] = hn_clock() - begin;
            } else {
                left++;
            }
        }
        w->seconds = hn_clock() - begin;
        over = !left || w->seconds > seconds;
    }
    for (int i = 0; i < w->size; i++) {
        world_read(w, i);
        if (w->pid[i] <= 0) continue;
        fprintf(stderr, "rank %d is left after %.1f s; it said: %s\n", i, w->seconds, w->said[i]);
        kill(w->pid[i], SIGKILL);
        waitpid(w->pid[i], &w->status[i], 0);
    }
    return left == 0;
}

/* A body leaves a file where it gets to a place; the test waits for those of all ranks but `without` (-1: of all). */
static inline void world_arrive(const hn_ranks *ranks, const char *place)
{
    char path[120];
    snprintf(path, sizeof path, "%s/%s-%d", world_options.rendezvous, place, hn_ranks_rank(ranks));
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    if (fd < 0) _exit(98);
    close(fd);
}

static inline bool world_arrived(const world *w, const char *place, int without)
{
    char path[120];
    for (int i = 0; i < w->size; i++) {
        snprintf(path, sizeof path, "%s/%s-%d", w->folder, place, i);
        for (double end = hn_clock() + 20; i != without && !hn_path_exists(path); world_nap(0.005))
            if (hn_clock() > end) return false;
    }
    return true;
}

static void world_close(world *w)
{
    hn_folder_remove(w->folder, NULL);
}

static inline int world_code(const world *w, int rank) { return WIFEXITED(w->status[rank]) ? WEXITSTATUS(w->status[rank]) : -WTERMSIG(w->status[rank]); }

#endif
