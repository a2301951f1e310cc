/* Labels by inference: every score of transformers' pipeline on a tiny model (tests/golden/make_zero_shot.py), batches and windows of any
 * size, labels of rows, which outputs mean what, what is refused, failing memory. */
#include "eval/zero_shot.h"

#include "core/json.h"
#include "core/mem.h"
#include "tests/data/folder.h"
#include "tests/test.h"

#define GOLDEN "tests/golden/zero_shot"
enum { ROWS = 3000, LABELS = 8 };

typedef struct setup {
    hn_source *source;
    hn_runner runner;
    hn_batch_buffer buffer;
    hn_labels *model_labels, *labels;
    hn_list files, names;
    const char *file;
    hn_zero_shot_options options;
    hn_zero_shot_report report;
    struct {
        double score[LABELS], loss;
        int32_t chosen, answer;
        int64_t line;
    } row[ROWS];
    int count;
    hn_error error;
} setup;

static setup s; /* large */

static void close_setup(void)
{
    hn_batch_buffer_close(&s.buffer);
    hn_runner_close(&s.runner);
    hn_labels_free(s.model_labels);
    hn_labels_free(s.labels);
    hn_source_free(s.source);
    memset(&s, 0, sizeof s);
}

/* The golden model for batches of so many tokens and pairs; nothing is left of what was open. */
static hn_status open_model(int32_t tokens, int32_t examples)
{
    hn_labels_options names = {0};
    close_setup();
    hn_status status = hn_source_open(&s.source, GOLDEN, &s.error);
    if (status != HN_OK) return status;
    names.model_names = (const char *const *)s.source->labels;
    names.model_count = s.source->label_count;
    hn_runner_options all = {.precision = HN_F32, .threads = 1, .frozen = true,
                             .evaluation = {.tokens = tokens, .examples = examples, .longest = 24}};
    hn_strbuf initialised, ignored;
    hn_strbuf_init(&initialised);
    hn_strbuf_init(&ignored);
    status = hn_labels_open(&s.model_labels, &names, &s.error);
    if (status == HN_OK) status = hn_runner_init(&s.runner, &s.source->config, &all, &s.error);
    if (status == HN_OK) status = hn_runner_alloc(&s.runner, &s.error);
    if (status == HN_OK) status = hn_runner_load(&s.runner, s.source, 0, &initialised, &ignored, &s.error);
    if (status == HN_OK) status = hn_batch_buffer_init(&s.buffer, tokens, examples, &s.error);
    hn_strbuf_close(&initialised);
    hn_strbuf_close(&ignored);
    return status;
}

static hn_status take(void *context, const hn_zero_shot_row *row, hn_error *error)
{
    (void)context;
    (void)error;
    for (size_t k = 0; k < s.names.count; k++) s.row[s.count].score[k] = row->score[k];
    s.row[s.count].loss = row->loss;
    s.row[s.count].chosen = row->chosen;
    s.row[s.count].answer = row->answer;
    s.row[s.count++].line = row->line;
    return HN_OK;
}

/* The labels over a file of rows. */
static hn_status choose(const char *path, const char **names, size_t count, const char *hypothesis, bool multi_label)
{
    s.file = path;
    s.files = (hn_list){&s.file, 1};
    s.names = (hn_list){names, count};
    s.options.files = &s.files;
    s.options.names = &s.names;
    s.options.text = "text";
    s.options.hypothesis = hypothesis;
    s.options.multi_label = multi_label;
    if (!s.options.max_tokens) s.options.max_tokens = 24;
    s.options.threads = 1;
    hn_status status = hn_zero_shot_labels(&s.labels, &s.names, NULL, multi_label, &s.error);
    s.options.labels = s.labels;
    if (status == HN_OK)
        status = hn_zero_shot_outputs(&s.options.entailment, &s.options.contradiction, s.model_labels, NULL, NULL, multi_label, &s.error);
    if (status == HN_OK)
        status = hn_zero_shot_run(&s.runner, &s.buffer, s.source->tokenizer, &s.options, &s.report, take, NULL, NULL, &s.error);
    return status;
}

