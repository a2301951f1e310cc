/* Normalizer, pre-tokenizer and decoder of a tokenizer.json: each is null, one step, or a Sequence of steps.
 * A kind of step is a line of a table and the function that reads its settings. What decides ids is added to
 * the digest as the step's own JSON. */
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "data/tokenizer_json.h"

/* The step's JSON with sorted keys goes into the digest. */
static hn_status hash_step(const hnp_reader *from, const json_t *stage, const char *path)
{
    char *text = json_dumps(stage, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text) return hn_fail(from->error, HN_ERR_MEMORY, "%s: %s: out of memory", from->name, path);
    hn_hasher_add_text(from->tokenizer->hasher, text);
    hn_free(text);
    return HN_OK;
}

static hn_status too_many(const hnp_reader *from, const char *path)
{
    return hn_fail(from->error, HN_ERR_UNSUPPORTED, "%s: %s: more than %d steps", from->name, path,
                   HNP_MAX_STEPS - 1);
}

/* A string that must be there; the step owns the copy. */
static hn_status take_string(char **out, const hnp_reader *from, const json_t *stage, const char *key,
                             const char *path)
{
    const char *text = NULL;
    hnp_place here = hnp_json_at(from, path);
    if (hn_json_get_string(&text, stage, key, here.text, from->error)) return from->error->status;
    if (!text) return hn_fail(from->error, HN_ERR_FORMAT, "%s.%s: missing", here.text, key);
    *out = hn_strdup(text);
    return *out ? HN_OK : hn_fail(from->error, HN_ERR_MEMORY, "%s: out of memory", here.text);
}

/* {"String": "..."} or {"Regex": "..."} */
static hn_status read_pattern(hnp_pattern *out, bool *regex, const hnp_reader *from, const json_t *stage,
                              const char *path)
{
    const json_t *pattern = json_object_get(stage, "pattern");
    *regex = json_object_get(pattern, "Regex") != NULL;
    if (!json_object_get(pattern, "String") && !*regex)
        return hn_fail(from->error, HN_ERR_FORMAT, "%s: %s.pattern: a \"String\" or a \"Regex\" expected",
                       from->name, path);
    if (take_string(&out->text, from, pattern, *regex ? "Regex" : "String", path)) return from->error->status;
    out->length = strlen(out->text);
    if (!out->length)
        return hn_fail(from->error, HN_ERR_UNSUPPORTED, "%s: %s.pattern: it is empty", from->name, path);
    return HN_OK;
}

static hn_status compile(hnp_pattern *pattern, const hnp_reader *from, const char *path)
{
    hnp_place here = hnp_json_at(from, path);
    return hnp_regex_open(&pattern->regex, pattern->text, here.text, from->error);
}

/* Normalizers */

static hn_status read_bert(const hnp_reader *from, hnp_normalizer *step, const json_t *stage,
                           const char *path)
{
    hnp_bert_settings *bert = &step->bert;
    hnp_place here = hnp_json_at(from, path);
    bert->clean = bert->chinese = bert->lower = true;
    if (hn_json_get_bool(&bert->clean, stage, "clean_text", here.text, from->error) ||
        hn_json_get_bool(&bert->chinese, stage, "handle_chinese_chars", here.text, from->error) ||
        hn_json_get_bool(&bert->lower, stage, "lowercase", here.text, from->error))
        return from->error->status;
    bert->strip = bert->lower; /* what null means */
    if (hn_json_get_bool(&bert->strip, stage, "strip_accents", here.text, from->error))
        return from->error->status;
    hnp_bert_init(from->tokenizer, step);
    return HN_OK;
}

static hn_status read_form(const hnp_reader *from, hnp_normalizer *step, const json_t *stage,
                           const char *path)
{
    (void)from, (void)path;
    const char *type = json_string_value(json_object_get(stage, "type"));
    step->apply = hnp_form_normalize;
    step->form = !strcmp(type, "NFC")    ? HNP_NFC
                 : !strcmp(type, "NFD")  ? HNP_NFD
                 : !strcmp(type, "NFKC") ? HNP_NFKC
                                         : HNP_NFKD;
    return HN_OK;
}

static hn_status read_replace(const hnp_reader *from, hnp_normalizer *step, const json_t *stage,
                              const char *path)
{
    bool regex;
    step->apply = hnp_replace_normalize;
    if (read_pattern(&step->pattern, &regex, from, stage, path) ||
        take_string(&step->content, from, stage, "content", path))
        return from->error->status;
    return regex ? compile(&step->pattern, from, path) : HN_OK;
}

