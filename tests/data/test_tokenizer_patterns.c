/* The split patterns written by hand against the same patterns through PCRE2, on random texts of characters
 * where they have to decide something. */
#include <time.h>

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

/* Sixty properties in a class: each is asked of each character. */
#define KINDS_OF_SCRIPTS "\\p{Greek}\\p{Cyrillic}\\p{Arabic}\\p{Hebrew}\\p{Thai}\\p{Lao}\\p{Han}\\p{Hiragana}\\p{Katakana}\\p{Hangul}\\p{Khmer}\\p{Tamil}"
#define MANY_KINDS KINDS_OF_SCRIPTS KINDS_OF_SCRIPTS KINDS_OF_SCRIPTS KINDS_OF_SCRIPTS KINDS_OF_SCRIPTS

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

/* Finds all of them, from match to match. */
static hnp_regex_result find_all(const char *pattern, const char *text, size_t size)
{
    hnp_regex *regex = NULL;
    hnp_regex_room room = {0};
    hn_error error = {0};
    hnp_regex_result result = HNP_REGEX_FOUND;
    size_t start, end;
    if (hnp_regex_open(&regex, pattern, "pattern", &error)) return HNP_REGEX_MEMORY;
    hnp_regex_room_bound(&room, size);
    for (size_t at = 0; at < size && result == HNP_REGEX_FOUND; at = end > start ? end : end + 1)
        result = hnp_regex_find(regex, &room, text, size, at, &start, &end);
    hnp_regex_room_close(&room);
    hnp_regex_free(regex);
    return result;
}

/* Loops that read far ahead, or fail a little at every place, pass the limit of one match: what a text takes in all counts. */
TEST(counts_what_a_text_takes)
{
    static const char *const hostile[] = {"(?=a*[bc])a", "(?=(?:a)*b)a", "a{1,1000}[bc]", "(?=(?:a|aa){0,16}b)a|a", "(?>a{0,60000}+(?!a))[bc]",
                                          "\\x{61}*[bc](?<=x)|(?=\\x{61}+b)a", "(?=a{65535}[bc])a|a", "(?=[^b]{65535}b)a|a",
                                          "(?=\\N{0,65535}[bd])a|a", "(?<=a{60000}[bd])a|a", "(?<!b[^b]{60000})a", "(?=[\\p{M}" MANY_KINDS "a]*[bc])a|a"};
    static const char *const sound[] = {"a+", "a??b|a", "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{M}]*[\\p{Ll}\\p{M}]+(?i:'s|'t|'re)?|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
                                        "(?:a){2}+|a", "\\p{L}+(?!\\S)|a", "[^*+?b]+", "\\x{61}+", "\\[+|a{1,3}"};
    const size_t size = 200000;
    char *text = malloc(size);
    CHECK(text);
    memset(text, 'a', size);
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile + sizeof sound / sizeof *sound; i++) {
        bool bad = i < sizeof hostile / sizeof *hostile;
        clock_t began = clock();
        hnp_regex_result result = find_all(bad ? hostile[i] : sound[i - sizeof hostile / sizeof *hostile], text, size);
        double seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
        bool right = result == (bad ? HNP_REGEX_LIMIT : HNP_REGEX_FOUND) && seconds < 4;
        if (!right) fprintf(stderr, "pattern %zu: result %d, %.2f s\n", i, result, seconds);
        if (getenv("HONE_TELL")) fprintf(stderr, "pattern %zu: result %d, %.2f s\n", i, result, seconds);
        CHECK(right);
    }
    free(text);
}

/* Runs that are never as long as a {n} asks for: no callout is reached, but where they are begun. */
TEST(counts_what_fails_within_a_quantifier)
{
    const size_t size = 1000000;
    char *text = malloc(size);
    CHECK(text);
    memset(text, 'a', size);
    for (size_t i = 60000; i < size; i += 60000) text[i] = 'b';
    clock_t began = clock();
    CHECK_INT(find_all("a{65535}", text, size), HNP_REGEX_LIMIT);
    CHECK((double)(clock() - began) / CLOCKS_PER_SEC < 4);
    CHECK_INT(find_all("a{6}|b|a", text, size), HNP_REGEX_FOUND);
    free(text);
}

