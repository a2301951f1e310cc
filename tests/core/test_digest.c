/* Digests: known answers of XXH3-128, pieces equal the whole, text form, files. */
#include "core/digest.h"

#include <unistd.h>

#include "core/error.h"
#include "core/mem.h"
#include "tests/test.h"

TEST(known_answers)
{
    char text[HN_DIGEST_TEXT];
    hn_digest_format(text, hn_digest_bytes("", 0));
    CHECK_TEXT(text, "99aa06d3014798d86001c324468d497f"); /* xxh128sum of nothing */
    hn_digest_format(text, hn_digest_bytes("hone", 4));
    CHECK_TEXT(text, "0133b54c63aaf3f824685cb7b03d3dc2");
}

TEST(pieces_equal_the_whole)
{
    static unsigned char bytes[100000];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    hn_hasher *hasher = hn_hasher_open();
    CHECK(hasher != NULL);
    for (size_t i = 0, n; i < sizeof bytes; i += n) {
        n = i % 977 + 1;
        if (n > sizeof bytes - i) n = sizeof bytes - i;
        hn_hasher_add(hasher, bytes + i, n);
    }
    bool same = hn_digest_equal(hn_hasher_digest(hasher), hn_digest_bytes(bytes, sizeof bytes));
    hn_hasher_free(hasher);
    CHECK(same);
}

TEST(texts_keep_their_borders)
{
    hn_hasher *a = hn_hasher_open(), *b = hn_hasher_open();
    CHECK(a && b);
    hn_hasher_add_text(a, "ab");
    hn_hasher_add_text(a, "c");
    hn_hasher_add_text(b, "a");
    hn_hasher_add_text(b, "bc");
    bool same = hn_digest_equal(hn_hasher_digest(a), hn_hasher_digest(b));
    hn_hasher_free(a);
    hn_hasher_free(b);
    CHECK(!same);
}

TEST(parses_what_it_formats)
{
    char text[HN_DIGEST_TEXT];
    hn_digest digest = {0x0123456789abcdefu, 0xfedcba9876543210u}, back = {0, 0};
    hn_digest_format(text, digest);
    CHECK_TEXT(text, "0123456789abcdeffedcba9876543210");
    CHECK(hn_digest_parse(&back, text) && hn_digest_equal(digest, back));
    CHECK(!hn_digest_parse(&back, ""));
    CHECK(!hn_digest_parse(&back, "0123456789abcdeffedcba987654321"));
    CHECK(!hn_digest_parse(&back, "0123456789abcdeffedcba98765432100"));
    CHECK(!hn_digest_parse(&back, "0123456789abcdeffedcba987654321g"));
    CHECK(!hn_digest_parse(&back, "0123456789ABCDEFFEDCBA9876543210"));
}

TEST(files)
{
    char path[] = "/tmp/hone-digest-XXXXXX";
    hn_error error = {0};
    hn_digest digest;
    static char bytes[600000]; /* more than one block */
    memset(bytes, 'x', sizeof bytes);
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes);
    close(fd);
    CHECK_OK(hn_digest_file(&digest, path, &error));
    CHECK(hn_digest_equal(digest, hn_digest_bytes(bytes, sizeof bytes)));
    for (size_t n = 1; n <= 2; n++) {
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        hn_status status = hn_digest_file(&digest, path, &error);
        hn_mem_fail_at(0);
        CHECK_INT(status, HN_ERR_MEMORY);
    }
    unlink(path);
    hn_error_reset(&error);
    CHECK_INT(hn_digest_file(&digest, path, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, path);
    hn_error_reset(&error);
    CHECK_INT(hn_digest_file(&digest, "/tmp", &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "expected a file, got a folder");
}

TEST_MAIN(RUN(known_answers); RUN(pieces_equal_the_whole); RUN(texts_keep_their_borders);
          RUN(parses_what_it_formats); RUN(files))
