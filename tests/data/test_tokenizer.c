/* Tokenizers from tokenizer.json and vocab.txt: cases by hand, what is refused and how, memory that runs out.
 */
#include "data/tokenizer.h"

#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "tests/test.h"

#define STAGES                                                                                               \
    "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"         \
    "\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"          \
    "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true}"
#define TEMPLATE                                                                                             \
    "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":[\"[CLS]\",1]}"
#define VOCAB                                                                                                \
    "\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"play\":3,\"##ing\":4,\"##ed\":5,\"un\":6,\"##happy\":7,\",\":8,"  \
    "\"cafe\":9,"                                                                                            \
    "\"\xe4\xb8\xad\":10,\".\":11"
#define MODEL                                                                                                \
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","        \
    "\"max_input_chars_per_word\":100,\"vocab\":{" VOCAB "}}"
#define ADDED                                                                                                \
    "\"added_tokens\":[{\"id\":2,\"content\":\"[SEP]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":"   \
    "false,"                                                                                                 \
    "\"normalized\":false,\"special\":true}]"
#define LEVEL "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define WHOLE "{" ADDED "," STAGES "," TEMPLATE "," MODEL "}"

static hn_status open_text(hn_tokenizer **out, const char *text, hn_error *error)
{
    return hn_tokenizer_open_json(out, text, strlen(text), "tokenizer.json", error);
}

/* "1 3 4 2" for the ids of a text (or pair), a dash behind those of type 1. */
static const char *ids_of(const hn_tokenizer *tokenizer, const char *text, const char *pair,
                          int32_t max_tokens)
{
    static char line[1024];
    hn_encoding encoding;
    hn_error error = {0};
    int at = 0;
    hn_encoding_init(&encoding);
    line[0] = '\0';
    if (hn_tokenizer_encode(tokenizer, &encoding, text, strlen(text), pair, pair ? strlen(pair) : 0, true,
                            max_tokens, &error))
        return "failed";
    for (int32_t i = 0; i < encoding.count; i++)
        at += snprintf(line + at, sizeof line - (size_t)at, "%s%d%s", i ? " " : "", encoding.ids[i],
                       encoding.types[i] ? "'" : "");
    hn_encoding_close(&encoding);
    return line;
}

TEST(encodes)
{
    hn_tokenizer *tokenizer = NULL;
    hn_error error = {0};
    CHECK_OK(open_text(&tokenizer, WHOLE, &error));
    CHECK_INT(hn_tokenizer_vocabulary(tokenizer), 12);
    CHECK_INT(hn_tokenizer_id(tokenizer, "##ing"), 4);
    CHECK_INT(hn_tokenizer_id(tokenizer, "ing"), -1);
    CHECK_TEXT(hn_tokenizer_token(tokenizer, 7), "##happy");
    CHECK(hn_tokenizer_token(tokenizer, 12) == NULL);
    CHECK_TEXT(ids_of(tokenizer, "", NULL, 0), "1 2");
    CHECK_TEXT(ids_of(tokenizer, "Playing, PLAYED\tunhappy", NULL, 0), "1 3 4 8 3 5 6 7 2");
    CHECK_TEXT(ids_of(tokenizer, "Caf\xc3\xa9 cafe\xcc\x81 play\xe4\xb8\xad", NULL, 0), "1 9 9 3 10 2");
    CHECK_TEXT(ids_of(tokenizer,
                      "playful [SEP]play\x01"
                      "ed \xff.",
                      NULL, 0),
               "1 0 2 3 5 11 2");
    CHECK_TEXT(ids_of(tokenizer, "play", "un", 0), "1 3 2 6' 2'");
    hn_tokenizer_free(tokenizer);
}

TEST(truncates_the_longer_first)
{
    hn_tokenizer *tokenizer = NULL;
    hn_error error = {0};
    CHECK_OK(open_text(&tokenizer, WHOLE, &error));
    const char *four = "play , play .", *two = "un cafe";
    CHECK_TEXT(ids_of(tokenizer, four, two, 9), "1 3 8 3 11 2 6' 9' 2'");
    CHECK_TEXT(ids_of(tokenizer, four, two, 8), "1 3 8 3 2 6' 9' 2'");
    CHECK_TEXT(ids_of(tokenizer, four, two, 6), "1 3 8 2 6' 2'"); /* the odd id stays with the longer text */
    CHECK_TEXT(ids_of(tokenizer, two, four, 6), "1 6 2 3' 8' 2'");
    CHECK_TEXT(ids_of(tokenizer, two, two, 6), "1 6 2 6' 9' 2'");
    CHECK_TEXT(ids_of(tokenizer, four, two, 3), "1 2 2'");
    CHECK_TEXT(ids_of(tokenizer, four, two, 2), "1 2");
    CHECK_TEXT(ids_of(tokenizer, four, NULL, 3), "1 3 2");
    hn_tokenizer_free(tokenizer);
}

/* Of a pair that is too long the first text is cut, the second never. */
TEST(cuts_the_first_alone)
{
    static const struct {
        int32_t max_tokens;
        const char *ids;
    } cases[] = {{9, "1 3 8 3 11 2 6 9 2 "}, {8, "1 3 8 3 2 6 9 2 "}, {6, "1 3 2 6 9 2 "}, {5, "1 2 6 9 2 "}};
    hn_tokenizer *tokenizer = NULL;
    hn_encoding encoding;
    hn_error error = {0};
    hn_encoding_init(&encoding);
    CHECK_OK(open_text(&tokenizer, WHOLE, &error));
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char ids[64] = "";
        CHECK_OK(hn_tokenizer_encode_beside(tokenizer, &encoding, "play , play .", 13, "un cafe", 7, cases[c].max_tokens, &error));
        for (int32_t i = 0; i < encoding.count; i++) snprintf(ids + strlen(ids), sizeof ids - strlen(ids), "%d ", encoding.ids[i]);
        CHECK_TEXT(ids, cases[c].ids);
        CHECK_INT(encoding.types[encoding.count - 3], 1);
    }
    CHECK_INT(hn_tokenizer_encode_beside(tokenizer, &encoding, "play", 4, "un cafe", 7, 4, &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "\"un cafe\", which is not to be cut: expected at most 4 tokens with the special ones, got 5");
    hn_encoding_close(&encoding);
    hn_tokenizer_free(tokenizer);
}

TEST(decodes)
{
    hn_tokenizer *tokenizer = NULL;
    hn_error error = {0};
    hn_strbuf text;
    const int32_t ids[] = {1, 6, 7, 8, 3, 4, 11, 2}, unknown[] = {3, 99};
    hn_strbuf_init(&text);
    CHECK_OK(open_text(&tokenizer, WHOLE, &error));
    CHECK_OK(hn_tokenizer_decode(tokenizer, &text, ids, 8, true, &error));
    CHECK_TEXT(text.text, "[CLS] unhappy, playing."); /* [CLS] is no added token here */
    CHECK_INT(hn_tokenizer_decode(tokenizer, &text, unknown, 2, true, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "id 99");
    hn_strbuf_close(&text);
    hn_tokenizer_free(tokenizer);
}

/* Refused, and the message has both parts. */
static const struct refusal {
    const char *text, *part, *other;
} refusals[] = {
    {"", "tokenizer.json", ""},
    {"[]", "an object expected", ""},
    {"{}", "model", "an object expected"},
    {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}}}", "model.type", "\"WordLevel\""},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", "model.merges", "an array"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", "model.dropout",
     "0.1"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}",
     "model.end_of_word_suffix", "</w>"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"?\"}}",
     "model.unk_token", "\"?\""},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", "model.merges[0]",
     "two tokens"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a  a\"]}}", "model.merges[0]",
     "two tokens"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",7]]}}", "model.merges[0]",
     "two tokens"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", "model.merges[0]",
     "the second"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", "model.merges[0]",
     "the merge"},
    {"{" LEVEL ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", "byte-level", "none for"},
    {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[]}}", "model.vocab", "an array"},
    {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\",null]]}}", "model.vocab[0]",
     "its score"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]]}}", "model.unk_id", "-1"},
    {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"a\",-1]]}}", "model.unk_id", "got 1"},
    {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"\",-1]]}}", "model.vocab[0]", "got 0"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":2147483648}}}", "2147483648", "model.vocab"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":4194304}}}", "4194304", "[UNK]"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":-1}}}", "-1", "model.vocab"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"a\":0}}}", "id 0 stands for", "\"a\""},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"[UNK]\":1}}}", "tokenizer.json", "[UNK]"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"\\ud800\":1}}}", "tokenizer.json", ""},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":1.5}}}", "an integer expected", "[UNK]"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":[\"[UNK]\"]}}", "model.vocab", "an object"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", "\"[UNK]\"", "not in the vocabulary"},
    {"{\"model\":{\"type\":\"WordPiece\",\"max_input_chars_per_word\":1000000,\"vocab\":{\"[UNK]\":0}}}",
     "max_input_chars_per_word", "1000000"},
    {"{\"normalizer\":{\"type\":\"Nmt\"}," MODEL "}", "normalizer", "\"Nmt\""},
    {"{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"X\"}]}," MODEL
     "}",
     "normalizer.normalizers[1]", "\"X\""},
    {"{\"normalizer\":{\"type\":\"Sequence\"}," MODEL "}", "normalizer.normalizers", "an array"},
    {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(a\"},\"content\":\"\"}," MODEL "}",
     "normalizer", "does not compile"},
    {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}," MODEL "}",
     "normalizer.pattern", "empty"},
    {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}," MODEL "}", "normalizer.content",
     "missing"},
    {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":\"a\",\"content\":\"\"}," MODEL "}",
     "normalizer.pattern", "\"Regex\""},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA\"}," MODEL "}",
     "precompiled_charsmap", "base64"},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"////fwAAAAA=\"}," MODEL "}",
     "precompiled_charsmap", "base64"},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAAAAAAD/\"}," MODEL "}",
     "precompiled_charsmap", "not UTF-8"},
    {"{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":1}," MODEL "}", "lowercase", "normalizer"},
    {"{\"normalizer\":7," MODEL "}", "normalizer", "an object or null"},
    {"{\"normalizer\":{}," MODEL "}", "normalizer.type", "missing"},
    {"{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," MODEL "}", "pre_tokenizer", "UnicodeScripts"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\h\"},\"behavior\":\"Isolated\"}"
     "," MODEL "}",
     "pre_tokenizer", "an escape"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"behavior\":\"Isolated\"}"
     "," MODEL "}",
     "pre_tokenizer", "an intersection"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Cut\"}," MODEL "}",
     "pre_tokenizer.behavior", "Cut"},
    {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}," MODEL "}",
     "pre_tokenizer.replacement", "one character"},
    {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}," MODEL
     "}",
     "pre_tokenizer.prepend_scheme", "last"},
    {"{\"decoder\":{\"type\":\"CTC\"}," MODEL "}", "decoder", "CTC"},
    {"{\"decoder\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"\"}," MODEL "}",
     "decoder", "Regex"},
    {"{\"decoder\":{\"type\":\"Strip\",\"content\":\"\",\"start\":1}," MODEL "}", "decoder.content", "empty"},
    {"{\"post_processor\":{\"type\":\"RobertaProcessing\"}," MODEL "}", "post_processor",
     "the id of a token"},
    {"{\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"BertProcessing\",\"sep\":[\"\","
     "2],"
     "\"cls\":[\"\",1]},{\"type\":\"TemplateProcessing\"}]}," MODEL "}",
     "post_processor.processors[1]", "the second"},
    {"{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"[CLS]\",99],\"sep\":[\"[SEP]\",2]}," MODEL
     "}",
     "post_processor", "99"},
    {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\",\"type_"
     "id\":0}}],"
     "\"pair\":[],\"special_tokens\":{}}," MODEL "}",
     "post_processor.single", "A once and B never"},
    {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"[CLS]\","
     "\"type_id\":0}}],\"pair\":[],\"special_tokens\":{}}," MODEL "}",
     "post_processor.single[0]", "[CLS]"},
    {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\",\"type_"
     "id\":0}},"
     "{\"Sequence\":{\"id\":\"B\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{}}," MODEL "}",
     "post_processor.single", "got 1 and 1"},
    {"{\"added_tokens\":[{\"id\":12,\"content\":\"\"}]," MODEL "}", "added_tokens[0].content", "got 0"},
    {"{\"added_tokens\":[{\"id\":12,\"content\":\"x\"},{\"id\":12,\"content\":\"x\"}]," MODEL "}",
     "added_tokens[1]", "12"},
    {"{\"added_tokens\":[{\"id\":3,\"content\":\"play\"},{\"id\":3,\"content\":\"play\"}]," MODEL "}",
     "added_tokens[1]", "added before"},
    {"{\"added_tokens\":[{\"id\":99,\"content\":\"x\"}]," MODEL "}", "added_tokens[0].id", "12 expected"},
    {"{\"added_tokens\":[{\"id\":4,\"content\":\"play\"}]," MODEL "}", "added_tokens[0].id", "3 expected"},
    {"{\"added_tokens\":[{\"content\":\"x\"}]," MODEL "}", "added_tokens[0].id", "missing"},
    {"{\"added_tokens\":[{\"id\":12,\"content\":\"\\u0001\",\"normalized\":true}]," STAGES "," MODEL "}",
     "added token 12", "nothing of its content"},
};

