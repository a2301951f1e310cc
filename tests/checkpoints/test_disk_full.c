/* A disk that is full, of bytes or of names: small tmpfs mounts of every size around a checkpoint's. Either
 * the save says so and the old checkpoint stands, or the new one is whole. Needs the right to mount; skipped
 * where that is missing. */
#include "tests/checkpoints/common.h"

#include <sys/mount.h>

enum { ELEMENTS = 32 << 10 };
static float big[ELEMENTS];
static char disk[64], said[2048];

/* Step n: one tensor of n's and a state of 200 kB, so that the disk may also run full in the manifest. */
static hn_status save_big(int step, hn_error *error)
{
    static char text[200000];
    memset(text, 'a' + step, sizeof text - 1);
    for (int i = 0; i < ELEMENTS; i++) big[i] = (float)step;
    hn_named_tensor tensor = {"big", hn_tensor_1d(big, HN_F32, ELEMENTS)};
    json_t *state = json_pack("{s:s}", "text", text);
    hn_status status = hn_checkpoint_save(folder, step, &tensor, 1, state, NULL, error);
    json_decref(state);
    return status;
}

/* The newest whole step, or -1. */
static int newest_big(void)
{
    hn_error error = {0};
    hn_strbuf passed;
    int64_t step = -2;
    json_t *state = NULL;
    hn_named_tensor tensor = {"big", hn_tensor_1d(big, HN_F32, ELEMENTS)};
    hn_strbuf_init(&passed);
    hn_status status = hn_checkpoint_find(folder, &step, &state, &passed, &error);
    if (status == HN_OK && step >= 0) status = hn_checkpoint_load(folder, step, &tensor, 1, &error);
    bool right = status == HN_OK && (step < 0 || (big[0] == (float)step && big[ELEMENTS - 1] == (float)step));
    snprintf(said, sizeof said, "%s%s", error.message, passed.text);
    hn_strbuf_close(&passed);
    json_decref(state);
    return right ? (int)step : -2;
}

/* Saves step after step on a disk of this kind until it is full. Returns how many were saved, or -1. */
static int fill_disk(const char *options)
{
    hn_error error = {0};
    int saved = 0;
    hn_status status = HN_OK;
    while (status == HN_OK && saved < 9) {
        hn_error_reset(&error);
        status = save_big(saved + 1, &error);
        saved += status == HN_OK;
        int found = newest_big();
        if (found == (saved ? saved : -1) && !*said && (status == HN_OK || strstr(error.message, folder)))
            continue;
        fprintf(stderr, "%s: saved %d, found %d: %s / %s\n", options, saved, found, error.message, said);
        return -1;
    }
    /* After room was made the next save works. */
    if (saved > 1 &&
        (retain(1, saved, NULL) != HN_OK || save_big(saved + 1, &error) != HN_OK))
        return -1;
    return saved;
}

static size_t tried;

static int try_disk(const char *options)
{
    tried++;
    if (mount("tmpfs", disk, "tmpfs", 0, options)) return -1;
    int saved = fill_disk(options);
    if (umount(disk)) return -1;
    return saved;
}

TEST(full_of_bytes)
{
    int none = 0, some = 0;
    for (int kib = 4; kib <= 1300; kib += kib < 500 ? 20 : 100) {
        char options[64];
        snprintf(options, sizeof options, "size=%dk", kib);
        int saved = try_disk(options);
        CHECK(saved >= 0);
        none += saved == 0;
        some += saved > 0 && saved < 9;
    }
    CHECK(none > 4 && some > 4);
}

TEST(full_of_names)
{
    int some = 0;
    for (int names = 2; names <= 24; names++) {
        char options[64];
        snprintf(options, sizeof options, "size=16m,nr_inodes=%d", names);
        int saved = try_disk(options);
        CHECK(saved >= 0);
        some += saved > 0 && saved < 9;
    }
    CHECK(some > 5);
    test_promise("saves on full disks, of bytes and of names", tried, tried);
}

static void begin_disk(void)
{
    snprintf(disk, sizeof disk, "%s/disk", base);
    snprintf(folder, sizeof folder, "%s/disk/checkpoints", base);
    if (hn_folder_make(disk, NULL) != HN_OK) abort();
    if (mount("tmpfs", disk, "tmpfs", 0, "size=64k")) {
        hn_folder_remove(base, NULL);
        TEST_SKIP("mounting a tmpfs is not permitted here");
    }
    umount(disk);
}

CHECKPOINT_MAIN(begin_disk(); RUN(full_of_bytes); RUN(full_of_names))
