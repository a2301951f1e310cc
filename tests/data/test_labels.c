/* Labels: orders mapped by name, different names refused, numbers as indices of the user's list, values of a
 * regression. */
#include "data/labels.h"

#include <time.h>

#include "core/mem.h"
#include "tests/test.h"

static const char *const config_names[] = {"entailment", "neutral", "contradiction"};
static const char *const swapped[] = {"CONTRADICTION", "NEUTRAL", "ENTAILMENT"};
static const char *const generic[] = {"LABEL_0", "LABEL_1", "LABEL_2"};
static const char *const other[] = {"positive", "neutral", "negative"};
static const char *const digits[] = {"1", "2", "3"};

static int resolve(const hn_labels *labels, const char *text)
{
    int32_t label = -9;
    float value = 0;
    hn_label_kind kind = hn_labels_resolve(labels, text, &label, &value);
    return kind == HN_LABEL_CLASS  ? label
           : kind == HN_LABEL_NONE ? -1
           : kind == HN_LABEL_BAD  ? -2
                                   : (int)value;
}

TEST(by_name_and_number)
{
    hn_labels *labels = NULL;
    hn_error error = {0};
    hn_labels_options options = {.names = config_names, .count = 3, .model_names = generic, .model_count = 3};
    CHECK_OK(hn_labels_open(&labels, &options, &error));
    CHECK_INT(hn_labels_count(labels), 3);
    CHECK_TEXT(hn_labels_name(labels, 2), "contradiction");
    CHECK(!hn_labels_remapped(labels));
    static const struct {
        const char *text;
        int label;
    } cases[] = {{"neutral", 1}, {"0", 0},   {"2", 2},        {"2.0", 2},
                 {"2.", 2},      {"-1", -1}, {"-", -1},       {"-1.0", -1},
                 {"3", -2},      {"-2", -2}, {"Neutral", -2}, {"", -2},
                 {"2x", -2},     {" 2", -2}, {"1e0", -2},     {"99999999999999999999", -2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (resolve(labels, cases[i].text) != cases[i].label)
            TEST_FAIL("%s: got %d", cases[i].text, resolve(labels, cases[i].text));
    char text[200];
    hn_labels_describe(labels, text, sizeof text);
    CHECK_TEXT(text, "one of entailment, neutral, contradiction, or its number 0 to 2");
    hn_labels_free(labels);
}

/* The model's numbers win; a number in the data still counts in the user's list. */
TEST(order_of_the_model)
{
    hn_labels *labels = NULL;
    hn_error error = {0};
    hn_labels_options options = {.names = config_names, .count = 3, .model_names = swapped, .model_count = 3};
    CHECK_OK(hn_labels_open(&labels, &options, &error));
    CHECK(hn_labels_remapped(labels));
    CHECK_TEXT(hn_labels_name(labels, 0), "CONTRADICTION");
    CHECK_INT(resolve(labels, "entailment"), 2);
    CHECK_INT(resolve(labels, "ENTAILMENT"), 2);
    CHECK_INT(resolve(labels, "0"), 2);
    CHECK_INT(resolve(labels, "1"), 1);
    hn_labels_free(labels);
    options.count = 0; /* without names of the user, numbers are the model's */
    CHECK_OK(hn_labels_open(&labels, &options, &error));
    CHECK_INT(resolve(labels, "0"), 0);
    CHECK_INT(resolve(labels, "ENTAILMENT"), 2);
    hn_labels_free(labels);
}

TEST(refused)
{
    static const char *const twice[] = {"a", "b", "a"}, *const folded[] = {"neutral", "NEUTRAL", "positive"},
                             *const between[] = {"Neutral", "NEUTRAL", "positive"};
    const struct {
        hn_labels_options options;
        hn_status status;
        const char *part;
    } cases[] = {
        {{.names = config_names, .count = 3, .model_names = other, .model_count = 3},
         HN_ERR_MISMATCH,
         "expected the model's labels (id2label), in any order: positive, neutral, negative; got: "
         "entailment, neutral, contradiction"},
        {{.names = config_names, .count = 2, .model_names = swapped, .model_count = 3},
         HN_ERR_MISMATCH,
         "got: entailment, neutral"},
        {{.names = folded, .count = 3, .model_names = other, .model_count = 3},
         HN_ERR_MISMATCH,
         "got: neutral, NEUTRAL, positive"},
        {{.names = between, .count = 3, .model_names = folded, .model_count = 3}, /* either could be Neutral */
         HN_ERR_MISMATCH,
         "got: Neutral, NEUTRAL, positive"},
        {{.names = twice, .count = 3}, HN_ERR_USAGE, "expected every label once, got \"a\" twice"},
        {{.names = twice, .count = 3, .model_names = swapped, .model_count = 3},
         HN_ERR_USAGE,
         "task.labels: expected every label once"},
        {{.model_names = twice, .model_count = 3},
         HN_ERR_USAGE,
         "the model's id2label: expected every label once"},
        {{.names = config_names, .count = 1}, HN_ERR_USAGE, "at least two classes, got 1"},
        {{.count = 0}, HN_ERR_USAGE, "got 0 (and the model names none)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hn_labels *labels = NULL;
        hn_error error = {0};
        CHECK_INT(hn_labels_open(&labels, &cases[i].options, &error), cases[i].status);
        CHECK_CONTAINS(error.message, cases[i].part);
        CHECK(!labels);
    }
}

/* Names win over numbers: with classes named 1, 2, 3 the label 1 is the first. */
TEST(digits_as_names)
{
    hn_labels *labels = NULL;
    hn_error error = {0};
    hn_labels_options options = {.names = digits, .count = 3};
    CHECK_OK(hn_labels_open(&labels, &options, &error));
    CHECK_INT(resolve(labels, "1"), 0);
    CHECK_INT(resolve(labels, "3"), 2);
    hn_labels_free(labels);
}

TEST(mapped)
{
    const char *keys[] = {"e", "0", "?"}, *values[] = {"entailment", "2", "-"},
               *nowhere[] = {"entailment", "yes", "-"};
    hn_map map = {keys, values, 3}, wrong = {keys, nowhere, 3};
    hn_labels *labels = NULL;
    hn_error error = {0};
    hn_labels_options options = {
        .names = config_names, .count = 3, .model_names = swapped, .model_count = 3, .map = &map};
    CHECK_OK(hn_labels_open(&labels, &options, &error));
    CHECK_INT(resolve(labels, "e"), 2);
    CHECK_INT(resolve(labels, "0"), 0);
    CHECK_INT(resolve(labels, "?"), -1);
    CHECK_INT(resolve(labels, "neutral"), 1);
    hn_digest digest = hn_labels_digest(labels);
    hn_labels_free(labels);
    options.map = NULL;
    CHECK_OK(hn_labels_open(&labels, &options, &error));
    CHECK(!hn_digest_equal(digest, hn_labels_digest(labels)));
    hn_labels_free(labels);
    options.map = &wrong;
    CHECK_INT(hn_labels_open(&labels, &options, &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "data.label_map.0: expected one of CONTRADICTION, NEUTRAL, ENTAILMENT");
}

TEST(regression)
{
    hn_labels *labels = NULL;
    hn_error error = {0};
    hn_labels_options options = {.regression = true};
    CHECK_OK(hn_labels_open(&labels, &options, &error));
    int32_t label;
    float value;
    CHECK_INT(hn_labels_resolve(labels, "-1", &label, &value), HN_LABEL_VALUE);
    CHECK_NEAR(value, -1, 0);
    CHECK_INT(hn_labels_resolve(labels, "2.5e-1", &label, &value), HN_LABEL_VALUE);
    CHECK_NEAR(value, 0.25, 0);
    CHECK_INT(hn_labels_resolve(labels, "-", &label, &value), HN_LABEL_NONE);
    const char *bad[] = {"nan", "inf", "1e999", "", "x", "1 ", "0x10", "--1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_INT(hn_labels_resolve(labels, bad[i], &label, &value), HN_LABEL_BAD);
    CHECK_INT(hn_labels_count(labels), 1);
    hn_labels_free(labels);
}

TEST(memory_failures)
{
    const char *keys[] = {"e"}, *values[] = {"entailment"};
    hn_map map = {keys, values, 1};
    hn_labels_options options = {
        .names = config_names, .count = 3, .model_names = swapped, .model_count = 3, .map = &map};
    hn_status status = HN_ERR_MEMORY;
    for (size_t nth = 1; status == HN_ERR_MEMORY && nth < 100; nth++) {
        hn_labels *labels = NULL;
        hn_error error = {0};
        hn_mem_fail_at(nth);
        status = hn_labels_open(&labels, &options, &error);
        hn_mem_fail_at(0);
        CHECK(status || nth > 5);
        hn_labels_free(labels);
    }
    CHECK_INT(status, HN_OK);
}

/* As many as a model may name, by the user and by the model. Compared each with each they took minutes. */
/* In the model's order, in another, and in another case; also where all that tells names apart is their case. */
TEST(very_many)
{
    enum { MANY = 65536 };
    const char **names = calloc(MANY, sizeof *names);
    const char **model = calloc(MANY, sizeof *model);
    char(*texts)[20] = calloc(MANY, sizeof *texts), (*others)[20] = calloc(MANY, sizeof *others);
    hn_labels *labels = NULL;
    hn_error error = {0};
    CHECK(names && texts && model && others);
    for (int i = 0; i < MANY; i++) snprintf(texts[i], sizeof *texts, "l%d", i), names[i] = texts[i];
    hn_labels_options options = {.names = names, .count = MANY, .model_names = model, .model_count = MANY};
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < MANY; i++) {
            int of = round & 1 ? MANY - 1 - i : i, letters = 0;
            if (round < 3)
                letters = snprintf(others[i], sizeof *others, "%c%d", round == 2 ? 'L' : 'l', of);
            else /* 16 letters, each small or large: ambiguous without their case */
                for (; letters < 16; letters++) texts[i][letters] = others[MANY - 1 - i][letters] = i >> letters & 1 ? 'X' : 'x';
            model[i] = others[i];
        }
        clock_t began = clock();
        CHECK_OK(hn_labels_open(&labels, &options, &error));
        CHECK((double)(clock() - began) / CLOCKS_PER_SEC < 3);
        CHECK_INT(hn_labels_remapped(labels), round & 1);
        hn_labels_free(labels);
    }
    for (int i = 0; i < MANY; i++) snprintf(texts[i], sizeof *texts, "l%d", i);
    names[MANY - 1] = "l7";
    CHECK_INT(hn_labels_open(&labels, &options, &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "\"l7\" twice");
    free(names);
    free(model);
    free(texts);
    free(others);
}

TEST_MAIN(RUN(by_name_and_number); RUN(order_of_the_model); RUN(refused); RUN(digits_as_names); RUN(mapped);
          RUN(regression); RUN(memory_failures); RUN(very_many))