static size_t strings_of(const char **out, const json_t *array)
{
    for (size_t i = 0; i < json_array_size(array); i++) out[i] = json_string_value(json_array_get(array, i));
    return json_array_size(array);
}

/* One case of the golden file, its texts `times` over. */
static void compare(const json_t *one, int32_t tokens, int32_t examples, int times)
{
    const json_t *texts = json_object_get(one, "texts"), *scores = json_object_get(one, "scores");
    const char *names[LABELS];
    size_t labels = strings_of(names, json_object_get(one, "labels")), count = json_array_size(texts);
    hn_strbuf rows;
    hn_strbuf_init(&rows);
    for (size_t i = 0; i < count * (size_t)times; i++) {
        hn_strbuf_puts(&rows, "{\"text\": ");
        hn_json_quote(&rows, json_string_value(json_array_get(texts, i % count)), strlen(json_string_value(json_array_get(texts, i % count))));
        hn_strbuf_puts(&rows, "}\n");
    }
    const char *path = put("texts.jsonl", rows.text);
    hn_strbuf_close(&rows);
    if (open_model(tokens, examples) ||
        choose(path, names, labels, json_string_value(json_object_get(one, "hypothesis")), json_is_true(json_object_get(one, "multi_label"))))
        TEST_FAIL("%s", s.error.message);
    CHECK_INT(s.count, (int)count * times);
    CHECK_INT(s.report.rows, s.count);
    CHECK_INT(s.report.cut, times * json_integer_value(json_object_get(one, "cut")));
    CHECK(!s.report.labelled);
    for (int i = 0; i < s.count; i++) {
        int best = 0;
        const json_t *expected = json_array_get(scores, (size_t)i % count);
        for (size_t k = 0; k < labels; k++) {
            double of = json_real_value(json_array_get(expected, k));
            CHECK_NEAR(s.row[i].score[k], of, 1e-5);
            if (of > json_real_value(json_array_get(expected, (size_t)best))) best = (int)k;
        }
        CHECK_INT(s.row[i].chosen, best);
        CHECK_INT(s.row[i].line, i + 1);
        CHECK_INT(s.row[i].answer, HN_NO_TARGET);
    }
    close_setup();
}

TEST(scores_are_the_pipelines)
{
    json_t *cases = NULL;
    hn_error error = {0};
    CHECK_OK(hn_json_load(&cases, GOLDEN "/expected.json", HN_JSON_LIMITS_SMALL, &error));
    CHECK_INT(json_array_size(cases), 5);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        compare(json_array_get(cases, i), 512, 32, 1);
        compare(json_array_get(cases, i), 24, 1, 1);
    }
    compare(json_array_get(cases, 0), 1024, 64, 400); /* several windows */
    json_decref(cases);
}

static const char *usual[] = {"sport", "politics", "science"};

TEST(labels_of_rows)
{
    const char *rows = "{\"text\": \"the team won\", \"label\": \"sport\"}\n{\"text\": \"a law\", \"label\": 1}\n"
                       "{\"text\": \"moon\", \"label\": \"-\"}\n";
    const char *path = put("labels.jsonl", rows);
    CHECK(!open_model(512, 32));
    CHECK(!choose(path, usual, 3, "This example is {}.", false));
    CHECK(s.report.labelled);
    CHECK_INT(s.report.unlabeled, 1);
    static const int32_t answer[] = {0, 1, HN_NO_TARGET};
    for (int i = 0; i < 3; i++) {
        CHECK_INT(s.row[i].answer, answer[i]);
        CHECK_NEAR(s.row[i].loss, i < 2 ? -log(s.row[i].score[answer[i]]) : 0, 1e-6);
    }
    close_setup();
    CHECK(!open_model(512, 32));
    CHECK(!choose(path, usual, 3, "This example is {}.", true));
    const double *p = s.row[1].score;
    CHECK_NEAR(s.row[1].loss, -(log(1 - p[0]) + log(p[1]) + log(1 - p[2])) / 3, 1e-6);
    close_setup();
    CHECK(!open_model(512, 32)); /* by another column's name; one label alone: labels are not read */
    s.options.label = "kind";
    CHECK(!choose(put("kinds.csv", "kind,text\nscience,a star\n"), usual, 3, "{}", false));
    CHECK_INT(s.row[0].answer, 2);
    close_setup();
    CHECK(!open_model(512, 32));
    CHECK(!choose(path, usual, 1, "{}", true));
    CHECK(!s.report.labelled);
    close_setup();
}

