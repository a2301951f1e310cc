/* Several processes that save and read checkpoints together: forks of the test, with a socket between rank 0 and each of the others. A rank that
 * dies is an end of file there, and the save or the reading fails for whoever waits for it. What they came to is left in memory that the
 * test shares with them. */
#ifndef HONE_TESTS_CHECKPOINTS_PARTY_H
#define HONE_TESTS_CHECKPOINTS_PARTY_H

#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "checkpoints/pieces.h"
#include "tests/checkpoints/common.h"

enum { MOST_RANKS = 8 };

/* What a rank tells the test. */
typedef struct result {
    hn_status status;
    bool safe, over;
    int64_t number;
    char message[2048];
} result;

static result *results;         /* [MOST_RANKS] */
static int exits[MOST_RANKS];   /* as waitpid gives them */
static pid_t pids[MOST_RANKS];
static int sockets[MOST_RANKS]; /* in a rank: [peer] */
static hn_checkpoint_party party;
static hn_checkpoint_readers readers;

typedef struct word {
    hn_status status;
    bool safe;
    size_t size;
    char message[2048];
} word;

static inline bool put(int fd, const void *bytes, size_t size)
{
    while (size) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
        if (n <= 0) return false;
        bytes = (const char *)bytes + n;
        size -= (size_t)n;
    }
    return true;
}

static inline bool get(int fd, void *bytes, size_t size)
{
    return !size || recv(fd, bytes, size, MSG_WAITALL) == (ssize_t)size;
}

static inline hn_status gone(int rank, hn_error *error)
{
    return hn_fail(error, HN_ERR_DEVICE, "rank %d is gone", rank);
}

static inline word word_of(const hn_error *error)
{
    word out = {.status = error->status};
    memcpy(out.message, error->message, sizeof out.message);
    return out;
}

static inline hn_status fail_as(const word *said, hn_error *error)
{
    return said->status == HN_OK ? HN_OK : hn_fail(error, said->status, "%s", said->message);
}

/* Rank 0's word to all. */
static inline hn_status tell(word *said, hn_error *error)
{
    hn_status status = HN_OK;
    if (party.rank) return get(sockets[0], said, sizeof *said) ? HN_OK : gone(0, error);
    for (int r = 1; r < party.ranks; r++)
        if (!put(sockets[r], said, sizeof *said)) status = gone(r, error);
    return status;
}

static inline hn_status party_go(void *context, int64_t step, const hn_error *mine, hn_error *error)
{
    (void)context, (void)step;
    word said = word_of(mine);
    hn_status status = tell(&said, error);
    return status == HN_OK ? fail_as(&said, error) : status;
}

/* All ranks' entries on rank 0. Every rank is heard, whatever the others say. */
static inline hn_status hear(const hn_error *mine, const hn_strbuf *entry, hn_blobs *all, hn_error *error)
{
    word said[MOST_RANKS] = {word_of(mine)};
    char *bytes[MOST_RANKS] = {entry->text};
    size_t sizes[MOST_RANKS] = {entry->length};
    hn_status status = mine->status == HN_OK ? HN_OK : hn_fail(error, mine->status, "rank 0: %s", mine->message);
    for (int r = 1; r < party.ranks; r++) {
        bool there = get(sockets[r], &said[r], sizeof said[r]) && (bytes[r] = malloc(said[r].size + 1)) && get(sockets[r], bytes[r], said[r].size);
        if (!there) status = gone(r, error);
        else if (said[r].status != HN_OK) status = hn_fail(error, said[r].status, "rank %d: %s", r, said[r].message);
        sizes[r] = there ? said[r].size : 0;
    }
    if (status == HN_OK) status = hn_blobs_init(all, party.ranks, sizes, error);
    for (int r = 0; r < party.ranks; r++) {
        if (status == HN_OK) memcpy(hn_blobs_view(all, r), bytes[r], sizes[r]);
        if (r) free(bytes[r]);
    }
    return error->status != HN_OK ? error->status : status;
}

static inline hn_status party_parts(void *context, int64_t step, const hn_error *mine, const hn_strbuf *entry, hn_blobs *all, hn_error *error)
{
    (void)context, (void)step;
    if (!party.rank) return hear(mine, entry, all, error);
    word said = word_of(mine);
    said.size = entry->length;
    if (!put(sockets[0], &said, sizeof said) || !put(sockets[0], entry->text, entry->length)) return gone(0, error);
    return hn_fail(error, HN_ERR_NUMERIC, "what parts returns beside rank 0 counts for nothing");
}

static inline hn_status party_done(void *context, int64_t step, bool *safe, hn_error *came_to)
{
    (void)context, (void)step;
    word said = word_of(came_to);
    said.safe = *safe;
    hn_status status = tell(&said, came_to);
    if (status != HN_OK || !party.rank) return came_to->status;
    *safe = said.safe;
    return fail_as(&said, came_to);
}

static inline hn_status readers_share(void *context, void **bytes, size_t *size, hn_error *error)
{
    (void)context;
    word said = {.size = *size};
    hn_status status = tell(&said, error);
    for (int r = 1; !party.rank && r < party.ranks && status == HN_OK; r++)
        if (!put(sockets[r], *bytes, *size)) status = gone(r, error);
    if (status != HN_OK || !party.rank) return status;
    *size = said.size;
    if (!(*bytes = hn_malloc(said.size + 1))) return hn_fail(error, HN_ERR_MEMORY, "out of memory");
    return get(sockets[0], *bytes, said.size) ? HN_OK : gone(0, error);
}

