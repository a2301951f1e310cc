/* Collectives between 2 to 8 processes: their sums bit by bit, in any number and order of joins. Every rank knows what all ranks put in,
 * for the values are made of (seed, rank, element): so each says by itself what must come out. Started by mpirun (test_mpi.py) it does the
 * same over MPI, in the world that is there, and what its argument says. */
#include "tests/ranks/world.h"

enum { LEAVES = 8 }; /* the list that a tree is over, whatever the number of ranks */

static uint32_t mixed(uint32_t a, uint32_t b, uint32_t c)
{
    uint64_t x = (a * 0x9e3779b97f4a7c15u + b * 0xc2b2ae3d27d4eb4fu + c + 1) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)((x ^ x >> 29) * 0x94d049bb133111ebu >> 32);
}

/* Both signs, exponents over 32 binary orders: sums in another order have other bits. */
static float value(uint32_t seed, int from, int64_t i)
{
    uint32_t bits = mixed(seed, (uint32_t)from, (uint32_t)i);
    float result;
    bits = (bits & 0x807fffff) | (111 + (bits >> 23) % 32) << 23;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* Node(a, n) over the leaves. */
static float tree(uint32_t seed, int a, int n, int64_t i)
{
    return n == 1 ? value(seed, a, i) : tree(seed, a, n / 2, i) + tree(seed, a + n / 2, n / 2, i);
}

/* What a rank brings. */
static float brought(uint32_t seed, hn_sum sum, int rank, int size, int64_t i)
{
    int n = LEAVES / size;
    return sum == HN_SUM_TREE ? tree(seed, rank * n, n, i) : value(seed, rank, i);
}

/* The sum that belongs into element i, which lies in piece `piece`. */
static float expected(uint32_t seed, hn_sum sum, int size, int piece, int64_t i)
{
    if (sum == HN_SUM_TREE) return tree(seed, 0, LEAVES, i);
    float total = value(seed, piece, i);
    for (int k = 1; k < size; k++) total += value(seed, (piece + size - k) % size, i);
    return total;
}

typedef struct job {
    int kind; /* 0 reduce-scatter, 1 all-gather, 2 all-reduce, 3 broadcast */
    hn_sum sum;
    int64_t count; /* floats; bytes of a broadcast */
    int root;
    uint32_t seed;
    char *memory;
    float *buffer;
    hn_transfer *transfer;
} job;

static const unsigned char canary = 0xa5;

/* Memory at an odd multiple of 64 bytes, with canaries around it. */
static void take_memory(world *w, job *j, size_t bytes)
{
    size_t all = bytes + 64 * (size_t)(3 + j->seed % 4);
    if (posix_memalign((void **)&j->memory, 64, all)) FAIL_RANK("out of memory");
    memset(j->memory, canary, all);
    j->buffer = (float *)(void *)(j->memory + 64 * (1 + j->seed % 4));
}

static size_t bytes_of(const job *j)
{
    return j->kind == 3 ? (size_t)j->count : (size_t)j->count * sizeof(float);
}

static void begin(world *w, hn_link *link, job *j)
{
    hn_error error = {0};
    int64_t piece = j->count / w->size, mine = hn_link_piece(j->sum, w->rank, w->size) * piece;
    take_memory(w, j, bytes_of(j));
    for (int64_t i = 0; i < j->count && (j->kind == 0 || j->kind == 2); i++)
        j->buffer[i] = brought(j->seed, j->sum, w->rank, w->size, i);
    for (int64_t i = mine; i < mine + piece && j->kind == 1; i++) j->buffer[i] = value(j->seed, 0, i);
    for (int64_t i = 0; i < j->count && j->kind == 3 && w->rank == j->root; i++)
        ((char *)j->buffer)[i] = (char)mixed(j->seed, 1, (uint32_t)i);
    if (j->kind == 0) j->transfer = link->reduce_scatter(link, j->buffer, j->count, j->sum, "layer.1", &error);
    if (j->kind == 1) j->transfer = link->all_gather(link, j->buffer, bytes_of(j), j->sum, "layer.2", &error);
    if (j->kind == 2) j->transfer = link->all_reduce(link, j->buffer, j->count, j->sum, "layer.3", &error);
    if (j->kind == 3) j->transfer = link->broadcast(link, j->buffer, bytes_of(j), j->root, "layer.4", &error);
    if (!j->transfer) FAIL_RANK("%s", error.message);
}

static void check_sums(world *w, const job *j)
{
    int64_t piece = j->count / w->size;
    for (int rank = 0; rank < w->size; rank++) {
        if (j->kind == 0 && rank != w->rank) continue;
        int p = hn_link_piece(j->sum, rank, w->size);
        for (int64_t i = p * piece; i < (p + 1) * piece; i++) {
            float want = j->kind == 1 ? value(j->seed, 0, i) : expected(j->seed, j->sum, w->size, p, i);
            if (memcmp(&want, &j->buffer[i], sizeof want))
                FAIL_RANK("kind %d, sum %d, element %lld of %lld: got %.9g, expected %.9g", j->kind, j->sum, (long long)i,
                          (long long)j->count, (double)j->buffer[i], (double)want);
        }
    }
}

static void finish(world *w, hn_link *link, job *j)
{
    hn_error error = {0};
    EXPECT_OK(link->join(link, j->transfer, &error));
    if (j->kind < 3) check_sums(w, j);
    for (int64_t i = 0; i < j->count && j->kind == 3; i++) EXPECT(((char *)j->buffer)[i] == (char)mixed(j->seed, 1, (uint32_t)i));
    for (const char *c = j->memory; c < (char *)j->buffer; c++) EXPECT((unsigned char)*c == canary);
    for (size_t i = bytes_of(j); i < bytes_of(j) + 64; i++) EXPECT(((unsigned char *)j->buffer)[i] == canary);
    free(j->memory);
    j->memory = NULL;
}

static bool has_tree(const world *w)
{
    return (w->size & (w->size - 1)) == 0;
}

/* Every kind and way of adding, from a piece of 64 elements to some of several messages. */
static void all_sizes(world *w, hn_link *link)
{
    const int64_t unit = (int64_t)HN_LINK_PIECE * w->size, counts[] = {0, unit, 3 * unit, 37 * unit, (1 << 18) / unit * unit + unit};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int kind = 0; kind < 3; kind++)
            for (int sum = 0; sum <= (int)has_tree(w); sum++) {
                job j = {.kind = kind, .sum = (hn_sum)sum, .count = counts[c], .seed = (uint32_t)(c * 16 + (size_t)kind * 4) + 1};
                begin(w, link, &j);
                finish(w, link, &j);
            }
}

