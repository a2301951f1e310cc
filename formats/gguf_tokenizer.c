/* tokenizer.json and tokenizer_config.json from the keys tokenizer.* of a GGUF file.
 *
 *     tokenizer.ggml.model   becomes
 *     "gpt2"                 byte-level BPE with the file's merges, split as tokenizer.ggml.pre says
 *     "llama"                SentencePiece's BPE: blanks as U+2581, merges from the scores, bytes as a last resort
 *     "bert"                 WordPiece; the file marks beginnings of words with U+2581, where vocab.txt marks the rest with ##
 *
 * The split patterns have names there and stand nowhere in the file, so the names that are known are a table;
 * each is the pattern of the tokenizer.json that the name was given to. Control tokens, user-defined ones and
 * those that a key names (bos, eos, ...) become added tokens. What the file asks for and the table lacks is
 * refused by name. */
#include <inttypes.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "formats/gguf_vocabulary.h"

#define WORD_MARK "\xe2\x96\x81" /* U+2581 */

const char *const hnp_gguf_special_names[HNP_GGUF_SPECIALS] = {
    [HNP_GGUF_BOS] = "bos_token",  [HNP_GGUF_EOS] = "eos_token", [HNP_GGUF_UNK] = "unk_token",
    [HNP_GGUF_PAD] = "pad_token",  [HNP_GGUF_CLS] = "cls_token", [HNP_GGUF_SEP] = "sep_token",
    [HNP_GGUF_MASK] = "mask_token"};

/* The format's names; "seperator" is how it is spelt. */
static const char *const special_keys[HNP_GGUF_SPECIALS] = {
    [HNP_GGUF_BOS] = "tokenizer.ggml.bos_token_id",     [HNP_GGUF_EOS] = "tokenizer.ggml.eos_token_id",
    [HNP_GGUF_UNK] = "tokenizer.ggml.unknown_token_id", [HNP_GGUF_PAD] = "tokenizer.ggml.padding_token_id",
    [HNP_GGUF_CLS] = "tokenizer.ggml.cls_token_id",     [HNP_GGUF_SEP] = "tokenizer.ggml.seperator_token_id",
    [HNP_GGUF_MASK] = "tokenizer.ggml.mask_token_id"};

#define BYTE_LEVEL(regex)                                                                                    \
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": %s, \"trim_offsets\": true, \"use_regex\": " regex "}"
#define SPLIT(digits)                                                                                        \
    "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "           \
    "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"                                                                        \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}" digits "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|"   \
    "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": \"Isolated\", \"invert\": "                \
    "false}, " BYTE_LEVEL("false") "]}"
#define PLAIN BYTE_LEVEL("true")
#define DIGITS                                                                                               \
    "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", \"individual_digits\": "            \
    "true}, " PLAIN "]}"

/* A split by its name in tokenizer.ggml.pre. `%s` is add_prefix_space. */
typedef struct pre {
    const char *name, *normalizer, *pre_tokenizer;
    bool ignore_merges, add_bos; /* add_bos: when no key says */
} pre;

static const pre pres[] = {
    {"gpt-2", "null", PLAIN, false, false},
    {"roberta-bpe", "null", PLAIN, false, false},
    {"smollm", "null", DIGITS, false, false},
    {"starcoder", "null", DIGITS, false, false},
    {"refact", "null", DIGITS, false, false},
    {"llama-bpe", "null", SPLIT("{1,3}"), true, true},
    {"llama3", "null", SPLIT("{1,3}"), true, true},
    {"llama-v3", "null", SPLIT("{1,3}"), true, true},
    {"qwen2", "{\"type\": \"NFC\"}", SPLIT(""), false, false},
};
enum { PRES = sizeof pres / sizeof *pres };
#define PRE_NAMES "gpt-2, roberta-bpe, smollm, starcoder, refact, llama-bpe, llama3, llama-v3, qwen2"

/* All that the writers below share. */
typedef struct tokenizer {
    const hnp_gguf_model *model;
    hnp_gguf_vocabulary vocabulary;
    int64_t ids[HNP_GGUF_SPECIALS];
    bool add_bos, add_eos, add_space, wordpiece;
} tokenizer;

static bool is(hn_gguf_text text, const char *word)
{
    return text.length == strlen(word) && !memcmp(text.text, word, text.length);
}

