/* Checkpoints: what is saved is loaded, damage is found byte by byte, the loader falls back and says so,
 * retention keeps what it must. Faults of the system while saving are in test_faults.c. */
#include "tests/checkpoints/common.h"

static char said[2048], path[128];

TEST(saves_and_loads)
{
    hn_error error = {0};
    fresh();
    CHECK_INT(newest(said), -1);
    CHECK_OK(save_step(0, &error));
    CHECK_OK(save_step(500, &error));
    CHECK_OK(load_step(0, &error));
    CHECK_OK(load_step(500, &error));
    CHECK_INT(newest(said), 500);
    CHECK_TEXT(said, "");
    snprintf(path, sizeof path, "%s/.tmp-step-500", folder);
    CHECK(!hn_path_exists(path));
}

TEST(lists_in_order)
{
    hn_error error = {0};
    int64_t *steps = NULL;
    size_t count = 1;
    fresh();
    CHECK_OK(hn_checkpoint_list(folder, &steps, &count, &error));
    CHECK_INT(count, 0);
    static const int order[] = {90, 1000, 3};
    for (int i = 0; i < 3; i++) CHECK_OK(save_step(order[i], &error));
    static const char *const strangers[] = {
        "step-", "step-07", "step--1", "step-9x", "step-99999999999999999999", "best"};
    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, strangers[i]);
        CHECK_OK(hn_folder_make(path, &error));
        snprintf(path, sizeof path, "%s/%s/manifest.json", folder, strangers[i]);
        CHECK_OK(hn_file_commit(path, "{}", 2, &error));
    }
    CHECK_OK(hn_checkpoint_list(folder, &steps, &count, &error));
    CHECK_INT(count, 3);
    bool right = steps[0] == 3 && steps[1] == 90 && steps[2] == 1000;
    hn_free(steps);
    CHECK(right);
    CHECK_INT(newest(said), 1000);
    CHECK_TEXT(said, "");
}

static char *slurp(const char *where, size_t *size)
{
    char *bytes = NULL;
    if (hn_file_read(&bytes, size, where, 1 << 20, NULL) != HN_OK) abort();
    return bytes;
}

TEST(the_same_run_gives_the_same_bytes)
{
    hn_error error = {0};
    static const char *const names[] = {"rank-0.h5", "manifest.json"};
    for (int i = 0; i < 2; i++) {
        size_t first = 0, second = 0;
        fresh();
        CHECK_OK(save_step(1, &error));
        char *before = slurp(file_of(path, 1, names[i]), &first);
        fresh();
        sleep(i); /* times of objects are not in the file */
        CHECK_OK(save_step(1, &error));
        char *after = slurp(file_of(path, 1, names[i]), &second);
        bool same = first == second && !memcmp(before, after, first);
        hn_free(before);
        hn_free(after);
        CHECK(same);
    }
}

TEST(a_step_saved_again_is_replaced)
{
    hn_error error = {0};
    run other;
    run_fill(&other, 6);
    json_t *state = json_pack("{s:i}", "cursor", 42), *found = NULL;
    int64_t step;
    hn_strbuf passed_over;
    hn_strbuf_init(&passed_over);
    fresh();
    CHECK_OK(save_step(5, &error));
    CHECK_OK(hn_checkpoint_save(folder, 5, other.tensors, TENSORS, state, NULL, &error));
    CHECK_OK(hn_checkpoint_find(folder, &step, &found, &passed_over, &error));
    CHECK_INT(step, 5);
    CHECK(json_equal(found, state));
    json_decref(found);
    flip(file_of(path, 5, "rank-0.h5"), 8, 1); /* a damaged one too */
    CHECK_INT(newest(said), -1);
    CHECK_OK(save_step(5, &error));
    CHECK_INT(newest(said), 5);
    hn_strbuf_close(&passed_over);
    json_decref(state);
}

TEST(some_tensors_alone_can_be_read)
{
    hn_error error = {0};
    run self, before;
    fresh();
    CHECK_OK(save_step(5, &error));
    run_fill(&self, 9);
    before = self;
    CHECK_INT(hn_checkpoint_load(folder, 5, self.tensors, 1, &error), HN_ERR_MISMATCH);
    hn_error_reset(&error);
    CHECK(run_equal(&self, &before));
    CHECK_OK(hn_checkpoint_load_some(folder, 5, self.tensors, 1, &error));
    CHECK(!run_equal(&self, &before));
}

