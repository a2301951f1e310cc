/* Several byte strings in one block. */
#include "core/blobs.h"

#include <stdint.h>

#include "core/mem.h"
#include "tests/test.h"

TEST(places)
{
    hn_blobs blobs = {0};
    hn_error error = {0};
    CHECK_OK(hn_blobs_init(&blobs, 3, (const size_t[]){2, 0, 5}, &error));
    CHECK_INT(blobs.count, 3);
    memcpy(hn_blobs_view(&blobs, 0), "ab", 2);
    memcpy(hn_blobs_view(&blobs, 2), "cdefg", 5);
    CHECK_INT(memcmp(blobs.bytes, "abcdefg", 7), 0);
    CHECK_INT(hn_blobs_size(&blobs, 1), 0);
    CHECK_INT(hn_blobs_size(&blobs, 2), 5);
    hn_blobs_close(&blobs);
    hn_blobs_close(&blobs);
    CHECK_OK(hn_blobs_init(&blobs, 0, NULL, &error));
    hn_blobs_close(&blobs);
}

TEST(too_large)
{
    hn_blobs blobs = {0};
    hn_error error = {0};
    CHECK_INT(hn_blobs_init(&blobs, 2, (const size_t[]){SIZE_MAX, 1}, &error), HN_ERR_MEMORY);
    CHECK(!blobs.bytes && !blobs.begin);
    for (size_t nth = 1; nth <= 2; nth++) {
        hn_mem_fail_at(nth);
        hn_status status = hn_blobs_init(&blobs, 1, (const size_t[]){1}, NULL);
        hn_mem_fail_at(0);
        CHECK_INT(status, HN_ERR_MEMORY);
        CHECK(!blobs.bytes && !blobs.begin);
    }
}

TEST_MAIN(RUN(places); RUN(too_large))