TEST(refuses_with_the_place)
{
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        hn_tokenizer *tokenizer = NULL;
        hn_error error = {0};
        hn_status status = open_text(&tokenizer, refusals[i].text, &error);
        if (status == HN_OK) fprintf(stderr, "accepted: %s\n", refusals[i].text);
        CHECK(status == HN_ERR_FORMAT || status == HN_ERR_UNSUPPORTED);
        CHECK_CONTAINS(error.message, refusals[i].part);
        CHECK_CONTAINS(error.message, refusals[i].other);
    }
}

/* Three steps that each replace a character by 400 make 64 million of one: refused before they stand in memory, whichever
 * stage they are of, and for an added token when the file is read. */
TEST(steps_that_make_too_much)
{
    char replace[640], nested[2200], text[6000], content[401];
    hn_tokenizer *tokenizer = NULL;
    hn_error error = {0};
    hn_encoding encoding;
    hn_strbuf decoded;
    int32_t id;
    memset(content, ',', 400), content[400] = '\0';
    snprintf(replace, sizeof replace, "{\"type\":\"Replace\",\"pattern\":{\"String\":\",\"},\"content\":\"%s\"}", content);
    snprintf(nested, sizeof nested, "[%s,%s,%s]", replace, replace, replace);
    hn_encoding_init(&encoding);
    hn_strbuf_init(&decoded);
    snprintf(text, sizeof text, "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":%s},\"decoder\":{\"type\":\"Sequence\",\"decoders\":%s}," MODEL "}",
             nested, nested);
    CHECK_OK(open_text(&tokenizer, text, &error));
    id = hn_tokenizer_id(tokenizer, ",");
    CHECK(id >= 0);
    CHECK_INT(hn_tokenizer_encode(tokenizer, &encoding, ",", 1, NULL, 0, false, 0, &error), HN_ERR_UNSUPPORTED);
    CHECK_CONTAINS(error.message, "a text of 1 bytes: the tokenizer's steps make more than 64 times as much of it");
    hn_error_reset(&error);
    CHECK_INT(hn_tokenizer_decode(tokenizer, &decoded, &id, 1, false, &error), HN_ERR_UNSUPPORTED);
    CHECK_CONTAINS(error.message, "1 ids: the decoder's steps make more than 64 times as much");
    hn_error_reset(&error);
    CHECK_OK(hn_tokenizer_encode(tokenizer, &encoding, "b", 1, NULL, 0, false, 0, &error));
    hn_tokenizer_free(tokenizer);
    tokenizer = NULL;
    snprintf(text, sizeof text, "{\"added_tokens\":[{\"id\":12,\"content\":\"x,\",\"normalized\":true}],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":%s}," MODEL "}",
             nested);
    CHECK_INT(open_text(&tokenizer, text, &error), HN_ERR_UNSUPPORTED);
    CHECK_CONTAINS(error.message, "added token 12 is normalized: the tokenizer's steps make more");
    hn_encoding_close(&encoding);
    hn_strbuf_close(&decoded);
}

