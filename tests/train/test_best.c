/* A best/ that the disk refuses comes from the checkpoint of its step: at the end of the run, or when it is started again. The dev rows have
 * the other label, so that the first evaluation, at step 5, is the best; checkpoints are due at other steps. */
#include <errno.h>

#include "core/digest.h"
#include "core/strbuf.h"
#include "tests/test.h"
#include "tests/train/tiny_run.h"

enum { STEPS = 12, BEST = 5 };

static int (*rename_before)(const char *from, const char *to, unsigned flags);
static int refuse_best, refuse_final, refuse_checkpoint; /* the first so many of best/ and final/, and a step's */
static char dev_argument[96];

static void set_up(void)
{
    hn_strbuf rows;
    hn_strbuf_init(&rows);
    for (int i = 0; i < 2 * STEPS; i++) hn_strbuf_puts(&rows, "{\"text\": \"a b\", \"label\": \"x\"}\n");
    tiny_open(1, rows.text);
    hn_strbuf_close(&rows);
    write_text("dev.jsonl", "{\"text\": \"a b\", \"label\": \"y\"}\n");
    snprintf(dev_argument, sizeof dev_argument, "data.dev=%s/dev.jsonl", folder);
    const char *more[] = {dev_argument, "optim.lr=0.01", "eval.every=5 steps", "eval.metric=loss", "checkpoint.every=4 steps", "checkpoint.keep=1"};
    tiny_configure(more, sizeof more / sizeof *more);
}

static bool ends_with(const char *path, const char *end)
{
    size_t length = strlen(path), wanted = strlen(end);
    return length >= wanted && !strcmp(path + length - wanted, end);
}

static int failing_rename(const char *from, const char *to, unsigned flags)
{
    char checkpoint[32];
    snprintf(checkpoint, sizeof checkpoint, "/step-%d", refuse_checkpoint);
    if ((ends_with(to, "/best") && refuse_best-- > 0) || (ends_with(to, "/final") && refuse_final-- > 0) || ends_with(to, checkpoint)) {
        errno = EIO;
        return -1;
    }
    return rename_before(from, to, flags);
}

static hn_status run_on(int best, int final, int checkpoint, hn_train_result *result)
{
    refuse_best = best, refuse_final = final, refuse_checkpoint = checkpoint;
    rename_before = hn_file_calls.rename;
    hn_file_calls.rename = failing_rename;
    hn_status status = run(result);
    hn_file_calls.rename = rename_before;
    return status;
}

static hn_digest digest_of(const char *name)
{
    char path[128];
    hn_digest digest = {0, 0};
    snprintf(path, sizeof path, "%s/%s", run_path, name);
    if (hn_path_exists(path) && hn_digest_file(&digest, path, &error)) abort();
    return digest;
}

static hn_digest best, final, last;

static void take_digests(void)
{
    best = digest_of("best/model.safetensors");
    final = digest_of("final/model.safetensors");
    last = digest_of("checkpoints/step-12/rank-0.h5");
}

static bool as_undisturbed(void)
{
    return hn_digest_equal(best, digest_of("best/model.safetensors")) && hn_digest_equal(final, digest_of("final/model.safetensors")) &&
           hn_digest_equal(last, digest_of("checkpoints/step-12/rank-0.h5"));
}

static bool logged(const char *words)
{
    char path[96], *text = NULL;
    size_t size;
    snprintf(path, sizeof path, "%s/metrics.jsonl", run_path);
    if (hn_file_read(&text, &size, path, 1 << 20, &error)) abort();
    bool found = strstr(text, words);
    hn_free(text);
    return found;
}

TEST(undisturbed)
{
    hn_train_result result;
    CHECK_OK(run_on(0, 0, -1, &result));
    CHECK_INT(result.best_step, BEST);
    CHECK(!logged("warning"));
    take_digests();
    CHECK(hn_digest_equal(best, final));
}

TEST(refused_once)
{
    hn_train_result result;
    CHECK_OK(hn_folder_remove(run_path, &error));
    CHECK_OK(run_on(1, 0, -1, &result));
    CHECK(logged("/run/best: Input/output error"));
    CHECK(logged("best/ holds the weights of step 5 now, from its checkpoint"));
    CHECK(as_undisturbed());
}

