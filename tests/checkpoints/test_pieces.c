/* Checkpoints of several processes: what some ranks saved, cut in one way, any other number of them reads, cut in another; damage to any of the
 * files is found by whoever checks it and told to all; what the pieces cannot be is refused. */
#include "tests/checkpoints/party.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "checkpoints/manifest.h"
#include "checkpoints/writer.h"

static char said[2048], path[128];
static int now_step, now_cut, now_case, now_rank; /* for the ranks that are forked next */

static void save_body(int rank, result *out)
{
    (void)rank;
    save_part(now_step, now_cut, 0, out);
}

/* Step by `ranks` processes; 0: by one, whole. */
static bool save_by(int ranks, int step, int cut)
{
    if (!ranks) return save_step(step, NULL) == HN_OK;
    now_step = step, now_cut = cut;
    run_ranks(ranks, save_body);
    return all_same(ranks) && results[0].status == HN_OK && results[0].safe;
}

/* A tensor of several blocks beside the small ones. */
enum { BIG_ROWS = 300, BIG_COLUMNS = 701, BIG = BIG_ROWS * BIG_COLUMNS };
static float big[BIG];

static void big_tensors(hn_named_tensor out[TENSORS + 1], run *self, float *data)
{
    memcpy(out, self->tensors, sizeof self->tensors);
    out[TENSORS] = (hn_named_tensor){"big", hn_tensor_2d(data, HN_F32, BIG_ROWS, BIG_COLUMNS)};
}

static void save_big_body(int rank, result *out)
{
    run self;
    hn_error error = {0};
    hn_named_tensor tensors[TENSORS + 1];
    hn_piece pieces[TENSORS + 1];
    run_fill(&self, 3);
    for (int i = 0; i < BIG; i++) big[i] = (float)i;
    big_tensors(tensors, &self, big);
    size_t count = cut_tensors(pieces, tensors, TENSORS + 1, now_cut, rank, party.ranks);
    json_t *state = rank ? NULL : json_object();
    put_result(out, hn_checkpoint_save_pieces(folder, 3, pieces, count, state, NULL, &party, NULL, &out->safe, &error), &error);
    json_decref(state);
}

/* One rank's pieces out of a checkpoint: they are right, and nothing else is touched. */
static bool read_part(const hn_checkpoint *checkpoint, int cut, int rank, int ranks)
{
    static float found[BIG], expected[BIG];
    run self, right;
    hn_error error = {0};
    hn_named_tensor tensors[TENSORS + 1], should[TENSORS + 1];
    hn_piece pieces[TENSORS + 1];
    run_fill(&self, -999);
    run_fill(&right, -999);
    for (int i = 0; i < BIG; i++) found[i] = expected[i] = -1;
    big_tensors(tensors, &self, found);
    size_t count = cut_tensors(pieces, tensors, TENSORS + 1, cut, rank, ranks);
    if (hn_checkpoint_read(checkpoint, pieces, count, &error) != HN_OK) {
        fprintf(stderr, "%s\n", error.message);
        return false;
    }
    run source;
    run_fill(&source, 3);
    big_tensors(tensors, &source, big);
    big_tensors(should, &right, expected);
    for (size_t i = 0; i < count; i++)
        for (int t = 0; t <= TENSORS; t++) {
            size_t width = hn_dtype_size(tensors[t].tensor.dtype), at = (size_t)pieces[i].first * width;
            if (!strcmp(pieces[i].of.name, tensors[t].name))
                memcpy((char *)should[t].tensor.data + at, (char *)tensors[t].tensor.data + at, (size_t)pieces[i].count * width);
        }
    return run_equal(&self, &right) && !memcmp(found, expected, sizeof found);
}

