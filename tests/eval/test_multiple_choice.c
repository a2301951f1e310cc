/* Multiple choice: prompts by hand, scores of the cached way against a whole forward of every option, ties, lengths, failing memory. */
#include "eval/multiple_choice.h"

#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "tests/models/tiny.h"
#include "tests/test.h"

#define MODEL                                                                                                          \
    "{\"model_type\": \"llama\", \"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "           \
    "\"num_key_value_heads\": 2, \"intermediate_size\": 48, \"vocab_size\": 600, \"max_position_embeddings\": 400}"
#define VAL                                                                                                            \
    "Who is it?,a cat,\"a dog, or two\",nobody,B\n  Why?  ,1,2,3,C\nWhat is the longest of all these questions?,yes,no,perhaps,A\n"
#define DEV "Is it?,yes,no,both,B\nDoes it?,x,y,z,A\nMust it?,x,y,z,C\n"
#define LINES "{\"question\": \"Odd?\", \"choices\": [\"one\", \"two of them\"], \"answer\": 1, \"subject\": \"s_t\"}\n"

static char folder[] = "/tmp/hone-choices-XXXXXX";
static const hn_question_fields usual;

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file)) abort();
}

static const char *path_of(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

typedef struct setup {
    hn_tokenizer *tokenizer;
    hn_questions questions, examples;
    hn_prompts prompts;
    hn_runner runner;
    hn_choices *choices;
    bool shown; /* examples are given */
    bool bare;  /* the tokenizer puts nothing before a text */
    int chosen[16];
    double score[16][4];
    int count;
    hn_error error;
} setup;

static hn_status read_both(setup *s, const hn_prompts_options *options)
{
    const char *files[] = {path_of("law_of_all_val.csv"), path_of("more.jsonl")}, *dev = path_of("dev");
    hn_list list = {files, s->shown ? 1 : 2}, shots = {&dev, 1};
    hn_status status = hn_tokenizer_open(&s->tokenizer, s->bare ? path_of("bare") : folder, &s->error);
    if (status == HN_OK) status = hn_questions_open(&s->questions, &list, &usual, false, "choices.files", &s->error);
    if (status == HN_OK && s->shown) status = hn_questions_open(&s->examples, &shots, &usual, false, "choices.examples", &s->error);
    if (status == HN_OK)
        status = hn_prompts_open(&s->prompts, &s->questions, s->shown ? &s->examples : NULL, s->tokenizer, options, &s->error);
    return status;
}

static void close_setup(setup *s)
{
    hn_choices_free(s->choices);
    hn_runner_close(&s->runner);
    hn_prompts_close(&s->prompts);
    hn_questions_close(&s->questions);
    hn_questions_close(&s->examples);
    hn_tokenizer_free(s->tokenizer);
    *s = (setup){0};
}

static hn_status take(void *context, const hn_choice *choice, hn_error *error)
{
    setup *s = context;
    (void)error;
    s->chosen[s->count] = choice->chosen;
    for (size_t k = 0; k < choice->question->option_count; k++) s->score[s->count][k] = choice->score[k];
    s->count++;
    return HN_OK;
}

/* A model of random weights over the prompts; `zero`: all weights are zero. */
static hn_status choose(setup *s, const hn_choices_options *options, bool zero)
{
    hn_model_config config;
    hn_status status = tiny_config(&config, MODEL, &s->error);
    hn_runner_options all = {.precision = HN_F32, .threads = 2, .evaluation = hn_choices_bounds(options, s->prompts.longest)};
    if (status == HN_OK) status = hn_runner_init(&s->runner, &config, &all, &s->error);
    if (status == HN_OK) status = hn_runner_alloc(&s->runner, &s->error);
    if (status == HN_OK && !zero) status = hn_model_init(s->runner.model, 5, &s->error);
    if (status == HN_OK) status = hn_choices_open(&s->choices, &s->runner, &s->prompts, options, &s->error);
    if (status == HN_OK) status = hn_choices_alloc(s->choices, &s->error);
    return status == HN_OK ? hn_choices_run(s->choices, take, s, NULL, &s->error) : status;
}

static const char *text_of(const setup *s, const int32_t *ids, int32_t count)
{
    static hn_strbuf text;
    hn_error error = {0};
    hn_strbuf_close(&text);
    hn_strbuf_init(&text);
    if (hn_tokenizer_decode(s->tokenizer, &text, ids, (size_t)count, false, &error)) return "not decoded";
    return text.text;
}

static const char *option_text(const setup *s, size_t item, size_t k)
{
    int32_t count;
    const int32_t *ids = hn_prompt_option(&s->prompts.items[item], k, &count);
    return text_of(s, ids, count);
}

TEST(prompts_by_hand)
{
    setup s = {.shown = true};
    hn_prompts_options options = {.shots = 2, .every = 1, .positions = 400};
    CHECK(!read_both(&s, &options));
    CHECK_INT(s.prompts.count, 3);
    CHECK_TEXT(text_of(&s, s.prompts.items[1].ids, s.prompts.items[1].context),
               "<s>The following are multiple choice questions (with answers) about law of all.\n\n"
               "Is it?\nA. yes\nB. no\nC. both\nAnswer: B\n\nDoes it?\nA. x\nB. y\nC. z\nAnswer: A\n\nWhy?\nA. 1\nB. 2\nC. 3\nAnswer:");
    CHECK_TEXT(option_text(&s, 1, 0), " A");
    CHECK_TEXT(option_text(&s, 1, 2), " C");
    CHECK_INT(s.prompts.items[1].shots, 2);
    CHECK_INT(s.questions.items[1].answer, 2);
    close_setup(&s);

    s.shown = false;
    options = (hn_prompts_options){.kind = HN_ANSWER_TEXTS, .every = 3, .positions = 400};
    CHECK(!read_both(&s, &options));
    CHECK_INT(s.prompts.count, 2);
    CHECK_TEXT(text_of(&s, s.prompts.items[1].ids, s.prompts.items[1].context), "<s>Question: Odd?\nAnswer:");
    CHECK_TEXT(option_text(&s, 1, 1), " two of them");
    CHECK_TEXT(option_text(&s, 0, 1), " a dog, or two");
    close_setup(&s);

    options = (hn_prompts_options){.kind = HN_ANSWER_TEXTS, .every = 3, .positions = 400, .heading = "{x", .prompt = "{subject} {}\n"};
    CHECK(!read_both(&s, &options));
    CHECK_TEXT(text_of(&s, s.prompts.items[1].ids, s.prompts.items[1].context), "<s>{xs t {}\n");
    CHECK_TEXT(option_text(&s, 1, 0), "one"); /* the prompt ends with white space */
    close_setup(&s);
}

TEST(refuses)
{
    setup s = {.shown = true};
    hn_prompts_options options = {.shots = 2, .every = 1, .positions = 400, .prompt = "{quest}"};
    CHECK_INT(read_both(&s, &options), HN_ERR_USAGE);
    CHECK_CONTAINS(s.error.message, "choices.prompt: expected {question}, {options} or {subject}, got {quest}");
    close_setup(&s);
    options = (hn_prompts_options){.every = 1, .positions = 20};
    CHECK_INT(read_both(&s, &options), HN_ERR_USAGE);
    CHECK_CONTAINS(s.error.message, "law_of_all_val.csv:1: the question has");
    CHECK_CONTAINS(s.error.message, "tokens, and the model 20 positions");
    close_setup(&s);
    s.bare = true;
    options = (hn_prompts_options){.every = 1, .positions = 400, .heading = "", .prompt = ""};
    CHECK_INT(read_both(&s, &options), HN_ERR_USAGE);
    CHECK_CONTAINS(s.error.message, "expected a prompt of at least one token before the answer");
    close_setup(&s);
    s.shown = true;
    write_file("dev/law_of_all_dev.csv", "Is it?,yes,no,both,B\n");
    write_file("law_of_all_val.csv", VAL);
    char *old = hn_strdup(path_of("law_of_all_val.csv")), *new = hn_strdup(path_of("other_val.csv"));
    const char *files[] = {new}, *dev = path_of("dev");
    hn_list list = {files, 1}, shots = {&dev, 1};
    CHECK(!rename(old, new));
    options = (hn_prompts_options){.every = 1, .positions = 400, .shots = 1};
    CHECK(!hn_tokenizer_open(&s.tokenizer, folder, &s.error));
    CHECK(!hn_questions_open(&s.questions, &list, &usual, false, "choices.files", &s.error));
    CHECK(!hn_questions_open(&s.examples, &shots, &usual, false, "choices.examples", &s.error));
    CHECK_INT(hn_prompts_open(&s.prompts, &s.questions, &s.examples, s.tokenizer, &options, &s.error), HN_ERR_USAGE);
    CHECK_CONTAINS(s.error.message, "expected examples of the subject \"other\"");
    CHECK(!rename(new, old));
    write_file("dev/law_of_all_dev.csv", DEV);
    hn_free(old);
    hn_free(new);
    close_setup(&s);
}

TEST(fewer_examples_where_they_do_not_fit)
{
    setup s = {.shown = true};
    hn_prompts_options options = {.shots = 9, .every = 1, .positions = 400};
    CHECK(!read_both(&s, &options));
    CHECK_INT(s.prompts.items[0].shots, 3); /* all there are */
    int32_t whole = s.prompts.longest;
    close_setup(&s);
    s.shown = true;
    options.positions = whole - 1;
    CHECK(!read_both(&s, &options));
    CHECK_INT(s.prompts.items[0].shots, 3);
    CHECK_INT(s.prompts.items[2].shots, 2); /* the longest question */
    CHECK(s.prompts.longest < whole);
    close_setup(&s);
}

TEST(subjects_come_together)
{
    hn_questions questions = {0};
    hn_error error = {0};
    const char *file = path_of("mixed_test.jsonl");
    hn_list list = {&file, 1};
    write_file("mixed_test.jsonl", "{\"question\": \"1\", \"choices\": [\"a\", \"b\"], \"answer\": 0, \"subject\": \"z\"}\n"
                                   "{\"question\": \"2\", \"choices\": [\"a\", \"b\"], \"answer\": 0, \"subject\": \"a\"}\n"
                                   "{\"question\": \"3\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n"
                                   "{\"question\": \"4\", \"choices\": [\"a\", \"b\"], \"answer\": 9}\n"
                                   "{\"question\": \"5\", \"choices\": [\"a\", \"b\"], \"answer\": 0, \"subject\": \"z\"}\n");
    CHECK_INT(hn_questions_open(&questions, &list, &usual, false, "choices.files", &error), HN_ERR_FORMAT);
    CHECK_CONTAINS(error.message, "mixed_test.jsonl:4: expected the answer");
    error = (hn_error){0};
    CHECK_OK(hn_questions_open(&questions, &list, &usual, true, "choices.files", &error));
    CHECK_INT(questions.count, 4);
    CHECK_INT(questions.bad.count[HN_BAD_LABEL], 1);
    CHECK_TEXT(questions.items[0].text, "1");
    CHECK_TEXT(questions.items[1].text, "5");
    CHECK_TEXT(questions.items[2].subject, "a");
    CHECK_TEXT(questions.items[3].subject, "mixed");
    CHECK_INT(questions.items[1].line, 5);
    hn_questions_close(&questions);
    unlink(file);
}

/* The sum of an option's log-probabilities by a forward of the whole text, without a cache. */
static double whole_score(setup *s, size_t item, size_t k)
{
    const hn_prompt_item *one = &s->prompts.items[item];
    int32_t own, cu[2] = {0}, token[512], position[512], type[512] = {0}, target[512], label[1] = {0};
    uint32_t example[1] = {0};
    float value[1] = {0}, row_loss[512];
    const int32_t *ids = hn_prompt_option(one, k, &own);
    int32_t count = cu[1] = one->context + own - 1;
    for (int32_t t = 0; t < count; t++) {
        token[t] = t < one->context ? one->ids[t] : ids[t - one->context];
        target[t] = t + 1 < one->context ? HN_NO_TARGET : ids[t + 1 - one->context];
        position[t] = t;
    }
    hn_batch batch = {.n = 1, .tokens = count, .longest = count, .cu_seqlens = cu, .token = token, .position = position,
                      .type = type, .example = example, .label = label, .value = value, .target = target};
    hn_forward how = {0};
    hn_target_loss out = {.loss = s->runner.loss, .count = s->runner.count, .row_loss = row_loss};
    double sum = 0;
    hn_model_forward(s->runner.model, &s->runner.ctx, &batch, &how);
    hn_model_loss(s->runner.model, &s->runner.ctx, &out, &batch, 0, NULL, false);
    for (int32_t t = 0; t < count; t++) sum -= row_loss[t];
    return sum;
}

static void compare(int kind, int normalize, int32_t tokens, int32_t sequences, int32_t cached)
{
    setup s = {.shown = kind == HN_ANSWER_LETTERS};
    hn_prompts_options prompts = {.kind = kind, .shots = 3, .every = 1, .positions = 400};
    hn_choices_options options = {.kind = kind, .normalize = normalize, .tokens = tokens, .sequences = sequences, .cached = cached};
    CHECK(!read_both(&s, &prompts));
    if (choose(&s, &options, false)) TEST_FAIL("%s", s.error.message);
    CHECK_INT(s.count, (int)s.prompts.count);
    for (int i = 0; i < s.count; i++) {
        const hn_question *question = s.prompts.items[i].question;
        int best = 0;
        for (size_t k = 0; k < question->option_count; k++) {
            int32_t own;
            hn_prompt_option(&s.prompts.items[i], k, &own);
            double length = normalize == HN_CHOICE_PER_TOKEN                                      ? own
                            : normalize == HN_CHOICE_PER_CHARACTER && kind == HN_ANSWER_TEXTS ? (double)strlen(question->options[k])
                                                                                                : 1;
            CHECK_NEAR(s.score[i][k], whole_score(&s, (size_t)i, k) / length, 1e-5);
            if (s.score[i][k] > s.score[i][best]) best = (int)k;
        }
        CHECK_INT(s.chosen[i], best);
    }
    close_setup(&s);
}

TEST(scores_are_those_of_the_whole_text)
{
    compare(HN_ANSWER_LETTERS, HN_CHOICE_SUM, 4096, 16, 4096);
    compare(HN_ANSWER_LETTERS, HN_CHOICE_PER_CHARACTER, 1, 2, 1); /* a place, a question at a time */
    compare(HN_ANSWER_TEXTS, HN_CHOICE_SUM, 4096, 16, 4096);
    compare(HN_ANSWER_TEXTS, HN_CHOICE_PER_TOKEN, 60, 2, 4096);
    compare(HN_ANSWER_TEXTS, HN_CHOICE_PER_CHARACTER, 4096, 3, 4096);
}

/* A context that another one begins with, and an option without text. */
TEST(prompts_within_prompts)
{
    static const char *const formats[] = {"{question}", "{question}\n"};
    write_file("within.jsonl", "{\"question\": \"Odd one\", \"choices\": [\"a\", \"\"], \"answer\": 0}\n"
                               "{\"question\": \"Odd\", \"choices\": [\"a\", \"b c\"], \"answer\": 0}\n");
    for (int f = 0; f < 2; f++) {
        setup s = {0};
        const char *file = path_of("within.jsonl");
        hn_list list = {&file, 1};
        hn_prompts_options prompts = {.kind = HN_ANSWER_TEXTS, .every = 1, .positions = 400, .prompt = formats[f]};
        hn_choices_options options = {.kind = HN_ANSWER_TEXTS, .tokens = 64, .sequences = 4, .cached = 4096};
        CHECK(!hn_tokenizer_open(&s.tokenizer, folder, &s.error));
        CHECK(!hn_questions_open(&s.questions, &list, &usual, false, "choices.files", &s.error));
        CHECK(!hn_prompts_open(&s.prompts, &s.questions, NULL, s.tokenizer, &prompts, &s.error));
        CHECK_TEXT(option_text(&s, 0, 1), f ? "\n" : " "); /* it takes the context's last token */
        CHECK(!choose(&s, &options, false));
        for (int i = 0; i < 2; i++)
            for (size_t k = 0; k < 2; k++) CHECK_NEAR(s.score[i][k], whole_score(&s, (size_t)i, k), 1e-5);
        close_setup(&s);
    }
    unlink(path_of("within.jsonl"));
}

TEST(of_equal_scores_the_first_is_chosen)
{
    setup s = {0};
    hn_prompts_options prompts = {.every = 1, .positions = 400};
    hn_choices_options options = {.tokens = 4096, .sequences = 4, .cached = 4096};
    CHECK(!read_both(&s, &prompts));
    CHECK(!choose(&s, &options, true));
    CHECK_INT(s.count, 4);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(s.chosen[i], 0);
        CHECK_NEAR(s.score[i][1], -2 * log(600), 1e-6); /* a letter with the blank before it are two tokens here */
    }
    close_setup(&s);
}

