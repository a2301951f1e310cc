/* Readers: a table of files with the rows they must give, in every format, plain and compressed; every truncation; failing
 * memory. A case's rows are written as text|pair|label@line (of questions text|options with a star before the
 * answer|), bad rows as the kind's number. */
#include "data/reader.h"

#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "core/json.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "tests/test.h"

static const hn_reader_options nli = {.text = "premise", .pair = "hypothesis", .label = "label"};
static const hn_reader_options document = {.text = "a", .documents = true};
static const hn_reader_options single = {.text = "a", .label = "y"};
static const hn_reader_options lax = {.text = "a", .label = "y", .label_optional = true};
static const hn_question_fields usual, named = {.question = "q", .options = "o", .answer = "a", .subject = "s"};
static const hn_reader_options choices = {.questions = &usual}, own_choices = {.questions = &named};

/* All rows of `bytes`, or the error, as text. */
static hn_status read_all(hn_strbuf *out, const hn_reader_options *options, const char *name, const void *bytes,
                          size_t size, hn_bad_rows *bad, hn_error *error)
{
    hn_reader *reader = NULL;
    bool end = false;
    hn_status status = hn_reader_open_bytes(&reader, options, bytes, size, name, bad, error);
    while (!status && !end) {
        hn_row row;
        status = hn_reader_next(reader, &row, &end, error);
        if (status || end) break;
        hn_strbuf_add(out, row.text, row.text_length);
        hn_strbuf_puts(out, "|");
        for (size_t i = 0; i < row.option_count; i++)
            hn_strbuf_printf(out, "%s%s;", (int32_t)i == row.answer ? "*" : "", row.options[i]);
        if (row.subject) hn_strbuf_printf(out, " (%s)", row.subject);
        if (row.pair) hn_strbuf_add(out, row.pair, row.pair_length);
        hn_strbuf_printf(out, "|%s@%lld%s ", row.label ? row.label : "", (long long)row.line, row.unfinished ? "+" : "");
    }
    if (!status && bad) {
        int64_t good = 0;
        for (const char *c = out->text; (c = strchr(c, '@')); c++) good++;
        if (hn_reader_rows(reader) != good + hn_bad_rows_count(bad)) hn_strbuf_puts(out, "MISCOUNTED ");
    }
    hn_reader_free(reader);
    return status;
}

typedef struct example {
    const char *name;
    const hn_reader_options *options;
    const char *bytes;
    size_t size;      /* 0: strlen */
    const char *rows; /* with skip */
    const char *error; /* part of the message with on_bad_row = error; NULL: fine */
    int kind;          /* of the one bad row (when error) or -1: an error also with skip */
} example;

