/* Errors: our own bugs abort (HN_ASSERT); a bad world (file, memory, device, config) returns an hn_status and fills an
 * hn_error with what, where, expected and got. The first failure wins: a later one never hides it. */
#ifndef HONE_CORE_ERROR_H
#define HONE_CORE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

typedef enum hn_status {
    HN_OK = 0,
    HN_ERR_USAGE,       /* command line or config */
    HN_ERR_IO,          /* open, read, write, sync, rename failed */
    HN_ERR_FORMAT,      /* a file's bytes do not mean what they should */
    HN_ERR_MEMORY,      /* an allocation failed, or a plan is too large */
    HN_ERR_UNSUPPORTED, /* well formed, and hone lacks it */
    HN_ERR_MISMATCH,    /* two things that must belong together do not (run and config, cache and data) */
    HN_ERR_DEVICE,      /* backend or library failed */
    HN_ERR_NUMERIC,     /* NaN or Inf where none may be */
    HN_ERR_INTERRUPTED  /* stopped on a signal after saving */
} hn_status;

typedef struct hn_error {
    hn_status status;
    char message[2048];
} hn_error;

/* Records the failure unless one is recorded already, and returns `status`. `error` may be NULL. The message names what,
 * where, expected and got, in one line or several, without a newline at its end; bytes that could drive a
 * terminal are masked, whoever they come from. */
hn_status hn_fail(hn_error *error, hn_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: appends ": " and the text of errno. */
hn_status hn_fail_errno(hn_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

void hn_error_reset(hn_error *error);

_Noreturn void hn_assert_failed(const char *expression, const char *file, int line);
#define HN_ASSERT(expression) ((expression) ? (void)0 : hn_assert_failed(#expression, __FILE__, __LINE__))

#endif
