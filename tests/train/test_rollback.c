/* train.spike_action=rollback on a disk that refuses or damages the checkpoint that a run would go back to: the newest one before it, or
 * none, is said, and the run ends as others do. The labels of step 21 are others, so that step 20's checkpoint is wanted when that of step
 * 21 is there already. */
#include <errno.h>
#include <fcntl.h>

#include "core/strbuf.h"
#include "tests/test.h"
#include "tests/train/tiny_run.h"

enum { STEPS = 30, SPIKE = 21 };

static const char *const config_of_keep[] = {"checkpoint.keep=1", "checkpoint.keep=3"};
static int (*rename_before)(const char *from, const char *to, unsigned flags);
static int refused_first, refused_last, damaged; /* steps */

static void set_up(int keep)
{
    const char *more[] = {"optim.lr=0.01", "data.shuffle=false", "checkpoint.every=1 steps", config_of_keep[keep],
                          "train.spike_action=rollback", "train.spike_patience=1", "train.spike_window=8", "train.spike_threshold=60"};
    tiny_configure(more, sizeof more / sizeof *more);
}

static void make_rows(void)
{
    hn_strbuf rows;
    hn_strbuf_init(&rows);
    for (int i = 0; i < 2 * STEPS; i++)
        hn_strbuf_printf(&rows, "{\"text\": \"a b\", \"label\": \"%s\"}\n", i / 2 + 1 == SPIKE ? "y" : "x");
    tiny_open(1, rows.text);
    hn_strbuf_close(&rows);
}

static void flip_byte(const char *manifest)
{
    char path[256], byte;
    snprintf(path, sizeof path, "%.*s/rank-0.h5", (int)(strrchr(manifest, '/') - manifest), manifest);
    int file = open(path, O_RDWR);
    if (file < 0 || pread(file, &byte, 1, 3000) != 1) abort();
    byte ^= 4;
    if (pwrite(file, &byte, 1, 3000) != 1 || close(file)) abort();
}

/* The number in ".../step-N" or ".../step-N/manifest.json", else -1. */
static int step_of(const char *path, bool *manifest)
{
    const char *at = strstr(path, "/checkpoints/step-");
    int step = -1, used = 0;
    if (!at || sscanf(at, "/checkpoints/step-%d%n", &step, &used) != 1) return -1;
    *manifest = at[used] == '/';
    return step;
}

static int failing_rename(const char *from, const char *to, unsigned flags)
{
    bool manifest = false;
    int step = step_of(to, &manifest);
    if (step >= 0 && !manifest && step >= refused_first && step <= refused_last) {
        errno = EIO;
        return -1;
    }
    int result = rename_before(from, to, flags);
    if (!result && manifest && step == damaged) flip_byte(to);
    return result;
}

/* A whole run; its metrics are to say this and not that. */
static void check_run(int keep, int first, int last, int flipped, const char *says, const char *never)
{
    hn_train_result result;
    char path[96], *text = NULL;
    size_t size;
    refused_first = first, refused_last = last, damaged = flipped;
    set_up(keep);
    CHECK_OK(hn_folder_remove(run_path, &error));
    rename_before = hn_file_calls.rename;
    hn_file_calls.rename = failing_rename;
    hn_status status = run(&result);
    hn_file_calls.rename = rename_before;
    CHECK_OK(status);
    CHECK_INT(result.step, STEPS);
    snprintf(path, sizeof path, "%s/metrics.jsonl", run_path);
    CHECK_OK(hn_file_read(&text, &size, path, 1 << 20, &error));
    CHECK_CONTAINS(text, says);
    CHECK(!never || !strstr(text, never));
    CHECK(!strstr(text, "rollback 2"));
    hn_free(text);
}

TEST(back_to_the_last_good_one)
{
    check_run(0, -1, -1, -1, "rollback 1 of at most 3: weights and moments are those of step 20 again", "Input/output error");
}

TEST(back_to_the_one_before_a_refused_one)
{
    check_run(0, 20, 20, -1, "weights and moments are those of step 19 again", "step 20 again");
    check_run(0, 17, 20, -1, "weights and moments are those of step 16 again", NULL);
    check_run(0, 1, 20, -1, "weights and moments are those of step 0 again", NULL);
}

TEST(back_to_the_one_before_a_damaged_one)
{
    check_run(1, -1, -1, 20, "weights and moments are those of step 19 again", "step 20 again");
}

TEST(no_checkpoint_at_all)
{
    check_run(0, 0, 20, -1, "rollback 1 of at most 3: no checkpoint from before the spikes is there; they were skipped", "are those of");
    check_run(0, -1, -1, 20, "no checkpoint from before the spikes is there", "are those of");
}

int main(void)
{
    hn_json_init();
    make_rows();
    RUN(back_to_the_last_good_one);
    RUN(back_to_the_one_before_a_refused_one);
    RUN(back_to_the_one_before_a_damaged_one);
    RUN(no_checkpoint_at_all);
    tiny_close();
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