hn_status hnp_gguf_special_ids(int64_t ids[HNP_GGUF_SPECIALS], const hnp_gguf_model *model, hn_error *error)
{
    hn_status status = HN_OK;
    for (int i = 0; i < HNP_GGUF_SPECIALS && status == HN_OK; i++) {
        ids[i] = -1;
        status = hn_gguf_get_int(&ids[i], model->file, special_keys[i], 0, model->vocabulary - 1, error);
    }
    return status;
}

/* The token's text as tokenizer.json has it. */
static void write_token(hn_strbuf *out, const tokenizer *self, size_t id)
{
    hn_gguf_text token = self->vocabulary.tokens[id];
    size_t mark = strlen(WORD_MARK);
    bool bracketed = token.length > 2 && token.text[0] == '[' && token.text[token.length - 1] == ']';
    char rest[2 + 1024];
    if (!self->wordpiece || hnp_gguf_vocabulary_type(&self->vocabulary, id) == HNP_TOKEN_CONTROL ||
        bracketed) {
        hn_json_quote(out, token.text, token.length);
    } else if (token.length >= mark && !memcmp(token.text, WORD_MARK, mark)) {
        hn_json_quote(out, token.text + mark, token.length - mark);
    } else {
        memcpy(rest, "##", 2);
        memcpy(rest + 2, token.text, token.length);
        hn_json_quote(out, rest, token.length + 2);
    }
}

static void write_id_token(hn_strbuf *out, const tokenizer *self, int64_t id)
{
    if (id < 0)
        hn_strbuf_puts(out, "null");
    else
        write_token(out, self, (size_t)id);
}

/* Whether a token is an added one, and special. */
static bool is_added(const tokenizer *self, size_t id, bool *special)
{
    int64_t type = hnp_gguf_vocabulary_type(&self->vocabulary, id);
    *special = type == HNP_TOKEN_CONTROL || type == HNP_TOKEN_UNKNOWN;
    for (int i = 0; i < HNP_GGUF_SPECIALS; i++) *special |= self->ids[i] == (int64_t)id;
    return *special || type == HNP_TOKEN_USER;
}

static hn_status write_added(hn_strbuf *out, const tokenizer *self, hn_error *error)
{
    const char *separator = "\n";
    bool special;
    hn_strbuf_puts(out, "\"added_tokens\": [");
    for (size_t i = 0; i < self->vocabulary.count; i++) {
        if (!is_added(self, i, &special)) continue;
        if (!self->vocabulary.tokens[i].length)
            return hn_fail(error, HN_ERR_FORMAT,
                           "%s: key tokenizer.ggml.tokens: token %zu: expected text in a special token",
                           hn_gguf_path(self->model->file), i);
        hn_strbuf_printf(out, "%s{\"id\": %zu, \"content\": ", separator, i);
        write_token(out, self, i);
        hn_strbuf_printf(
            out,
            ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
            "\"special\": %s}",
            special ? "true" : "false");
        separator = ",\n";
    }
    hn_strbuf_puts(out, "],\n");
    return HN_OK;
}

static void write_vocabulary(hn_strbuf *out, const tokenizer *self)
{
    hn_strbuf_puts(out, "\"vocab\": {");
    for (size_t i = 0; i < self->vocabulary.count; i++) {
        hn_strbuf_puts(out, i ? ",\n" : "\n");
        write_token(out, self, i);
        hn_strbuf_printf(out, ": %zu", i);
    }
    hn_strbuf_puts(out, "\n}");
}

/* A piece of a template: a special token, or a sequence ("A", "B"). */
static void write_piece(hn_strbuf *out, const tokenizer *self, int64_t id, const char *sequence, int type,
                        const char **separator)
{
    if (!sequence && id < 0) return;
    hn_strbuf_puts(out, *separator);
    *separator = ", ";
    if (sequence)
        hn_strbuf_printf(out, "{\"Sequence\": {\"id\": \"%s\", \"type_id\": %d}}", sequence, type);
    else {
        hn_strbuf_puts(out, "{\"SpecialToken\": {\"id\": ");
        write_token(out, self, (size_t)id);
        hn_strbuf_printf(out, ", \"type_id\": %d}}", type);
    }
}

