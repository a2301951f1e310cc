/* The reference page and `hone keys`, from the tables that parse: what is printed is what is accepted. */
#include <string.h>

#include "core/config_internal.h"

/* A table cell ends at a bar. */
static void add_cell(hn_strbuf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') hn_strbuf_putc(out, '\\');
        hn_strbuf_putc(out, *text);
    }
}

static void add_markdown(hn_strbuf *out, const hn_key *key, const char *name)
{
    hn_strbuf_printf(out, "| `%s` | ", name);
    hnp_key_expected(out, key);
    hn_strbuf_puts(out, " | ");
    if (key->fallback) {
        hn_strbuf_putc(out, '`');
        add_cell(out, key->fallback);
        hn_strbuf_putc(out, '`');
    } else {
        hn_strbuf_puts(out, "required");
    }
    hn_strbuf_puts(out, key->safe_on_resume ? " | yes | " : " | no | ");
    add_cell(out, key->help ? key->help : "");
    hn_strbuf_puts(out, " |\n");
}

static void add_plain(hn_strbuf *out, const hn_key *key, const char *name)
{
    hn_strbuf_printf(out, "%s: ", name);
    hnp_key_expected(out, key);
    if (key->fallback)
        hn_strbuf_printf(out, "; default %s", key->fallback);
    else
        hn_strbuf_puts(out, "; required");
    if (key->help) hn_strbuf_printf(out, "\n    %s", key->help);
    hn_strbuf_putc(out, '\n');
}

static void add_section(hn_strbuf *out, const char *section)
{
    if (out->length) hn_strbuf_putc(out, '\n');
    hn_strbuf_printf(
        out, "## %s\n\n| key | value | default | may change on resume | meaning |\n|---|---|---|---|---|\n",
        section);
}

void hn_config_reference(hn_strbuf *out, const hn_key_table *tables, size_t table_count, bool markdown,
                         const char *word)
{
    const char *section = "";
    for (size_t t = 0; t < table_count; t++)
        for (size_t k = 0; k < tables[t].count; k++) {
            char name[HNP_NAME];
            const hn_key *key = &tables[t].keys[k];
            hnp_key_name(name, key);
            if (word && !strcasestr(name, word) && !(key->help && strcasestr(key->help, word))) continue;
            if (markdown && strcmp(section, key->section)) add_section(out, key->section);
            section = key->section;
            if (markdown)
                add_markdown(out, key, name);
            else
                add_plain(out, key, name);
        }
}