/* Many added tokens that a normalizer makes much of, or takes long for: each by itself is little, and all of a file have one bound. */
TEST(added_tokens_that_are_normalized)
{
    static const struct {
        const char *pattern, *middle;
        int content, tokens, a; /* bytes of what replaces the pattern, tokens, and so many "a" in each */
        const char *message;    /* NULL: read */
    } cases[] = {{"\"String\":\"x\"", "x", 1000, 20, 0, NULL},
                 {"\"String\":\"x\"", "x", 1022, 1, 0, "added token 12: at most 1024 bytes expected when it is normalized, got 1025"},
                 {"\"String\":\"x\"", "x", 1000, 200, 0, "is normalized: the tokenizer's steps make more than 64 times as much"},
                 {"\"Regex\":\"(?=a*b)a\"", "", 1, 20, 1000, NULL},
                 {"\"Regex\":\"(?=a*b)a\"", "", 1, 250, 1000, "is normalized: a regular expression of the tokenizer takes too many steps"}};
    char many[1100];
    memset(many, 'a', sizeof many);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hn_tokenizer *tokenizer = NULL;
        hn_error error = {0};
        hn_strbuf json;
        hn_strbuf_init(&json);
        hn_strbuf_puts(&json, "{\"added_tokens\":[");
        for (int k = 0; k < cases[i].tokens; k++)
            hn_strbuf_printf(&json, "%s{\"id\":%d,\"content\":\"%03d%.*s%s\",\"normalized\":true}", k ? "," : "", 12 + k, k, cases[i].a, many,
                             cases[i].middle);
        hn_strbuf_printf(&json, "],\"normalizer\":{\"type\":\"Replace\",\"pattern\":{%s},\"content\":\"%.*s\"}," MODEL "}", cases[i].pattern,
                         cases[i].content, many);
        hn_status status = open_text(&tokenizer, json.text, &error);
        CHECK_INT(status, cases[i].message ? HN_ERR_UNSUPPORTED : HN_OK);
        if (cases[i].message) CHECK_CONTAINS(error.message, cases[i].message);
        hn_tokenizer_free(tokenizer);
        hn_strbuf_close(&json);
    }
}

