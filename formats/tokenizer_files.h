/* The files of a tokenizer beside a model. Shared inside formats/. */
#ifndef HONE_FORMATS_TOKENIZER_FILES_H
#define HONE_FORMATS_TOKENIZER_FILES_H

#include "core/error.h"

/* No tokenizer file of the folder is a link out of it. Asked when the folder is opened: a run must not find
 * out hours later, when it copies them. */
hn_status hnp_tokenizer_files_check(const char *folder, hn_error *error);

#endif