TEST(broken_weights_and_a_stop)
{
    setup s = {0};
    hn_prompts_options prompts = {.every = 1, .positions = 400};
    hn_choices_options options = {.tokens = 4096, .sequences = 4, .cached = 4096};
    volatile int stop = 1;
    CHECK(!read_both(&s, &prompts));
    CHECK(!choose(&s, &options, false));
    CHECK_INT(hn_choices_run(s.choices, take, &s, &stop, &s.error), HN_ERR_INTERRUPTED);
    s.error = (hn_error){0};
    hn_model_master(s.runner.model)[0] = NAN;
    for (int64_t i = 0; i < 600 * 32; i++) hn_model_master(s.runner.model)[i] = NAN;
    CHECK_INT(hn_choices_run(s.choices, take, &s, NULL, &s.error), HN_ERR_NUMERIC);
    CHECK_CONTAINS(s.error.message, "law_of_all_val.csv:1: expected finite log-probabilities");
    close_setup(&s);
}

TEST(survives_without_memory)
{
    hn_prompts_options prompts = {.kind = HN_ANSWER_LETTERS, .shots = 1, .every = 2, .positions = 400};
    hn_choices_options options = {.tokens = 64, .sequences = 2, .cached = 512};
    bool done = false;
    for (size_t n = 1; !done; n += n < 40 ? 1 : 11) { /* most are one token's name */
        setup s = {.shown = true};
        hn_mem_fail_at(n);
        hn_status status = read_both(&s, &prompts);
        if (status == HN_OK) status = choose(&s, &options, false);
        hn_mem_fail_at(0);
        done = status == HN_OK;
        if (!done && status != HN_ERR_MEMORY && status != HN_ERR_DEVICE) TEST_FAIL("allocation %zu: %s", n, s.error.message);
        close_setup(&s);
    }
}

