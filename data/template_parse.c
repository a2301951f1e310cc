/* Format strings of templates, taken apart (templates.h):
 *
 *     "<|im_start|>user\n{content}<|im_end|>\n"  ->  TOKEN 1 | TEXT "user\n" | CONTENT | TOKEN 2 | TEXT "\n"
 *
 * Special tokens are those of the tokenizer, the longest at each place. What of a turn is trained on, where
 * its role is: from the first placeholder on to the first token behind the last one, or to that placeholder;
 * an answer from its beginning. */
#include <string.h>

#include "core/mem.h"
#include "data/templates.h"
#include "data/tokenizer_stages.h"

static const char *const turn_names[HNP_TURNS] = {"begin", "system", "opening",  "user",
                                                  "input", "prompt", "assistant"};
/* Placeholders that each may hold. */
static const unsigned allowed[HNP_TURNS] = {[HNP_TURN_SYSTEM] = 1u << HNP_PART_CONTENT,
                                            [HNP_TURN_OPENING] =
                                                1u << HNP_PART_CONTENT | 1u << HNP_PART_SYSTEM,
                                            [HNP_TURN_USER] = 1u << HNP_PART_CONTENT,
                                            [HNP_TURN_INPUT] = 1u << HNP_PART_CONTENT | 1u << HNP_PART_INPUT,
                                            [HNP_TURN_ASSISTANT] = 1u << HNP_PART_CONTENT};

static hn_status no_memory(hn_error *error)
{
    return hn_fail(error, HN_ERR_MEMORY, "template: out of memory");
}

static hn_status add_part(hnp_parts *parts, hnp_part part, hn_error *error)
{
    void *memory = parts->items;
    if (!hn_grow(&memory, &parts->capacity, parts->count + 1, sizeof part)) return no_memory(error);
    parts->items = memory;
    parts->items[parts->count++] = part;
    return HN_OK;
}

static hn_status add_text(hn_template *tmpl, hnp_parts *parts, char c, hn_error *error)
{
    size_t at = tmpl->texts.length;
    hn_strbuf_putc(&tmpl->texts, c);
    if (tmpl->texts.failed) return no_memory(error);
    if (parts->count && parts->items[parts->count - 1].kind == HNP_PART_TEXT) {
        parts->items[parts->count - 1].length++;
        return HN_OK;
    }
    return add_part(parts, (hnp_part){.kind = HNP_PART_TEXT, .from = at, .length = 1}, error);
}

static hn_status add_token(hn_template *tmpl, hnp_parts *parts, int32_t id, hn_error *error)
{
    hnp_part part = {.kind = HNP_PART_TOKEN, .id = id};
    const hn_tokenizer *tokenizer = tmpl->tokenizer;
    void *memory = tmpl->tokens;
    if (!hn_grow(&memory, &tmpl->token_capacity, tmpl->token_count + 1, sizeof id)) return no_memory(error);
    tmpl->tokens = memory;
    tmpl->tokens[tmpl->token_count++] = id;
    for (size_t i = 0; i < tokenizer->added_count; i++)
        if (tokenizer->added[i].id == id) {
            part.trim_left = tokenizer->added[i].lstrip;
            part.trim_right = tokenizer->added[i].rstrip;
        }
    return add_part(parts, part, error);
}

static bool is_word(const char *text, size_t length, const char *word)
{
    return strlen(word) == length && !memcmp(text, word, length);
}