static hn_status read_prepend(const hnp_reader *from, hnp_normalizer *step, const json_t *stage,
                              const char *path)
{
    step->apply = hnp_prepend_normalize;
    return take_string(&step->content, from, stage, "prepend", path);
}

static hn_status read_strip(const hnp_reader *from, hnp_normalizer *step, const json_t *stage,
                            const char *path)
{
    hnp_place here = hnp_json_at(from, path);
    step->apply = hnp_strip_normalize;
    step->left = step->right = true;
    if (hn_json_get_bool(&step->left, stage, "strip_left", here.text, from->error) ||
        hn_json_get_bool(&step->right, stage, "strip_right", here.text, from->error))
        return from->error->status;
    return HN_OK;
}

static hn_status read_simple(const hnp_reader *from, hnp_normalizer *step, const json_t *stage,
                             const char *path)
{
    (void)from, (void)path;
    const char *type = json_string_value(json_object_get(stage, "type"));
    step->apply = !strcmp(type, "Lowercase") ? hnp_lower_normalize : hnp_accents_normalize;
    return HN_OK;
}

static hn_status read_charsmap(const hnp_reader *from, hnp_normalizer *step, const json_t *stage,
                               const char *path)
{
    const char *text = NULL;
    hnp_place here = hnp_json_at(from, path);
    step->apply = hnp_charsmap_normalize;
    if (hn_json_get_string(&text, stage, "precompiled_charsmap", here.text, from->error))
        return from->error->status;
    return hnp_charsmap_init(&step->charsmap, text ? text : "", here.text, from->error);
}

static hn_status read_normalizer(const hnp_reader *from, const json_t *stage, const char *type,
                                 const char *path)
{
    static const struct {
        const char *type;
        hn_status (*read)(const hnp_reader *from, hnp_normalizer *step, const json_t *stage,
                          const char *path);
    } kinds[] = {{"BertNormalizer", read_bert},
                 {"NFC", read_form},
                 {"NFD", read_form},
                 {"NFKC", read_form},
                 {"NFKD", read_form},
                 {"Replace", read_replace},
                 {"Prepend", read_prepend},
                 {"Strip", read_strip},
                 {"Lowercase", read_simple},
                 {"StripAccents", read_simple},
                 {"Precompiled", read_charsmap}};
    hn_tokenizer *tokenizer = from->tokenizer;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type)) continue;
        if (tokenizer->normalizer_count == HNP_MAX_STEPS) return too_many(from, path);
        hnp_normalizer *step = &tokenizer->normalizers[tokenizer->normalizer_count++];
        hn_status status = kinds[i].read(from, step, stage, path);
        return status || kinds[i].read == read_bert ? status : hash_step(from, stage, path);
    }
    return hnp_json_refuse(
        from, path, type,
        "the types BertNormalizer, NFC, NFD, NFKC, NFKD, Replace, Prepend, Strip, Lowercase, "
        "StripAccents, Precompiled, Sequence");
}

/* Pre-tokenizers */

static hn_status read_behavior(const hnp_reader *from, hnp_splitter *step, const json_t *stage,
                               const char *path)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
    const char *name = NULL;
    hnp_place here = hnp_json_at(from, path);
    if (hn_json_get_string(&name, stage, "behavior", here.text, from->error)) return from->error->status;
    for (size_t i = 0; name && i < 5; i++)
        if (!strcmp(name, names[i])) {
            step->behavior = (hnp_behavior)i;
            return HN_OK;
        }
    return hn_fail(
        from->error, HN_ERR_FORMAT,
        "%s.behavior: Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous expected, got "
        "\"%.60s\"",
        here.text, name ? name : "");
}

static hn_status read_bytes(const hnp_reader *from, hnp_splitter *step, const json_t *stage, const char *path)
{
    hnp_place here = hnp_json_at(from, path);
    step->apply = hnp_bytes_split;
    step->prefix = step->cut = step->map = true;
    if (hn_json_get_bool(&step->prefix, stage, "add_prefix_space", here.text, from->error) ||
        hn_json_get_bool(&step->cut, stage, "use_regex", here.text, from->error))
        return from->error->status;
    return HN_OK;
}