/* first A last, and first A last again B last, each of them -1 for none. */
static void write_template(hn_strbuf *out, const tokenizer *self, int64_t first, int64_t again, int64_t last)
{
    const char *separator = "";
    hn_strbuf_puts(out, "\"post_processor\": ");
    if (first < 0 && last < 0) {
        hn_strbuf_puts(out, "null,\n");
        return;
    }
    hn_strbuf_puts(out, "{\"type\": \"TemplateProcessing\", \"single\": [");
    write_piece(out, self, first, NULL, 0, &separator);
    write_piece(out, self, -1, "A", 0, &separator);
    write_piece(out, self, last, NULL, 0, &separator);
    hn_strbuf_puts(out, "], \"pair\": [");
    separator = "";
    write_piece(out, self, first, NULL, 0, &separator);
    write_piece(out, self, -1, "A", 0, &separator);
    write_piece(out, self, last, NULL, 0, &separator);
    write_piece(out, self, again, NULL, 1, &separator);
    write_piece(out, self, -1, "B", 1, &separator);
    write_piece(out, self, last, NULL, 1, &separator);
    hn_strbuf_puts(out, "], \"special_tokens\": {");
    separator = "";
    for (int i = 0; i < 2; i++) {
        int64_t id = i ? last : first;
        if (id < 0 || (i && last == first)) continue;
        hn_strbuf_puts(out, separator);
        write_token(out, self, (size_t)id);
        hn_strbuf_puts(out, ": {\"id\": ");
        write_token(out, self, (size_t)id);
        hn_strbuf_printf(out, ", \"ids\": [%" PRId64 "], \"tokens\": [", id);
        write_token(out, self, (size_t)id);
        hn_strbuf_puts(out, "]}");
        separator = ", ";
    }
    hn_strbuf_puts(out, "}},\n");
}

/* Begins and ends of a text, as add_bos_token and add_eos_token ask; a token asked for must be named. */
static hn_status write_ends(hn_strbuf *out, const tokenizer *self, hn_error *error)
{
    int64_t bos = self->add_bos ? self->ids[HNP_GGUF_BOS] : -1,
            eos = self->add_eos ? self->ids[HNP_GGUF_EOS] : -1;
    if ((self->add_bos && bos < 0) || (self->add_eos && eos < 0))
        return hn_fail(error, HN_ERR_FORMAT, "%s: key %s: expected it, as the token is added to every text",
                       hn_gguf_path(self->model->file),
                       special_keys[self->add_bos && bos < 0 ? HNP_GGUF_BOS : HNP_GGUF_EOS]);
    write_template(out, self, bos, bos, eos);
    return HN_OK;
}

static hn_status find_pre(const pre **out, const hnp_gguf_model *model, hn_error *error)
{
    hn_gguf_text name = {model->family->pre, model->family->pre ? strlen(model->family->pre) : 0};
    hn_status status = HN_OK;
    if (!name.length) status = hn_gguf_require(model->file, "tokenizer.ggml.pre", error);
    if (status == HN_OK) status = hn_gguf_get_string(&name, model->file, "tokenizer.ggml.pre", error);
    if (status != HN_OK) return status;
    for (int i = 0; i < PRES; i++)
        if (is(name, pres[i].name)) {
            *out = &pres[i];
            return HN_OK;
        }
    return hn_fail(error, HN_ERR_UNSUPPORTED, "%s: key tokenizer.ggml.pre: expected one of %s, got \"%.*s\"",
                   hn_gguf_path(model->file), PRE_NAMES, name.length > 64 ? 64 : (int)name.length, name.text);
}

