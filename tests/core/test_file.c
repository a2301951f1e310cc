/* Files: whole reads, mappings, folders, and the commit protocol with every call failed or torn in turn. */
#include "core/file.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/mem.h"
#include "tests/test.h"

static hn_error error;
static char folder[64]; /* a fresh one for the program */
static char path[128], other[128], text[256];

static const char *in(char *out, const char *name)
{
    snprintf(out, 128, "%s/%s", folder, name);
    return out;
}

static void put(const char *where, const char *bytes)
{
    FILE *file = fopen(where, "wb");
    if (!file || fwrite(bytes, 1, strlen(bytes), file) != strlen(bytes) || fclose(file)) abort();
}

static const char *get(const char *where)
{
    FILE *file = fopen(where, "rb");
    if (!file) return "(missing)";
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

/* What fails: the `fail_at`-th call of the table, counted over all its functions; a write may tear first. */
static struct {
    int calls, fail_at, torn, code;
    bool die; /* the process, instead of failing */
    hn_file_hooks real;
} fault;

static bool fails(void)
{
    if (++fault.calls != fault.fail_at) return false;
    if (fault.die) raise(SIGKILL);
    errno = fault.code;
    return true;
}

static ssize_t fault_write(int fd, const void *bytes, size_t size)
{
    if (fails()) {
        if (!fault.torn || size < 2) return -1;
        fault.fail_at++; /* half is written now, the next write fails */
        return fault.real.write(fd, bytes, size / 2);
    }
    return fault.real.write(fd, bytes, size);
}
static int fault_fsync(int fd)
{
    return fails() ? -1 : fault.real.fsync(fd);
}
static int fault_rename(const char *from, const char *to, unsigned flags)
{
    return fails() ? -1 : fault.real.rename(from, to, flags);
}
static int fault_close(int fd)
{
    int result = fault.real.close(fd); /* the descriptor is gone either way */
    return fails() ? -1 : result;
}
static int fault_unlink(int at, const char *name, int flags)
{
    return fails() ? -1 : fault.real.unlink(at, name, flags);
}
static int fault_mkdir(const char *name, mode_t mode)
{
    return fails() ? -1 : fault.real.mkdir(name, mode);
}

static void fault_set(int nth, int torn, int code)
{
    fault.real = hn_file_calls;
    fault.calls = 0;
    fault.fail_at = nth;
    fault.torn = torn;
    fault.code = code;
    hn_file_calls =
        (hn_file_hooks){fault_write, fault_fsync, fault_rename, fault_close, fault_unlink, fault_mkdir};
}

static bool fault_end(void)
{
    hn_file_calls = fault.real;
    return fault.calls >= fault.fail_at;
}

TEST(reads_whole_files)
{
    char *bytes = NULL;
    size_t size;
    put(in(path, "read"), "hello");
    hn_error_reset(&error);
    CHECK_OK(hn_file_read(&bytes, &size, path, 5, &error));
    CHECK_INT(size, 5);
    CHECK_TEXT(bytes, "hello");
    hn_free(bytes);
    CHECK_INT(hn_file_read(&bytes, &size, path, 4, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "5 bytes long, at most 4 are read");
    hn_error_reset(&error);
    CHECK_INT(hn_file_read(&bytes, &size, folder, 100, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "expected a file, got a folder");
    hn_error_reset(&error);
    CHECK_INT(mkfifo(in(other, "fifo"), 0600), 0);
    CHECK_INT(hn_file_read(&bytes, &size, other, 100, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "got a pipe");
    CHECK_INT(hn_file_read(&bytes, &size, in(other, "none"), 100, NULL), HN_ERR_IO);
    hn_error_reset(&error);
    hn_mem_fail_at(1);
    hn_status status = hn_file_read(&bytes, &size, path, 5, &error);
    hn_mem_fail_at(0);
    CHECK_INT(status, HN_ERR_MEMORY);
}

TEST(maps_files)
{
    hn_mapping mapping;
    hn_error_reset(&error);
    put(in(path, "map"), "mapped");
    CHECK_OK(hn_mapping_open(&mapping, path, &error));
    CHECK_INT(mapping.size, 6);
    CHECK(!memcmp(mapping.bytes, "mapped", 6));
    hn_mapping_close(&mapping);
    put(path, "");
    CHECK_OK(hn_mapping_open(&mapping, path, &error));
    CHECK_INT(mapping.size, 0);
    CHECK_TEXT((const char *)mapping.bytes, "");
    hn_mapping_close(&mapping);
    CHECK_INT(hn_mapping_open(&mapping, folder, &error), HN_ERR_IO);
}

/* Pages of files that this process holds, from /proc/self/statm. */
static long shared_pages(void)
{
    long size = 0, resident = 0, shared = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld %ld", &size, &resident, &shared) != 3) shared = -1;
    if (file) fclose(file);
    return shared;
}

TEST(an_idle_mapping_holds_no_pages)
{
    enum { PAGES = 2048, PAGE = 4096 };
    hn_mapping mapping;
    hn_error_reset(&error);
    char *bytes = hn_malloc((size_t)PAGES * PAGE);
    memset(bytes, 'x', (size_t)PAGES * PAGE);
    CHECK_OK(hn_file_commit(in(path, "large"), bytes, (size_t)PAGES * PAGE, &error));
    CHECK_OK(hn_mapping_open(&mapping, in(path, "large"), &error));
    CHECK(!memcmp(mapping.bytes, bytes, mapping.size));
    long before = shared_pages();
    hn_mapping_idle(&mapping);
    CHECK(before > PAGES && shared_pages() < before - PAGES / 2);
    CHECK(!memcmp(mapping.bytes, bytes, mapping.size));
    hn_mapping_close(&mapping);
    hn_free(bytes);
}

/* Several mappings, one of them cut under the reader: zeros instead of SIGBUS, and only that one says so. */
TEST(a_mapping_that_is_cut_short)
{
    enum { PAGES = 3, PAGE = 4096 };
    hn_mapping whole, cut;
    unsigned sum = 0;
    hn_error_reset(&error);
    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(in(i ? other : path, i ? "cut" : "whole"), "wb");
        for (int byte = 0; byte < PAGES * PAGE; byte++) putc(1, file);
        fclose(file);
    }
    CHECK_OK(hn_mapping_open(&whole, path, &error));
    CHECK_OK(hn_mapping_open(&cut, other, &error));
    CHECK_INT(truncate(other, PAGE), 0);
    CHECK(hn_mapping_intact(&cut)); /* nothing was read yet */
    for (int byte = 0; byte < PAGES * PAGE; byte++) sum += cut.bytes[byte] + 2u * whole.bytes[byte];
    CHECK_INT(sum, PAGE + 2 * PAGES * PAGE);
    CHECK(!hn_mapping_intact(&cut));
    CHECK(hn_mapping_intact(&whole));
    hn_mapping_close(&cut);
    hn_mapping_close(&whole);
    CHECK_OK(hn_mapping_open(&cut, path, &error)); /* the place in the table is clean again */
    CHECK(hn_mapping_intact(&cut));
    hn_mapping_close(&cut);
}

TEST(joins_paths)
{
    static const char *cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *joined = hn_path_join(cases[i][0], cases[i][1]);
        CHECK_TEXT(joined, cases[i][2]);
        hn_free(joined);
    }
}

TEST(makes_and_removes_folders)
{
    hn_error_reset(&error);
    CHECK_OK(hn_folder_make(in(path, "made/a/b"), &error));
    CHECK_OK(hn_folder_make(in(path, "made/a/b/"), &error));
    CHECK_OK(hn_folder_make(in(path, "made//a/c"), &error));
    CHECK(hn_path_is_folder(in(path, "made/a/c")));
    put(in(path, "made/a/b/file"), "x");
    put(in(path, "kept"), "kept");
    CHECK_INT(symlink(path, in(other, "made/a/link")), 0);
    CHECK_INT(symlink(folder, in(other, "made/a/linked-folder")), 0);
    CHECK_INT(hn_folder_make(in(other, "made/a/b/file"), &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "cannot make this folder");
    hn_error_reset(&error);
    CHECK_OK(hn_folder_remove(in(other, "made"), &error));
    CHECK(!hn_path_exists(other));
    CHECK_TEXT(get(in(path, "kept")), "kept"); /* links were not followed */
    CHECK_OK(hn_folder_remove(other, &error)); /* missing is fine */
}

/* Every new folder's name is on the disk before the call returns: mkdir, then fsync and close of its parent.
 */
TEST(a_failed_make_says_so)
{
    int n = 1;
    for (;; n++) {
        hn_error_reset(&error);
        CHECK_OK(hn_folder_remove(in(path, "fresh"), &error));
        fault_set(n, 0, EIO);
        hn_status status = hn_folder_make(in(path, "fresh/a"), &error);
        if (!fault_end()) break;
        CHECK_INT(status, n <= 2 ? HN_OK : HN_ERR_IO); /* the first two folders were there */
        if (n > 2) CHECK_CONTAINS(error.message, strerror(EIO));
    }
    CHECK(hn_path_is_folder(path));
    CHECK_INT(n, 2 + 2 * 3 + 1);
}

TEST(a_failed_remove_says_so)
{
    hn_error_reset(&error);
    CHECK_OK(hn_folder_make(in(path, "stuck/a"), &error));
    put(in(other, "stuck/a/file"), "x");
    int n = 1;
    for (;; n++) {
        fault_set(n, 0, EACCES);
        hn_status status = hn_folder_remove(in(path, "stuck"), &error);
        bool failed = fault_end();
        if (!failed) break;
        CHECK_INT(status, HN_ERR_IO);
        CHECK_CONTAINS(error.message, "cannot remove");
        hn_error_reset(&error);
    }
    CHECK(!hn_path_exists(path));
}

/* Old or new, never half, and no temporary left where the disk still obeys. */
static void commit_with(int torn, int code)
{
    int n = 1;
    for (;; n++) {
        put(in(path, "commit"), "old content");
        hn_error_reset(&error);
        fault_set(n, torn, code);
        hn_status status = hn_file_commit(path, "the new content", 15, &error);
        bool failed = fault_end();
        if (!failed) {
            CHECK_OK(status);
            CHECK_TEXT(get(path), "the new content");
            break;
        }
        CHECK_INT(status, HN_ERR_IO);
        CHECK_CONTAINS(error.message, strerror(code));
        const char *now = get(path);
        if (strcmp(now, "old content") && strcmp(now, "the new content"))
            TEST_FAIL("call %d: half written: %s", n, now);
        if (n <= 4) CHECK_TEXT(now, "old content"); /* write, fsync, close, rename */
        CHECK(!hn_path_exists(in(other, ".tmp-commit")));
    }
    CHECK_INT(n, 7); /* and fsync and close of the folder */
}

static ssize_t one_byte(int fd, const void *bytes, size_t size)
{
    static int calls;
    if (++calls % 3 == 0) {
        errno = EINTR;
        return -1;
    }
    return write(fd, bytes, size > 1 ? 1 : size);
}

TEST(short_and_interrupted_writes_go_on)
{
    hn_file_hooks real = hn_file_calls;
    hn_error_reset(&error);
    hn_file_calls.write = one_byte;
    hn_status status = hn_file_commit(in(path, "commit"), "every byte", 10, &error);
    hn_file_calls = real;
    CHECK_OK(status);
    CHECK_TEXT(get(path), "every byte");
}

TEST(killed_at_every_call)
{
    int n = 1;
    for (;; n++) {
        int status = 0;
        put(in(path, "commit"), "old content");
        pid_t child = fork();
        CHECK(child >= 0);
        if (!child) {
            fault_set(n, 0, EIO);
            fault.die = true;
            _exit(hn_file_commit(path, "the new content", 15, NULL) != HN_OK);
        }
        CHECK(waitpid(child, &status, 0) == child);
        const char *now = get(path);
        CHECK_TEXT(now, n <= 4 ? "old content" : "the new content");
        if (WIFEXITED(status) && !WEXITSTATUS(status)) break;
        hn_error_reset(&error);
        CHECK_OK(hn_file_commit(path, "after", 5, &error)); /* what was left over is no obstacle */
        CHECK_TEXT(get(path), "after");
    }
    CHECK_INT(n, 7);
}

TEST(commit_fails_at_every_call)
{
    commit_with(0, EIO);
    commit_with(0, ENOSPC);
}

TEST(commit_torn_at_every_call)
{
    commit_with(1, ENOSPC);
}

TEST(commit_without_memory)
{
    put(in(path, "commit"), "old content");
    size_t n = 1;
    for (;; n++) {
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        hn_status status = hn_file_commit(path, "new", 3, &error);
        hn_mem_fail_at(0);
        if (status == HN_OK) break;
        CHECK_INT(status, HN_ERR_MEMORY);
        CHECK(!hn_path_exists(in(other, ".tmp-commit")));
    }
    CHECK(n > 3);
    CHECK_TEXT(get(path), "new");
}

TEST(commit_beside_nothing)
{
    hn_error_reset(&error);
    CHECK_INT(hn_file_commit(in(path, "no/such/folder"), "x", 1, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "cannot create");
    hn_error_reset(&error);
    char cwd[256];
    CHECK(getcwd(cwd, sizeof cwd) && !chdir(folder));
    hn_status status = hn_file_commit("bare", "x", 1, &error); /* a name without a folder */
    CHECK_INT(chdir(cwd), 0);
    CHECK_OK(status);
    CHECK_TEXT(get(in(path, "bare")), "x");
}

TEST(writer_gives_up_what_is_not_committed)
{
    hn_writer writer;
    hn_error_reset(&error);
    put(in(path, "pieces"), "old");
    CHECK_OK(hn_writer_open(&writer, path, &error));
    CHECK_OK(hn_writer_add(&writer, "ab", 2, &error));
    CHECK_TEXT(get(in(other, ".tmp-pieces")), "ab");
    hn_writer_close(&writer);
    CHECK(!hn_path_exists(other));
    CHECK_TEXT(get(path), "old");
}

TEST(copies_in_pieces)
{
    char from[192];
    size_t size = (1 << 17) + 5; /* two pieces and a rest */
    unsigned char *bytes = malloc(size);
    for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)(i * 7 >> 3);
    hn_error_reset(&error);
    CHECK_OK(hn_file_commit(in(from, "original"), bytes, size, &error));
    put(in(path, "copy"), "old");
    CHECK_INT(hn_file_copy(path, from, size - 1, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "131077 bytes long, at most 131076 are copied");
    CHECK_TEXT(get(path), "old");
    hn_error_reset(&error);
    CHECK_OK(hn_file_copy(path, from, size, &error));
    char *copy = NULL;
    size_t length = 0;
    CHECK_OK(hn_file_read(&copy, &length, path, size, &error));
    CHECK(length == size && !memcmp(copy, bytes, size));
    hn_free(copy);
    free(bytes);
    CHECK_INT(hn_file_copy(path, in(other, "missing"), size, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "cannot open");
}

static void make_pair(bool with_old)
{
    hn_folder_remove(in(path, "best"), &error);
    hn_folder_remove(in(path, ".tmp-best"), &error);
    hn_folder_remove(in(path, ".tmp-old-best"), &error);
    hn_folder_make(in(path, ".tmp-best"), &error);
    put(in(path, ".tmp-best/a"), "new");
    if (!with_old) return;
    hn_folder_make(in(path, "best"), &error);
    put(in(path, "best/a"), "old");
}

TEST(folder_commit)
{
    for (int with_old = 0; with_old < 2; with_old++) {
        int n = 1;
        for (;; n++) {
            hn_error_reset(&error);
            make_pair(with_old);
            in(path, ".tmp-best");
            in(other, "best");
            fault_set(n, 0, EIO);
            hn_status status = hn_folder_commit(path, other, with_old, &error);
            if (!fault_end()) {
                CHECK_OK(status);
                CHECK_TEXT(get(in(path, "best/a")), "new");
                CHECK(!hn_path_exists(in(path, ".tmp-best")));
                break;
            }
            CHECK_INT(status, HN_ERR_IO);
            const char *now = get(in(path, "best/a"));
            if (strcmp(now, with_old ? "old" : "(missing)") && strcmp(now, "new"))
                TEST_FAIL("call %d: %s", n, now);
        }
        CHECK(n >= (with_old ? 6 : 5));
    }
}

TEST(folder_commit_keeps_what_it_may_not_replace)
{
    make_pair(true);
    hn_error_reset(&error);
    in(path, ".tmp-best");
    in(other, "best");
    CHECK_INT(hn_folder_commit(path, other, false, &error), HN_ERR_IO);
    CHECK_TEXT(get(in(path, "best/a")), "old");
}

static int no_exchange(const char *from, const char *to, unsigned flags)
{
    errno = EINVAL;
    return flags ? -1 : fault_rename(from, to, flags);
}

TEST(folder_commit_without_exchange)
{
    int n = 1;
    for (;; n++) {
        hn_error_reset(&error);
        make_pair(true);
        in(path, ".tmp-best");
        in(other, "best");
        fault_set(n, 0, EIO);
        hn_file_calls.rename = no_exchange;
        hn_status status = hn_folder_commit(path, other, true, &error);
        if (!fault_end()) {
            CHECK_OK(status);
            break;
        }
        CHECK_INT(status, HN_ERR_IO);
        const char *now = get(in(path, "best/a"));
        if (strcmp(now, "old") && strcmp(now, "new")) TEST_FAIL("call %d: %s", n, now);
    }
    CHECK_TEXT(get(in(path, "best/a")), "new");
    CHECK(!hn_path_exists(in(path, ".tmp-best")));
    CHECK(!hn_path_exists(in(path, ".tmp-old-best")));
}

TEST(space)
{
    uint64_t available = 0;
    hn_error_reset(&error);
    CHECK_OK(hn_file_space(&available, folder, &error));
    CHECK(available > 0);
    CHECK_INT(hn_file_space(&available, in(path, "none"), &error), HN_ERR_IO);
}

static void setup(void)
{
    strcpy(folder, "/tmp/hone-file-XXXXXX");
    if (!mkdtemp(folder)) abort();
}

TEST_MAIN(setup(); RUN(reads_whole_files); RUN(maps_files);
          RUN(an_idle_mapping_holds_no_pages); RUN(a_mapping_that_is_cut_short); RUN(joins_paths); RUN(makes_and_removes_folders);
          RUN(a_failed_make_says_so); RUN(a_failed_remove_says_so); RUN(short_and_interrupted_writes_go_on);
          RUN(killed_at_every_call); RUN(commit_fails_at_every_call); RUN(commit_torn_at_every_call);
          RUN(commit_without_memory); RUN(commit_beside_nothing); RUN(writer_gives_up_what_is_not_committed); RUN(copies_in_pieces);
          RUN(folder_commit); RUN(folder_commit_keeps_what_it_may_not_replace);
          RUN(folder_commit_without_exchange); RUN(space); hn_folder_remove(folder, NULL))