#define ROW(p, h, l) "{\"premise\": \"" p "\", \"hypothesis\": \"" h "\", \"label\": " l "}"
static const example examples[] = {
    {"one.jsonl", &nli, ROW("p", "h", "\"x\"") "\n" ROW("q", "i", "2") "\n", 0, "p|h|x@1 q|i|2@2 ", NULL, 0},
    {"no_last_newline.jsonl", &nli, ROW("p", "h", "\"x\""), 0, "p|h|x@1 ", NULL, 0},
    {"crlf_bom_blank.jsonl", &nli, "\xef\xbb\xbf\r\n" ROW("p", "h", "-1") "\r\n\r\n  \n" ROW("q", "", "0.5") "\r\n", 0,
     "p|h|-1@2 q||0.5@5 ", NULL, 0},
    {"unicode.jsonl", &nli, ROW("\xed\x95\x98 \\ud83d\\ude00", "\\u00e9", "\"x\""), 0, "\xed\x95\x98 \xf0\x9f\x98\x80|\xc3\xa9|x@1 ", NULL, 0},
    {"missing.jsonl", &nli, "{\"premise\": \"p\", \"label\": 1}\n" ROW("q", "i", "2"), 0, "q|i|2@2 ",
     "missing.jsonl:1: field \"hypothesis\": expected a string, got no such field (the row has \"premise\", ...)", HN_BAD_MISSING},
    {"type.jsonl", &nli, ROW("q", "i", "2") "\n{\"premise\": 3, \"hypothesis\": \"h\", \"label\": 1}", 0, "q|i|2@1 ",
     "type.jsonl:2: field \"premise\": expected a string, got a number", HN_BAD_TYPE},
    {"null_label.jsonl", &nli, ROW("p", "h", "null") "\n" ROW("q", "i", "2"), 0, "q|i|2@2 ",
     "field \"label\": expected a string or a number, got null", HN_BAD_TYPE},
    {"syntax.jsonl", &nli, "{\"premise\": \n" ROW("q", "i", "2"), 0, "q|i|2@2 ", "syntax.jsonl:1: expected a JSON object", HN_BAD_SYNTAX},
    {"array_row.jsonl", &nli, "[1]\n" ROW("q", "i", "2"), 0, "q|i|2@2 ", "expected a JSON object, got an array", HN_BAD_SYNTAX},
    {"twice.jsonl", &nli, "{\"premise\": \"a\", \"premise\": \"b\"}\n" ROW("q", "i", "2"), 0, "q|i|2@2 ", "twice.jsonl:1", HN_BAD_SYNTAX},
    {"surrogate.jsonl", &nli, ROW("\\ud800", "h", "1") "\n" ROW("q", "i", "2"), 0, "q|i|2@2 ", "surrogate.jsonl:1", HN_BAD_SYNTAX},
    {"bytes.jsonl", &nli, ROW("p\xff", "h", "1") "\n" ROW("q", "i", "2"), 0, "q|i|2@2 ",
     "bytes.jsonl:1: byte 15 of the row: expected UTF-8, got 0xff", HN_BAD_ENCODING},
    {"nul.jsonl", &nli, "{\"a\": \"\0\"}\n" ROW("q", "i", "2"), 10 + 1 + 47, "q|i|2@2 ", "nul.jsonl:1: expected JSON, got a NUL byte", HN_BAD_NUL},
    {"nul_escape.jsonl", &nli, ROW("p\\u0000", "h", "1") "\n" ROW("q", "i", "2"), 0, "q|i|2@2 ", "field \"premise\": expected text, got a NUL", HN_BAD_NUL},
    {"empty.jsonl", &nli, "", 0, "", "empty.jsonl: expected rows, got none", HN_BAD_EMPTY},
    {"blank.jsonl", &nli, "\n \n", 0, "", "blank.jsonl: expected rows, got none", HN_BAD_EMPTY},
    {"utf16.jsonl", &nli, "\xff\xfe{\0", 4, "", "utf16.jsonl: expected UTF-8, got UTF-16", -1},
    {"lines.json", &nli, ROW("p", "h", "1") "\n" ROW("q", "i", "2"), 0, "p|h|1@1 q|i|2@2 ", NULL, 0},

    {"lax.jsonl", &lax, "{\"a\": \"1\", \"y\": \"x\"}\n{\"a\": \"2\"}\n", 0, "1||x@1 2||@2 ", NULL, 0},
    {"lax_null.jsonl", &lax, "{\"a\": \"1\", \"y\": null}\n{\"a\": \"2\"}\n", 0, "2||@2 ",
     "field \"y\": expected a string or a number, got null", HN_BAD_TYPE},
    {"lax.csv", &lax, "b,a\nx,1\n", 0, "1||@2 ", NULL, 0},
    {"lax_header.csv", &lax, "y,b\nx,1\n", 0, "", "lax_header.csv:1: expected a column \"a\" in the header", -1},

    {"array.json", &nli, " [" ROW("p, ]}\\\"", "h", "1") ",\n" ROW("q", "i", "2") "]\n ", 0, "p, ]}\"|h|1@1 q|i|2@2 ", NULL, 0},
    {"sniffed", &nli, "[" ROW("p", "h", "1") "]", 0, "p|h|1@1 ", NULL, 0},
    {"unknown", &nli, "premise", 0, "", "unknown: neither its name nor its first byte tells the format; set data.format", -1},
    {"empty_array.json", &nli, "[ ]", 0, "", "empty_array.json: expected rows, got none", HN_BAD_EMPTY},
    {"trailing_comma.json", &nli, "[" ROW("p", "h", "1") ",]", 0, "p|h|1@1 ", "trailing_comma.json:1: expected a JSON object", HN_BAD_SYNTAX},
    {"two_arrays.json", &nli, "[" ROW("p", "h", "1") "]\n[]", 0, "p|h|1@1 ", "two_arrays.json:2: expected the end of the file", HN_BAD_SYNTAX},
    {"open_array.json", &nli, "[" ROW("p", "h", "1") ",\n" ROW("q", "i", "2"), 0, "p|h|1@1 ",
     "open_array.json:2: expected the array's closing bracket, got the end of the file", HN_BAD_SYNTAX},
    {"bad_element.json", &nli, "[{\"premise\": tru},\n" ROW("q", "i", "2") "]", 0, "q|i|2@2 ", "bad_element.json:1: expected a JSON object", HN_BAD_SYNTAX},
    {"brackets.json", &nli, "[},\n" ROW("q", "i", "2") "]", 0, "", "brackets.json:1: expected a JSON object", -2},

    {"glue.tsv", &nli, "index\tlabel\tpremise\thypothesis\n0\tx\tHe said \"hi\tyes\n1\t-\tq\t\n", 0, "He said \"hi|yes|x@2 q||-@3 ", NULL, 0},
    {"crlf.tsv", &single, "a\ty\r\n1\tx\r\n\r\n2\tz", 0, "1||x@2 2||z@4 ", NULL, 0},
    {"ragged.tsv", &single, "a\ty\n1\n2\tz\n", 0, "2||z@3 ", "ragged.tsv:2: expected 2 columns as in the header, got 1", HN_BAD_COLUMNS},
    {"wide.tsv", &single, "a\ty\n1\tx\t\n2\tz\n", 0, "2||z@3 ", "wide.tsv:2: expected 2 columns as in the header, got 3", HN_BAD_COLUMNS},
    {"nul.tsv", &single, "a\ty\n1\0\tx\n2\tz\n", 13, "2||z@3 ", "nul.tsv:2: expected text, got a NUL byte", HN_BAD_NUL},
    {"bytes.tsv", &single, "a\ty\n\xc3\tx\n2\tz\n", 0, "2||z@3 ", "bytes.tsv:2: byte 1 of the row: expected UTF-8, got 0xc3", HN_BAD_ENCODING},
    {"columns.tsv", &single, "a\tb\n1\tx\n", 0, "", "columns.tsv:1: expected a column \"y\" in the header, got \"a\", \"b\"", -1},
    {"control.tsv", &single, "a\t\x1b[2Jy\n1\tx\n", 0, "", "got \"a\", \"\\x1b[2Jy\"", -1},
    {"column_twice.tsv", &single, "a\ty\ta\n", 0, "", "column_twice.tsv:1: expected one column \"a\" in the header, got two", -1},
    {"header_only.tsv", &single, "a\ty\n", 0, "", "header_only.tsv: expected rows, got none", HN_BAD_EMPTY},
    {"empty.tsv", &single, "", 0, "", "empty.tsv: expected rows, got none", HN_BAD_EMPTY},

    {"rfc.csv", &single, "a,y\r\n\"1,\"\"2\"\"\r\n3\",x\r\n4,\"\"\r\n,z", 0, "1,\"2\"\r\n3||x@2 4||@4 ||z@5 ", NULL, 0},
    {"bom.csv", &single, "\xef\xbb\xbf\"a\",y\n1,x\n\n2,z\n", 0, "1||x@2 2||z@4 ", NULL, 0},
    {"inner_quote.csv", &single, "a,y\n1\"2,x\n2,z\n", 0, "2||z@3 ", "inner_quote.csv:2: expected quotes only around a whole cell", HN_BAD_SYNTAX},
    {"behind_quote.csv", &single, "a,y\n\"1\"2,x\n2,z\n", 0, "2||z@3 ", "behind_quote.csv:2: expected a comma or a line end behind", HN_BAD_SYNTAX},
    {"open_quote.csv", &single, "a,y\n1,x\n\"2,z\n", 0, "1||x@2 ", "open_quote.csv:3: expected a closing quote, got the end of the file", HN_BAD_SYNTAX},
    {"ragged.csv", &single, "a,y\n1\n2,z\n", 0, "2||z@3 ", "ragged.csv:2: expected 2 columns as in the header, got 1", HN_BAD_COLUMNS},
    {"nul.csv", &single, "a,y\n1\0,x\n2,z\n", 13, "2||z@3 ", "nul.csv:2: expected text, got a NUL byte", HN_BAD_NUL},
    {"header_quote.csv", &single, "a\"b,y\n", 0, "", "header_quote.csv:1: the header: expected quotes only", -1},
    {"missing.gz", &single, "a,y\n", 0, "", "missing.gz: expected gzip data by its name", -1},
    {"missing.zst", &single, "a,y\n", 0, "", "missing.zst: expected zstd data by its name", -1},

    {"mmlu.csv", &choices, "\"1, or\n2?\",\"a,b\",\"\"\"c\"\"\",0,x,B\n3?,p,q,r,p,D\n", 0, "1, or\n2?|a,b;*\"c\";0;x;|@1 3?|p;q;r;*p;|@3 ", NULL, 0},
    {"two.csv", &choices, "1?,a,b,A\n\n2?,a,b,B", 0, "1?|*a;b;|@1 2?|a;*b;|@3 ", NULL, 0},
    {"letter.csv", &choices, "1?,B,A,A\n2?,0,1,1\n3?,2,3,3\n4?,u,v,v\n5?,7,1,1", 0, "1?|*B;A;|@1 2?|0;*1;|@2 3?|2;*3;|@3 4?|u;*v;|@4 5?|7;*1;|@5 ", NULL, 0},
    {"more.csv", &choices, "1?,a,b,A\n2?, really,a,b,B\n3?,a,b,B\n", 0, "1?|*a;b;|@1 3?|a;*b;|@3 ",
     "more.csv:2: expected 4 columns as in the first line, got 5", HN_BAD_COLUMNS},
    {"beyond.csv", &choices, "1?,a,b,C\n2?,a,b,B\n", 0, "2?|a;*b;|@2 ",
     "beyond.csv:1: expected the answer to be a letter from A to B, a number from 0 to 1 or one of the options, got \"C\"", HN_BAD_LABEL},
    {"either.csv", &choices, "1?,1,0,1\n4?,a,b,B\n", 0, "4?|a;*b;|@2 ", "either.csv:1: expected the answer", HN_BAD_LABEL},
    {"same.csv", &choices, "1?,a,a,a\n4?,a,b,B\n", 0, "4?|a;*b;|@2 ", "same.csv:1: expected the answer", HN_BAD_LABEL},
    {"nothing.csv", &choices, "1?,a,b,\n4?,a,b,B\n", 0, "4?|a;*b;|@2 ", "nothing.csv:1: expected the answer", HN_BAD_LABEL},
    {"zeros.csv", &choices, "1?,a,b,01\n4?,a,b,B\n", 0, "4?|a;*b;|@2 ", "zeros.csv:1: expected the answer", HN_BAD_LABEL},
    {"narrow.csv", &choices, "1?,a,B\n", 0, "", "or a question, 2 to 26 options and the answer, got 3 columns", -1},
    {"head.csv", &choices, "id,answer,A,B,C,question,subject\n7,C,x,y,z,1?,law\n8,x,x,y,z,2?,\n", 0, "1?|x;y;*z; (law)|@2 2?|*x;y;z; ()|@3 ", NULL, 0},
    {"head.tsv", &own_choices, "q\ta\tA\tB\ts\n1?\tB\tx\ty\tlaw\n", 0, "1?|x;*y; (law)|@2 ", NULL, 0},
    {"options.csv", &choices, "question,A,C,answer\n", 0, "", "expected columns A, B, ... beside each other in the header, got 1", -1},
    {"no_question.csv", &own_choices, "x,a,A,B\n", 0, "", "expected a column \"q\" in the header, got none", -1},
    {"quotes.csv", &choices, "1?,a,b,A\n2?\",a\"b,c,A\n\"3?\"!,a,b,B\n4?,a,b,B", 0, "1?|*a;b;|@1 2?\"|*a\"b;c;|@2 4?|a;*b;|@4 ",
     "quotes.csv:3: expected a comma or a line end behind", HN_BAD_SYNTAX},
    {"mmlu.jsonl", &choices, "{\"question\": \"1?\", \"choices\": [\"a\", \"b\"], \"answer\": 1, \"subject\": \"law\"}\n"
     "{\"question\": \"2?\", \"options\": [\"1\", \"0\"], \"answer\": 1, \"subject\": null}", 0, "1?|a;*b; (law)|@1 2?|1;*0;|@2 ", NULL, 0},
    {"arc.json", &choices, "[{\"question\": \"1?\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"1\", \"2\"]}, \"answerKey\": \"2\"}]", 0,
     "1?|a;*b;|@1 ", NULL, 0},
    {"own.jsonl", &own_choices, "{\"q\": \"1?\", \"o\": [\"x\", \"y\", \"z\"], \"a\": \"C\", \"s\": \"t\"}", 0, "1?|x;y;*z; (t)|@1 ", NULL, 0},
    {"ending.jsonl", &choices, "{\"question\": \"1\", \"endings\": [\"x\", \"y\"], \"label\": \"1\"}", 0, "1|x;*y;|@1 ", NULL, 0},
    {"no_options.jsonl", &choices, "{\"question\": \"1\", \"answer\": 1}", 0, "", "field \"choices\": expected a list of strings, got no such field", HN_BAD_MISSING},
    {"one_option.jsonl", &choices, "{\"question\": \"1\", \"choices\": [\"a\"], \"answer\": 0}", 0, "", "expected 2 to 26 options, got 1", HN_BAD_TYPE},
    {"number_option.jsonl", &choices, "{\"question\": \"1\", \"choices\": [\"a\", 2], \"answer\": 0}", 0, "", "option 2: expected a string", HN_BAD_TYPE},
    {"nul_option.jsonl", &choices, "{\"question\": \"1\", \"choices\": [\"a\", \"b\\u0000\"], \"answer\": 0}", 0, "", "option 2: expected a string without NUL", HN_BAD_TYPE},
    {"labels.jsonl", &choices, "{\"question\": \"1\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\"]}, \"answer\": \"A\"}", 0, "", "expected as many labels as texts", HN_BAD_TYPE},
    {"beyond.jsonl", &choices, "{\"question\": \"1\", \"choices\": [\"a\", \"b\"], \"answer\": 2}", 0, "", "got \"2\"", HN_BAD_LABEL},
    {"negative.jsonl", &choices, "{\"question\": \"1\", \"choices\": [\"a\", \"b\"], \"answer\": -1}", 0, "", "got \"-1\"", HN_BAD_LABEL},
    {"no_answer.jsonl", &choices, "{\"question\": \"1\", \"choices\": [\"a\", \"b\"]}", 0, "", "field \"answer\": expected a string or a whole number", HN_BAD_MISSING},
    {"no_question.jsonl", &choices, "{\"question\": 1}", 0, "", "field \"question\": expected a string", HN_BAD_TYPE},

    {"one.txt", &document, "\xef\xbb\xbf" "a b\r\n\n c", 0, "a b\r\n\n c||@1 ", NULL, 0},
    {"nul.txt", &document, "a\n\nb\0c\n", 7, "", "nul.txt:3: expected text, got a NUL", HN_BAD_NUL},
    {"latin1.txt", &document, "a\nb\xe9 c\n", 0, "", "latin1.txt:2: expected UTF-8, got 0xe9", HN_BAD_ENCODING},
    {"empty.txt", &document, "", 0, "", "empty.txt: expected rows, got none", HN_BAD_EMPTY},
    {"utf16.txt", &document, "\xff\xfe" "a\0", 4, "", "utf16.txt: expected UTF-8, got UTF-16", -1},
    {"unknown", &document, "a", 0, "", "set data.format to jsonl, json, tsv or csv, or text", -1},
    {"fields.txt", &single, "a,y\n1,x\n", 0, "", "fields.txt: plain text has no fields", -1},
    {"rows.jsonl", &document, "{\"a\": \"one\"}\n{\"a\": \"\"}\n", 0, "one||@1 ||@2 ", NULL, 0},
};
#define EXAMPLES (sizeof examples / sizeof examples[0])