TEST(any_number_reads_what_any_number_saved)
{
    static const int worlds[] = {1, 2, 3, 4, 8};
    hn_error error = {0};
    size_t tried = 0;
    for (int i = 0; i < BIG; i++) big[i] = (float)i;
    for (int w = 0; w < 5; w++)
        for (now_cut = 0; now_cut < CUTS; now_cut++) {
            hn_checkpoint *checkpoint = NULL;
            fresh();
            run_ranks(worlds[w], save_big_body);
            CHECK(all_same(worlds[w]));
            CHECK_TEXT(results[0].message, "");
            CHECK(results[0].safe);
            CHECK_OK(hn_checkpoint_open(&checkpoint, folder, 3, NULL, &error));
            CHECK_INT(hn_checkpoint_ranks(checkpoint), worlds[w]);
            CHECK_INT(hn_checkpoint_step(checkpoint), 3);
            for (int v = 0; v < 5; v++)
                for (int cut = 0; cut < CUTS; cut++)
                    for (int rank = 0; rank < worlds[v]; rank++, tried++)
                        if (!read_part(checkpoint, cut, rank, worlds[v]))
                            TEST_FAIL("saved by %d, cut %d, read by rank %d of %d, cut %d", worlds[w], now_cut, rank, worlds[v], cut);
            hn_checkpoint_free(checkpoint);
        }
    test_promise("pieces of a checkpoint read by other numbers of processes", tried, tried);
}

TEST(one_process_and_several_read_each_other)
{
    hn_error error = {0};
    fresh();
    CHECK(save_by(0, 1, 0) && save_by(3, 2, TOGETHER));
    CHECK_OK(load_step(2, &error)); /* hn_checkpoint_load knows nothing of pieces */
    CHECK_INT(newest(said), 2);
    CHECK_TEXT(said, "");
    for (int ranks = 1; ranks <= 4; ranks++)
        for (int rank = 0; rank < ranks; rank++) {
            run self, right;
            hn_piece pieces[TENSORS], source[TENSORS];
            hn_checkpoint *checkpoint = NULL;
            run_fill(&self, -5);
            run_fill(&right, 1);
            size_t count = cut_tensors(pieces, self.tensors, TENSORS, EVENLY, rank, ranks);
            CHECK_INT(cut_tensors(source, right.tensors, TENSORS, EVENLY, rank, ranks), count);
            CHECK_OK(hn_checkpoint_open(&checkpoint, folder, 1, NULL, &error));
            CHECK_OK(hn_checkpoint_read(checkpoint, pieces, count, &error));
            hn_checkpoint_free(checkpoint);
            for (size_t i = 0; i < count; i++)
                CHECK(!memcmp(pieces[i].of.tensor.data, source[i].of.tensor.data,
                              (size_t)pieces[i].count * hn_dtype_size(pieces[i].of.tensor.dtype)));
        }
}

TEST(one_process_writes_the_first_format)
{
    char *text = NULL;
    size_t size;
    fresh();
    CHECK(save_by(0, 1, 0) && save_by(1, 2, 0));
    CHECK_INT(hn_file_read(&text, &size, file_of(path, 1, "manifest.json"), 1 << 20, NULL), HN_OK);
    bool first = !strncmp(text, "{\"format\": 1,\n \"step\": 1,\n \"world_size\": 1,\n \"files\": [{\"name\": \"rank-0.h5\", \"bytes\": ", 86);
    bool plain = !strstr(text, "\"first\"");
    hn_free(text);
    CHECK(first && plain);
    CHECK_INT(hn_file_read(&text, &size, file_of(path, 2, "manifest.json"), 1 << 20, NULL), HN_OK);
    bool second = !strncmp(text, "{\"format\": 2,", 13);
    hn_free(text);
    CHECK(second);
}

