/* Added tokens: looked for in the text before anything else happens to it ("[SEP]" in a sentence is the
 * token), as the reference does it.
 *
 * Two searches, each for the leftmost and there longest token: in the raw text for tokens that are not
 * `normalized`, then in what normalizing made of each part in between for the others, whose own contents are
 * normalized for that. A hit that must be a single word and touches a word character is passed over, with its
 * text. lstrip and rstrip take the white space beside the hit along; the search goes on behind the hit
 * itself, so that taken white space may still begin another token.
 *
 * Added tokens are short, also when they are normalized (HNP_MAX_ADDED_LENGTH), so a search walks a trie from each byte that
 * begins one. A stranger's are many, and the steps that normalize them are a stranger's too: all of a file together have the
 * bounds of one text. */
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "data/tokenizer_stages.h"

hn_status hnp_added_add(hn_tokenizer *tokenizer, hnp_added_token token, const char *where, hn_error *error)
{
    size_t length = strlen(token.content);
    if (!length || length > HNP_MAX_ADDED_LENGTH)
        return hn_fail(error, HN_ERR_FORMAT, "%s.content: %d to %d bytes expected, got %zu", where, 1,
                       HNP_MAX_ADDED_LENGTH, length);
    int64_t id = hnp_trie_find(&tokenizer->trie, token.content, length);
    if (!tokenizer->added_count) tokenizer->added_next = (int64_t)tokenizer->vocabulary;
    bool fresh = id < 0;
    if (fresh) id = tokenizer->added_next;
    if (id != token.id)
        return hn_fail(error, HN_ERR_FORMAT, "%s.id: %lld expected for \"%.60s\" (%s), got %d", where,
                       (long long)id, token.content, fresh ? "the next free id" : "its id in the vocabulary",
                       token.id);
    if (fresh && hnp_tokenizer_name(tokenizer, id, token.content, where, error)) return error->status;
    hnp_name *name = &tokenizer->names[id];
    if (name->added)
        return hn_fail(error, HN_ERR_FORMAT, "%s: \"%.60s\" was added before", where, token.content);
    void *memory = tokenizer->added;
    if (!hn_grow(&memory, &tokenizer->added_capacity, tokenizer->added_count + 1, sizeof token))
        return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", where);
    tokenizer->added = memory;
    name->added = true;
    name->special = token.special;
    token.content = name->text;
    tokenizer->added[tokenizer->added_count++] = token;
    if (id >= tokenizer->added_next) tokenizer->added_next = id + 1;
    return HN_OK;
}

hn_status hnp_added_read(hn_tokenizer *tokenizer, const json_t *item, int32_t id, const char *where,
                         hn_error *error)
{
    hnp_added_token token = {.id = id};
    if (!json_is_object(item)) return hn_fail(error, HN_ERR_FORMAT, "%s: an object expected", where);
    if (hn_json_get_string(&token.content, item, "content", where, error) ||
        hn_json_get_bool(&token.single_word, item, "single_word", where, error) ||
        hn_json_get_bool(&token.lstrip, item, "lstrip", where, error) ||
        hn_json_get_bool(&token.rstrip, item, "rstrip", where, error) ||
        hn_json_get_bool(&token.special, item, "special", where, error))
        return error->status;
    token.normalized = !token.special;
    if (hn_json_get_bool(&token.normalized, item, "normalized", where, error)) return error->status;
    if (!token.content) return hn_fail(error, HN_ERR_FORMAT, "%s.content: missing", where);
    return hnp_added_add(tokenizer, token, where, error);
}

/* The text to look for (hn_free); NULL: out of memory, or refused. */
static char *pattern(const hn_tokenizer *tokenizer, hnp_scratch *scratch, const hnp_added_token *token,
                     size_t *length)
{
    hnp_span content = {token->content, strlen(token->content), false};
    if (token->normalized && !hnp_normalize(tokenizer, scratch, &content)) return NULL;
    *length = content.length;
    return hn_strndup(content.text, content.length);
}

/* The reference decodes a normalized token to its normalized text, and then no longer knows it as special. */
static bool set_shown(hnp_name *name, const char *normalized)
{
    if (!strcmp(name->text, normalized)) return true;
    name->shown = hn_strdup(normalized);
    return name->shown != NULL;
}

/* One bound for all that are looked for in such a text; of a single one no step makes more than of the longest. */
static void bound(hnp_scratch *scratch, const hn_tokenizer *tokenizer, bool normalized)
{
    size_t length = 0, most;
    for (size_t i = 0; i < tokenizer->added_count; i++)
        if (tokenizer->added[i].normalized == normalized) length += strlen(tokenizer->added[i].content);
    hnp_scratch_bound(scratch, HNP_MAX_ADDED_LENGTH);
    most = scratch->most;
    hnp_scratch_bound(scratch, length);
    if (scratch->most > most) scratch->most = most;
}

static hn_status check_length(const hnp_added_token *token, size_t length, const char *where, hn_error *error)
{
    if (!length) /* the reference would cut every text into characters */
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: added token %d is normalized, and nothing of its content is left then", where,
                       token->id);
    if (length > HNP_MAX_ADDED_LENGTH)
        return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: added token %d: at most %d bytes expected when it is normalized, got %zu", where,
                       token->id, HNP_MAX_ADDED_LENGTH, length);
    return HN_OK;
}

