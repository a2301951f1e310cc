/* hone eval with choices.files: multiple choice */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/model.h"
#include "core/json.h"
#include "core/mem.h"
#include "eval/multiple_choice.h"

/* Questions side by side, and tokens of theirs that are cached unless one needs more. */
enum { SEQUENCES = 16, CACHED = 8192 };

/* A subject's questions so far. */
typedef struct tally {
    const char *subject;
    int64_t questions, right;
} tally;

typedef struct report {
    tally *subjects; /* the questions of one come together */
    size_t count, capacity;
    int64_t questions, right, fewer; /* fewer: with fewer examples than asked for */
    int64_t shots;                   /* asked for */
    bool each;
    hn_strbuf line;
} report;

static void put_choice(hn_strbuf *out, const hn_choice *choice)
{
    const hn_question *question = choice->question;
    hn_strbuf_reset(out);
    hn_strbuf_puts(out, "{\"subject\": ");
    hn_json_quote(out, question->subject, strlen(question->subject));
    hn_strbuf_puts(out, ", \"file\": ");
    hn_json_quote(out, question->path, strlen(question->path));
    hn_strbuf_printf(out, ", \"line\": %lld, \"answer\": \"%c\", \"chosen\": \"%c\", \"scores\": [", (long long)question->line,
                     'A' + (int)question->answer, 'A' + (int)choice->chosen);
    for (size_t k = 0; k < question->option_count; k++) hn_strbuf_printf(out, "%s%.6f", k ? ", " : "", choice->score[k]);
    hn_strbuf_puts(out, "]}\n");
}

static hn_status add_choice(void *context, const hn_choice *choice, hn_error *error)
{
    report *r = context;
    const char *subject = choice->question->subject;
    void *subjects = r->subjects;
    if (!r->count || strcmp(r->subjects[r->count - 1].subject, subject)) {
        if (!hn_grow(&subjects, &r->capacity, r->count + 1, sizeof *r->subjects))
            return hn_fail(error, HN_ERR_MEMORY, "out of memory for the subjects");
        r->subjects = subjects;
        r->subjects[r->count++] = (tally){.subject = subject};
    }
    bool right = choice->chosen == choice->question->answer;
    r->subjects[r->count - 1].questions++;
    r->subjects[r->count - 1].right += right;
    r->questions++;
    r->right += right;
    r->fewer += choice->shots < r->shots;
    if (!r->each) return HN_OK;
    put_choice(&r->line, choice);
    if (r->line.failed) return hn_fail(error, HN_ERR_MEMORY, "out of memory for a line");
    if (fwrite(r->line.text, 1, r->line.length, stdout) != r->line.length) return hn_fail_errno(error, "standard output: cannot write");
    return HN_OK;
}

static double share(int64_t right, int64_t questions)
{
    return questions ? (double)right / (double)questions : 0;
}

/* The mean of the subjects' accuracies. */
static double mean_of_subjects(const report *r)
{
    double sum = 0;
    for (size_t i = 0; i < r->count; i++) sum += share(r->subjects[i].right, r->subjects[i].questions);
    return r->count ? sum / (double)r->count : 0;
}

static double standard_error(const report *r)
{
    double p = share(r->right, r->questions);
    return r->questions > 1 ? sqrt(p * (1 - p) / (double)(r->questions - 1)) : 0;
}

static void print_table(const report *r)
{
    printf("%-44s %9s %9s\n", "subject", "questions", "accuracy");
    for (size_t i = 0; i < r->count; i++)
        printf("%-44s %9lld %9.4f\n", r->subjects[i].subject, (long long)r->subjects[i].questions,
               share(r->subjects[i].right, r->subjects[i].questions));
    printf("%-44s %9lld %9.4f   standard error %.4f, mean of %zu subjects %.4f\n", "all", (long long)r->questions,
           share(r->right, r->questions), standard_error(r), r->count, mean_of_subjects(r));
}

