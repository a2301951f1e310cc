/* metrics.jsonl: exact lines, whole lines only, the cut on resume, faults of disk and memory. */
#include <errno.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "tests/test.h"
#include "track/event.h"

static hn_error error;
static char folder[] = "/tmp/hone-jsonl-XXXXXX", path[64], text[4096];

static const char *get(void)
{
    FILE *file = fopen(path, "rb");
    if (!file) return "(missing)";
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void put(const char *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) abort();
}

static hn_status emit(hn_sink *sink, int64_t step)
{
    const hn_field fields[] = {{.name = "loss", .kind = HN_FIELD_FLOAT, .number = 0.5}};
    const hn_event event = {"step", step, fields, 1};
    return sink->emit(sink, &event, &error);
}

TEST(lines)
{
    hn_sink *sink = NULL;
    hn_error_reset(&error);
    put("old\n", 4);
    CHECK_OK(hn_sink_jsonl_open(&sink, path, -1, INT64_MAX, &error));
    const hn_field fields[] = {
        {.name = "steps", .kind = HN_FIELD_INT, .integer = -1234567890123},
        {.name = "lr", .kind = HN_FIELD_FLOAT, .number = 5e-5},
        {.name = "loss", .kind = HN_FIELD_FLOAT, .number = (double)0.1f},
        {.name = "nan", .kind = HN_FIELD_FLOAT, .number = NAN},
        {.name = "inf", .kind = HN_FIELD_FLOAT, .number = -INFINITY},
        {.name = "path", .kind = HN_FIELD_TEXT, .text = "a\"b\n\xff"},
        {.name = "matrix", .kind = HN_FIELD_JSON, .text = "[[1, 2],\n [3, 4]]"},
    };
    const hn_event event = {"eval", 42, fields, sizeof fields / sizeof *fields};
    CHECK_OK(sink->emit(sink, &event, &error));
    const hn_event bare = {"stop", 43, NULL, 0};
    CHECK_OK(sink->emit(sink, &bare, &error));
    hn_sinks sinks = {.items = {sink}, .count = 1};
    CHECK_OK(hn_sinks_flush(&sinks, &error));
    hn_sinks_close(&sinks);
    CHECK_TEXT(
        get(),
        "{\"event\": \"eval\", \"step\": 42, \"steps\": -1234567890123, \"lr\": 5e-05, \"loss\": "
        "0.100000001, "
        "\"nan\": null, \"inf\": null, \"path\": \"a\\\"b\\n\xef\xbf\xbd\", \"matrix\": [[1, 2],  [3, 4]]}\n"
        "{\"event\": \"stop\", \"step\": 43}\n");
    json_t *value = NULL;
    CHECK_OK(hn_json_parse(&value, text, strcspn(text, "\n"), "line", HN_JSON_LIMITS_SMALL, &error));
    json_decref(value);
}

TEST(cuts_to_a_step)
{
    static const char before[] = "{\"event\": \"step\", \"step\": 1}\n"
                                 "{\"event\": \"step\", \"step\": 2}\n"
                                 "not JSON\n"
                                 "{\"event\": \"eval\", \"step\": 2}\n"
                                 "{\"event\": \"x\"}\n"
                                 "[2]\n"
                                 "\0\0\0\n"
                                 "{\"event\": \"step\", \"step\": 3}\n"
                                 "{\"event\": \"step\", \"step\": 1}"; /* torn: no newline */
    hn_sink *sink = NULL;
    hn_error_reset(&error);
    put(before, sizeof before - 1);
    CHECK_OK(hn_sink_jsonl_open(&sink, path, 2, INT64_MAX, &error));
    CHECK_OK(emit(sink, 3));
    sink->close(sink);
    CHECK_TEXT(get(), "{\"event\": \"step\", \"step\": 1}\n{\"event\": \"step\", \"step\": 2}\n{\"event\": "
                      "\"eval\", \"step\": 2}\n"
                      "{\"event\": \"step\", \"step\": 3, \"loss\": 0.5}\n");
    unlink(path);
    CHECK_OK(hn_sink_jsonl_open(&sink, path, 5, INT64_MAX, &error)); /* nothing to cut */
    sink->close(sink);
    CHECK_TEXT(get(), "");
}

/* Every open writes the same events, cut at a random place by a kill, and goes on: the log ends as if nothing
 * had happened. */
