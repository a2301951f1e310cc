/* A growing string. Invariant: `text` is always NUL-terminated (also when empty), so it can be read at any time. A failed
 * allocation sets `failed` and makes later appends do nothing: check it once, at the end. */
#ifndef HONE_CORE_STRBUF_H
#define HONE_CORE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

typedef struct hn_strbuf {
    char *text;
    size_t length, capacity;
    bool failed;
} hn_strbuf;

void hn_strbuf_init(hn_strbuf *buffer);
void hn_strbuf_close(hn_strbuf *buffer);
void hn_strbuf_reset(hn_strbuf *buffer); /* empty again, memory kept */
void hn_strbuf_add(hn_strbuf *buffer, const void *bytes, size_t length);
void hn_strbuf_puts(hn_strbuf *buffer, const char *text);
void hn_strbuf_putc(hn_strbuf *buffer, char c);
void hn_strbuf_printf(hn_strbuf *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *hn_strbuf_take(hn_strbuf *buffer); /* ownership moves (hn_free); NULL when an append had failed */

#endif
