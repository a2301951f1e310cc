/* See printable.h. A 10 MB tensor name must not push the useful half out of an error message, and an escape
 * sequence in one must not reach a terminal. */
#include "formats/printable.h"

#include <string.h>

hnp_printable hnp_printable_make(const char *name)
{
    hnp_printable out;
    const size_t limit = sizeof out.text - sizeof "...";
    size_t length = strnlen(name, limit + 1);
    int cut = length > limit;
    if (cut) {
        length = limit;
        while (length && ((unsigned char)name[length] & 0xc0) == 0x80) length--;
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)name[i];
        out.text[i] = c < 0x20 || c == 0x7f ? '?' : name[i];
    }
    strcpy(out.text + length, cut ? "..." : "");
    return out;
}