static hn_status print_json(report *r, hn_error *error)
{
    hn_strbuf *out = &r->line;
    hn_strbuf_reset(out);
    hn_strbuf_printf(out, "{\"questions\": %lld, \"correct\": %lld, \"accuracy\": %.9g, \"standard_error\": %.9g, \"mean_of_subjects\": %.9g, "
                     "\"subjects\": {", (long long)r->questions, (long long)r->right, share(r->right, r->questions), standard_error(r),
                     mean_of_subjects(r));
    for (size_t i = 0; i < r->count; i++) {
        const tally *one = &r->subjects[i];
        if (i) hn_strbuf_puts(out, ", ");
        hn_json_quote(out, one->subject, strlen(one->subject));
        hn_strbuf_printf(out, ": {\"questions\": %lld, \"correct\": %lld, \"accuracy\": %.9g}", (long long)one->questions,
                         (long long)one->right, share(one->right, one->questions));
    }
    hn_strbuf_puts(out, "}}\n");
    if (out->failed) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the results");
    fputs(out->text, stdout);
    return HN_OK;
}

/* Questions, and the examples where there are any. */
static hn_status read_questions(hn_questions *questions, hn_questions *examples, const hn_cli_config *config, hn_error *error)
{
    hn_question_fields fields = {.question = config->eval.choices.question, .options = config->eval.choices.options,
                                 .answer = config->eval.choices.answer, .subject = config->eval.choices.subject};
    bool skip = config->data.on_bad_row != 0;
    hn_status status = hn_questions_open(questions, &config->eval.choices.files, &fields, skip, "choices.files", error);
    if (status == HN_OK && config->eval.choices.examples.count)
        status = hn_questions_open(examples, &config->eval.choices.examples, &fields, skip, "choices.examples", error);
    if (status != HN_OK) return status;
    long long bad = (long long)(hn_bad_rows_count(&questions->bad) + hn_bad_rows_count(&examples->bad));
    if (bad) fprintf(stderr, "hone: %lld bad rows were passed over\n", bad);
    return HN_OK;
}

/* The model over the prompts. */
static hn_status run(hn_cli_model *model, const hn_cli_config *config, const hn_prompts *prompts, report *r, hn_error *error)
{
    hn_choices *choices = NULL;
    hn_choices_options options = {.kind = config->eval.choices.answers, .normalize = config->eval.choices.normalize,
                                  .tokens = hn_cli_batch_tokens(config), .sequences = SEQUENCES, .cached = CACHED};
    hn_status status = hn_cli_model_start_within(model, config, hn_choices_bounds(&options, prompts->longest), error);
    if (status == HN_OK) status = hn_choices_open(&choices, &model->runner, prompts, &options, error);
    if (status == HN_OK) status = hn_choices_alloc(choices, error);
    if (status == HN_OK) status = hn_choices_run(choices, add_choice, r, &hn_cli_stop, error);
    hn_choices_free(choices);
    return status;
}

hn_status hn_cli_choices(const char *path, const hn_cli_config *config, bool json, bool each, hn_error *error)
{
    hn_cli_model model;
    hn_questions questions = {0}, examples = {0};
    hn_prompts prompts = {0};
    report r = {.each = each, .shots = config->eval.choices.examples.count ? config->eval.choices.shots : 0};
    hn_strbuf_init(&r.line);
    hn_status status = hn_cli_model_open(&model, path, config, error);
    if (status == HN_OK && model.source->config.head != HN_HEAD_LM)
        status = hn_fail(error, HN_ERR_USAGE, "choices.files: expected a language model to answer with, %s is none", path);
    if (status == HN_OK) status = read_questions(&questions, &examples, config, error);
    hn_prompts_options options = {.kind = config->eval.choices.answers, .shots = r.shots, .heading = config->eval.choices.heading,
                                  .prompt = config->eval.choices.prompt, .every = config->eval.choices.every};
    if (status == HN_OK) {
        options.positions = model.source->config.positions;
        status = hn_prompts_open(&prompts, &questions, examples.count ? &examples : NULL, model.source->tokenizer, &options, error);
    }
    if (status == HN_OK) status = run(&model, config, &prompts, &r, error);
    if (status == HN_OK && r.fewer)
        fprintf(stderr, "hone: %lld questions had fewer than %lld examples: no more fit, or there are none\n", (long long)r.fewer,
                (long long)r.shots);
    if (status == HN_OK && json) status = print_json(&r, error);
    else if (status == HN_OK && !each) print_table(&r);
    hn_strbuf_close(&r.line);
    hn_free(r.subjects);
    hn_prompts_close(&prompts);
    hn_questions_close(&questions);
    hn_questions_close(&examples);
    hn_cli_model_close(&model);
    return status;
}
