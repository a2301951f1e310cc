/* Readers: rows of texts, one by one, from files of any size in bounded memory.
 *
 *     JSONL       an object a line
 *     JSON        an array of objects, read element by element
 *     TSV         a header line, then columns between tabs; quotes mean nothing
 *     CSV         a header line, then columns as RFC 4180 quotes them
 *     text        one document, where the caller takes documents; of more than HN_PIECE_BYTES in pieces
 *
 * A table of questions needs no header: then its columns are the question, the options and the answer's letter, as MMLU
 * publishes them. With one, the options stand in the columns A, B, C, ...
 *
 * each plain, gzip or zstd. The format is told by the name (.jsonl .ndjson .json .tsv .csv .txt, before .gz or
 * .zst) unless it is given; a .json file that begins with "{", and a name without a known ending, are told by
 * their first byte. */
#ifndef HONE_DATA_READER_H
#define HONE_DATA_READER_H

#include "data/rows.h"

typedef enum hn_data_format {
    HN_FORMAT_AUTO,
    HN_FORMAT_JSONL,
    HN_FORMAT_JSON,
    HN_FORMAT_TSV,
    HN_FORMAT_CSV,
    HN_FORMAT_TEXT
} hn_data_format;

#define HN_PIECE_BYTES ((size_t)1 << 20) /* most of a plain text that is read, and tokenized, at once */

/* By the ending of a name, seen through .gz and .zst; HN_FORMAT_AUTO: the first byte must tell. */
hn_data_format hn_format_of_name(const char *path);

/* All borrowed until the reader is freed. */
typedef struct hn_reader_options {
    const char *const *paths; /* "-" is standard input */
    size_t path_count;
    hn_data_format format;
    const char *text, *pair, *label; /* names of fields; pair and label may be NULL: not read */
    bool label_optional;             /* rows may lack the label: it is NULL then */
    bool empty_allowed;              /* files without a row are fine */
    bool documents;                  /* plain text is fine */
    bool words;                      /* `text` and `label` are lists: words and their tags */
    const hn_question_fields *questions; /* rows are questions with options; NULL: they are texts */
    const hn_turn_fields *turns;     /* rows are conversations; NULL: they are texts */
} hn_reader_options;

typedef struct hn_reader hn_reader;

/* Opens nothing yet but the reader itself; `bad` collects bad rows and says whether they are skipped. */
hn_status hn_reader_open(hn_reader **out, const hn_reader_options *options, hn_bad_rows *bad,
                         hn_error *error);
/* The same for one file that lies in memory; `name` is its path in messages and decides the format. */
hn_status hn_reader_open_bytes(hn_reader **out, const hn_reader_options *options, const void *bytes,
                               size_t size, const char *name, hn_bad_rows *bad, hn_error *error);
/* The next good row; *end (and no row) after the last of the last file. After an error the reader can only be
 * freed. */
hn_status hn_reader_next(hn_reader *reader, hn_row *row, bool *end, hn_error *error);
int64_t hn_reader_rows(const hn_reader *reader); /* rows seen so far, good and bad */
void hn_reader_free(hn_reader *reader);

#endif
