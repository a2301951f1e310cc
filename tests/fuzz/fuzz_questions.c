/* Questions with options from strangers, as CSV, TSV and JSON; the first byte picks which. */
#include "core/json.h"
#include "data/reader.h"
#include "data/utf8.h"
#include "tests/fuzz/fuzz.h"

static void check(const char *text)
{
    DEMAND(text && hnp_utf8_valid(text, strlen(text)) == strlen(text));
}

static void read_all(const uint8_t *data, size_t size, const char *name, bool skip)
{
    static const hn_question_fields usual;
    const hn_reader_options options = {.questions = &usual, .empty_allowed = true};
    hn_reader *reader = NULL;
    hn_bad_rows bad = {.skip = skip};
    hn_error error = {0};
    bool end = false;
    int64_t count = 0;
    hn_status status = hn_reader_open_bytes(&reader, &options, data, size, name, &bad, &error);
    DEMAND(!status);
    for (;;) {
        hn_row row;
        status = hn_reader_next(reader, &row, &end, &error);
        DEMAND(!status == !error.message[0]);
        if (status) fuzz_refused(&error, name);
        if (status || end) break;
        count++;
        check(row.text);
        DEMAND(row.option_count >= 2 && row.option_count <= HN_MAX_OPTIONS);
        DEMAND(row.answer >= 0 && (size_t)row.answer < row.option_count);
        for (size_t i = 0; i < row.option_count; i++) check(row.options[i]);
        if (row.subject) check(row.subject);
    }
    if (!status) DEMAND(hn_reader_rows(reader) == count + hn_bad_rows_count(&bad));
    hn_reader_free(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hn_json_init();
    if (!size) return 0;
    const char *name = data[0] == 't' ? "f.tsv" : data[0] == '[' ? "f.json" : data[0] == '{' ? "f.jsonl" : "f.csv";
    fuzz_begin();
    read_all(data + 1, size - 1, name, true);
    read_all(data + 1, size - 1, name, false);
    fuzz_end_of_file(data + 1, size - 1);
    return 0;
}