/* The pair of a message ends where it ends. */
TEST(a_pair_without_a_nul)
{
    hn_tokenizer *tokenizer = NULL;
    hn_error error = {0};
    hn_encoding encoding;
    char *pair = malloc(4);
    CHECK(pair);
    memcpy(pair, "play", 4);
    hn_encoding_init(&encoding);
    CHECK_OK(open_text(&tokenizer, WHOLE, &error));
    CHECK_INT(hn_tokenizer_encode_beside(tokenizer, &encoding, "a", 1, pair, 4, 1, &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "\"play\", which is not to be cut");
    hn_encoding_close(&encoding);
    hn_tokenizer_free(tokenizer);
    free(pair);
}

/* A million equal characters, and a million that each begin an added token, are a matter of milliseconds. */
TEST(is_linear)
{
    static const char *const pieces[] = {
        "a", " ", "\xcc\x81", "[", "play", "\xe4\xb8\xad", "\xff", "\xe3\x80\xae\xcc\x81"};
    hn_tokenizer *tokenizer = NULL;
    hn_error error = {0};
    hn_encoding encoding;
    const size_t size = 1000000;
    char *text = malloc(size);
    CHECK(text != NULL);
    hn_encoding_init(&encoding);
    CHECK_OK(open_text(&tokenizer, WHOLE, &error));
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        size_t length = strlen(pieces[i]);
        for (size_t at = 0; at < size; at++) text[at] = pieces[i][at % length];
        CHECK_OK(hn_tokenizer_encode(tokenizer, &encoding, text, size, text, size, true, 512, &error));
        CHECK(encoding.count >= 3 && encoding.count <= 512);
    }
    free(text);
    hn_encoding_close(&encoding);
    hn_tokenizer_free(tokenizer);
}

