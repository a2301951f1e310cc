/* CSV and TSV from strangers; the first byte picks which. */
#include "tests/fuzz/rows.h"

static void write_cell(hn_strbuf *out, const char *text, char behind)
{
    hn_strbuf_putc(out, '"');
    for (; *text; text++) {
        if (*text == '"') hn_strbuf_putc(out, '"');
        hn_strbuf_putc(out, *text);
    }
    hn_strbuf_putc(out, '"');
    hn_strbuf_putc(out, behind);
}

static void write_csv(hn_strbuf *out, const hn_row *row)
{
    write_cell(out, row->text, ',');
    write_cell(out, row->pair, ',');
    write_cell(out, row->label, '\n');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size) fuzz_rows(data + 1, size - 1, data[0] == 't' ? "f.tsv" : "f.csv", write_csv, "a,b,y\n");
    return 0;
}