static size_t size_of(const example *e)
{
    return e->size ? e->size : strlen(e->bytes);
}

static void check_example(const example *e)
{
    hn_error error = {0};
    hn_bad_rows bad = {.skip = true}, strict = {0};
    hn_strbuf rows;
    hn_strbuf_init(&rows);
    hn_status status = read_all(&rows, e->options, e->name, e->bytes, size_of(e), &bad, &error);
    if (e->kind == -2) { /* many bad rows; only that it ends counts */
        CHECK(!status && hn_bad_rows_count(&bad) > 0);
    } else if (e->kind == -1) {
        CHECK_INT(status, HN_ERR_FORMAT);
        CHECK_CONTAINS(error.message, e->error);
    } else {
        if (status) TEST_FAIL("%s: %s", e->name, error.message);
        if (strcmp(rows.text, e->rows)) TEST_FAIL("%s: got %s, expected %s", e->name, rows.text, e->rows);
        for (int kind = 0; kind < HN_BAD_KINDS; kind++)
            if (bad.count[kind] != (e->error && kind == e->kind))
                TEST_FAIL("%s: %lld bad rows of kind %d", e->name, (long long)bad.count[kind], kind);
        if (e->error) CHECK_CONTAINS(bad.first[e->kind], e->error);
    }
    error = (hn_error){0};
    hn_strbuf_reset(&rows);
    status = read_all(&rows, e->options, e->name, e->bytes, size_of(e), &strict, &error);
    CHECK_INT(status, e->error ? HN_ERR_FORMAT : HN_OK);
    if (e->error) CHECK_CONTAINS(error.message, e->error);
    hn_strbuf_close(&rows);
}