#define GOLDEN "tests/golden/tokenizer/"
static const char *const kinds[] = {"bytes", "pattern", "digits", "fallback", "metaspace", "unigram"};

static hn_status open_kind(hn_tokenizer **out, const char *kind, hn_error *error)
{
    char path[128], *bytes = NULL;
    size_t size;
    snprintf(path, sizeof path, GOLDEN "%s.json", kind);
    hn_status status = hn_file_read(&bytes, &size, path, 1 << 20, error);
    if (!status) status = hn_tokenizer_open_json(out, bytes, size, path, error);
    hn_free(bytes);
    return status;
}

/* Words of very many characters, as one and as many, in every kind of model. */
TEST(takes_long_words)
{
    static const char *const pieces[] = {"a",   "play", "\xCC\x81", "\xE2\x96\x81", "\xF0\x9F\x98\x80",
                                         "the", "a "};
    const size_t size = 300000;
    char *text = malloc(size);
    CHECK(text != NULL);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        hn_tokenizer *tokenizer = NULL;
        hn_error error = {0};
        hn_encoding encoding;
        hn_encoding_init(&encoding);
        CHECK_OK(open_kind(&tokenizer, kinds[i], &error));
        for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
            size_t length = strlen(pieces[k]);
            for (size_t at = 0; at < size; at++) text[at] = pieces[k][at % length];
            CHECK_OK(hn_tokenizer_encode(tokenizer, &encoding, text, size, NULL, 0, true, 0, &error));
            CHECK(encoding.count >= 1);
        }
        hn_encoding_close(&encoding);
        hn_tokenizer_free(tokenizer);
    }
    free(text);
}