/* {name} or {name|trim}, without its braces. */
static hn_status add_placeholder(hn_template *tmpl, hnp_turn turn, const char *text, size_t length,
                                 int32_t bos, int32_t eos, hn_error *error)
{
    static const struct {
        const char *name;
        hnp_part_kind kind;
    } known[] = {{"content", HNP_PART_CONTENT}, {"input", HNP_PART_INPUT}, {"system", HNP_PART_SYSTEM}};
    const char *bar = memchr(text, '|', length);
    size_t name = bar ? (size_t)(bar - text) : length, filter = length - name;
    bool both = bar && is_word(bar, filter, "|trim"), right = both || (bar && is_word(bar, filter, "|rtrim"));
    bool is_bos = is_word(text, length, "bos"), is_eos = is_word(text, length, "eos");
    if (is_bos || is_eos) {
        int32_t id = is_bos ? bos : eos;
        if (id >= 0) return add_token(tmpl, &tmpl->turn[turn], id, error);
        return hn_fail(error, HN_ERR_UNSUPPORTED,
                       "template %s, %s: expected a token for {%.*s}, got none: tokenizer_config.json names "
                       "no %.*s_token",
                       tmpl->name, turn_names[turn], (int)length, text, (int)length, text);
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (is_word(text, name, known[i].name) && (!bar || right) && (allowed[turn] >> known[i].kind & 1))
            return add_part(&tmpl->turn[turn],
                            (hnp_part){.kind = known[i].kind, .trim_left = both, .trim_right = right}, error);
    bool content = allowed[turn] >> HNP_PART_CONTENT & 1, input = allowed[turn] >> HNP_PART_INPUT & 1;
    return hn_fail(error, HN_ERR_USAGE,
                   "template %s, %s: expected %s%s{bos} or {eos}, got {%.*s}; write {{ for a brace",
                   tmpl->name, turn_names[turn], content ? "{content}, {content|trim}, " : "",
                   input ? "{input}, " : "", (int)(length < 40 ? length : 40), text);
}

/* Which parts are trained on; an error when a placeholder is missing. */
static hn_status find_words(hn_template *tmpl, hnp_turn turn, hn_error *error)
{
    hnp_parts *parts = &tmpl->turn[turn];
    unsigned seen = 0;
    size_t last = 0;
    for (size_t i = 0; i < parts->count; i++) {
        hnp_part_kind kind = parts->items[i].kind;
        if (kind < HNP_PART_CONTENT) continue;
        if (!seen || seen == 1u << HNP_PART_SYSTEM) parts->words = i; /* a system prompt is not the user's */
        seen |= 1u << kind;
        last = i + 1;
    }
    if (seen != allowed[turn])
        return hn_fail(error, HN_ERR_USAGE, "template %s, %s: expected %s in it, got none", tmpl->name,
                       turn_names[turn], seen >> HNP_PART_CONTENT & 1 ? "{input}" : "{content}");
    parts->end = last;
    for (size_t i = last; i < parts->count && parts->end == last; i++)
        if (parts->items[i].kind == HNP_PART_TOKEN) parts->end = i + 1;
    if (turn != HNP_TURN_ASSISTANT) return HN_OK;
    parts->words = 0;
    if (parts->end > last) return HN_OK;
    return hn_fail(error, HN_ERR_USAGE,
                   "template %s, assistant: expected a special token or {eos} behind {content}, so that an "
                   "answer's end can "
                   "be learned, got none that the tokenizer knows",
                   tmpl->name);
}

hn_status hnp_parts_parse(hn_template *tmpl, hnp_turn turn, const char *text, int32_t bos, int32_t eos,
                          hn_error *error)
{
    hnp_parts *parts = &tmpl->turn[turn];
    size_t length = strlen(text);
    hn_status status = HN_OK;
    parts->given = true;
    for (size_t at = 0; at < length && !status;) {
        int32_t id;
        size_t token = hn_tokenizer_special_at(tmpl->tokenizer, text + at, length - at, &id);
        if (token) {
            status = add_token(tmpl, parts, id, error);
            at += token;
        } else if (text[at] == '{' && text[at + 1] != '{') {
            size_t end = at + 1 + strcspn(text + at + 1, "}");
            if (end == length)
                return hn_fail(error, HN_ERR_USAGE, "template %s, %s: expected a } behind \"%.40s\", got the end; write {{ for a brace",
                               tmpl->name, turn_names[turn], text + at);
            status = add_placeholder(tmpl, turn, text + at + 1, end - at - 1, bos, eos, error);
            at = end + 1;
        } else {
            at += text[at] == '{';
            status = add_text(tmpl, parts, text[at++], error);
        }
    }
    return status ? status : find_words(tmpl, turn, error);
}