TEST(every_flipped_byte_is_found)
{
    hn_error error = {0};
    static const char *const names[] = {"rank-0.h5", "manifest.json"};
    size_t tried = 0;
    fresh();
    CHECK_OK(save_step(3, &error));
    for (int i = 0; i < 2; i++) {
        size_t size = 0;
        hn_free(slurp(file_of(path, 3, names[i]), &size));
        for (size_t at = 0; at < size; at++, tried++) {
            int bits = at % 3 ? 1 << at % 8 : 0xff;
            hn_error_reset(&error);
            flip(path, (long)at, bits);
            hn_status status = load_step(3, &error);
            flip(path, (long)at, bits);
            if (status == HN_OK) TEST_FAIL("%s: byte %zu of %zu: not found", names[i], at, size);
            CHECK_CONTAINS(error.message, names[i]);
        }
    }
    hn_error_reset(&error);
    CHECK_OK(load_step(3, &error));
    test_promise("every flipped byte of a small checkpoint is found", tried, tried);
}

TEST(truncation_is_found)
{
    hn_error error = {0};
    static const char *const names[] = {"rank-0.h5", "manifest.json"};
    for (int i = 0; i < 2; i++) {
        size_t size = 0;
        fresh();
        hn_error_reset(&error);
        CHECK_OK(save_step(3, &error));
        char *bytes = slurp(file_of(path, 3, names[i]), &size);
        for (size_t cut = 0; cut < size; cut += cut + 40 < size ? 13 : 1) {
            hn_error_reset(&error);
            CHECK_INT(truncate(path, (off_t)cut), 0);
            if (load_step(3, &error) == HN_OK)
                TEST_FAIL("%s: cut at %zu of %zu: not found", names[i], cut, size);
            hn_error_reset(&error);
            CHECK_OK(hn_file_commit(path, bytes, size, &error));
        }
        CHECK_OK(hn_file_commit(path, bytes, size, &error));
        CHECK_OK(load_step(3, &error));
        FILE *file = fopen(path, "ab"); /* and a byte more */
        putc('\n', file);
        fclose(file);
        CHECK(load_step(3, &error) != HN_OK);
        hn_free(bytes);
    }
}

TEST(falls_back_and_says_so)
{
    hn_error error = {0};
    for (int damaged = 0; damaged <= 4; damaged++) {
        fresh();
        hn_error_reset(&error);
        for (int step = 1; step <= 4; step++) CHECK_OK(save_step(step * 100, &error));
        for (int k = 0; k < damaged; k++) {
            int step = 400 - 100 * k;
            if (k == 0) flip(file_of(path, step, "rank-0.h5"), 100, 4);
            if (k == 1) unlink(file_of(path, step, "manifest.json"));
            if (k == 2) unlink(file_of(path, step, "rank-0.h5"));
            if (k == 3) CHECK_INT(truncate(file_of(path, step, "manifest.json"), 30), 0);
        }
        CHECK_INT(newest(said), damaged == 4 ? -1 : 400 - 100 * damaged);
        if (damaged > 0) CHECK_CONTAINS(said, "step-400: ");
        if (damaged > 1) CHECK_CONTAINS(said, "step-300: ");
        if (damaged > 2) CHECK_CONTAINS(said, "step-200: ");
        if (damaged > 3) CHECK_CONTAINS(said, "step-100: ");
    }
}