TEST(every_case)
{
    for (size_t i = 0; i < EXAMPLES; i++) check_example(&examples[i]);
}

/* Cut anywhere, a file gives an error or rows that begin as the whole file's do (the last one may be cut short). */
TEST(truncated_at_every_byte)
{
    for (size_t i = 0; i < EXAMPLES; i++) {
        const example *e = &examples[i];
        for (size_t size = 0; size < size_of(e); size++) {
            hn_error error = {0};
            hn_bad_rows bad = {.skip = true};
            hn_strbuf rows;
            hn_strbuf_init(&rows);
            char *copy = hn_memdup(e->bytes, size);
            hn_status status = read_all(&rows, e->options, e->name, copy, size, &bad, &error);
            CHECK(!status || error.message[0]);
            CHECK(!strstr(rows.text, "MISCOUNTED"));
            char *last = strrchr(rows.text, '@');
            size_t whole = 0;
            if (last) { /* all rows but the last are the same */
                *last = '\0';
                char *before = strrchr(rows.text, '@');
                whole = before ? (size_t)(before - rows.text) : 0;
            }
            if (strncmp(rows.text, e->rows, whole)) TEST_FAIL("%s cut at %zu: %s", e->name, size, rows.text);
            hn_free(copy);
            hn_strbuf_close(&rows);
        }
    }
}