/* A row of digits, by threes from its end: the square of its length. */
TEST(takes_what_reads_ahead_in_honest_texts)
{
    char digits[3000];
    memset(digits, '7', sizeof digits);
    CHECK_INT(find_all("(?=(\\d{3})+(?!\\d))|\\d", digits, sizeof digits), HNP_REGEX_FOUND);
    memset(digits, ' ', sizeof digits);
    CHECK_INT(find_all("\\s+$|\\s", digits, sizeof digits), HNP_REGEX_FOUND);
    memset(digits, ' ', sizeof digits), digits[sizeof digits - 1] = 'a';
    CHECK_INT(find_all("\\s+$|\\s|a", digits, sizeof digits), HNP_REGEX_FOUND);
}

TEST(refuses_what_is_not_counted_or_means_something_else)
{
    static const struct {
        const char *pattern, *why;
    } cases[] = {{"(*LIMIT_MATCH=1)a", "a verb"}, {"a(?#b)c", "a comment"}, {"a(*SKIP)b", "a verb"},
                 {"(?x)#[ \n(?=a*[bc])a", "an option other than i"}, {"(?i-x:a)", "an option other than i"}, {"(?m)a.", "an option other than i"},
                 {"(a)(?R)?", "a group that"}, {"(a)(?1)", "a group that"}, {"(?P<n>a)(?P=n)", "a group that"}, {"(?|a)", "a group that"},
                 {"(a+)\\1", "a back reference"}, {"(a+)[\\9]", "a back reference"}, {"(a+)\\k<1>", "an escape that"}, {"\\c[a*", "an escape that"},
                 {"a{,3}", "a quantifier that"}, {"a{ 1, 3 }", "a quantifier that"}, {"[a[b]]", "a class within"}, {"[]a]", "an empty class"},
                 {"[a&&b]", "an intersection"}, {"a\\", "a backslash"}, {"[a", "does not compile"}, {"\\N{U+61}", "does not compile"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hnp_regex *regex = NULL;
        hn_error error = {0};
        CHECK_INT(hnp_regex_open(&regex, cases[i].pattern, "pattern", &error), HN_ERR_UNSUPPORTED);
        CHECK_CONTAINS(error.message, cases[i].why);
    }
}

/* What the callouts stand in means what it meant. */
TEST(means_the_same_with_callouts)
{
    static const struct {
        const char *pattern, *text;
        size_t start, end;
    } cases[] = {{"(?<=b)a+", "aabaa", 3, 5}, {"(?<!b|aa)a", "baac", 2, 3}, {"(?<name>a)b|c{2,3}?", "acccb", 1, 3}, {"(?i)A|b", "xa", 1, 2},
                 {"(?i:A)B|[^\\]a]+", "aBc", 0, 2}, {"(?>a+)b|{", "aa{", 2, 3}, {"x{|\\{1,2\\}", "a{1,2}", 1, 6}, {"", "ab", 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hnp_regex *regex = NULL;
        hnp_regex_room room = {0};
        hn_error error = {0};
        size_t start = 99, end = 99;
        CHECK_OK(hnp_regex_open(&regex, cases[i].pattern, "pattern", &error));
        hnp_regex_room_bound(&room, strlen(cases[i].text));
        CHECK_INT(hnp_regex_find(regex, &room, cases[i].text, strlen(cases[i].text), 0, &start, &end), HNP_REGEX_FOUND);
        if (start != cases[i].start || end != cases[i].end) fprintf(stderr, "pattern %zu: %zu to %zu\n", i, start, end);
        CHECK(start == cases[i].start && end == cases[i].end);
        hnp_regex_room_close(&room);
        hnp_regex_free(regex);
    }
}

TEST_MAIN(RUN(agree_with_pcre2); RUN(gives_up); RUN(counts_what_a_text_takes); RUN(counts_what_fails_within_a_quantifier);
          RUN(takes_what_reads_ahead_in_honest_texts); RUN(refuses_what_is_not_counted_or_means_something_else); RUN(means_the_same_with_callouts))
