/* Parts of sequences: the blank that some tokenizers put before a text, and that no text gives a control
 * token. */
#include "core/json.h"
#include "core/mem.h"
#include "data/template.h"
#include "data/tokenizer.h"
#include "tests/test.h"

static hn_error error;

#define ADDED(id, text, special)                                                                             \
    "{\"id\":" #id ",\"content\":\"" text "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"      \
    "\"normalized\":false,\"special\":" #special "}"
/* 0 "<s>" special, 1 "_" (stands for a blank), 2 "a", 3 "_a", 4 "</s>" special, 5 "<", 6 "/", 7 "s", 8 ">", 9
 * "<x>" */
#define VOCABULARY "\"<s>\":0,\"_\":1,\"a\":2,\"_a\":3,\"</s>\":4,\"<\":5,\"/\":6,\"s\":7,\">\":8,\"<x>\":9"
#define BPE "\"model\":{\"type\":\"BPE\",\"vocab\":{" VOCABULARY "},\"merges\":[\"_ a\"]}"
#define TOKENS                                                                                               \
    "\"added_tokens\":[" ADDED(0, "<s>", true) "," ADDED(4, "</s>", true) "," ADDED(9, "<x>", false) "],"
#define REPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"_\"}"

static const char prepend[] =
    "{" TOKENS "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
    "\"_\"}," REPLACE "]}," BPE "}";
static const char metaspace_first[] =
    "{" TOKENS "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\","
    "\"prepend_scheme\":\"first\",\"split\":true}," BPE "}";
static const char metaspace_always[] =
    "{" TOKENS "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\","
    "\"prepend_scheme\":\"always\",\"split\":true}," BPE "}";
static const char split_before[] =
    "{" TOKENS "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Punctuation\","
    "\"behavior\":\"Isolated\"},{\"type\":\"Metaspace\",\"replacement\":\"_\","
    "\"prepend_scheme\":\"always\",\"split\":true}]}," BPE "}";
/* "</s>" is the best piece of its own text, as in T5's files. */
static const char unigram[] =
    "{" TOKENS "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<s>\",0],[\"_\",-9],[\"a\",-9],"
    "[\"_a\",-9],[\"</s>\",0],[\"<\",-9],[\"/\",-9],[\"s\",-9],[\">\",-9],[\"<x>\",-9]]}}";
/* A character that is a control token. */
static const char character[] =
    "{\"added_tokens\":[" ADDED(0, "a", true) "],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},"
                                              "\"merges\":[]}}";

/* The ids of a part as text: "1 2 3"; the error's message when it fails. */
static const char *part(const char *description, const char *text, hn_part_place place, int32_t barred)
{
    static char out[200];
    hn_tokenizer *tokenizer = NULL;
    hn_encoding encoding;
    size_t used = 0;
    hn_error_reset(&error);
    hn_encoding_init(&encoding);
    if (hn_tokenizer_open_json(&tokenizer, description, strlen(description), "toy", &error) ||
        hn_tokenizer_encode_part(tokenizer, &encoding, text, strlen(text), place, &barred, 1, &error))
        used = (size_t)snprintf(out, sizeof out, "%.190s", error.message);
    else
        for (int32_t i = 0; i < encoding.count; i++)
            used += (size_t)snprintf(out + used, sizeof out - used, "%s%d", i ? " " : "", encoding.ids[i]);
    out[used] = '\0';
    hn_encoding_close(&encoding);
    hn_tokenizer_free(tokenizer);
    return out;
}