TEST(refused_until_the_end)
{
    hn_train_result result;
    CHECK_OK(hn_folder_remove(run_path, &error));
    CHECK_INT(run_on(2, 0, -1, &result), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "/run/best: the disk did not take it; the weights of step 5, the best, are in ");
    CHECK(!as_undisturbed());
    CHECK_INT(run_on(1, 0, -1, &result), HN_ERR_IO);
    CHECK_OK(run_on(0, 0, -1, &result));
    CHECK(!result.was_finished);
    CHECK(as_undisturbed());
    hn_digest now = digest_of("checkpoints/step-12/manifest.json");
    CHECK_OK(run_on(0, 0, -1, &result));
    CHECK(result.was_finished && hn_digest_equal(now, digest_of("checkpoints/step-12/manifest.json")));
}

TEST(refused_with_final)
{
    hn_train_result result;
    CHECK_OK(hn_folder_remove(run_path, &error));
    CHECK_INT(run_on(2, 1, -1, &result), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "/run/final");
    CHECK_OK(run_on(0, 0, -1, &result));
    CHECK(!result.was_finished);
    CHECK(as_undisturbed());
}

/* Nothing has the weights then, and that is said each time. */
TEST(refused_with_its_checkpoint)
{
    hn_train_result result;
    CHECK_OK(hn_folder_remove(run_path, &error));
    for (int i = 0; i < 2; i++) {
        CHECK_INT(run_on(!i, 0, BEST, &result), HN_ERR_IO);
        CHECK_CONTAINS(error.message, "the weights of step 5 were the best and could not be written then");
        CHECK(hn_digest_equal(last, digest_of("checkpoints/step-12/rank-0.h5")));
    }
}

/* The last evaluation's: its weights are in memory at the end. */
TEST(refused_at_the_last_step)
{
    hn_train_result result;
    train.eval.every = (hn_interval){.value = STEPS, .unit = HN_INTERVAL_STEPS};
    CHECK_OK(hn_folder_remove(run_path, &error));
    CHECK_OK(run_on(0, 0, -1, &result));
    take_digests();
    CHECK_OK(hn_folder_remove(run_path, &error));
    CHECK_OK(run_on(1, 0, -1, &result));
    CHECK(as_undisturbed());
    CHECK_OK(hn_folder_remove(run_path, &error));
    CHECK_INT(run_on(2, 0, -1, &result), HN_ERR_IO);
    CHECK_OK(run_on(0, 0, -1, &result));
    CHECK(as_undisturbed());
}

static int (*fsync_before)(int fd);
static int slow_fsync(int fd)
{
    usleep(30000);
    return fsync_before(fd);
}

/* The run ends one step behind its best, while the disk is not done with that step's checkpoint. */
TEST(refused_and_its_checkpoint_is_on_its_way)
{
    hn_train_result result;
    train.eval.every = (hn_interval){.value = STEPS - 1, .unit = HN_INTERVAL_STEPS};
    CHECK_OK(hn_folder_remove(run_path, &error));
    CHECK_OK(run_on(0, 0, -1, &result));
    CHECK_INT(result.best_step, STEPS - 1);
    take_digests();
    CHECK_OK(hn_folder_remove(run_path, &error));
    fsync_before = hn_file_calls.fsync;
    hn_file_calls.fsync = slow_fsync;
    CHECK_OK(run_on(1, 0, -1, &result));
    hn_file_calls.fsync = fsync_before;
    CHECK(as_undisturbed());
}

/* The longer run trains a group that the checkpoint of the best does not have. */
TEST(refused_and_the_run_is_made_longer)
{
    hn_train_result result;
    const char *more[] = {dev_argument,           "optim.lr=0.01",        "eval.every=5 steps",  "eval.metric=loss",  "checkpoint.every=4 steps",
                          "freeze.unfreeze=7 steps", "train.max_steps=6", "optim.schedule=constant", "resume.force=true", "checkpoint.keep=1"};
    tiny_configure(more, sizeof more / sizeof *more);
    CHECK_OK(hn_folder_remove(run_path, &error));
    CHECK_INT(run_on(9, 0, -1, &result), HN_ERR_IO);
    more[6] = "train.max_steps=9";
    tiny_configure(more, sizeof more / sizeof *more);
    CHECK_OK(run_on(0, 0, -1, &result));
    CHECK_INT(result.step, 9);
    CHECK_INT(result.best_step, BEST);
    CHECK(logged("best/ holds the weights of step 5 now, from its checkpoint"));
}

int main(void)
{
    hn_json_init();
    set_up();
    RUN(undisturbed);
    RUN(refused_once);
    RUN(refused_until_the_end);
    RUN(refused_with_final);
    RUN(refused_with_its_checkpoint);
    RUN(refused_at_the_last_step);
    RUN(refused_and_its_checkpoint_is_on_its_way);
    RUN(refused_and_the_run_is_made_longer);
    tiny_close();
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
