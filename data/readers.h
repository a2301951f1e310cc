/* Shared by the files of the reader: its state, and the two format families behind it. */
#ifndef HONE_DATA_READERS_H
#define HONE_DATA_READERS_H

#include <jansson.h>
#include <string.h>

#include "core/strbuf.h"
#include "data/bytes.h"
#include "data/reader.h"

/* Which fields of a row are read. Of a conversation: TEXT is what is asked, PAIR the answer; or TEXT its messages. INPUT may
 * be missing. */
enum { HNP_TEXT, HNP_PAIR, HNP_LABEL, HNP_INPUT, HNP_FIELDS };

struct hn_reader {
    hn_reader_options options;
    const char *field[HNP_FIELDS]; /* their names; NULL: not read */
    hn_bad_rows *bad;
    const void *memory; /* of hn_reader_open_bytes */
    size_t memory_size;
    const char *memory_path[1];
    size_t file;               /* the next to open; the open one is file - 1 */
    int64_t rows, rows_before; /* seen, and seen before this file */
    bool open;
    hn_data_format format;
    hnp_bytes bytes;
    hn_strbuf raw; /* the row as it stands in the file */
    int64_t line;  /* where it begins */
    /* JSON */
    json_t *value;
    char number[40];
    bool array_open, array_end;
    /* TSV and CSV: cells end with NUL in `raw`, one behind the other */
    size_t *cells, cell_capacity, cell_count; /* cell_count: of this row, also beyond those that are kept */
    size_t columns;                           /* of the header */
    int column[HNP_FIELDS];                   /* where each field stands; -1: not read */
    bool waiting; /* a table of questions without a header: the first record is a row, which was not given yet */
    /* Questions */
    const char **choices;
    size_t choice_capacity;
    int choice_column, subject_column; /* of a table: the first of header_options; -1: none */
    size_t header_options;
    /* Conversations */
    hn_turn_kind turns; /* of this file; AUTO: not known yet */
    hn_message *messages;
    size_t message_count, message_capacity;
    /* Text: `raw` holds the piece that the row is, and behind it what was read beyond its end. */
    size_t text_size;  /* of the piece; 0: none was read yet */
    int64_t text_line; /* behind the piece */
};

static inline const char *hnp_reader_path(const hn_reader *reader)
{
    const char *path = reader->options.paths[reader->file - 1];
    return strcmp(path, "-") ? path : "standard input";
}

/* One step of a format: HN_OK with *got = true and the row filled; with *got = false when this row was bad
 * and is passed over; *end when the file has no more. */
typedef hn_status hnp_reader_step(hn_reader *reader, hn_row *row, bool *got, bool *end, hn_error *error);
hnp_reader_step hnp_jsonl_next, hnp_json_next, hnp_table_next, hnp_text_next;
/* Reads the header and finds the columns. *end: the file is empty. */
hn_status hnp_table_begin(hn_reader *reader, bool *end, hn_error *error);

/* The next record of a table: *got, its cells and their number; else a bad row was counted, or *end. */
hn_status hnp_table_record(hn_reader *reader, bool *got, bool *end, hn_error *error);
/* reader_questions.c. The first record of a table: a header, or the first row. */
hn_status hnp_questions_begin(hn_reader *reader, hn_error *error);
/* The question in `value`, or in the cells of the record; *got false: a bad row was counted. */
hn_status hnp_question_of_json(hn_reader *reader, hn_row *row, bool *got, hn_error *error);
hn_status hnp_question_of_table(hn_reader *reader, hn_row *row, bool *got, bool *end, hn_error *error);

/* reader_json.c: the text of a member, or *text = NULL with a bad row counted. Of a label numbers are text too. */
hn_status hnp_json_text(hn_reader *reader, const json_t *object, const char *name, bool label, const char **text, size_t *length,
                        hn_error *error);
/* The same for something that must be of another type. */
hn_status hnp_json_bad(hn_reader *reader, const json_t *object, const char *name, const char *expected, hn_error *error);

/* reader_turns.c: rows that are conversations. Which kind a file holds is told by the names of its first row: sets the
 * fields. `has` says whether the row has a field; `row` is what errors call it. *known false: a bad row was counted. */
typedef bool hnp_has_field(const hn_reader *reader, const char *name);
hn_status hnp_turns_tell(hn_reader *reader, hnp_has_field *has, bool *known, hn_error *error);
/* The messages of the row in `value`; *got false: bad. */
hn_status hnp_turns_of_json(hn_reader *reader, hn_row *row, bool *got, hn_error *error);
/* From its texts; no input when `input` is NULL or empty. */
hn_status hnp_turns_of_texts(hn_reader *reader, hn_row *row, const char *input, size_t input_length, hn_error *error);

/* reader_words.c: words and tags, out of the parsed row. */
hn_status hnp_words_of_json(hn_reader *reader, hn_row *row, bool *got, hn_error *error);
/* The row in `raw` is UTF-8, has no NUL and is not too long; else a bad row is counted and *good is false. */
hn_status hnp_row_check(hn_reader *reader, bool too_long, bool *good, hn_error *error);

#define hnp_row_bad(reader, kind, error, ...)                                                                \
    hn_bad_row((reader)->bad, (kind), hnp_reader_path(reader), (reader)->line, (error), __VA_ARGS__)

#endif