TEST(refuses_other_tensors)
{
    hn_error error = {0};
    run self, before;
    fresh();
    CHECK_OK(save_step(1, &error));
    static const char *const expected[] = {
        "tensor \"other\" is missing",
        "tensor \"half\": expected bf16 [1, 3], got bf16 [3]",
        "tensor \"half\": expected f16 [3], got bf16 [3]",
        "tensor \"half\": expected bf16 [2], got bf16 [3]",
        "tensor \"flags\" of the checkpoint is not one of this run's",
    };
    for (int i = 0; i < 5; i++) {
        run_fill(&self, -5);
        before = self;
        if (i == 0) self.tensors[3].name = "other";
        if (i == 1) self.tensors[2].tensor = hn_tensor_2d(self.half, HN_BF16, 1, 3);
        if (i == 2) self.tensors[2].tensor.dtype = HN_F16;
        if (i == 3) self.tensors[2].tensor.shape[0] = 2;
        hn_error_reset(&error);
        CHECK_INT(hn_checkpoint_load(folder, 1, self.tensors, TENSORS - (i == 4), &error), HN_ERR_MISMATCH);
        CHECK_CONTAINS(error.message, expected[i]);
        CHECK_CONTAINS(error.message, "step-1");
        CHECK(run_equal(&self, &before)); /* nothing was written */
    }
}

TEST(refuses_names_that_are_paths)
{
    static char longest[1025];
    memset(longest, 'n', sizeof longest - 1);
    const char *const names[] = {"", ".", "a/b", "/a", longest};
    run self;
    json_t *state = json_object();
    fresh();
    for (int i = 0; i < 5; i++) {
        hn_error error = {0};
        run_fill(&self, 1);
        self.tensors[0].name = names[i];
        CHECK_INT(hn_checkpoint_save(folder, 1, self.tensors, TENSORS, state, NULL, &error), HN_ERR_USAGE);
        CHECK_CONTAINS(error.message, "a name in a checkpoint");
    }
    hn_error error = {0};
    self.tensors[0].name = self.tensors[1].name;
    CHECK_INT(hn_checkpoint_save(folder, 1, self.tensors, TENSORS, state, NULL, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message,
                   "tensor \"layer.0.weight:m\": cannot create its dataset: HDF5 says: name already exists");
    CHECK_INT(newest(said), -1);
    json_decref(state);
}

TEST(retention)
{
    hn_error error = {0};
    int64_t *steps = NULL;
    size_t count;
    fresh();
    CHECK_OK(retain(2, -1, &error));
    for (int step = 1; step <= 6; step++) CHECK_OK(save_step(step, &error));
    CHECK_OK(hn_checkpoint_retain(folder, 3, 6, (const int64_t[HN_CHECKPOINT_STAY]){-1, 2}, &error));
    CHECK_OK(hn_checkpoint_list(folder, &steps, &count, &error));
    CHECK_INT(count, 4);
    CHECK_INT(steps[0], 2);
    CHECK_INT(steps[1], 4);
    hn_free(steps);
    CHECK_OK(retain(1, 4, &error)); /* saved last, though 6 was there before: a run that went back to 3 */
    CHECK_OK(hn_checkpoint_list(folder, &steps, &count, &error));
    CHECK_INT(count, 2);
    CHECK_INT(steps[0], 4);
    CHECK_INT(steps[1], 6);
    hn_free(steps);
}

TEST(retention_sweeps)
{
    hn_error error = {0};
    static const char *const left[] = {".tmp-step-7", "step-6"}, *const kept[] = {".tmp-other", "step-6x",
                                                                                  "best"};
    fresh();
    CHECK_OK(save_step(5, &error));
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, i < 2 ? left[i] : kept[i - 2]);
        CHECK_OK(hn_folder_make(path, &error));
    }
    CHECK_OK(retain(1, 5, &error));
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, i < 2 ? left[i] : kept[i - 2]);
        CHECK_INT(hn_path_exists(path), i >= 2);
    }
    CHECK_INT(newest(said), 5);
}