static void write_tokenizers(void)
{
    json_t *root = NULL;
    hn_error error = {0};
    if (hn_json_load(&root, "tests/golden/tokenizer/bytes.json", HN_JSON_LIMITS_SMALL, &error)) abort();
    if (json_dump_file(root, path_of("tokenizer.json"), 0)) abort();
    json_object_set_new(root, "post_processor", json_null());
    if (hn_folder_make(path_of("bare"), &error) || json_dump_file(root, path_of("bare/tokenizer.json"), 0)) abort();
    json_decref(root);
}

int main(void)
{
    hn_error error = {0};
    hn_json_init();
    if (!mkdtemp(folder) || hn_folder_make(path_of("dev"), &error)) abort();
    write_tokenizers();
    write_file("law_of_all_val.csv", VAL);
    write_file("dev/law_of_all_dev.csv", DEV);
    write_file("more.jsonl", LINES);
    RUN(prompts_by_hand);
    RUN(refuses);
    RUN(fewer_examples_where_they_do_not_fit);
    RUN(subjects_come_together);
    RUN(scores_are_those_of_the_whole_text);
    RUN(prompts_within_prompts);
    RUN(of_equal_scores_the_first_is_chosen);
    RUN(broken_weights_and_a_stop);
    RUN(survives_without_memory);
    hn_folder_remove(folder, &error);
    fprintf(stderr, "%d tests, %d failures\n", test_ran, test_failures);
    return test_failures != 0;
}