static hn_status read_split(const hnp_reader *from, hnp_splitter *step, const json_t *stage, const char *path)
{
    bool regex;
    hnp_place here = hnp_json_at(from, path);
    step->apply = hnp_pattern_split;
    if (read_pattern(&step->pattern, &regex, from, stage, path) ||
        hn_json_get_bool(&step->invert, stage, "invert", here.text, from->error) ||
        read_behavior(from, step, stage, path))
        return from->error->status;
    if (!regex) return HN_OK;
    /* The known patterns leave nothing in between: cutting there is isolating matches, or removing the rest.
     */
    if (step->behavior == HNP_ISOLATED || (step->behavior == HNP_REMOVED && step->invert))
        step->known = hnp_known_pattern_find(step->pattern.text);
    return step->known ? HN_OK : compile(&step->pattern, from, path);
}

static hn_status read_runs(const hnp_reader *from, hnp_splitter *step, const json_t *stage, const char *path)
{
    const char *type = json_string_value(json_object_get(stage, "type"));
    bool each = false;
    hnp_place here = hnp_json_at(from, path);
    step->apply = hnp_runs_split;
    if (!strcmp(type, "WhitespaceSplit")) {
        step->kind = HNP_SPACE;
        step->behavior = HNP_REMOVED;
        return HN_OK;
    }
    if (!strcmp(type, "Punctuation")) {
        step->kind = HNP_PUNCTUATION;
        step->behavior = HNP_ISOLATED;
        return json_object_get(stage, "behavior") ? read_behavior(from, step, stage, path) : HN_OK;
    }
    step->kind = HNP_DIGIT;
    if (hn_json_get_bool(&each, stage, "individual_digits", here.text, from->error))
        return from->error->status;
    step->behavior = each ? HNP_ISOLATED : HNP_CONTIGUOUS;
    return HN_OK;
}

/* "first", "always", "never"; files of before have add_prefix_space. */
static hn_status read_scheme(const hnp_reader *from, hnp_prepend *out, const json_t *stage, const char *path)
{
    const char *scheme = NULL;
    bool prefix = true;
    hnp_place here = hnp_json_at(from, path);
    if (hn_json_get_bool(&prefix, stage, "add_prefix_space", here.text, from->error) ||
        hn_json_get_string(&scheme, stage, "prepend_scheme", here.text, from->error))
        return from->error->status;
    if (!scheme) scheme = prefix ? "always" : "never";
    if (strcmp(scheme, "always") && strcmp(scheme, "first") && strcmp(scheme, "never"))
        return hn_fail(from->error, HN_ERR_FORMAT,
                       "%s.prepend_scheme: always, first or never expected, got \"%.60s\"", here.text,
                       scheme);
    *out = *scheme == 'a' ? HNP_ALWAYS : *scheme == 'f' ? HNP_FIRST : HNP_NEVER;
    return HN_OK;
}

static hn_status read_metaspace(const hnp_reader *from, hnp_splitter *step, const json_t *stage,
                                const char *path)
{
    hnp_place here = hnp_json_at(from, path);
    step->apply = hnp_metaspace_split;
    step->cut = true;
    if (take_string(&step->blank, from, stage, "replacement", path) ||
        read_scheme(from, &step->prepend, stage, path) ||
        hn_json_get_bool(&step->cut, stage, "split", here.text, from->error))
        return from->error->status;
    uint32_t point;
    if (!*step->blank || step->blank[hnp_utf8_next(&point, step->blank)])
        return hn_fail(from->error, HN_ERR_FORMAT, "%s.replacement: one character expected, got \"%.60s\"",
                       here.text, step->blank);
    return HN_OK;
}

static hn_status read_plain(const hnp_reader *from, hnp_splitter *step, const json_t *stage, const char *path)
{
    (void)from, (void)path;
    const char *type = json_string_value(json_object_get(stage, "type"));
    step->apply = *type == 'B' ? hnp_bert_split : hnp_words_split;
    return HN_OK;
}

static hn_status read_splitter(const hnp_reader *from, const json_t *stage, const char *type,
                               const char *path)
{
    static const struct {
        const char *type;
        hn_status (*read)(const hnp_reader *from, hnp_splitter *step, const json_t *stage, const char *path);
    } kinds[] = {{"BertPreTokenizer", read_plain},
                 {"ByteLevel", read_bytes},
                 {"Split", read_split},
                 {"Digits", read_runs},
                 {"Punctuation", read_runs},
                 {"WhitespaceSplit", read_runs},
                 {"Whitespace", read_plain},
                 {"Metaspace", read_metaspace}};
    hn_tokenizer *tokenizer = from->tokenizer;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type)) continue;
        if (tokenizer->splitter_count == HNP_MAX_STEPS) return too_many(from, path);
        hnp_splitter *step = &tokenizer->splitters[tokenizer->splitter_count++];
        hn_status status = kinds[i].read(from, step, stage, path);
        if (status) return status;
        if (step->apply != hnp_bert_split) return hash_step(from, stage, path);
        hn_hasher_add_text(tokenizer->hasher, type);
        return HN_OK;
    }
    return hnp_json_refuse(from, path, type,
                           "the types BertPreTokenizer, ByteLevel, Split, Digits, Punctuation, Whitespace, "
                           "WhitespaceSplit, Metaspace, Sequence");
}

