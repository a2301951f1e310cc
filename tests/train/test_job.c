/* A job and a whole run of two steps on a model of one layer, with every allocation failing in turn: a message each time,
 * nothing leaked, and the same folder trains once there is memory again. */
#include <unistd.h>

#include "core/digest.h"
#include "tests/test.h"
#include "tests/train/tiny_run.h"
#include "train/plan.h"

static void set_up(void)
{
    char dev[96];
    tiny_open(1, "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"b\", \"label\": \"y\"}\n"
                 "{\"text\": \"a b\", \"label\": \"x\"}\n");
    snprintf(dev, sizeof dev, "data.dev=%s", data_path);
    const char *more[] = {dev, "eval.metric=accuracy"};
    tiny_configure(more, 2);
}

TEST(opening_without_memory)
{
    hn_job *job = NULL;
    hn_status status = HN_ERR_MEMORY;
    size_t tried = 0;
    for (size_t n = 1; status != HN_OK; n++, tried++) {
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        status = hn_job_open(&job, &train, &data, HN_JOB_ALL, NULL, &error);
        hn_mem_fail_at(0);
        if (status != HN_OK && (status != HN_ERR_MEMORY || !error.message[0]))
            TEST_FAIL("allocation %zu: status %d, \"%s\"", n, (int)status, error.message);
    }
    int64_t steps = job->total_steps;
    test_promise("the n-th allocation fails, opening model, tokenizer and data", tried, tried);
    hn_job_free(job);
    CHECK_INT(steps, 2);
}

TEST(planning_without_memory)
{
    hn_job *job = NULL;
    hn_plan plan;
    hn_error_reset(&error);
    CHECK_OK(hn_job_open(&job, &train, &data, HN_JOB_ALL, NULL, &error));
    hn_status status = HN_ERR_MEMORY;
    for (size_t n = 1; status == HN_ERR_MEMORY; n++) {
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        status = hn_plan_make(&plan, job, &error);
        hn_mem_fail_at(0);
    }
    hn_job_free(job);
    CHECK_INT(status, HN_OK);
    CHECK(plan.total > 0);
}

/* The n-th allocation and all after it fail, for every n at first and then for ever fewer, so that the whole run is walked. */
TEST(training_without_memory)
{
    hn_train_result result;
    hn_status status = HN_ERR_MEMORY;
    size_t tried = 0;
    for (size_t n = 1; status != HN_OK; n += 1 + n / 24, tried++) {
        hn_mem_fail_at(n);
        status = run(&result);
        hn_mem_fail_at(0);
        if (status != HN_OK && status != HN_ERR_MEMORY)
            TEST_FAIL("allocation %zu: status %d, \"%s\"", n, (int)status, error.message);
        if (status != HN_OK) CHECK_OK((hn_error_reset(&error), hn_folder_remove(run_path, &error)));
    }
    CHECK_INT(result.step, 2);
    CHECK_OK(run(&result));
    CHECK(result.was_finished);
    test_promise("the n-th allocation fails, in a whole run", tried, tried);
}

static ssize_t write_slowly(int fd, const void *bytes, size_t size)
{
    usleep(3000); /* as long as several steps */
    return write(fd, bytes, size);
}

static const char *step_file(int step, const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/checkpoints/step-%d%s", run_path, step, name);
    return path;
}

static hn_digest digest_of(const char *path)
{
    char *bytes = NULL;
    size_t size;
    if (hn_file_read(&bytes, &size, path, SIZE_MAX, &error)) abort();
    hn_digest digest = hn_digest_bytes(bytes, size);
    hn_free(bytes);
    return digest;
}

/* The weights are saved from where they stand, and no step changes them before they were read: every checkpoint of a run on a slow disk is
 * of its own step, since going on from any of them ends with the same bits. */
TEST(saving_beside_the_steps)
{
    enum { STEPS = 8 };
    hn_train_result result;
    const hn_train_config before = train;
    CHECK_OK(hn_folder_remove(run_path, &error));
    train.checkpoint.every = (hn_interval){.value = 1, .unit = HN_INTERVAL_STEPS};
    train.checkpoint.keep = 100;
    train.train.epochs = STEPS / 2;
    hn_file_calls.write = write_slowly;
    CHECK_OK(run(&result));
    hn_file_calls.write = write;
    CHECK_INT(result.step, STEPS);
    hn_digest expected = digest_of(step_file(STEPS, "/rank-0.h5"));
    for (int from = STEPS - 1; from > 0; from--) {
        CHECK(hn_path_exists(step_file(from, "/manifest.json")));
        for (int step = from + 1; step <= STEPS; step++) CHECK_OK(hn_folder_remove(step_file(step, ""), &error));
        CHECK_OK(run(&result));
        CHECK(!result.was_finished);
        CHECK(hn_digest_equal(digest_of(step_file(STEPS, "/rank-0.h5")), expected));
    }
    train = before;
}

int main(void)
{
    hn_json_init();
    set_up();
    RUN(opening_without_memory);
    RUN(planning_without_memory);
    RUN(training_without_memory);
    RUN(saving_beside_the_steps);
    tiny_close();
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