/* Pieces of `bytes`: joined they are the whole; *behind counts those that end behind a line between two words. */
static hn_status read_pieces(const char *bytes, size_t size, hn_strbuf *joined, int *count, int *behind, hn_error *error)
{
    hn_reader *reader = NULL;
    hn_bad_rows bad = {0};
    bool end = false;
    int64_t line = 1;
    *count = *behind = 0;
    hn_status status = hn_reader_open_bytes(&reader, &document, bytes, size, "long.txt", &bad, error);
    while (!status && !end) {
        hn_row row;
        status = hn_reader_next(reader, &row, &end, error);
        if (status || end) break;
        hn_strbuf_add(joined, row.text, row.text_length);
        const char *to = joined->text + joined->length;
        if (row.line != line || row.continues != (*count > 0) || row.unfinished != (joined->length < size) ||
            row.text_length > HN_PIECE_BYTES)
            status = hn_fail(error, HN_ERR_FORMAT, "piece %d is not as expected", *count);
        for (size_t i = 0; i < row.text_length; i++) line += row.text[i] == '\n';
        *behind += row.unfinished && to[-1] == '\n' && to[-2] != ' ' && bytes[joined->length] != ' ';
        (*count)++;
    }
    if (!status && hn_reader_rows(reader) != 1) status = hn_fail(error, HN_ERR_FORMAT, "expected one row");
    hn_reader_free(reader);
    return status;
}