/* Decoders */

static hn_status read_decoder_settings(const hnp_reader *from, hnp_decoder *step, const json_t *stage,
                                       const char *path)
{
    hnp_place here = hnp_json_at(from, path);
    hnp_prepend prepend = HNP_ALWAYS;
    bool regex = false;
    int64_t start = 0, stop = 0;
    hnp_pattern pattern = {0};
    if (step->apply == hnp_metaspace_decode) {
        if (take_string(&step->text, from, stage, "replacement", path) ||
            read_scheme(from, &prepend, stage, path))
            return from->error->status;
        step->strip = prepend != HNP_NEVER;
    } else if (step->apply == hnp_replace_decode) {
        hn_status status = read_pattern(&pattern, &regex, from, stage, path);
        step->text = pattern.text;
        if (status || take_string(&step->content, from, stage, "content", path)) return from->error->status;
        if (regex) return hnp_json_refuse(from, path, "Regex", "a pattern that is a \"String\"");
    } else if (step->apply == hnp_strip_decode) {
        if (take_string(&step->text, from, stage, "content", path) ||
            hn_json_get_int(&start, stage, "start", 0, INT32_MAX, here.text, from->error) ||
            hn_json_get_int(&stop, stage, "stop", 0, INT32_MAX, here.text, from->error))
            return from->error->status;
        step->start = (size_t)start;
        step->stop = (size_t)stop;
        if (!*step->text) return hn_fail(from->error, HN_ERR_FORMAT, "%s.content: it is empty", here.text);
    }
    return HN_OK;
}

static hn_status read_wordpiece(const hnp_reader *from, const json_t *stage, const char *path)
{
    const char *prefix = "##";
    bool cleanup = true;
    hnp_place here = hnp_json_at(from, path);
    if (hn_json_get_string(&prefix, stage, "prefix", here.text, from->error) ||
        hn_json_get_bool(&cleanup, stage, "cleanup", here.text, from->error))
        return from->error->status;
    return hnp_wordpiece_decoder(from->tokenizer, prefix, cleanup, from->error);
}

static hn_status read_decoder(const hnp_reader *from, const json_t *stage, const char *type, const char *path)
{
    static const struct {
        const char *type;
        hnp_decode_function *apply;
    } kinds[] = {{"WordPiece", hnp_wordpiece_decode},
                 {"ByteLevel", hnp_bytes_decode},
                 {"Metaspace", hnp_metaspace_decode},
                 {"Fuse", hnp_fuse_decode},
                 {"ByteFallback", hnp_fallback_decode},
                 {"Replace", hnp_replace_decode},
                 {"Strip", hnp_strip_decode}};
    hn_tokenizer *tokenizer = from->tokenizer;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type)) continue;
        if (tokenizer->decoder_count == HNP_MAX_STEPS) return too_many(from, path);
        if (!i) return read_wordpiece(from, stage, path);
        hnp_decoder *step = &tokenizer->decoders[tokenizer->decoder_count++];
        step->apply = kinds[i].apply;
        return read_decoder_settings(from, step, stage, path);
    }
    return hnp_json_refuse(
        from, path, type,
        "the types WordPiece, ByteLevel, Metaspace, Fuse, ByteFallback, Replace, Strip, Sequence");
}

hn_status hnp_json_normalizer(const hnp_reader *from, const json_t *root)
{
    return hnp_json_steps(from, json_object_get(root, "normalizer"), "normalizer", "normalizers",
                          read_normalizer);
}

hn_status hnp_json_pre_tokenizer(const hnp_reader *from, const json_t *root)
{
    return hnp_json_steps(from, json_object_get(root, "pre_tokenizer"), "pre_tokenizer", "pretokenizers",
                          read_splitter);
}

hn_status hnp_json_decoder(const hnp_reader *from, const json_t *root)
{
    return hnp_json_steps(from, json_object_get(root, "decoder"), "decoder", "decoders", read_decoder);
}