/* What a file of rows is refused for; with skip the bad row is counted. */
static void refused(const char *name, const char *rows, const char *label, const char *message, hn_bad_kind kind)
{
    for (int skip = 0; skip < 2; skip++) {
        CHECK(!open_model(512, 32));
        s.options.label = label;
        s.report.bad.skip = skip;
        hn_status status = choose(put(name, rows), usual, 3, "{}", false);
        if (!skip) CHECK_CONTAINS(s.error.message, message);
        CHECK_INT(status, skip ? HN_OK : HN_ERR_FORMAT);
        CHECK_INT(s.report.bad.count[kind], 1);
        CHECK_INT(s.count, skip);
        close_setup();
    }
}

TEST(refuses_rows)
{
    const char *good = "{\"text\": \"a star\", \"label\": \"science\"}\n";
    char rows[256];
    snprintf(rows, sizeof rows, "%s{\"text\": \"x\", \"label\": \"scienc\"}\n", good);
    refused("unknown.jsonl", rows, NULL, "unknown.jsonl:2: field \"label\": expected one of sport, politics, science, or its number 0 to 2, got "
            "\"scienc\"", HN_BAD_LABEL);
    snprintf(rows, sizeof rows, "%s{\"text\": \"x\"}\n", good);
    refused("none.jsonl", rows, NULL, "none.jsonl:2: field \"label\": expected a label, as the first row has, got no such field", HN_BAD_MISSING);
    refused("named.jsonl", rows, "label", "named.jsonl:2: field \"label\": expected a string or a number, got no such field", HN_BAD_MISSING);
}

TEST(refuses_files)
{
    static const char *const empty[] = {"", "\n\n"};
    for (int i = 0; i < 4; i++) {
        CHECK(!open_model(512, 32));
        s.report.bad.skip = i & 1;
        CHECK_INT(choose(put("empty.jsonl", empty[i / 2]), usual, 3, "{}", false), HN_ERR_FORMAT);
        CHECK_CONTAINS(s.error.message, i & 1 ? "zero_shot.files: expected texts, got none" : "empty.jsonl: expected rows, got none");
        close_setup();
    }
    CHECK(!open_model(512, 32));
    CHECK(choose("/nowhere.jsonl", usual, 3, "{}", false));
    CHECK_CONTAINS(s.error.message, "/nowhere.jsonl");
    close_setup();
    CHECK(!open_model(512, 32));
    s.options.max_tokens = 5;
    CHECK_INT(choose(put("a.jsonl", "{\"text\": \"moon\"}\n"), usual, 3, "{} and", false), HN_ERR_USAGE);
    CHECK_CONTAINS(s.error.message, "zero_shot.labels: \"sport\": its sentence leaves no room for a text within 5 tokens");
    close_setup();
}

