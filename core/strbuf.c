/* See strbuf.h. */
#include "core/strbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"

static char empty[1]; /* what `text` points to before the first append; never written */

void hn_strbuf_init(hn_strbuf *buffer)
{
    *buffer = (hn_strbuf){.text = empty};
}

void hn_strbuf_close(hn_strbuf *buffer)
{
    if (buffer->text != empty) hn_free(buffer->text);
    hn_strbuf_init(buffer);
}

void hn_strbuf_reset(hn_strbuf *buffer)
{
    buffer->length = 0;
    buffer->failed = false;
    if (buffer->text != empty) buffer->text[0] = '\0';
}

/* Room for `extra` more bytes and the NUL. */
static bool reserve(hn_strbuf *buffer, size_t extra)
{
    size_t need;
    void *memory = buffer->text == empty ? NULL : buffer->text;
    if (buffer->failed) return false;
    if (!hn_size_add(buffer->length, extra, &need) || !hn_size_add(need, 1, &need) ||
        !hn_grow(&memory, &buffer->capacity, need, 1)) {
        buffer->failed = true;
        return false;
    }
    buffer->text = memory;
    return true;
}

void hn_strbuf_add(hn_strbuf *buffer, const void *bytes, size_t length)
{
    if (!length || !reserve(buffer, length)) return;
    memcpy(buffer->text + buffer->length, bytes, length);
    buffer->length += length;
    buffer->text[buffer->length] = '\0';
}

void hn_strbuf_puts(hn_strbuf *buffer, const char *text)
{
    hn_strbuf_add(buffer, text, strlen(text));
}

void hn_strbuf_putc(hn_strbuf *buffer, char c)
{
    hn_strbuf_add(buffer, &c, 1);
}

void hn_strbuf_printf(hn_strbuf *buffer, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0) {
        buffer->failed = true;
    } else if (reserve(buffer, (size_t)length)) {
        vsnprintf(buffer->text + buffer->length, (size_t)length + 1, format, again);
        buffer->length += (size_t)length;
    }
    va_end(again);
}

char *hn_strbuf_take(hn_strbuf *buffer)
{
    char *text = buffer->failed ? NULL : buffer->text == empty ? hn_strdup("") : buffer->text;
    if (text) hn_strbuf_init(buffer);
    else hn_strbuf_close(buffer);
    return text;
}