TEST(any_torn_end_is_mended)
{
    char whole[1024];
    hn_sink *sink = NULL;
    hn_error_reset(&error);
    CHECK_OK(hn_sink_jsonl_open(&sink, path, -1, INT64_MAX, &error));
    for (int64_t step = 1; step <= 4; step++) CHECK_OK(emit(sink, step));
    sink->close(sink);
    strcpy(whole, get());
    for (size_t n = 0; n <= strlen(whole); n++) {
        put(whole, n);
        int64_t done = 0;
        for (size_t i = 0; i < n; i++) done += whole[i] == '\n';
        CHECK_OK(hn_sink_jsonl_open(&sink, path, done, INT64_MAX, &error));
        for (int64_t step = done + 1; step <= 4; step++) CHECK_OK(emit(sink, step));
        sink->close(sink);
        CHECK_TEXT(get(), whole);
    }
}

static int write_calls, write_fails_at, torn;

static ssize_t failing_write(int fd, const void *bytes, size_t size)
{
    if (++write_calls != write_fails_at) return write(fd, bytes, size);
    if (torn) {
        torn = 0;
        write_fails_at++;
        return write(fd, bytes, size / 2);
    }
    errno = ENOSPC;
    return -1;
}

TEST(a_full_disk_leaves_whole_lines)
{
    for (int tear = 0; tear < 2; tear++) {
        hn_sink *sink = NULL;
        hn_file_hooks real = hn_file_calls;
        hn_error_reset(&error);
        CHECK_OK(hn_sink_jsonl_open(&sink, path, -1, INT64_MAX, &error));
        CHECK_OK(emit(sink, 1));
        sink->close(sink);
        CHECK_OK(hn_sink_jsonl_open(&sink, path, 1, INT64_MAX, &error));
        CHECK_OK(emit(sink, 2));
        write_calls = 0;
        write_fails_at = 1;
        torn = tear;
        hn_file_calls.write = failing_write;
        hn_status status = emit(sink, 3);
        hn_file_calls = real;
        CHECK_INT(status, HN_ERR_IO);
        CHECK_CONTAINS(error.message, "cannot write: No space left");
        CHECK_TEXT(get(), "{\"event\": \"step\", \"step\": 1, \"loss\": 0.5}\n" /* what a reader sees meanwhile */
                          "{\"event\": \"step\", \"step\": 2, \"loss\": 0.5}\n");
        hn_error_reset(&error);
        CHECK_OK(emit(sink, 4));
        sink->close(sink);
        CHECK_TEXT(get(), "{\"event\": \"step\", \"step\": 1, \"loss\": 0.5}\n"
                          "{\"event\": \"step\", \"step\": 2, \"loss\": 0.5}\n"
                          "{\"event\": \"step\", \"step\": 3, \"loss\": 0.5}\n"
                          "{\"event\": \"step\", \"step\": 4, \"loss\": 0.5}\n");
    }
}

static size_t room; /* bytes that the disk still takes */

static ssize_t write_into_room(int fd, const void *bytes, size_t size)
{
    if (!room) {
        errno = ENOSPC;
        return -1;
    }
    ssize_t wrote = write(fd, bytes, size < room ? size : room);
    room -= (size_t)wrote;
    return wrote;
}

static void check_counts(const hn_sink *sink, int64_t written, int64_t waiting, int64_t lost)
{
    hn_log_counts counts = hn_sink_jsonl_counts(sink);
    CHECK_INT(counts.written, written);
    CHECK_INT(counts.waiting, waiting);
    CHECK_INT(counts.lost, lost);
}

/* Four lines meet a full disk, which then has room for some bytes, also just for whole lines, and at last for all. */
TEST(lines_wait_for_the_disk)
{
    static const char one[] = "{\"event\": \"step\", \"step\": 1, \"loss\": 0.5}\n";
    const size_t length = sizeof one - 1, rooms[] = {0, 1, length - 1, length, length + 1, 2 * length, 4 * length - 1, 4 * length};
    hn_file_hooks real = hn_file_calls;
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        const size_t n = rooms[i];
        hn_sink *sink = NULL;
        char whole[1024] = "";
        hn_error_reset(&error);
        put(one, length);
        CHECK_OK(hn_sink_jsonl_open(&sink, path, 1, INT64_MAX, &error));
        hn_sinks sinks = {.items = {sink}, .count = 1};
        check_counts(sink, 1, 0, 0);
        hn_file_calls.write = write_into_room;
        room = 0;
        for (int64_t step = 2; step <= 5; step++) CHECK_INT(emit(sink, step), HN_ERR_IO);
        check_counts(sink, 1, 4, 0);
        hn_error_reset(&error);
        room = n;
        CHECK_INT(hn_sinks_settle(&sinks, &error), n < 4 * length ? HN_ERR_IO : HN_OK);
        check_counts(sink, 1 + (int64_t)(n / length), 4 - (int64_t)(n / length), 0);
        CHECK_INT(strlen(get()), length * (1 + n / length));
        hn_file_calls = real;
        hn_error_reset(&error);
        CHECK_OK(emit(sink, 6));
        check_counts(sink, 6, 0, 0);
        hn_sinks_close(&sinks);
        for (int step = 1; step <= 6; step++)
            snprintf(whole + strlen(whole), sizeof whole - strlen(whole), "{\"event\": \"step\", \"step\": %d, \"loss\": 0.5}\n", step);
        CHECK_TEXT(get(), whole);
    }
}