/* Each reader looks for the newest, and takes its pieces. */
static void find_body(int rank, result *out)
{
    hn_error error = {0};
    hn_strbuf passed;
    hn_checkpoint *checkpoint = NULL;
    run self, right;
    hn_piece pieces[TENSORS], source[TENSORS];
    hn_strbuf_init(&passed);
    hn_status status = hn_checkpoint_open_newest(&checkpoint, folder, now_step, &readers, &passed, &error);
    out->number = checkpoint ? hn_checkpoint_step(checkpoint) : -1;
    if (checkpoint) {
        run_fill(&self, -5);
        run_fill(&right, (int)out->number);
        size_t count = cut_tensors(pieces, self.tensors, TENSORS, TOGETHER, rank, readers.ranks);
        cut_tensors(source, right.tensors, TENSORS, TOGETHER, rank, readers.ranks);
        status = hn_checkpoint_read(checkpoint, pieces, count, &error);
        for (size_t i = 0; i < count && status == HN_OK; i++)
            if (memcmp(pieces[i].of.tensor.data, source[i].of.tensor.data, (size_t)pieces[i].count * hn_dtype_size(pieces[i].of.tensor.dtype)))
                status = hn_fail(&error, HN_ERR_NUMERIC, "other values were loaded");
        if (status == HN_OK && json_integer_value(json_object_get(hn_checkpoint_state(checkpoint), "cursor")) != out->number * 7)
            status = hn_fail(&error, HN_ERR_NUMERIC, "another state was loaded");
    }
    put_result(out, status, &error);
    if (status == HN_OK) snprintf(out->message, sizeof out->message, "%s", passed.text);
    hn_checkpoint_free(checkpoint);
    hn_strbuf_close(&passed);
}

TEST(readers_agree)
{
    for (int ranks = 1; ranks <= 5; ranks++) {
        fresh();
        now_step = 99;
        run_ranks(ranks, find_body); /* no folder, no checkpoint */
        CHECK(all_same(ranks));
        CHECK_INT(results[0].status, HN_OK);
        CHECK_INT(results[0].number, -1);
        CHECK(save_by(0, 1, 0) && save_by(2, 2, EVENLY) && save_by(4, 3, TOGETHER) && save_by(4, 4, DEALT));
        for (int damaged = 0; damaged < 4; damaged++) {
            if (damaged == 1) flip(file_of(path, 4, "rank-2.h5"), 100, 4);
            if (damaged == 2) unlink(file_of(path, 3, "rank-3.h5"));
            if (damaged == 3) CHECK_INT(truncate(file_of(path, 2, "manifest.json"), 30), 0);
            now_step = 99;
            run_ranks(ranks, find_body);
            CHECK(all_same(ranks));
            CHECK_INT(results[0].status, HN_OK);
            CHECK_INT(results[0].number, 4 - damaged);
            if (damaged > 0) CHECK_CONTAINS(results[0].message, "step-4/rank-2.h5: ");
            if (damaged > 1) CHECK_CONTAINS(results[0].message, "step-3/rank-3.h5: cannot open");
            if (damaged > 2) CHECK_CONTAINS(results[0].message, "step-2/manifest.json: damaged");
        }
        now_step = 0;
        run_ranks(ranks, find_body);
        CHECK(all_same(ranks));
        CHECK_INT(results[0].number, -1);
    }
}

static void open_body(int rank, result *out)
{
    hn_error error = {0};
    hn_checkpoint *checkpoint = NULL;
    if (rank == now_rank) hn_mem_fail_at((size_t)now_case);
    hn_status status = hn_checkpoint_open(&checkpoint, folder, now_step, &readers, &error);
    hn_mem_fail_at(0);
    out->safe = checkpoint != NULL;
    hn_checkpoint_free(checkpoint);
    put_result(out, status, &error);
}

/* One rank's memory is nobody's damage: all stop, and none of them falls back. */
TEST(one_reader_has_no_memory)
{
    fresh();
    CHECK(save_by(2, 5, EVENLY));
    now_step = 5;
    for (now_rank = 0; now_rank < 2; now_rank++) {
        int failed = 0;
        for (now_case = 1;; now_case += 7) {
            run_ranks(2, open_body);
            CHECK(results[0].over && results[1].over);
            CHECK_INT(results[0].safe, results[1].safe);
            if (results[0].safe) break;
            CHECK(results[now_rank].status == HN_ERR_MEMORY);
            failed++;
        }
        CHECK(failed > 5);
    }
}

/* The share of one of two readers who take the other's word for it. */
static hn_status alone_share(void *context, void **bytes, size_t *size, hn_error *error)
{
    (void)context, (void)bytes, (void)size, (void)error;
    return HN_OK;
}

static hn_status alone_agree(void *context, hn_status mine, hn_error *error)
{
    (void)context, (void)error;
    return mine;
}