/* One piece of several messages a rank: what comes while another is added. */
static void long_pieces(world *w, hn_link *link)
{
    for (int sum = 0; sum <= (int)has_tree(w); sum++) {
        job j = {.kind = 0, .sum = (hn_sum)sum, .count = (int64_t)w->size * (9 * (1 << 16) + 64), .seed = 7};
        begin(w, link, &j);
        finish(w, link, &j);
    }
}

static void broadcasts(world *w, hn_link *link)
{
    const int64_t sizes[] = {0, 1, 100, 1 << 20, (3 << 20) + 5};
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++)
        for (int root = 0; root < w->size; root++) {
            job j = {.kind = 3, .count = sizes[c], .root = root, .seed = (uint32_t)(c * 8) + (uint32_t)root};
            begin(w, link, &j);
            finish(w, link, &j);
        }
}

/* The same calls on every rank, up to eight under way; joined in an order of each rank's own. */
static void random_calls(world *w, hn_link *link)
{
    job jobs[8] = {0};
    hn_link_progress before, after;
    link->progress(link, &before);
    uint32_t calls = w->shared && (w->size == 2 || w->size == 4) ? 1000 : 300, own = (uint32_t)w->rank;
    for (uint32_t n = 0; n < calls; n++) {
        uint32_t dice = mixed(99, 0, n), slot = mixed(own, 5, n) % 8;
        for (uint32_t k = 0; k < 8 && jobs[slot].memory; k++) slot = (slot + 1) % 8;
        if (jobs[slot].memory) finish(w, link, &jobs[slot]);
        int64_t pieces = dice >> 28 ? 1 + (dice >> 4) % 8 : (dice >> 4) % 300;
        jobs[slot] = (job){.kind = (int)(dice % 4), .sum = has_tree(w) && dice & 4 ? HN_SUM_TREE : HN_SUM_FAST,
                           .count = pieces * HN_LINK_PIECE * w->size, .root = (int)(dice >> 3) % w->size, .seed = n};
        begin(w, link, &jobs[slot]);
        uint32_t other = mixed(own, 6, n) % 8;
        if (jobs[other].memory && mixed(own, 7, n) % 2) finish(w, link, &jobs[other]);
    }
    for (int i = 0; i < 8; i++)
        if (jobs[i].memory) finish(w, link, &jobs[i]);
    link->progress(link, &after);
    EXPECT(after.begun - before.begun == calls && after.finished == after.begun && !after.what[0]);
}