/* ' is a quote, | is U+2581, ~ is U+00E9. */
static void spell(char *out, size_t size, const char *text)
{
    size_t at = 0;
    for (out[0] = '\0'; *text && at < size; text++)
        at += (size_t)snprintf(out + at, size - at, "%.*s",
                               *text == '|'   ? 3
                               : *text == '~' ? 2
                                              : 1,
                               *text == '\''  ? "\""
                               : *text == '|' ? "\xE2\x96\x81"
                               : *text == '~' ? "\xC3\xA9"
                                              : text);
}

/* A model without a splitter is cut where no merge joins the characters on both sides: most of these merges keep
 * such a seam together. A pair that is no longer there does not merge, whatever is there now. The answers are
 * Hugging Face's. */
TEST(merges_across_seams_in_the_order_of_ranks)
{
    static const struct {
        const char *made, *merges, *text, *ids; /* tokens from id 9 on */
    } cases[] = {
        {"'|a':9,'b,':10", "['|','a'],['b',',']", "|a|b,|ba,", "9 1 10 1 3 2 4"},
        {"'a|':9,'|b':10", "['a','|'],['|','b']", "|a|b,|ba,", "1 9 3 4 10 2 4"},
        {"'<unk>a':9,'b<unk>':10", "['<unk>','a'],['b','<unk>']", "zab|zz,b", "9 3 1 0 4 3"}, /* zz: one <unk> */
        {"'<unk>a':9,'b<unk>':10", "['<unk>','a'],['b','<unk>']", "abz", "2 10"},
        {"'<0x0A>a':9,'b<0x0A>':10", "['<0x0A>','a'],['b','<0x0A>']", "\nab\n|a", "9 10 1 2"},
        {"'~a':9,'b~':10", "['~','a'],['b','~']", "~ab~|", "9 10 1"},
        {"',,':9,',,a':10", "[',',','],[',,','a']", ",,a,,,b", "10 9 4 3"},
        {"'ab':9,'ba':10,'b,<':11", "['a','b'],['b','a']", "b,<", "3 4 7"},
        {"'ab':9,'ba':10,'b,<':11", "['a','b'],['b','a']],'ignore_merges':true,'x':[", "b,<", "11"},
        {"'b,':9,'ab':10,'b,~':11,'ab,':12", "['b',','],['a','b'],['b,','~'],['a','b,']", "ab,~", "2 11"},
        {"'b,':9,'ab':10,'b,~':11,'ab,':12", "['b',','],['a','b'],['b,','~'],['a','b,']", "ab,b", "12 3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char plain[1024], json[1024], text[64];
        hn_tokenizer *tokenizer = NULL;
        hn_error error = {0};
        snprintf(plain, sizeof plain,
                 "{'model':{'type':'BPE','unk_token':'<unk>','fuse_unk':true,'byte_fallback':true,'vocab':{'<unk>':0,"
                 "'|':1,'a':2,'b':3,',':4,'<0x0A>':5,'~':6,'<':7,'>':8,%s},'merges':[%s]}}",
                 cases[i].made, cases[i].merges);
        spell(json, sizeof json, plain);
        spell(text, sizeof text, cases[i].text);
        CHECK_OK(open_text(&tokenizer, json, &error));
        CHECK_TEXT(ids_of(tokenizer, text, NULL, 0), cases[i].ids);
        hn_tokenizer_free(tokenizer);
    }
}

/* Words that were kept do not outlive their tokenizer. */
TEST(one_encoding_many_tokenizers)
{
    hn_encoding shared, fresh;
    hn_encoding_init(&shared);
    const char *text = "the house, the houses \xC3\xA9";
    for (size_t i = 0; i < 2 * sizeof kinds / sizeof *kinds; i++) {
        hn_tokenizer *tokenizer = NULL;
        hn_error error = {0};
        hn_encoding_init(&fresh);
        CHECK_OK(open_kind(&tokenizer, kinds[i % (sizeof kinds / sizeof *kinds)], &error));
        CHECK_OK(hn_tokenizer_encode(tokenizer, &shared, text, strlen(text), NULL, 0, true, 0, &error));
        CHECK_OK(hn_tokenizer_encode(tokenizer, &fresh, text, strlen(text), NULL, 0, true, 0, &error));
        CHECK_INT(shared.count, fresh.count);
        CHECK(!memcmp(shared.ids, fresh.ids, (size_t)fresh.count * sizeof *fresh.ids));
        hn_encoding_close(&fresh);
        hn_tokenizer_free(tokenizer);
    }
    hn_encoding_close(&shared);
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file)) abort();
}

