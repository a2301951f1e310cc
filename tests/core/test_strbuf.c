/* Growing strings: always NUL-terminated, and a failed append is remembered. */
#include "core/strbuf.h"

#include "core/mem.h"
#include "tests/test.h"

TEST(appends)
{
    hn_strbuf b;
    hn_strbuf_init(&b);
    CHECK_TEXT(b.text, "");
    hn_strbuf_puts(&b, "a");
    hn_strbuf_putc(&b, 'b');
    hn_strbuf_add(&b, "cd", 2);
    hn_strbuf_add(&b, NULL, 0);
    hn_strbuf_printf(&b, "%d%s", 12, "");
    hn_strbuf_printf(&b, "%s", "");
    CHECK_TEXT(b.text, "abcd12");
    CHECK_INT(b.length, 6);
    hn_strbuf_reset(&b);
    CHECK_TEXT(b.text, "");
    for (int i = 0; i < 1000; i++) hn_strbuf_printf(&b, "%d,", i);
    CHECK_INT(b.length, 3890);
    CHECK_CONTAINS(b.text, ",998,999,");
    hn_strbuf_close(&b);
    CHECK_TEXT(b.text, "");
    hn_strbuf_close(&b);
}

TEST(takes)
{
    hn_strbuf b;
    hn_strbuf_init(&b);
    char *nothing = hn_strbuf_take(&b);
    CHECK_TEXT(nothing, "");
    hn_free(nothing);
    hn_strbuf_puts(&b, "mine");
    char *mine = hn_strbuf_take(&b);
    CHECK_TEXT(mine, "mine");
    hn_free(mine);
    CHECK_INT(b.length, 0);
    hn_strbuf_puts(&b, "again");
    CHECK_TEXT(b.text, "again");
    hn_strbuf_close(&b);
}

TEST(remembers_a_failure)
{
    hn_strbuf b;
    hn_strbuf_init(&b);
    hn_strbuf_puts(&b, "kept");
    hn_mem_fail_at(1);
    hn_strbuf_printf(&b, "%100d", 1);
    hn_mem_fail_at(0);
    CHECK(b.failed);
    hn_strbuf_puts(&b, "not appended");
    CHECK_TEXT(b.text, "kept");
    CHECK(hn_strbuf_take(&b) == NULL);
    CHECK(!b.failed); /* closed by take */
    hn_mem_fail_at(1);
    hn_strbuf_putc(&b, 'x');
    hn_mem_fail_at(0);
    CHECK_TEXT(b.text, "");
    CHECK(b.failed);
    hn_strbuf_reset(&b);
    hn_strbuf_putc(&b, 'x');
    CHECK_TEXT(b.text, "x");
    hn_strbuf_close(&b);
}

TEST_MAIN(RUN(appends); RUN(takes); RUN(remembers_a_failure))