/* A long text comes in pieces that end where tokens end anyway, or at least at a line, or at a character. */
TEST(pieces)
{
    const char *units[] = {"some words \n and\nmore\n  \n", "blank \n lines\n ", "\xed\x95\x98"};
    for (int u = 0; u < 3; u++) {
        hn_strbuf text, joined;
        hn_error error = {0};
        int count, behind;
        hn_strbuf_init(&text);
        hn_strbuf_init(&joined);
        while (text.length < 5 * HN_PIECE_BYTES / 2) hn_strbuf_puts(&text, units[u]);
        CHECK_OK(read_pieces(text.text, text.length, &joined, &count, &behind, &error));
        CHECK(joined.length == text.length && !memcmp(joined.text, text.text, text.length));
        CHECK_INT(count, 3);
        CHECK_INT(behind, u == 0 ? 2 : 0);
        hn_strbuf_reset(&joined);
        size_t exact = u == 2 ? HN_PIECE_BYTES / 3 * 3 : HN_PIECE_BYTES; /* just one piece */
        CHECK_OK(read_pieces(text.text, exact, &joined, &count, &behind, &error));
        CHECK_INT(count, 1);
        hn_strbuf_close(&text);
        hn_strbuf_close(&joined);
    }
}

static size_t gzip(unsigned char *out, size_t capacity, const char *bytes, size_t size)
{
    z_stream z = {0};
    deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    z.next_in = (unsigned char *)bytes;
    z.avail_in = (unsigned)size;
    z.next_out = out;
    z.avail_out = (unsigned)capacity;
    deflate(&z, Z_FINISH);
    size_t used = capacity - z.avail_out;
    deflateEnd(&z);
    return used;
}

