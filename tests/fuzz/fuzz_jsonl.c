/* JSON lines and JSON arrays from strangers; the first byte picks which. Compressed input comes by itself. */
#include "tests/fuzz/rows.h"

static void write_json(hn_strbuf *out, const hn_row *row)
{
    hn_strbuf_puts(out, "{\"a\": ");
    hn_json_quote(out, row->text, row->text_length);
    hn_strbuf_puts(out, ", \"b\": ");
    hn_json_quote(out, row->pair, row->pair_length);
    hn_strbuf_puts(out, ", \"y\": ");
    hn_json_quote(out, row->label, strlen(row->label));
    hn_strbuf_puts(out, "}\n");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hn_json_init();
    if (size)
        fuzz_rows(data + 1, size - 1,
                  data[0] == '['   ? "f.json"
                  : data[0] == '{' ? "f.jsonl"
                                   : "f",
                  write_json, "");
    return 0;
}