TEST(verifies_and_reports)
{
    hn_error error = {0};
    hn_strbuf report;
    size_t size;
    hn_strbuf_init(&report);
    fresh();
    CHECK_OK(save_step(12, &error));
    snprintf(path, sizeof path, "%s/step-12//", folder);
    CHECK_OK(hn_checkpoint_verify(path, &report, &error));
    CHECK_CONTAINS(report.text, "manifest.json: good, step 12\nrank-0.h5: good, ");
    CHECK_CONTAINS(report.text, " bytes, 7 tensors\n");
    /* A byte of the tensor "counts": {12, -12} as 64-bit integers. */
    char *bytes = slurp(file_of(path, 12, "rank-0.h5"), &size);
    int64_t counts[] = {12, -12};
    const char *place = memmem(bytes, size, counts, sizeof counts);
    CHECK(place);
    flip(path, place - bytes, 1);
    hn_free(bytes);
    hn_strbuf_reset(&report);
    CHECK_INT(hn_checkpoint_verify(file_of(path, 12, ""), &report, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "rank-0.h5: tensor \"counts\": damaged");
    CHECK_TEXT(report.text, "manifest.json: good, step 12\nrank-0.h5: tensor \"counts\": damaged\n");
    hn_error_reset(&error);
    CHECK_INT(hn_checkpoint_verify(folder, &report, &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "called step-N");
    hn_error_reset(&error);
    CHECK_INT(hn_checkpoint_verify("/no/step-3", &report, &error), HN_ERR_IO);
    hn_strbuf_close(&report);
}

/* Memory that ran out is no damage: the search fails, it does not fall back. */
TEST(out_of_memory_while_searching)
{
    hn_status status = HN_ERR_MEMORY;
    hn_error error = {0};
    fresh();
    CHECK_OK(save_step(1, &error));
    for (size_t nth = 1; status != HN_OK; nth++) {
        hn_error failure = {0};
        hn_strbuf passed;
        int64_t step = -2;
        json_t *state = NULL;
        hn_strbuf_init(&passed);
        hn_mem_fail_at(nth);
        status = hn_checkpoint_find(folder, &step, &state, &passed, &failure);
        hn_mem_fail_at(0);
        hn_strbuf_close(&passed);
        json_decref(state);
        CHECK_INT(status, step == 1 ? HN_OK : HN_ERR_MEMORY);
    }
}

TEST(out_of_memory)
{
    hn_status status = HN_ERR_MEMORY;
    hn_error error = {0};
    size_t nth;
    fresh();
    CHECK_OK(save_step(1, &error));
    for (nth = 1; status != HN_OK; nth++) {
        hn_error failure = {0};
        hn_mem_fail_at(nth);
        status = save_step(2, &failure);
        hn_mem_fail_at(0);
        if (status != HN_OK && status != HN_ERR_MEMORY)
            TEST_FAIL("saving, allocation %zu: %s", nth, failure.message);
        CHECK_INT(newest(said), status == HN_OK ? 2 : 1);
        CHECK_OK(load_step(1, &error));
    }
    CHECK(nth > 100);
    test_promise("the n-th allocation fails, saving a checkpoint", nth - 1, nth - 1);
    status = HN_ERR_MEMORY;
    for (nth = 1; status != HN_OK; nth++) {
        hn_error failure = {0};
        hn_strbuf passed;
        int64_t step = -2;
        json_t *state = NULL;
        hn_strbuf_init(&passed);
        hn_mem_fail_at(nth);
        status = hn_checkpoint_find(folder, &step, &state, &passed, &failure);
        if (status == HN_OK) status = load_step(2, &failure);
        if (status == HN_OK) status = hn_checkpoint_verify(file_of(path, 1, ""), &passed, &failure);
        if (status == HN_OK && passed.failed) status = HN_ERR_MEMORY;
        if (status == HN_OK) status = retain(1, 2, &failure);
        hn_mem_fail_at(0);
        hn_strbuf_close(&passed);
        json_decref(state);
        if (status != HN_OK && status != HN_ERR_MEMORY)
            TEST_FAIL("loading, allocation %zu: %s", nth, failure.message);
        CHECK(step == 2 || step == -2); /* never an older one for want of memory */
    }
    CHECK_INT(newest(said), 2);
    test_promise("the n-th allocation fails, finding, loading, verifying and retaining checkpoints", nth - 1, nth - 1);
}

CHECKPOINT_MAIN(RUN(saves_and_loads); RUN(lists_in_order); RUN(the_same_run_gives_the_same_bytes);
                RUN(a_step_saved_again_is_replaced);
          RUN(some_tensors_alone_can_be_read); RUN(every_flipped_byte_is_found);
                RUN(truncation_is_found); RUN(falls_back_and_says_so); RUN(refuses_other_tensors);
                RUN(refuses_names_that_are_paths); RUN(retention); RUN(retention_sweeps);
                RUN(verifies_and_reports); RUN(out_of_memory_while_searching); RUN(out_of_memory))