#define LINES "[PAD]\n[UNK]\n[CLS]\n[SEP]\nplay\n##ing\ncafe\ncaf\xc3\xa9\nplay\nPlay\r\n,"

TEST(reads_vocab_txt)
{
    char folder[] = "/tmp/hone-tokenizer-XXXXXX";
    hn_tokenizer *tokenizer = NULL;
    hn_error error = {0};
    CHECK(mkdtemp(folder) != NULL);
    CHECK_INT(hn_tokenizer_open(&tokenizer, folder, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "neither tokenizer.json nor");
    hn_error_reset(&error);
    write_file(folder, "vocab.txt", LINES);
    CHECK_OK(hn_tokenizer_open(&tokenizer, folder, &error));
    CHECK_INT(hn_tokenizer_vocabulary(tokenizer), 11);
    CHECK_INT(hn_tokenizer_id(tokenizer, "play"), 8); /* of two lines the later */
    CHECK(hn_tokenizer_token(tokenizer, 4) == NULL);
    CHECK_TEXT(ids_of(tokenizer, "Playing, CAF\xc3\x89 [PAD]", NULL, 0), "2 8 5 10 6 0 3");
    hn_digest lower = hn_tokenizer_digest(tokenizer);
    hn_tokenizer_free(tokenizer);

    write_file(folder, "tokenizer_config.json",
               "{\"do_lower_case\":false,\"tokenizer_class\":\"BertTokenizer\"}");
    CHECK_OK(hn_tokenizer_open(&tokenizer, folder, &error));
    CHECK_TEXT(ids_of(tokenizer, "Playing, caf\xc3\xa9", NULL, 0), "2 9 5 10 7 3");
    CHECK(!hn_digest_equal(lower, hn_tokenizer_digest(tokenizer)));
    hn_tokenizer_free(tokenizer);

    write_file(folder, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n##ing\nplay\ncaf\xc3\xa9");
    write_file(
        folder, "tokenizer_config.json",
        "{\"strip_accents\":false,\"mask_token\":{\"content\":\"play\"},\"added_tokens_decoder\":"
        "{\"7\":{\"content\":\"<x>\",\"special\":true},\"0\":{\"content\":\"[PAD]\",\"lstrip\":true}}}");
    CHECK_OK(hn_tokenizer_open(&tokenizer, folder, &error));
    CHECK_TEXT(ids_of(tokenizer, "CAF\xc3\x89<x>  [PAD]ing play", NULL, 0), "2 6 7 0 1 5 3");
    hn_tokenizer_free(tokenizer);

    write_file(folder, "tokenizer_config.json", "{\"tokenizer_class\":\"BertJapaneseTokenizer\"}");
    CHECK_INT(hn_tokenizer_open(&tokenizer, folder, &error), HN_ERR_UNSUPPORTED);
    CHECK_CONTAINS(error.message, "BertJapaneseTokenizer");
    hn_error_reset(&error);
    write_file(folder, "tokenizer_config.json", "{\"cls_token\":\"<s>\"}");
    CHECK_INT(hn_tokenizer_open(&tokenizer, folder, &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "\"<s>\"");
    CHECK_OK(hn_folder_remove(folder, &error));
}

enum { KINDS = sizeof kinds / sizeof *kinds, FROM_FOLDER = KINDS, FROM_TEXT };

/* Opens, encodes and decodes while allocation n fails. */
static hn_status use_without(size_t n, size_t way, const char *folder, hn_error *error)
{
    const char *line = way < KINDS ? "The  houses' \xEF\xAC\x81 \xCC\x81\xCC\xA3 12345 <s>\xF0\x9F\x98\x80 a"
                                   : "playing \xe3\x80\xae\xff, \xcc\x81 caf\xc3\xa9 [SEP]";
    hn_tokenizer *tokenizer = NULL;
    hn_encoding encoding;
    hn_strbuf text;
    hn_encoding_init(&encoding);
    hn_strbuf_init(&text);
    hn_mem_fail_at(n);
    hn_status status = way == FROM_FOLDER ? hn_tokenizer_open(&tokenizer, folder, error)
                       : way == FROM_TEXT ? open_text(&tokenizer, WHOLE, error)
                                          : open_kind(&tokenizer, kinds[way], error);
    if (!status) status = hn_tokenizer_encode(tokenizer, &encoding, line, strlen(line), line, 9, true, 0, error);
    if (!status) status = hn_tokenizer_decode(tokenizer, &text, encoding.ids, (size_t)encoding.count, false, error);
    hn_mem_fail_at(0);
    hn_encoding_close(&encoding);
    hn_strbuf_close(&text);
    hn_tokenizer_free(tokenizer);
    return status;
}

/* Every allocation fails once, in opening, encoding and decoding; nothing leaks and the message says memory. */
TEST(survives_without_memory)
{
    char folder[] = "/tmp/hone-tokenizer-XXXXXX";
    hn_error error = {0};
    CHECK(mkdtemp(folder) != NULL);
    write_file(folder, "vocab.txt", LINES);
    write_file(folder, "tokenizer_config.json", "{\"added_tokens_decoder\":{\"0\":{\"content\":\"[PAD]\"}}}");
    size_t tried = 0;
    for (size_t way = 0; way <= FROM_TEXT; way++) {
        hn_status status = HN_ERR_MEMORY;
        /* Most allocations of a kind are one token's name: in steps behind the first ones. */
        for (size_t n = 1; status; n += n < 40 || way >= KINDS ? 1 : 13, tried++) {
            hn_error failure = {0};
            status = use_without(n, way, folder, &failure);
            if (status && (status != HN_ERR_MEMORY || !failure.message[0]))
                TEST_FAIL("way %zu, allocation %zu: %s", way, n, failure.message);
        }
    }
    CHECK_OK(hn_folder_remove(folder, &error));
    test_promise("the n-th allocation fails, in tokenizers of every kind", tried, tried);
}

TEST_MAIN(hn_json_init(); RUN(encodes); RUN(truncates_the_longer_first); RUN(cuts_the_first_alone); RUN(decodes);
          RUN(refuses_with_the_place); RUN(steps_that_make_too_much); RUN(added_tokens_that_are_normalized); RUN(a_pair_without_a_nul); RUN(is_linear); RUN(takes_long_words);
          RUN(merges_across_seams_in_the_order_of_ranks); RUN(one_encoding_many_tokenizers); RUN(reads_vocab_txt); RUN(survives_without_memory))