static inline hn_status readers_agree(void *context, hn_status mine, hn_error *error)
{
    (void)context;
    hn_error first = {0};
    if (mine != HN_OK) hn_fail(&first, mine, "rank %d: %s", party.rank, error->message);
    hn_error_reset(error);
    word said = word_of(&first);
    if (party.rank && !put(sockets[0], &said, sizeof said)) return gone(0, error);
    for (int r = 1; !party.rank && r < party.ranks; r++) {
        if (!get(sockets[r], &said, sizeof said)) gone(r, &first);
        else fail_as(&said, &first);
    }
    said = word_of(&first);
    hn_status status = tell(&said, error);
    return status == HN_OK ? fail_as(&said, error) : status;
}

/* Starts the ranks; each of them leaves behind body(its rank). */
static inline void start_ranks(int ranks, void (*body)(int rank, result *out))
{
    int ends[MOST_RANKS][2];
    if (!results)
        results = mmap(NULL, MOST_RANKS * sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (results == MAP_FAILED) abort();
    memset(results, 0, MOST_RANKS * sizeof *results);
    fflush(NULL);
    for (int r = 1; r < ranks; r++)
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends[r])) abort();
    for (int rank = 0; rank < ranks; rank++) {
        if ((pids[rank] = fork()) < 0) abort();
        if (pids[rank]) continue;
        alarm(60);
        for (int r = 1; r < ranks; r++) {
            int mine = !rank ? 0 : r == rank ? 1 : -1;
            if (mine >= 0) sockets[rank ? 0 : r] = ends[r][mine];
            if (mine != 0) close(ends[r][0]);
            if (mine != 1) close(ends[r][1]);
        }
        party = (hn_checkpoint_party){.rank = rank, .ranks = ranks, .go = party_go, .parts = party_parts, .done = party_done};
        readers = (hn_checkpoint_readers){.rank = rank, .ranks = ranks, .share = readers_share, .agree = readers_agree};
        body(rank, &results[rank]);
        results[rank].over = true;
        _exit(0);
    }
    for (int r = 1; r < ranks; r++) close(ends[r][0]), close(ends[r][1]);
}

static inline void join_ranks(int ranks)
{
    for (int r = 0; r < ranks; r++)
        if (waitpid(pids[r], &exits[r], 0) != pids[r]) abort();
}

static inline void run_ranks(int ranks, void (*body)(int rank, result *out))
{
    start_ranks(ranks, body);
    join_ranks(ranks);
}

/* All of them came to the end, and to the same. */
static inline bool all_same(int ranks)
{
    for (int r = 0; r < ranks; r++) {
        const result *a = &results[0], *b = &results[r];
        if (!b->over || a->status != b->status || a->safe != b->safe || a->number != b->number || strcmp(a->message, b->message)) {
            fprintf(stderr, "rank %d: over %d, status %d, safe %d, number %lld: %s\nrank 0: over %d, status %d, safe %d, number %lld: %s\n", r,
                    b->over, (int)b->status, b->safe, (long long)b->number, b->message, a->over, (int)a->status, a->safe, (long long)a->number,
                    a->message);
            return false;
        }
    }
    return true;
}

static inline void put_result(result *out, hn_status status, const hn_error *error)
{
    out->status = status;
    memcpy(out->message, error->message, sizeof out->message);
}

/* How tensors are cut among ranks: each one evenly; all their elements together evenly; whole ones, dealt out. */
enum { EVENLY, TOGETHER, DEALT, CUTS };

/* The pieces of one rank: `out` has room for as many as there are tensors. */
static inline size_t cut_tensors(hn_piece *out, const hn_named_tensor *tensors, size_t count, int cut, int rank, int ranks)
{
    size_t found = 0;
    int64_t all = 0, before = 0;
    for (size_t i = 0; i < count; i++) all += hn_tensor_count(&tensors[i].tensor);
    for (size_t i = 0; i < count; i++) {
        int64_t n = hn_tensor_count(&tensors[i].tensor), first = n * rank / ranks, last = n * (rank + 1) / ranks;
        if (cut == TOGETHER) {
            first = all * rank / ranks - before;
            last = all * (rank + 1) / ranks - before;
            if (first < 0) first = 0;
            if (last > n) last = n;
        }
        before += n;
        bool whole = cut == DEALT || !n, mine = (int)(i * 3 % (size_t)ranks) == rank;
        if (whole ? !mine : first >= last) continue;
        if (whole) first = 0, last = n;
        out[found] = (hn_piece){.of = tensors[i], .first = first, .count = last - first};
        out[found++].of.tensor.data = (char *)tensors[i].tensor.data + (size_t)first * hn_dtype_size(tensors[i].tensor.dtype);
    }
    return found;
}

static size_t memory_ends; /* the allocation of the save that fails; 0: none */

/* In a rank: its pieces of the run of `step`, saved with the others'. `keep` 0: nothing is deleted. */
static inline void save_part(int step, int cut, int keep, result *out)
{
    run self;
    hn_error error = {0};
    hn_piece pieces[TENSORS];
    const hn_checkpoint_retention retention = {.keep = keep, .stay = {-1, -1}};
    run_fill(&self, step);
    size_t count = cut_tensors(pieces, self.tensors, TENSORS, cut, party.rank, party.ranks);
    json_t *state = party.rank ? NULL : json_pack("{s:i}", "cursor", step * 7);
    hn_mem_fail_at(memory_ends);
    hn_status status = hn_checkpoint_save_pieces(folder, step, pieces, count, state, NULL, &party, keep ? &retention : NULL, &out->safe, &error);
    hn_mem_fail_at(0);
    json_decref(state);
    put_result(out, status, &error);
}

#endif