static hn_status write_bpe_model(hn_strbuf *out, const tokenizer *self, bool fallback, bool ignore_merges,
                                 int64_t unknown, hn_error *error)
{
    const char *flag = fallback ? "true" : "false";
    hn_strbuf_puts(out, "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": ");
    write_id_token(out, self, unknown);
    hn_strbuf_printf(out,
                     ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": %s, "
                     "\"byte_fallback\": %s, \"ignore_merges\": %s,\n",
                     flag, flag, ignore_merges ? "true" : "false");
    write_vocabulary(out, self);
    hn_strbuf_puts(out, ",\n");
    hn_status status = fallback ? hnp_gguf_merges_from_scores(out, &self->vocabulary, error)
                                : hnp_gguf_merges_write(out, &self->vocabulary, error);
    hn_strbuf_puts(out, "}");
    return status;
}

static hn_status write_byte_level(hn_strbuf *out, tokenizer *self, hn_error *error)
{
    const pre *split = NULL;
    hn_status status = find_pre(&split, self->model, error);
    if (status != HN_OK) return status;
    const hn_gguf *file = self->model->file;
    self->add_bos = split->add_bos;
    status = hn_gguf_get_bool(&self->add_bos, file, "tokenizer.ggml.add_bos_token", error);
    if (status == HN_OK)
        status = hn_gguf_get_bool(&self->add_eos, file, "tokenizer.ggml.add_eos_token", error);
    if (status == HN_OK)
        status = hn_gguf_get_bool(&self->add_space, file, "tokenizer.ggml.add_space_prefix", error);
    if (status == HN_OK) status = write_added(out, self, error);
    if (status != HN_OK) return status;
    hn_strbuf_printf(out, "\"normalizer\": %s,\n\"pre_tokenizer\": ", split->normalizer);
    hn_strbuf_printf(out, split->pre_tokenizer, self->add_space ? "true" : "false");
    hn_strbuf_puts(out, ",\n");
    status = write_ends(out, self, error);
    hn_strbuf_puts(
        out, "\"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
             "\"use_regex\": true},\n");
    return status == HN_OK ? write_bpe_model(out, self, false, split->ignore_merges, -1, error) : status;
}

static hn_status write_sentencepiece(hn_strbuf *out, tokenizer *self, hn_error *error)
{
    const hn_gguf *file = self->model->file;
    int64_t unknown = self->ids[HNP_GGUF_UNK];
    for (size_t i = 0; i < self->vocabulary.count && unknown < 0; i++)
        if (hnp_gguf_vocabulary_type(&self->vocabulary, i) == HNP_TOKEN_UNKNOWN) unknown = (int64_t)i;
    self->add_bos = self->add_space = true;
    hn_status status = hn_gguf_get_bool(&self->add_bos, file, "tokenizer.ggml.add_bos_token", error);
    if (status == HN_OK)
        status = hn_gguf_get_bool(&self->add_eos, file, "tokenizer.ggml.add_eos_token", error);
    if (status == HN_OK)
        status = hn_gguf_get_bool(&self->add_space, file, "tokenizer.ggml.add_space_prefix", error);
    if (status == HN_OK) status = write_added(out, self, error);
    if (status != HN_OK) return status;
    hn_strbuf_printf(out,
                     "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [%s"
                     "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"" WORD_MARK
                     "\"}]},\n",
                     self->add_space ? "{\"type\": \"Prepend\", \"prepend\": \"" WORD_MARK "\"}, " : "");
    hn_strbuf_puts(out, "\"pre_tokenizer\": null,\n");
    status = write_ends(out, self, error);
    hn_strbuf_printf(
        out,
        "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": "
        "{\"String\": \"" WORD_MARK
        "\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}%s]},\n",
        self->add_space ? ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}" : "");
    return status == HN_OK ? write_bpe_model(out, self, true, false, unknown, error) : status;
}

/* An uncased vocabulary has no capital that a text could reach. */
static bool has_capitals(const tokenizer *self)
{
    bool special;
    for (size_t i = 0; i < self->vocabulary.count; i++) {
        hn_gguf_text token = self->vocabulary.tokens[i];
        if (is_added(self, i, &special) || (token.length && memchr(token.text, '[', token.length))) continue;
        for (size_t b = 0; b < token.length; b++)
            if (token.text[b] >= 'A' && token.text[b] <= 'Z') return true;
    }
    return false;
}

static hn_status write_wordpiece(hn_strbuf *out, tokenizer *self, hn_error *error)
{
    int64_t cls = self->ids[HNP_GGUF_CLS] >= 0 ? self->ids[HNP_GGUF_CLS] : self->ids[HNP_GGUF_BOS];
    int64_t sep = self->ids[HNP_GGUF_SEP] >= 0 ? self->ids[HNP_GGUF_SEP] : self->ids[HNP_GGUF_EOS];
    int64_t unknown = self->ids[HNP_GGUF_UNK];
    const char *file = hn_gguf_path(self->model->file);
    if (cls < 0 || sep < 0 || unknown < 0)
        return hn_fail(error, HN_ERR_FORMAT, "%s: key %s: expected it, the file lacks it", file,
                       special_keys[cls < 0   ? HNP_GGUF_CLS
                                    : sep < 0 ? HNP_GGUF_SEP
                                              : HNP_GGUF_UNK]);
    self->wordpiece = true;
    self->ids[HNP_GGUF_CLS] = cls;
    self->ids[HNP_GGUF_SEP] = sep;
    hn_status status = write_added(out, self, error);
    hn_strbuf_printf(out,
                     "\"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true, "
                     "\"handle_chinese_chars\": true, "
                     "\"strip_accents\": null, \"lowercase\": %s},\n",
                     has_capitals(self) ? "false" : "true");
    hn_strbuf_puts(out, "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"},\n");
    write_template(out, self, cls, -1, sep);
    hn_strbuf_puts(out, "\"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": true},\n"
                        "\"model\": {\"type\": \"WordPiece\", \"unk_token\": ");
    write_token(out, self, (size_t)unknown);
    hn_strbuf_puts(out, ", \"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 100,\n");
    write_vocabulary(out, self);
    hn_strbuf_puts(out, "}");
    return status;
}

