/* Mirrors of tensors, and uploads: pass-through on a host's memory; on another memory, copies that touch nothing else. */
#include "core/mirror.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/upload.h"
#include "tests/test.h"

static int copies, waits, event_waits;

/* A backend whose memory the host must not touch: every byte of it is kept inverted. */
static void invert(void *to, const void *from, size_t size)
{
    for (size_t i = 0; i < size; i++) ((unsigned char *)to)[i] = (unsigned char)~((const unsigned char *)from)[i];
    copies++;
}

static void far_copy_in(hn_backend *backend, void *to, const void *from, size_t size)
{
    (void)backend;
    invert(to, from, size);
}

static hn_status far_synchronize(hn_backend *backend, hn_error *error)
{
    (void)backend, (void)error;
    waits++;
    return HN_OK;
}

static hn_status far_event_wait(hn_backend *backend, void *event, hn_error *error)
{
    (void)backend, (void)event, (void)error;
    event_waits++;
    return HN_OK;
}

static hn_backend far_backend(void)
{
    hn_backend backend;
    hn_backend_cpu_init(&backend);
    backend.host = false;
    backend.copy_in = backend.copy_out = far_copy_in;
    backend.synchronize = far_synchronize;
    backend.event_wait = far_event_wait;
    copies = waits = event_waits = 0;
    return backend;
}

enum { A = 7, B = 3 };

TEST(host_memory_is_not_copied)
{
    float a[A] = {1, 2, 3};
    hn_named_tensor list[] = {{"a", hn_tensor_1d(a, HN_F32, A)}};
    hn_backend backend;
    hn_mirror mirror;
    hn_error error = {0};
    hn_backend_cpu_init(&backend);
    CHECK_INT(hn_mirror_open(&mirror, &backend, list, 1, &error), HN_OK);
    CHECK(mirror.tensors[0].tensor.data == a && mirror.count == 1);
    CHECK_INT(hn_mirror_fetch(&mirror, &error), HN_OK);
    CHECK_INT(hn_mirror_store(&mirror, &error), HN_OK);
    CHECK(a[0] == 1 && a[2] == 3);
    hn_mirror_close(&mirror);
}

TEST(other_memory_is_copied_both_ways)
{
    float a[A], got_a[A];
    uint16_t b[B], got_b[B];
    hn_backend backend = far_backend();
    hn_named_tensor list[] = {{"a", hn_tensor_1d(a, HN_F32, A)}, {"none", hn_tensor_1d(NULL, HN_F32, 0)}, {"b", hn_tensor_1d(b, HN_BF16, B)}};
    hn_mirror mirror;
    hn_error error = {0};
    for (int i = 0; i < A; i++) got_a[i] = (float)i + 0.5f;
    for (int i = 0; i < B; i++) got_b[i] = (uint16_t)(1000 + i);
    invert(a, got_a, sizeof a);
    invert(b, got_b, sizeof b);
    CHECK_INT(hn_mirror_open(&mirror, &backend, list, 3, &error), HN_OK);
    CHECK_TEXT(mirror.tensors[2].name, "b");
    CHECK(mirror.tensors[0].tensor.data != a && (size_t)mirror.tensors[2].tensor.data % 64 == 0);
    CHECK_INT(hn_mirror_fetch(&mirror, &error), HN_OK);
    CHECK_INT(waits, 1);
    CHECK(!memcmp(mirror.tensors[0].tensor.data, got_a, sizeof a) && !memcmp(mirror.tensors[2].tensor.data, got_b, sizeof b));
    ((float *)mirror.tensors[0].tensor.data)[A - 1] = -8;
    CHECK_INT(hn_mirror_store(&mirror, &error), HN_OK);
    CHECK_INT(waits, 2);
    got_a[A - 1] = -8;
    float there[A];
    invert(there, got_a, sizeof there);
    CHECK(!memcmp(there, a, sizeof a));
    hn_mirror_close(&mirror);
}

TEST(out_of_memory)
{
    float a[A] = {0};
    hn_named_tensor list[] = {{"a", hn_tensor_1d(a, HN_F32, A)}};
    for (int n = 1;; n++) {
        hn_backend backend = far_backend();
        hn_mirror mirror;
        hn_error error = {0};
        hn_mem_fail_at(n);
        hn_status status = hn_mirror_open(&mirror, &backend, list, 1, &error);
        hn_mem_fail_at(0);
        if (status == HN_OK) {
            CHECK_INT(n, 3);
            hn_mirror_close(&mirror);
            return;
        }
        CHECK_INT(status, HN_ERR_MEMORY);
        CHECK(error.message[0]);
    }
}

/* Pieces of odd sizes, five slots of 2 MiB of them, each overwritten as soon as it was handed in. */
TEST(an_upload_waits_only_when_it_must)
{
    enum { SIZE = (9 << 20) + 77, PIECE = 70001 };
    unsigned char *there = malloc(SIZE), piece[PIECE];
    hn_backend backend = far_backend();
    hn_upload upload = {.backend = &backend};
    hn_error error = {0};
    CHECK(there);
    for (size_t done = 0, some; done < SIZE; done += some) {
        some = SIZE - done < PIECE ? SIZE - done : PIECE;
        for (size_t i = 0; i < some; i++) piece[i] = (unsigned char)((done + i) * 131 >> 3);
        CHECK_INT(hn_upload_write(&upload, there + done, piece, some, &error), HN_OK);
    }
    CHECK(waits == 0 && event_waits == 3); /* for all slots but the first two */
    CHECK_INT(hn_upload_finish(&upload, &error), HN_OK);
    CHECK_INT(waits, 1);
    for (size_t i = 0; i < SIZE; i++) CHECK(there[i] == (unsigned char)~(unsigned char)(i * 131 >> 3));
    hn_mem_fail_at(1);
    CHECK_INT(hn_upload_write(&upload, there, piece, 1, &error), HN_ERR_MEMORY);
    hn_mem_fail_at(0);
    CHECK_INT(hn_upload_finish(&upload, NULL), HN_OK);
    hn_backend_cpu_init(&backend);
    CHECK_INT(hn_upload_write(&upload, there, piece, 3, &error), HN_OK);
    CHECK(!upload.slot && !memcmp(there, piece, 3));
    free(there);
}

TEST_MAIN(RUN(an_upload_waits_only_when_it_must); RUN(host_memory_is_not_copied); RUN(other_memory_is_copied_both_ways); RUN(out_of_memory))