TEST(places)
{
    static const struct {
        const char *description, *text, *ids[3]; /* first, behind a token, joined */
    } cases[] = {
        {prepend, "a", {"3", "3", "2"}},
        {prepend, " a", {"1 3", "1 3", "3"}},
        {prepend, "a<x>a", {"3 9 3", "3 9 3", "2 9 3"}},
        {prepend, "<x>a", {"9 3", "9 3", "9 3"}},
        {metaspace_first, "a", {"3", "2", "2"}},
        {metaspace_first, " a", {"3", "3", "3"}},
        {metaspace_always, "a", {"3", "3", "2"}},
        {metaspace_always, "a<x>a", {"3 9 3", "3 9 3", "2 9 3"}},
        {split_before, "a/a", {"3 1 6 3", "3 1 6 3", "2 1 6 3"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int place = 0; place < 3; place++) {
            const char *got = part(cases[i].description, cases[i].text, (hn_part_place)place, -1);
            if (strcmp(got, cases[i].ids[place]))
                TEST_FAIL("case %zu, place %d: got \"%s\", expected \"%s\"", i, place, got,
                          cases[i].ids[place]);
        }
}

/* A conversation's parts have their places: its first text, an answer right behind it, what follows a control token. */
TEST(parts_of_a_template)
{
    static const char *const expected[] = {"3 2 4 3 2 4", "3 2 4 2 2 4"}; /* a blank behind tokens too, or before the first text alone */
    hn_message turns[4];
    hn_chat_source files = {.eos = "</s>"};
    hn_template_options options = {.name = "plain"};
    for (int i = 0; i < 4; i++) turns[i] = (hn_message){.role = i % 2 ? HN_ROLE_ASSISTANT : HN_ROLE_USER, .text = "a", .length = 1};
    for (int k = 0; k < 2; k++) {
        const char *description = k ? metaspace_first : prepend;
        hn_tokenizer *tokenizer = NULL;
        hn_template *tmpl = NULL;
        hn_dialog dialog;
        char got[64];
        int used = 0;
        hn_error_reset(&error);
        hn_dialog_init(&dialog);
        CHECK_OK(hn_tokenizer_open_json(&tokenizer, description, strlen(description), "toy", &error));
        CHECK_OK(hn_template_open(&tmpl, &options, &files, tokenizer, &error));
        CHECK_OK(hn_template_encode(tmpl, &dialog, turns, 4, false, &error));
        for (int32_t i = 0; i < dialog.count; i++)
            used += snprintf(got + used, sizeof got - (size_t)used, "%s%d", i ? " " : "", dialog.ids[i]);
        CHECK_TEXT(got, expected[k]);
        hn_dialog_close(&dialog);
        hn_template_free(tmpl);
        hn_tokenizer_free(tokenizer);
    }
}

TEST(control_tokens)
{
    CHECK_TEXT(part(prepend, "</s>", HN_PART_JOINED, -1), "5 6 7 8");
    CHECK_TEXT(part(prepend, "a<x></s>", HN_PART_JOINED, -1), "2 9 1 5 6 7 8");
    CHECK_TEXT(part(prepend, "<x>", HN_PART_JOINED, -1), "9");
    CHECK_CONTAINS(part(prepend, "<x>", HN_PART_JOINED, 9), "5"); /* no special one, and barred */
    CHECK_TEXT(part(unigram, "a</s>a<s>", HN_PART_FIRST, -1), "2 5 6 7 8 2 5 7 8");
    CHECK_CONTAINS(part(character, "bab", HN_PART_FIRST, -1), "a character of it is a special token");
}

/* Whole texts of the same encoding still have them. */
TEST(whole_texts_after_parts)
{
    hn_tokenizer *tokenizer = NULL;
    hn_encoding encoding;
    hn_error_reset(&error);
    hn_encoding_init(&encoding);
    CHECK_OK(hn_tokenizer_open_json(&tokenizer, prepend, strlen(prepend), "toy", &error));
    CHECK_OK(hn_tokenizer_encode_part(tokenizer, &encoding, "</s>", 4, HN_PART_JOINED, NULL, 0, &error));
    CHECK_INT(encoding.count, 4);
    CHECK_OK(hn_tokenizer_encode(tokenizer, &encoding, "a</s>", 5, NULL, 0, false, 0, &error));
    CHECK_INT(encoding.count, 2);
    CHECK_INT(encoding.ids[0], 3);
    CHECK_INT(encoding.ids[1], 4);
    hn_encoding_close(&encoding);
    hn_tokenizer_free(tokenizer);
}

TEST(memory)
{
    hn_tokenizer *tokenizer = NULL;
    bool done = false;
    hn_error_reset(&error);
    CHECK_OK(hn_tokenizer_open_json(&tokenizer, unigram, strlen(unigram), "toy", &error));
    for (size_t nth = 1; !done && nth < 100; nth++) {
        hn_encoding encoding;
        hn_encoding_init(&encoding);
        hn_error_reset(&error);
        hn_mem_fail_at(nth);
        hn_status status =
            hn_tokenizer_encode_part(tokenizer, &encoding, "a</s>\xff", 6, HN_PART_FIRST, NULL, 0, &error);
        hn_mem_fail_at(0);
        done = !status;
        if (status) CHECK_INT(status, HN_ERR_MEMORY);
        hn_encoding_close(&encoding);
    }
    CHECK(done);
    hn_tokenizer_free(tokenizer);
}

TEST_MAIN(hn_json_init(); RUN(places); RUN(parts_of_a_template); RUN(control_tokens); RUN(whole_texts_after_parts);
          RUN(memory))