static hn_status write_config(hn_strbuf *out, const tokenizer *self, hn_error *error)
{
    hn_gguf_text chat = {0};
    hn_status status = hn_gguf_get_string(&chat, self->model->file, "tokenizer.chat_template", error);
    hn_strbuf_printf(
        out,
        "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"model_max_length\": %" PRId64
        ",\n  \"clean_up_tokenization_spaces\": %s",
        self->model->positions, self->wordpiece ? "true" : "false");
    if (!self->wordpiece)
        hn_strbuf_printf(out, ",\n  \"add_bos_token\": %s,\n  \"add_eos_token\": %s",
                         self->add_bos ? "true" : "false", self->add_eos ? "true" : "false");
    for (int i = 0; i < HNP_GGUF_SPECIALS; i++) {
        if (self->ids[i] < 0) continue;
        hn_strbuf_printf(out, ",\n  \"%s\": ", hnp_gguf_special_names[i]);
        write_token(out, self, (size_t)self->ids[i]);
    }
    if (chat.text) {
        hn_strbuf_puts(out, ",\n  \"chat_template\": ");
        hn_json_quote(out, chat.text, chat.length);
    }
    hn_strbuf_puts(out, "\n}\n");
    return status;
}

static hn_status write_model(hn_strbuf *out, tokenizer *self, hn_error *error)
{
    hn_gguf_text kind = {0};
    hn_status status = hn_gguf_require(self->model->file, "tokenizer.ggml.model", error);
    if (status == HN_OK) status = hn_gguf_get_string(&kind, self->model->file, "tokenizer.ggml.model", error);
    if (status != HN_OK) return status;
    if (is(kind, "gpt2")) return write_byte_level(out, self, error);
    if (is(kind, "llama")) return write_sentencepiece(out, self, error);
    if (is(kind, "bert")) return write_wordpiece(out, self, error);
    return hn_fail(error, HN_ERR_UNSUPPORTED,
                   "%s: key tokenizer.ggml.model: expected gpt2, llama or bert, got \"%.*s\"",
                   hn_gguf_path(self->model->file), kind.length > 64 ? 64 : (int)kind.length, kind.text);
}

/* Special ids name tokens, where the embedding may have rows without a token. */
static hn_status check_special(const tokenizer *self, hn_error *error)
{
    for (int i = 0; i < HNP_GGUF_SPECIALS; i++)
        if (self->ids[i] >= (int64_t)self->vocabulary.count)
            return hn_fail(error, HN_ERR_FORMAT, "%s: key %s: expected a token, 0 to %zu, got %" PRId64,
                           hn_gguf_path(self->model->file), special_keys[i], self->vocabulary.count - 1,
                           self->ids[i]);
    return HN_OK;
}

hn_status hnp_gguf_tokenizer(hn_strbuf *out, hn_strbuf *config, const hnp_gguf_model *model, hn_error *error)
{
    tokenizer self = {.model = model};
    hn_status status = hnp_gguf_vocabulary_open(&self.vocabulary, model, error);
    if (status == HN_OK) status = hnp_gguf_special_ids(self.ids, model, error);
    if (status == HN_OK) status = check_special(&self, error);
    hn_strbuf_puts(out, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n");
    if (status == HN_OK) status = write_model(out, &self, error);
    hn_strbuf_puts(out, "}\n");
    if (status == HN_OK) status = write_config(config, &self, error);
    if (status == HN_OK && (out->failed || config->failed))
        status =
            hn_fail(error, HN_ERR_MEMORY, "%s: out of memory for a tokenizer", hn_gguf_path(model->file));
    hnp_gguf_vocabulary_close(&self.vocabulary);
    return status;
}
