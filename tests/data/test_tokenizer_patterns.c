/* The split patterns written by hand against the same patterns through PCRE2, on random texts of characters
 * where they have to decide something. */
#include "core/mem.h"
#include "data/tokenizer_stages.h"
#include "tests/test.h"

#define REST "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define NEWER(digits)                                                                                        \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits                               \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" REST

static const char *const patterns[] = {
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", NEWER("{1,3}"),
    NEWER("")};
static const char *const pieces[] = {" ",
                                     " ",
                                     "\n",
                                     "\r",
                                     "\t",
                                     "'",
                                     "s",
                                     "S",
                                     "t",
                                     "re",
                                     "VE",
                                     "ll",
                                     "a",
                                     "B",
                                     "m",
                                     "D",
                                     "1",
                                     "23",
                                     ".",
                                     "!?",
                                     "\xC2\xA0",
                                     "\xE3\x80\x80",
                                     "\xC3\xA9",
                                     "\xCC\x81",
                                     "\xC2\xB2",
                                     "\xC5\xBF",
                                     "\xE4\xB8\xAD",
                                     "\xD9\xA3",
                                     "\xF0\x9F\x98\x80",
                                     "\xE1\xA0\x8E",
                                     "\xE2\x80\x8D",
                                     "\xC2\x85",
                                     "-",
                                     "_"};

static uint32_t drawn = 12345;

static uint32_t draw(uint32_t below)
{
    drawn = drawn * 1664525u + 1013904223u;
    return (drawn >> 8) % below;
}

/* The place where the two disagree, or the length. */
static size_t agreement(hnp_known_pattern *known, const hnp_regex *regex, hnp_regex_room *room,
                        const uint16_t *flags, const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        size_t start = 0, end = 0, taken = known(flags, text + at, length - at);
        hnp_regex_room_bound(room, length);
        if (hnp_regex_find(regex, room, text, length, at, &start, &end) != HNP_REGEX_FOUND) return at;
        if (start != at || end != at + taken) return at;
        at = end;
    }
    return length;
}

TEST(agree_with_pcre2)
{
    uint16_t *flags = hnp_unicode_flags();
    CHECK(flags != NULL);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        hnp_regex *regex = NULL;
        hnp_regex_room room = {0};
        hn_error error = {0};
        hnp_known_pattern *known = hnp_known_pattern_find(patterns[i]);
        CHECK(known != NULL);
        CHECK_OK(hnp_regex_open(&regex, patterns[i], "pattern", &error));
        for (int round = 0; round < 20000; round++) {
            char text[256] = "";
            for (uint32_t n = 1 + draw(20); n; n--)
                strcat(text, pieces[draw(sizeof pieces / sizeof *pieces)]);
            size_t length = strlen(text), same = agreement(known, regex, &room, flags, text, length);
            if (same < length) fprintf(stderr, "pattern %zu: \"%s\" at %zu\n", i, text, same);
            CHECK(same == length);
        }
        hnp_regex_room_close(&room);
        hnp_regex_free(regex);
    }
    CHECK(hnp_known_pattern_find("\\p{L}+") == NULL);
    hn_free(flags);
}

/* A pattern that would take forever is given up. */
TEST(gives_up)
{
    hnp_regex *regex = NULL;
    hnp_regex_room room = {0};
    hn_error error = {0};
    size_t start, end;
    const char *text = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!";
    CHECK_OK(hnp_regex_open(&regex, "(a+)+$", "pattern", &error));
    hnp_regex_room_bound(&room, strlen(text));
    CHECK_INT(hnp_regex_find(regex, &room, text, strlen(text), 0, &start, &end), HNP_REGEX_LIMIT);
    hnp_regex_room_bound(&room, 3);
    CHECK_INT(hnp_regex_find(regex, &room, text, 3, 0, &start, &end), HNP_REGEX_FOUND);
    CHECK_INT(end, 3);
    hnp_regex_room_close(&room);
    hnp_regex_free(regex);
}

/* Loops that read far ahead, or fail a little at every place, pass the limit of one match: what a text takes in all counts. */
TEST(counts_what_a_text_takes)
{
    static const char *const hostile[] = {"(?=a*[bc])a", "(?=(?:a)*b)a", "a{1,1000}[bc]", "(?=(?:a|aa){0,16}b)a|a", "(?>a{0,60000}+(?!a))[bc]",
                                          "\\x{61}*[bc](?<=x)|(?=\\x{61}+b)a"};
    static const char *const sound[] = {"a+", "a??b|a", "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{M}]*[\\p{Ll}\\p{M}]+(?i:'s|'t|'re)?|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
                                        "(?:a){2}+|a", "\\p{L}+(?!\\S)|a", "[^*+?b]+", "\\x{61}+", "\\[+|a{1,3}"};
    const size_t size = 200000;
    char *text = malloc(size);
    CHECK(text);
    memset(text, 'a', size);
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile + sizeof sound / sizeof *sound; i++) {
        bool bad = i < sizeof hostile / sizeof *hostile;
        hnp_regex *regex = NULL;
        hnp_regex_room room = {0};
        hn_error error = {0};
        hnp_regex_result result = HNP_REGEX_FOUND;
        size_t start, end;
        CHECK_OK(hnp_regex_open(&regex, bad ? hostile[i] : sound[i - sizeof hostile / sizeof *hostile], "pattern", &error));
        hnp_regex_room_bound(&room, size);
        for (size_t at = 0; at < size && result == HNP_REGEX_FOUND; at = end)
            result = hnp_regex_find(regex, &room, text, size, at, &start, &end);
        if (result != (bad ? HNP_REGEX_LIMIT : HNP_REGEX_FOUND)) fprintf(stderr, "pattern %zu: result %d\n", i, result);
        CHECK_INT(result, bad ? HNP_REGEX_LIMIT : HNP_REGEX_FOUND);
        hnp_regex_room_close(&room);
        hnp_regex_free(regex);
    }
    free(text);
}

TEST(refuses_what_only_pcre2_knows)
{
    static const char *const patterns_of_pcre2[] = {"(*LIMIT_MATCH=1)a", "a(?#b)c", "a(*SKIP)b"};
    for (size_t i = 0; i < sizeof patterns_of_pcre2 / sizeof *patterns_of_pcre2; i++) {
        hnp_regex *regex = NULL;
        hn_error error = {0};
        CHECK_INT(hnp_regex_open(&regex, patterns_of_pcre2[i], "pattern", &error), HN_ERR_UNSUPPORTED);
        CHECK_CONTAINS(error.message, "a verb, or a comment");
    }
}

TEST_MAIN(RUN(agree_with_pcre2); RUN(gives_up); RUN(counts_what_a_text_takes); RUN(refuses_what_only_pcre2_knows))