static size_t squeeze(bool zstd, unsigned char *out, size_t capacity, const char *bytes, size_t size)
{
    return zstd ? ZSTD_compress(out, capacity, bytes, size, 3) : gzip(out, capacity, bytes, size);
}

TEST(compressed)
{
    const char *first = "a,y\n1,x\n", *second = "2,z\n";
    for (int zstd = 0; zstd < 2; zstd++) {
        const char *name = zstd ? "t.csv.zst" : "t.csv.gz";
        unsigned char bytes[400];
        size_t size = squeeze(zstd, bytes, sizeof bytes, first, strlen(first));
        size += squeeze(zstd, bytes + size, sizeof bytes - size, second, strlen(second)); /* two members */
        hn_strbuf rows;
        hn_strbuf_init(&rows);
        hn_error error = {0};
        hn_bad_rows bad = {0};
        CHECK_OK(read_all(&rows, &single, name, bytes, size, &bad, &error));
        CHECK_TEXT(rows.text, "1||x@2 2||z@3 ");
        size_t boundary = squeeze(zstd, bytes, sizeof bytes, first, strlen(first));
        for (size_t cut = 0; cut < size; cut++) { /* a cut stream is an error; at a member's end it cannot be known */
            error = (hn_error){0};
            bad = (hn_bad_rows){.skip = true};
            hn_strbuf_reset(&rows);
            hn_status status = read_all(&rows, &single, name, bytes, cut, &bad, &error);
            if (cut == boundary) CHECK_INT(status, HN_OK);
            else CHECK_INT(status, HN_ERR_FORMAT);
        }
        memcpy(bytes + size, "tail", 4);
        CHECK_INT(read_all(&rows, &single, name, bytes, size + 4, &bad, &error), HN_ERR_FORMAT);
        size = squeeze(zstd, bytes, sizeof bytes, first, strlen(first));
        bytes[size - 2] ^= 1;
        error = (hn_error){0};
        if (!zstd) { /* gzip has a checksum; zstd's is optional */
            CHECK_INT(read_all(&rows, &single, name, bytes, size, &bad, &error), HN_ERR_FORMAT);
            CHECK_CONTAINS(error.message, "t.csv.gz: damaged gzip data");
        }
        hn_strbuf_close(&rows);
    }
}