TEST(a_megabyte_of_lines_waits)
{
    hn_sink *sink = NULL;
    hn_file_hooks real = hn_file_calls;
    hn_error_reset(&error);
    CHECK_OK(hn_sink_jsonl_open(&sink, path, -1, INT64_MAX, &error));
    hn_file_calls.write = write_into_room;
    room = 0;
    for (int64_t step = 1; step <= 30000; step++) emit(sink, step);
    hn_file_calls = real;
    hn_log_counts counts = hn_sink_jsonl_counts(sink);
    CHECK(counts.waiting > 20000 && counts.waiting < 26000);
    check_counts(sink, 0, counts.waiting, 30000 - counts.waiting);
    hn_error_reset(&error);
    CHECK_OK(emit(sink, 30001));
    check_counts(sink, counts.waiting + 1, 0, counts.lost);
    sink->close(sink);
}

static int failing_fsync(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

TEST(a_failed_cut_keeps_the_old_log)
{
    static const char before[] = "{\"event\": \"step\", \"step\": 1}\n{\"event\": \"step\", \"step\": 2}\n";
    hn_file_hooks real = hn_file_calls;
    hn_sink *sink = NULL;
    put(before, sizeof before - 1);
    for (int way = 0; way < 2; way++) {
        hn_error_reset(&error);
        write_calls = 0;
        write_fails_at = 1;
        torn = 1;
        if (way)
            hn_file_calls.write = failing_write;
        else
            hn_file_calls.fsync = failing_fsync;
        hn_status status = hn_sink_jsonl_open(&sink, path, 1, INT64_MAX, &error);
        hn_file_calls = real;
        CHECK_INT(status, HN_ERR_IO);
        CHECK_TEXT(get(), before);
    }
    hn_error_reset(&error);
    hn_status status = hn_sink_jsonl_open(&sink, "/tmp/no/such/folder/x", 1, INT64_MAX, &error);
    CHECK_INT(status, HN_ERR_IO);
    CHECK_OK((hn_error_reset(&error), hn_sink_jsonl_open(&sink, path, 1, INT64_MAX, &error)));
    hn_file_calls.fsync = failing_fsync;
    status = sink->flush(sink, &error);
    hn_file_calls = real;
    sink->close(sink);
    CHECK_INT(status, HN_ERR_IO);
    CHECK_CONTAINS(error.message, "cannot sync");
}

TEST(memory_runs_out)
{
    static const char before[] = "{\"event\": \"step\", \"step\": 1}\n{\"event\": \"step\", \"step\": 2}\n";
    static char message[600];
    memset(message, 'm', sizeof message - 1);
    const hn_field field = {.name = "message", .kind = HN_FIELD_TEXT, .text = message};
    const hn_event warning = {.kind = "warning", .step = 2, .fields = &field, .count = 1}; /* grows while it is built */
    size_t n = 1;
    for (;; n++) {
        hn_sink *sink = NULL;
        put(before, sizeof before - 1);
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        hn_status status = hn_sink_jsonl_open(&sink, path, 1, INT64_MAX, &error);
        if (status == HN_OK) status = sink->emit(sink, &warning, &error);
        hn_mem_fail_at(0);
        if (status != HN_OK && sink) {
            CHECK_OK(emit(sink, 3));
            CHECK_TEXT(get(), "{\"event\": \"step\", \"step\": 1}\n{\"event\": \"step\", \"step\": 3, \"loss\": 0.5}\n");
        }
        if (sink) sink->close(sink);
        if (status == HN_OK) break;
        CHECK_INT(status, HN_ERR_MEMORY);
        const char *now = get();
        if (!sink)
            CHECK(!strncmp(now, before, strlen(now)) && strlen(now) >= strlen(before) / 2); /* the old log or the cut one */
    }
    CHECK(n > 8);
}

static void setup(void)
{
    hn_json_init();
    if (!mkdtemp(folder)) abort();
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
}

TEST_MAIN(setup(); RUN(lines); RUN(cuts_to_a_step); RUN(any_torn_end_is_mended);
          RUN(a_full_disk_leaves_whole_lines); RUN(lines_wait_for_the_disk);
          RUN(a_megabyte_of_lines_waits); RUN(a_failed_cut_keeps_the_old_log); RUN(memory_runs_out);
          hn_folder_remove(folder, NULL))
