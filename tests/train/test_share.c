/* An evaluation in shares: whatever their number, all of them add up to the bits of one process alone, and one that fails fails all. */
#include "tests/test.h"
#include "tests/train/tiny_run.h"

#include "eval/evaluator.h"

enum { MOST_PARTS = 9 };

static hn_job *job;
static hn_runner runner;
static hn_batch_buffer buffer;
static const volatile int *stop;

/* What each process gave, NULL until it has; a process that comes before the last of them only leaves its own here. */
typedef struct meeting {
    int parts, failed; /* failed: the part that does; -1: none */
    void *given[MOST_PARTS];
    size_t size[MOST_PARTS];
    int part; /* whose turn it is */
    size_t cut; /* bytes that are lost on the way */
} meeting;

static hn_status gather(void *context, hn_status status, const void *mine, size_t size, void **all, size_t *all_size, hn_error *failure)
{
    meeting *m = context;
    if (status != HN_OK) return status;
    if (m->part == m->failed) return hn_fail(failure, HN_ERR_DEVICE, "rank %d fails", m->part);
    hn_free(m->given[m->part]);
    m->given[m->part] = hn_memdup(mine, size + 1);
    m->size[m->part] = size;
    hn_strbuf text;
    hn_strbuf_init(&text);
    for (int p = 0; p < m->parts && m->given[p]; p++) hn_strbuf_add(&text, m->given[p], m->size[p]);
    bool whole = m->given[m->parts - 1];
    *all_size = text.length > m->cut ? text.length - m->cut : 0;
    *all = hn_strbuf_take(&text);
    return whole ? HN_OK : hn_fail(failure, HN_ERR_INTERRUPTED, "the others are yet to come");
}

static void open_job(const char *kind, const char *labels)
{
    char task[48], names[48];
    snprintf(task, sizeof task, "task.kind=%s", kind);
    snprintf(names, sizeof names, "task.labels=%s", labels);
    const char *more[] = {task, names, "data.dev=" , "eval.batch_tokens=20", "eval.metric=loss", "model.init=scratch"};
    char dev[96];
    snprintf(dev, sizeof dev, "data.dev=%s", data_path);
    more[2] = dev;
    tiny_configure(more, sizeof more / sizeof *more);
    if (hn_job_open(&job, &train, &data, HN_JOB_ALL, NULL, &error) != HN_OK) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    hn_runner_options options = {.precision = HN_F32, .threads = 1, .evaluation = job->evaluation};
    if (hn_runner_init(&runner, &job->model, &options, &error) || hn_runner_alloc(&runner, &error) ||
        hn_runner_initialise(&runner, 7, &error) ||
        hn_batch_buffer_init(&buffer, job->evaluation.tokens, job->evaluation.examples, &error))
        abort();
}

static void close_job(void)
{
    hn_batch_buffer_close(&buffer);
    hn_runner_close(&runner);
    hn_job_free(job);
    job = NULL;
}

/* The set in one process of `parts`; without a meeting, alone. */
static hn_status evaluate(hn_metrics *metrics, meeting *m, int part)
{
    hn_share share = {.part = part, .parts = m ? m->parts : 1, .gather = gather, .context = m};
    if (m) m->part = part;
    hn_error_reset(&error);
    if (hn_metrics_init(metrics, hn_job_measured(job), hn_dataset_count(job->dev[0].dataset), &error) != HN_OK) abort();
    return hn_evaluate(&runner, &buffer, job->dev[0].dataset, metrics, NULL, NULL, m ? &share : NULL, stop, &error);
}

static void forget(meeting *m)
{
    for (int p = 0; p < MOST_PARTS; p++) hn_free(m->given[p]);
}

static bool same(const hn_metrics *a, const hn_metrics *b)
{
    size_t confusion = a->labels > 1 ? (size_t)a->labels * (size_t)a->labels * sizeof *a->confusion : 0;
    return !memcmp(&a->loss_sum, &b->loss_sum, sizeof a->loss_sum) && a->count == b->count && a->correct == b->correct &&
           !memcmp(&a->m_xy, &b->m_xy, sizeof a->m_xy) && !memcmp(&a->mean_x, &b->mean_x, sizeof a->mean_x) && a->ranked == b->ranked &&
           (!confusion || !memcmp(a->confusion, b->confusion, confusion));
}

static bool shares_are_one(void)
{
    hn_metrics alone, shared;
    bool good = evaluate(&alone, NULL, 0) == HN_OK && alone.count > 10;
    for (int parts = 1; parts <= MOST_PARTS && good; parts++) {
        meeting m = {.parts = parts, .failed = -1};
        for (int turn = 0; turn < 2 * parts - 1 && good; turn++) { /* the last of them is the first that can go on */
            int part = turn % parts;
            hn_status status = evaluate(&shared, &m, part);
            good = turn < parts - 1 ? status == HN_ERR_INTERRUPTED : status == HN_OK && same(&alone, &shared);
            hn_metrics_close(&shared);
        }
        forget(&m);
    }
    hn_metrics_close(&alone);
    return good;
}

TEST(classes)
{
    open_job("classify", "x,y");
    bool good = shares_are_one();
    close_job();
    CHECK(good);
}

TEST(tokens)
{
    open_job("mlm", "");
    bool good = shares_are_one();
    close_job();
    CHECK(good);
}

TEST(numbers)
{
    char rows[4096];
    size_t used = 0;
    for (int i = 0; i < 33; i++)
        used += (size_t)snprintf(rows + used, sizeof rows - used, "{\"text\": \"%.*s\", \"label\": %d.5}\n", 1 + 2 * (i % 6), "a b b a b a", i % 7);
    write_text("rows.jsonl", rows);
    open_job("regress", "");
    bool good = shares_are_one();
    close_job();
    CHECK(good);
}

/* A process that fails, one that was stopped, results that were cut short: no metric comes of any of them. */
TEST(one_fails_all)
{
    static const volatile int now = 1;
    hn_metrics metrics;
    meeting m = {.parts = 2, .failed = 1};
    open_job("regress", "");
    CHECK_INT(evaluate(&metrics, &m, 1), HN_ERR_DEVICE);
    hn_metrics_close(&metrics);
    m.failed = -1;
    stop = &now;
    CHECK_INT(evaluate(&metrics, &m, 1), HN_ERR_INTERRUPTED);
    hn_metrics_close(&metrics);
    CHECK(!m.given[1]);
    stop = NULL;
    CHECK_INT(evaluate(&metrics, &m, 0), HN_ERR_INTERRUPTED);
    hn_metrics_close(&metrics);
    for (m.cut = 1; m.cut < 60; m.cut += 7) {
        hn_status status = evaluate(&metrics, &m, 1);
        hn_metrics_close(&metrics);

        CHECK_INT(status, HN_ERR_FORMAT);
        CHECK_CONTAINS(error.message, "another process's results are damaged");
    }
    forget(&m);
    close_job();
}

static void open_all(void)
{
    char rows[4096];
    hn_json_init();
    ragged_rows(rows, sizeof rows, 33);
    tiny_open(2, rows);
}

TEST_MAIN(open_all(); RUN(classes); RUN(tokens); RUN(numbers); RUN(one_fails_all); tiny_close())