TEST(refuses_labels)
{
    static const char *const lists[][3] = {{"a", "b", "a"}, {"a", "", "b"}, {"a", " b", "c"}, {"a", "b\n", "c"}};
    static const char *const messages[] = {"expected every label once, got \"a\" twice", "got \"\" as number 2", "got \" b\" as number 2",
                                           "without white space at their ends, got \"b\n\" as number 2"};
    for (int i = 0; i < 4; i++) {
        hn_error error = {0};
        hn_labels *labels = NULL;
        const char *items[3] = {lists[i][0], lists[i][1], lists[i][2]};
        hn_list names = {items, 3};
        CHECK_INT(hn_zero_shot_labels(&labels, &names, NULL, i & 1, &error), HN_ERR_USAGE);
        CHECK_CONTAINS(error.message, messages[i]);
        CHECK(!labels);
    }
    for (size_t count = 0; count < 2; count++) {
        hn_error error = {0};
        hn_labels *labels = NULL;
        hn_list names = {usual, count};
        CHECK_INT(hn_zero_shot_labels(&labels, &names, NULL, false, &error), HN_ERR_USAGE);
        CHECK_CONTAINS(error.message, "expected two labels or more (one alone with zero_shot.multi_label=true), got ");
        error = (hn_error){0};
        CHECK_INT(hn_zero_shot_labels(&labels, &names, NULL, true, &error), count ? HN_OK : HN_ERR_USAGE);
    }
    static const char *many[HN_ZERO_SHOT_LABELS + 1];
    static char texts[HN_ZERO_SHOT_LABELS + 1][16];
    for (int i = 0; i <= HN_ZERO_SHOT_LABELS; i++) {
        snprintf(texts[i], sizeof texts[i], "l%d", i);
        many[i] = texts[i];
    }
    hn_error error = {0};
    hn_labels *labels = NULL;
    hn_list names = {many, HN_ZERO_SHOT_LABELS + 1};
    CHECK_INT(hn_zero_shot_labels(&labels, &names, NULL, false, &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "expected at most 1024 labels, got 1025");
    const char *keys[] = {"4"}, *values[] = {"nothing"};
    names = (hn_list){usual, 3};
    error = (hn_error){0};
    CHECK_INT(hn_zero_shot_labels(&labels, &names, &(hn_map){keys, values, 1}, false, &error), HN_ERR_USAGE);
    CHECK_CONTAINS(error.message, "zero_shot.label_map.4: expected one of sport, politics, science");
    values[0] = "science";
    CHECK_OK(hn_zero_shot_labels(&labels, &names, &(hn_map){keys, values, 1}, false, &error));
    int32_t label;
    float value;
    CHECK_INT(hn_labels_resolve(labels, "4", &label, &value), HN_LABEL_CLASS);
    CHECK_INT(label, 2);
    hn_labels_free(labels);
}

TEST(hypotheses)
{
    static const char *const bad[] = {"", "This example is {.", "{label}", "{} or {}"};
    hn_error error = {0};
    CHECK_OK(hn_zero_shot_check_hypothesis("{}", &error));
    CHECK_OK(hn_zero_shot_check_hypothesis("{a} {} }{", &error));
    for (int i = 0; i < 4; i++) {
        error = (hn_error){0};
        CHECK_INT(hn_zero_shot_check_hypothesis(bad[i], &error), HN_ERR_USAGE);
        CHECK_CONTAINS(error.message, "zero_shot.hypothesis: expected a sentence with one {}");
    }
}

/* The outputs of classes, by their names or by names given; -1: refused with this message. */
static void outputs(const char *first, const char *second, const char *third, const char *entailed, const char *contradicted, int entailment,
                    int contradiction, const char *message)
{
    const char *names[] = {first, second, third};
    hn_labels_options options = {.model_names = names, .model_count = third ? 3 : 2};
    hn_error error = {0};
    hn_labels *labels = NULL;
    int got[2] = {-1, -1};
    CHECK_OK(hn_labels_open(&labels, &options, &error));
    hn_status status = hn_zero_shot_outputs(&got[0], &got[1], labels, entailed, contradicted, true, &error);
    if (message) CHECK_CONTAINS(error.message, message);
    CHECK_INT(status, message ? HN_ERR_USAGE : HN_OK);
    if (!message) CHECK_INT(got[0], entailment);
    if (!message) CHECK_INT(got[1], contradiction);
    hn_labels_free(labels);
}

TEST(which_output_is_which)
{
    outputs("entailment", "neutral", "contradiction", NULL, NULL, 0, 2, NULL);
    outputs("Contradicts", "n", "ENTAILS", NULL, NULL, 2, 0, NULL);
    outputs("neutral", "contradiction", "entailment", NULL, NULL, 2, 1, NULL);
    outputs("not_entailment", "entailment", NULL, NULL, NULL, 1, 0, NULL);
    outputs("LABEL_0", "LABEL_1", NULL, "LABEL_1", NULL, 1, 0, NULL);
    outputs("LABEL_0", "LABEL_1", "LABEL_2", "2", "LABEL_0", 2, 0, NULL);
    outputs("entailment", "neutral", "refuted", NULL, "refuted", 0, 2, NULL);
    outputs("positive", "neutral", "negative", NULL, NULL, 0, 0,
            "zero_shot.entailment: expected a class of the model, one of positive, neutral, negative, or its number 0 to 2, got null");
    outputs("entailment", "entails", NULL, NULL, NULL, 0, 0, "not just one of them begins with \"entail\"");
    outputs("entailment", "neutral", "refuted", NULL, NULL, 0, 0, "zero_shot.contradiction: expected a class of the model");
    outputs("entailment", "neutral", "contradiction", "entail", NULL, 0, 0, "zero_shot.entailment: expected a class of the model");
    outputs("entailment", "neutral", "contradiction", NULL, "3", 0, 0, "got \"3\"");
    outputs("entailment", "other", NULL, NULL, "entailment", 0, 0, "expected another class than zero_shot.entailment");
}

TEST(broken_weights_and_a_stop)
{
    const char *path = put("moon.jsonl", "{\"text\": \"moon\"}\n");
    volatile int stop = 1;
    CHECK(!open_model(512, 32));
    CHECK(!choose(path, usual, 3, "{}", false));
    CHECK_INT(hn_zero_shot_run(&s.runner, &s.buffer, s.source->tokenizer, &s.options, &s.report, take, NULL, &stop, &s.error),
              HN_ERR_INTERRUPTED);
    s.error = (hn_error){0};
    for (int i = 0; i < 16 * 40; i++) hn_model_master(s.runner.model)[i] = NAN;
    hn_labels_free(s.labels);
    CHECK_INT(choose(path, usual, 3, "{}", false), HN_ERR_NUMERIC);
    CHECK_CONTAINS(s.error.message, "moon.jsonl:1: expected finite outputs of the model");
    close_setup();
}

TEST(survives_without_memory)
{
    const char *path = put("two.jsonl", "{\"text\": \"moon\", \"label\": 0}\n{\"text\": \"the team\", \"label\": 1}\n");
    bool done = false;
    for (size_t n = 1; !done; n++) {
        CHECK(!open_model(512, 32));
        hn_mem_fail_at(n);
        hn_status status = choose(path, usual, 3, "This example is {}.", false);
        hn_mem_fail_at(0);
        done = status == HN_OK;
        if (!done && status != HN_ERR_MEMORY) TEST_FAIL("allocation %zu: %d, %s", n, (int)status, s.error.message);
        close_setup();
    }
}

int main(void)
{
    hn_json_init();
    folder_open();
    RUN(scores_are_the_pipelines);
    RUN(labels_of_rows);
    RUN(refuses_rows);
    RUN(refuses_files);
    RUN(refuses_labels);
    RUN(hypotheses);
    RUN(which_output_is_which);
    RUN(broken_weights_and_a_stop);
    RUN(survives_without_memory);
    folder_close();
    fprintf(stderr, "%d tests, %d failures\n", test_ran, test_failures);
    return test_failures != 0;
}
