/* Names that strangers chose, as messages show them: cut short, control characters as '?'. */
#ifndef HONE_FORMATS_PRINTABLE_H
#define HONE_FORMATS_PRINTABLE_H

#define HNP_PRINTABLE 96

typedef struct hnp_printable {
    char text[HNP_PRINTABLE];
} hnp_printable;

/* At most HNP_PRINTABLE - 1 bytes, never cut inside a UTF-8 character; "..." at the end tells that there was
 * more. */
hnp_printable hnp_printable_make(const char *name);

#endif
