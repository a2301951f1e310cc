/* Tokenizers from tokenizer.json and vocab.txt: cases by hand, what is refused and how, memory that runs out.
 */
#include "data/tokenizer.h"

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

TEST_MAIN(hn_json_init(); RUN(encodes); RUN(truncates_the_longer_first); RUN(decodes))