/* A row beyond the limit is one bad row in every format, and the next one is read. */
TEST(too_long)
{
    static const struct {
        const char *name, *before, *open, *close;
    } cases[] = {{"l.jsonl", "", "{\"a\": \"", "\", \"y\": 1}\n{\"a\": \"b\", \"y\": 2}\n"},
                 {"l.json", "[", "{\"a\": \"", "\", \"y\": 1},\n{\"a\": \"b\", \"y\": 2}]\n"},
                 {"l.tsv", "a\ty\n", "", "\t1\nb\t2\n"},
                 {"l.csv", "a,y\n", "\"", "\",1\nb,2\n"}};
    size_t fat = HN_ROW_BYTES + 5;
    for (size_t i = 0; i < 4; i++) {
        hn_strbuf bytes, rows;
        hn_strbuf_init(&bytes);
        hn_strbuf_init(&rows);
        char *filler = hn_malloc(fat);
        memset(filler, 'x', fat);
        hn_strbuf_puts(&bytes, cases[i].before);
        hn_strbuf_puts(&bytes, cases[i].open);
        hn_strbuf_add(&bytes, filler, fat);
        hn_strbuf_puts(&bytes, cases[i].close);
        hn_error error = {0};
        hn_bad_rows bad = {.skip = true};
        CHECK_OK(read_all(&rows, &single, cases[i].name, bytes.text, bytes.length, &bad, &error));
        CHECK_INT(bad.count[HN_BAD_LONG], 1);
        CHECK_CONTAINS(bad.first[HN_BAD_LONG], "expected a row of at most 16777216 bytes");
        CHECK(!strncmp(rows.text, "b||2@", 5));
        hn_free(filler);
        hn_strbuf_close(&bytes);
        hn_strbuf_close(&rows);
    }
}

TEST(several_files)
{
    char folder[] = "/tmp/hone-reader-XXXXXX", a[64], b[64];
    CHECK(mkdtemp(folder));
    snprintf(a, sizeof a, "%s/a.csv", folder);
    snprintf(b, sizeof b, "%s/b.jsonl", folder);
    FILE *file = fopen(a, "w");
    fputs("y,a\nx,1\n", file);
    fclose(file);
    file = fopen(b, "w");
    fputs("{\"a\": \"2\", \"y\": \"z\"}\n", file);
    fclose(file);
    const char *paths[] = {a, b, folder};
    hn_reader_options options = single;
    options.paths = paths;
    options.path_count = 3;
    hn_reader *reader = NULL;
    hn_bad_rows bad = {0};
    hn_error error = {0};
    hn_row row;
    bool end;
    CHECK_OK(hn_reader_open(&reader, &options, &bad, &error));
    CHECK_OK(hn_reader_next(reader, &row, &end, &error));
    CHECK_TEXT(row.text, "1");
    CHECK_INT(row.file, 0);
    CHECK_OK(hn_reader_next(reader, &row, &end, &error));
    CHECK_TEXT(row.text, "2");
    CHECK_INT(row.file, 1);
    CHECK_TEXT(row.path, b);
    CHECK_INT(hn_reader_next(reader, &row, &end, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "expected a file, got a folder");
    hn_reader_free(reader);
    unlink(a);
    unlink(b);
    rmdir(folder);
    options.path_count = 1;
    error = (hn_error){0};
    CHECK_OK(hn_reader_open(&reader, &options, &bad, &error));
    CHECK_INT(hn_reader_next(reader, &row, &end, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, a);
    hn_reader_free(reader);
}

TEST(memory_failures)
{
    unsigned char squeezed[400];
    const char *csv = "a,y\n1,x\n2,z\n";
    for (int which = 0; which < 4; which++) {
        const char *names[] = {"t.csv", "t.json", "t.jsonl", "t.csv.gz"};
        const char *bytes[] = {csv, "[{\"a\": \"1\", \"y\": 1}]", "{\"a\": \"1\", \"y\": 1}\n", (char *)squeezed};
        size_t size = which == 3 ? gzip(squeezed, sizeof squeezed, csv, strlen(csv)) : strlen(bytes[which]);
        hn_status status = HN_ERR_MEMORY;
        size_t nth = 1;
        for (; status == HN_ERR_MEMORY && nth < 500; nth++) {
            hn_error error = {0};
            hn_bad_rows bad = {0};
            hn_reader *reader = NULL;
            bool end = false;
            hn_row row;
            hn_mem_fail_at(nth);
            status = hn_reader_open_bytes(&reader, &single, bytes[which], size, names[which], &bad, &error);
            while (!status && !end) status = hn_reader_next(reader, &row, &end, &error);
            if (reader) hn_reader_free(reader);
            hn_mem_fail_at(0);
            CHECK(!status || error.message[0]);
        }
        CHECK_INT(status, HN_OK);
        CHECK(nth > 3);
    }
}

int main(void)
{
    hn_json_init();
    RUN(every_case);
    RUN(truncated_at_every_byte);
    RUN(pieces);
    RUN(compressed);
    RUN(too_long);
    RUN(several_files);
    RUN(memory_failures);
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