TEST(a_reader_checks_its_share)
{
    hn_checkpoint_readers first = {.rank = 0, .ranks = 2, .share = alone_share, .agree = alone_agree};
    fresh();
    CHECK(save_by(4, 5, EVENLY));
    for (int damaged = 0; damaged < 4; damaged++) {
        char name[HNP_FILE_NAME];
        hn_error error = {0};
        hn_checkpoint *checkpoint = NULL;
        flip(file_of(path, 5, hnp_file_name(name, damaged)), 100, 4);
        hn_status status = hn_checkpoint_open(&checkpoint, folder, 5, &first, &error);
        hn_checkpoint_free(checkpoint);
        CHECK_INT(status, damaged % 2 ? HN_OK : HN_ERR_FORMAT);
        CHECK_INT(hn_checkpoint_open(&checkpoint, folder, 5, NULL, &error), HN_ERR_FORMAT);
        flip(path, 100, 4);
    }
}

/* Whoever reads a piece digests all of it: also where it is damaged behind the few elements that are wanted, after the check. */
TEST(a_piece_is_digested_whole)
{
    hn_error error = {0};
    hn_checkpoint *checkpoint = NULL;
    run self;
    size_t size;
    char *bytes = NULL;
    fresh();
    CHECK(save_by(2, 5, EVENLY));
    run_fill(&self, 5);
    CHECK_OK(hn_checkpoint_open(&checkpoint, folder, 5, NULL, &error));
    CHECK_OK(hn_file_read(&bytes, &size, file_of(path, 5, "rank-0.h5"), 1 << 20, &error));
    char *place = memmem(bytes, size, self.weights, 3 * sizeof(float));
    CHECK(place);
    flip(path, place - bytes + 8, 1); /* its last element */
    hn_free(bytes);
    hn_piece first = {.of = self.tensors[0], .count = 1}, other = {.of = self.tensors[0], .first = 3, .count = 3};
    CHECK_INT(hn_checkpoint_read(checkpoint, &first, 1, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "rank-0.h5: tensor \"layer.0.weight@0\": its bytes changed while they were read");
    hn_error_reset(&error);
    CHECK_OK(hn_checkpoint_read(checkpoint, &other, 1, &error)); /* of the other file alone */
    self.tensors[0].tensor.shape[0] = 3;
    other = (hn_piece){.of = self.tensors[0], .count = 1};
    CHECK_INT(hn_checkpoint_read(checkpoint, &other, 1, &error), HN_ERR_MISMATCH);
    CHECK_CONTAINS(error.message, "tensor \"layer.0.weight\": expected f32 [3, 3], got f32 [2, 3]");
    hn_checkpoint_free(checkpoint);
}

TEST(every_flipped_byte_is_found)
{
    hn_error error = {0};
    static const char *const names[] = {"rank-0.h5", "rank-1.h5", "manifest.json"};
    size_t tried = 0;
    fresh();
    CHECK(save_by(2, 3, EVENLY));
    for (int i = 0; i < 3; i++) {
        struct stat info;
        CHECK_INT(stat(file_of(path, 3, names[i]), &info), 0);
        for (long at = 0; at < info.st_size; at++, tried++) {
            int bits = at % 3 ? 1 << at % 8 : 0xff;
            hn_error_reset(&error);
            flip(path, at, bits);
            hn_status status = load_step(3, &error);
            flip(path, at, bits);
            if (status == HN_OK) TEST_FAIL("%s: byte %ld: not found", names[i], at);
            CHECK_CONTAINS(error.message, names[i]);
        }
    }
    hn_error_reset(&error);
    CHECK_OK(load_step(3, &error));
    test_promise("every flipped byte of a small checkpoint of two processes is found", tried, tried);
}

TEST(verifies_every_file)
{
    hn_error error = {0};
    hn_strbuf report;
    char other[128];
    hn_strbuf_init(&report);
    fresh();
    CHECK(save_by(3, 12, EVENLY));
    CHECK_OK(hn_checkpoint_verify(file_of(path, 12, ""), &report, &error));
    CHECK_CONTAINS(report.text, "manifest.json: good, step 12\nrank-0.h5: good, ");
    CHECK_CONTAINS(report.text, " bytes, 5 tensors\nrank-1.h5: good, ");
    CHECK_CONTAINS(report.text, "\nrank-2.h5: good, ");
    flip(file_of(other, 12, "rank-1.h5"), 100, 1);
    unlink(file_of(other, 12, "rank-2.h5"));
    hn_strbuf_reset(&report);
    CHECK_INT(hn_checkpoint_verify(path, &report, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "rank-1.h5: damaged between its tensors");
    CHECK_CONTAINS(report.text, "\nrank-0.h5: good, ");
    CHECK_CONTAINS(report.text, "rank-2.h5: cannot open: No such file or directory\n");
    hn_strbuf_close(&report);
}

/* Files of one checkpoint that have changed places. */
TEST(files_are_ranks)
{
    hn_error error = {0};
    char other[128], third[128];
    fresh();
    CHECK(save_by(2, 6, EVENLY));
    file_of(path, 6, "rank-0.h5"), file_of(other, 6, "rank-1.h5"), file_of(third, 6, "x");
    CHECK_INT(rename(path, third) | rename(other, path) | rename(third, other), 0);
    CHECK_INT(load_step(6, &error), HN_ERR_FORMAT);
}

/* What rank 1 gives in the place of its piece of the first tensor. */
static void misfit_body(int rank, result *out)
{
    run self;
    hn_error error = {0};
    hn_piece pieces[TENSORS];
    run_fill(&self, 2);
    if (rank && now_case == 2) self.tensors[0].tensor = hn_tensor_2d(self.weights, HN_F32, 3, 2);
    if (rank && now_case == 3) self.tensors[0].name = "a/b";
    if (rank && now_case == 4) self.tensors[0].name = self.tensors[1].name;
    size_t count = cut_tensors(pieces, self.tensors, TENSORS, EVENLY, rank, party.ranks);
    if (rank && now_case == 0) pieces[0].first--;
    if (rank && now_case == 1) pieces[0].first++, pieces[0].count--;
    json_t *state = rank ? NULL : json_object();
    const hn_checkpoint_retention retention = {.keep = 1, .stay = {-1, -1}};
    put_result(out, hn_checkpoint_save_pieces(folder, 2, pieces, count, state, NULL, &party, &retention, &out->safe, &error), &error);
    json_decref(state);
}

/* The save fails, and what is older stays, all of it. */
TEST(pieces_that_do_not_fit)
{
    static const char *const says[] = {"step-2/manifest.json: tensor \"layer.0.weight\" stands there twice, in rank-0.h5 and rank-1.h5",
                                       "step-2/manifest.json: tensor \"layer.0.weight\": element 3 of its 6 is missing",
                                       "step-2/manifest.json: tensor \"layer.0.weight\" has two types or shapes, in rank-0.h5 and rank-1.h5",
                                       "rank 1: ", "rank 1: "};
    for (now_case = 0; now_case < 5; now_case++) {
        fresh();
        CHECK(save_by(0, 0, 0) && save_by(2, 1, EVENLY));
        run_ranks(2, misfit_body);
        CHECK(all_same(2));
        CHECK(!results[0].safe && results[0].status != HN_OK);
        CHECK_CONTAINS(results[0].message, says[now_case]);
        CHECK_INT(newest(said), 1);
        CHECK_TEXT(said, "");
        CHECK_INT(load_step(0, NULL), HN_OK);
        snprintf(path, sizeof path, "%s/.tmp-step-2", folder);
        CHECK(!hn_path_exists(path) && !hn_path_exists(file_of(path, 2, "")));
    }
}

/* Rank 1's folder is another disk's: either it is not there, or rank 0 does not see what it wrote. */
static void elsewhere_body(int rank, result *out)
{
    if (rank) snprintf(folder, sizeof folder, "%s/elsewhere", base);
    save_part(2, EVENLY, 0, out);
}

TEST(all_see_one_folder)
{
    char other[160];
    fresh();
    snprintf(other, sizeof other, "%s/elsewhere/.tmp-step-2", base);
    for (int there = 0; there < 2; there++) {
        if (there) CHECK_INT(hn_folder_make(other, NULL), HN_OK);
        run_ranks(2, elsewhere_body);
        CHECK(all_same(2));
        CHECK_CONTAINS(results[0].message, there ? "rank 1 wrote it, and rank 0 does not see it: is this folder the same on all nodes?"
                                                 : "rank 1: ");
        CHECK_INT(newest(said), -1);
    }
}

/* A step that is saved again by another number of processes is replaced. */
TEST(a_step_saved_again_is_replaced)
{
    static const int worlds[] = {2, 0, 3, 1, 8};
    hn_error error = {0};
    fresh();
    for (int w = 0; w < 5; w++) {
        CHECK(save_by(worlds[w], 5, EVENLY));
        CHECK_OK(load_step(5, &error));
        CHECK_INT(hn_path_exists(file_of(path, 5, "rank-1.h5")), worlds[w] > 1);
    }
}

static void spoil(void *self)
{
    run_fill(self, -7);
}

static hn_status log_fails(void *context, hn_error *error)
{
    (void)context;
    return hn_fail(error, HN_ERR_IO, "the log cannot be written");
}

/* By writers, whose tensors are spoilt as soon as they are the rank's again. */
static void writer_body(int rank, result *out)
{
    run self;
    hn_error error = {0};
    hn_piece pieces[TENSORS];
    hn_checkpoint_writer *writer = NULL;
    hn_checkpoint_outcome outcome = {0};
    if (hn_checkpoint_writer_open(&writer, folder, 2, &error) != HN_OK) abort();
    for (int step = 1; step <= now_step && outcome.error.status == HN_OK; step++) {
        run_fill(&self, step);
        hn_checkpoint_job job = {.step = step, .stay = {-1, 1}, .party = &party, .pieces = pieces};
        job.count = cut_tensors(pieces, self.tensors, TENSORS, EVENLY, rank, party.ranks);
        if (!rank) job.state = json_pack("{s:i}", "cursor", step * 7);
        if (step == 5 && rank == now_rank) job.before = log_fails;
        hn_checkpoint_writer_start(writer, &job);
        hn_checkpoint_writer_wait_read(writer);
        spoil(&self);
        if (!hn_checkpoint_writer_wait(writer, &outcome)) abort();
        out->safe = outcome.safe;
        out->number = outcome.step;
    }
    hn_checkpoint_writer_free(writer);
    put_result(out, outcome.error.status, &outcome.error);
}

TEST(writers)
{
    for (now_rank = 0; now_rank < 3; now_rank++) {
        char says[64];
        fresh();
        now_step = 4;
        run_ranks(3, writer_body);
        CHECK(all_same(3));
        CHECK_TEXT(results[0].message, "");
        CHECK_INT(results[0].number, 4);
        CHECK_INT(newest(said), 4);
        CHECK_INT(load_step(3, NULL), HN_OK);
        CHECK_INT(load_step(1, NULL), HN_OK); /* it is to stay */
        CHECK(!hn_path_exists(file_of(path, 2, "")));
        now_step = 6;
        run_ranks(3, writer_body);
        CHECK(all_same(3));
        snprintf(says, sizeof says, "rank %d: the log cannot be written", now_rank);
        CHECK_TEXT(results[0].message, says);
        CHECK_INT(results[0].number, 5);
        CHECK(!results[0].safe && !hn_path_exists(file_of(path, 5, "")));
        CHECK_INT(newest(said), 4);
    }
}

CHECKPOINT_MAIN(RUN(any_number_reads_what_any_number_saved); RUN(one_process_and_several_read_each_other);
                RUN(one_process_writes_the_first_format); RUN(readers_agree); RUN(one_reader_has_no_memory); RUN(a_reader_checks_its_share);
                RUN(a_piece_is_digested_whole); RUN(every_flipped_byte_is_found); RUN(verifies_every_file); RUN(files_are_ranks);
                RUN(pieces_that_do_not_fit); RUN(all_see_one_folder); RUN(a_step_saved_again_is_replaced); RUN(writers))