static hn_status matcher_init(hnp_matcher *matcher, const hn_tokenizer *tokenizer, bool normalized, const char *where,
                              hn_error *error)
{
    hn_status status = HN_ERR_MEMORY;
    size_t count = 0;
    hnp_scratch scratch;
    hnp_scratch_init(&scratch);
    bound(&scratch, tokenizer, normalized);
    hnp_key *keys = hn_calloc(tokenizer->added_count + 1, sizeof *keys);
    if (!keys) goto out;
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const hnp_added_token *token = &tokenizer->added[i];
        if (token->normalized != normalized) continue;
        hnp_key *key = &keys[count];
        key->text = pattern(tokenizer, &scratch, token, &key->length);
        if (!key->text && scratch.refused)
            status = hn_fail(error, HN_ERR_UNSUPPORTED, "%s: added token %d is normalized: %s", where, token->id, scratch.refused);
        if (!key->text) goto out;
        key->value =
            (int32_t)i; /* of two that normalize to one text the later counts; the reference takes either */
        count++;
        status = check_length(token, key->length, where, error);
        if (status) goto out;
        status = HN_ERR_MEMORY;
        if (!set_shown(&tokenizer->names[token->id], key->text)) goto out;
        matcher->first[(unsigned char)key->text[0]] = matcher->any = true;
    }
    if (hnp_trie_init(&matcher->trie, keys, count)) status = HN_OK;
out:
    for (size_t i = 0; i < count; i++) hn_free((char *)keys[i].text);
    hn_free(keys);
    hnp_scratch_close(&scratch);
    if (status == HN_ERR_MEMORY)
        hn_fail(error, status, "%s: out of memory for %zu added tokens", where, tokenizer->added_count);
    return status;
}

hn_status hnp_added_finish(hn_tokenizer *tokenizer, const char *where, hn_error *error)
{
    hn_status status = matcher_init(&tokenizer->raw, tokenizer, false, where, error);
    return status ? status : matcher_init(&tokenizer->normal, tokenizer, true, where, error);
}

/* The longest token that begins here; NULL: none. */
static const hnp_added_token *match(const hn_tokenizer *tokenizer, const hnp_matcher *matcher,
                                    const hnp_scratch *scratch, hnp_span rest, size_t *length)
{
    const hnp_trie *trie = &matcher->trie;
    int32_t found = -1;
    uint32_t node = 0;
    for (size_t i = 0; i < rest.length && (node = hnp_trie_step(trie, node, (unsigned char)rest.text[i]));
         i++) {
        int32_t value = trie->units[node].value;
        if (value < 0 || (scratch->plain && hnp_id_barred(tokenizer, scratch, tokenizer->added[value].id)))
            continue;
        found = value;
        *length = i + 1;
    }
    return found < 0 ? NULL : &tokenizer->added[found];
}

/* Where the character before `end` (>= 1) begins, and what it is. */
static size_t previous(uint32_t *point, const char *text, size_t end)
{
    size_t start = end - 1;
    while (start && ((unsigned char)text[start] & 0xC0) == 0x80) start--;
    hnp_utf8_next(point, text + start);
    return start;
}

static bool stands_alone(const uint16_t *flags, hnp_span text, size_t start, size_t stop)
{
    uint32_t point;
    if (start) {
        previous(&point, text.text, start);
        if (flags[point] & HNP_WORD) return false;
    }
    if (stop == text.length) return true;
    hnp_utf8_next(&point, text.text + stop);
    return !(flags[point] & HNP_WORD);
}

static size_t spaces_before(const uint16_t *flags, hnp_span text, size_t start, size_t floor)
{
    while (start > floor) {
        uint32_t point;
        size_t before = previous(&point, text.text, start);
        if (!(flags[point] & HNP_SPACE)) break;
        start = before;
    }
    return start > floor ? start : floor;
}

static size_t spaces_behind(const uint16_t *flags, hnp_span text, size_t stop)
{
    while (stop < text.length) {
        uint32_t point;
        size_t taken = hnp_utf8_next(&point, text.text + stop);
        if (!(flags[point] & HNP_SPACE)) break;
        stop += taken;
    }
    return stop;
}

typedef bool part_function(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span part);

/* Adds the ids of the tokens found, and hands the parts between them on. */
static bool find_all(const hn_tokenizer *tokenizer, const hnp_matcher *matcher, hnp_scratch *scratch,
                     hnp_span text, part_function *part)
{
    const uint16_t *flags = tokenizer->flags;
    size_t done = 0,
           white = 0; /* white: the white space before it, from the last rstrip's hit on, is known */
    for (size_t at = 0; matcher->any && at < text.length;) {
        const hnp_added_token *token = NULL;
        size_t length = 0;
        if (matcher->first[(unsigned char)text.text[at]])
            token = match(tokenizer, matcher, scratch, (hnp_span){text.text + at, text.length - at, false},
                          &length);
        if (!token) {
            at++;
            continue;
        }
        size_t start = at, stop = at += length;
        if (token->single_word && !stands_alone(flags, text, start, stop)) continue;
        if (token->lstrip) start = spaces_before(flags, text, start, done);
        if (token->rstrip) {
            if (stop > white) white = spaces_behind(flags, text, stop);
            stop = white;
        }
        if (start >= stop) continue; /* white space that the hit before it took along */
        if (done < start &&
            !part(tokenizer, scratch, (hnp_span){text.text + done, start - done, text.first && !done}))
            return false;
        if (!hnp_ids_add(scratch->ids, token->id)) return false;
        scratch->joined = false;
        done = stop;
    }
    return done == text.length ||
           part(tokenizer, scratch, (hnp_span){text.text + done, text.length - done, text.first && !done});
}

static bool normalize(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span part)
{
    return hnp_normalize(tokenizer, scratch, &part) &&
           find_all(tokenizer, &tokenizer->normal, scratch, part, hnp_split);
}

bool hnp_added_encode(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span text)
{
    return find_all(tokenizer, &tokenizer->raw, scratch, text, normalize);
}
