/* See error.h. Nothing here allocates: an error must be reportable when memory is what ran out. */
#include "core/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names and values in a message are often a stranger's: what could drive a terminal is masked (C0 but for the
 * newline, DEL, and C1 as UTF-8). */
static void mask(char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text, next = (unsigned char)text[1];
        if ((c < 0x20 && c != '\n') || c == 0x7f) *text = '?';
        if (c == 0xc2 && next >= 0x80 && next < 0xa0) text[0] = text[1] = '?';
    }
}

hn_status hn_fail(hn_error *error, hn_status status, const char *format, ...)
{
    HN_ASSERT(status != HN_OK);
    if (error && error->status == HN_OK) {
        va_list args;
        va_start(args, format);
        error->status = status;
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        mask(error->message);
    }
    return status;
}

hn_status hn_fail_errno(hn_error *error, const char *format, ...)
{
    int saved = errno;
    if (error && error->status == HN_OK) {
        va_list args;
        va_start(args, format);
        error->status = saved == ENOMEM ? HN_ERR_MEMORY : HN_ERR_IO;
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        mask(error->message);
        size_t used = strlen(error->message);
        snprintf(error->message + used, sizeof error->message - used, ": %s", strerror(saved));
    }
    return saved == ENOMEM ? HN_ERR_MEMORY : HN_ERR_IO;
}

void hn_error_reset(hn_error *error)
{
    error->status = HN_OK;
    error->message[0] = '\0';
}

void hn_assert_failed(const char *expression, const char *file, int line)
{
    fprintf(stderr, "hone: internal error: %s:%d: %s\n", file, line, expression);
    abort();
}