/* Both ways of adding move (R - 1)/R of the buffer out and in; `done` says what join would do. */
static void counted(world *w, hn_link *link)
{
    enum { COUNT = 8 * 64 * 5040 / 6 };
    hn_error error = {0};
    hn_link_progress before, after;
    for (int sum = 0; sum <= (int)has_tree(w); sum++) {
        int64_t count = COUNT / (64 * w->size) * 64 * w->size;
        job j = {.kind = 0, .sum = (hn_sum)sum, .count = count, .seed = 3};
        link->progress(link, &before);
        begin(w, link, &j);
        while (!link->done(link, j.transfer)) world_nap();
        EXPECT_OK(link->join(link, j.transfer, &error));
        link->progress(link, &after);
        uint64_t data = (uint64_t)count / (uint64_t)w->size * (uint64_t)(w->size - 1) * sizeof(float) * 2;
        uint64_t moved = after.bytes - before.bytes;
        EXPECT(moved >= data && moved - data <= 512u * (uint64_t)w->size);
        free(j.memory);
    }
}

typedef void world_part(world *w, hn_link *link);

static world_part *const parts[] = {all_sizes, long_pieces, broadcasts, random_calls, counted};
static world_part *chosen; /* of the world that is forked next */

static void run_chosen(world *w)
{
    hn_link *link = world_open(w);
    chosen(w, link);
    link->close(link, true);
    EXPECT(atomic_load(&w->failures) == 0);
}

static void run(world_part *part, int most)
{
    static const int sizes[] = {2, 3, 4, 5, 8};
    chosen = part;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && sizes[i] <= most; i++) CHECK(world_run(sizes[i], run_chosen, -1));
}

TEST(sums_have_the_bits_of_their_definition) { run(all_sizes, 8); }
TEST(pieces_of_many_messages) { run(long_pieces, 4); }
TEST(broadcasts_from_every_root) { run(broadcasts, 8); }
TEST(a_thousand_random_calls) { run(random_calls, 8); }
TEST(bytes_are_the_least_and_counted) { run(counted, 8); }

TEST(the_pieces_of_ranks)
{
    for (int r = 0; r < 5; r++) CHECK_INT(hn_link_piece(HN_SUM_FAST, r, 5), r);
    const int reversed[8] = {0, 4, 2, 6, 1, 5, 3, 7};
    for (int r = 0; r < 8; r++) CHECK_INT(hn_link_piece(HN_SUM_TREE, r, 8), reversed[r]);
    CHECK_INT(hn_link_piece(HN_SUM_TREE, 1, 2), 1);
    CHECK_INT(hn_link_piece(HN_SUM_TREE, 0, 1), 0);
}

/* Under mpirun: no memory is shared, so a failing rank just waits a moment until the others have said theirs. */

static int all_parts(world *w, hn_link *link)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) parts[i](w, link);
    if (!w->rank) printf("%s: all parts on %d ranks\n", link->name, w->size);
    link->close(link, true);
    EXPECT(atomic_load(&w->failures) == 0);
    return 0;
}

static int one_differs(world *w, hn_link *link)
{
    hn_error error = {0};
    job j = {.kind = 0, .count = 64 * 60, .seed = 1};
    take_memory(w, &j, bytes_of(&j));
    j.transfer = w->rank == 1 ? link->all_gather(link, j.buffer, 64 * 60, HN_SUM_FAST, "layer.b", &error)
                              : link->reduce_scatter(link, j.buffer, j.count, HN_SUM_FAST, "layer.a", &error);
    EXPECT(j.transfer && link->join(link, j.transfer, &error) == HN_ERR_MISMATCH);
    printf("rank %d: %s\n", w->rank, error.message);
    fflush(stdout);
    sleep(1);
    double before = hn_clock();
    link->close(link, false);
    EXPECT(hn_clock() - before < 1);
    _exit(1);
}

static int one_dies(world *w, hn_link *link)
{
    hn_error error = {0};
    job j = {.kind = 0, .count = 64 * 60, .seed = 1};
    if (w->rank == 2) raise(SIGKILL);
    begin(w, link, &j);
    link->join(link, j.transfer, &error);
    return 1; /* it is mpirun that ends us */
}

static int run_over_mpi(const char *what)
{
    world ours = {.rank = atoi(getenv("OMPI_COMM_WORLD_RANK")), .size = atoi(getenv("OMPI_COMM_WORLD_SIZE"))}, *w = &ours;
    hn_error error = {0};
    hn_link *link = NULL;
    hn_link_options options = world_options(w);
    options.mpi = true;
    options.exchange = NULL;
    alarm(WORLD_SECONDS);
    EXPECT_OK(hn_link_open_cpu(&link, &options, &error));
    if (!strcmp(what, "differs")) return one_differs(w, link);
    if (!strcmp(what, "dies")) return one_dies(w, link);
    return all_parts(w, link);
}

int main(int count, char **arguments)
{
    if (count > 1) return run_over_mpi(arguments[1]);
    RUN(the_pieces_of_ranks);
    RUN(sums_have_the_bits_of_their_definition);
    RUN(pieces_of_many_messages);
    RUN(broadcasts_from_every_root);
    RUN(a_thousand_random_calls);
    RUN(bytes_are_the_least_and_counted);
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
