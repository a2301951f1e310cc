/* Asks the model of a run what train/samples.h has for it, between two steps. The generator runs on the run's own runner: on the
 * weights as they are, adapters with them, in the activations that training does not need just then. It takes the likeliest token
 * each time and draws no random number, so a run with samples trains as one without.
 *
 * Answers are kept until the evaluation is logged, since a signal may end it before: then nothing of it is logged, and a run that
 * goes on does it again. A model that has no likeliest token, or one that its tokenizer does not know, is no reason to end the
 * run: there is a warning instead of samples. */
#include "core/mem.h"
#include "train/internal.h"

hn_status hnp_answers_init(hnp_answers *answers, hn_trainer *trainer, hn_error *error)
{
    const hn_job *job = trainer->job;
    *answers = (hnp_answers){0};
    if (!job->samples.count) return HN_OK;
    answers->items = hn_calloc(job->samples.count, sizeof *answers->items);
    if (!answers->items) return hn_fail(error, HN_ERR_MEMORY, "out of memory for sample answers");
    answers->count = job->samples.count;
    for (size_t i = 0; i < answers->count; i++) hn_strbuf_init(&answers->items[i].text);
    return hn_generator_open(&answers->generator, &trainer->runner, job->source->tokenizer, &job->samples.generator, error);
}

size_t hnp_answers_bytes(const hnp_answers *answers)
{
    return answers->generator ? hn_generator_bytes(answers->generator) : 0;
}

hn_status hnp_answers_alloc(hnp_answers *answers, hn_error *error)
{
    return answers->generator ? hn_generator_alloc(answers->generator, error) : HN_OK;
}

void hnp_answers_close(hnp_answers *answers)
{
    for (size_t i = 0; i < answers->count; i++) hn_strbuf_close(&answers->items[i].text);
    hn_free(answers->items);
    hn_generator_free(answers->generator);
    *answers = (hnp_answers){0};
}

/* A text of an event ends at its first NUL, and a model may write one: it becomes U+FFFD. */
static void add_text(hn_strbuf *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i]) hn_strbuf_putc(out, text[i]);
        else hn_strbuf_puts(out, "\xEF\xBF\xBD");
    }
}

static hn_status keep(void *context, size_t prompt, const hn_answer *from, hn_error *error)
{
    hnp_answers *answers = context;
    hnp_answer *to = &answers->items[prompt];
    hn_strbuf_reset(&to->text);
    add_text(&to->text, from->text, from->length);
    to->tokens = from->count;
    to->finish = from->finish;
    answers->interrupted |= from->finish == HN_FINISH_INTERRUPT;
    return to->text.failed ? hn_fail(error, HN_ERR_MEMORY, "out of memory for a sample answer") : HN_OK;
}

static hn_status generate(hn_trainer *trainer, const hn_prompt *prompts, hn_error *error)
{
    hnp_answers *answers = &trainer->answers;
    const hn_samples *samples = &trainer->job->samples;
    hn_generate_stats stats = {0};
    hn_listener listener = {.end = keep, .context = answers};
    hn_generate_options options = {.sampling = HN_SAMPLING_GREEDY,
                                   .max_tokens = (int32_t)trainer->config->eval.sample_tokens,
                                   .stop_ids = samples->stop_ids,
                                   .stop_id_count = samples->stop_id_count,
                                   .interrupt = trainer->options->stop};
    hn_status status = hn_generate(answers->generator, &stats, prompts, samples->count, &options, &listener, error);
    bool about_answers = status == HN_ERR_NUMERIC || status == HN_ERR_FORMAT;
    if (!about_answers || trainer->runner.step_error.status != HN_OK) return status;
    answers->problem = *error;
    hn_error_reset(error);
    return HN_OK;
}

hn_status hnp_trainer_ask(hn_trainer *trainer, hn_error *error)
{
    hnp_answers *answers = &trainer->answers;
    const hn_samples *samples = &trainer->job->samples;
    if (!samples->count) return HN_OK;
    hn_prompt *prompts = hn_calloc(samples->count, sizeof *prompts);
    if (!prompts) return hn_fail(error, HN_ERR_MEMORY, "out of memory for the prompts of samples");
    for (size_t i = 0; i < samples->count; i++)
        prompts[i] = (hn_prompt){.ids = samples->items[i].ids, .count = samples->items[i].count, .fresh = trainer->job->chat != NULL};
    answers->interrupted = false;
    hn_error_reset(&answers->problem);
    hn_status status = generate(trainer, prompts, error);
    hn_free(prompts);
    if (status == HN_OK && answers->interrupted) status = hn_fail(error, HN_ERR_INTERRUPTED, "stopped during sample answers");
    return status;
}

hn_status hnp_trainer_log_answers(hn_trainer *trainer, hn_error *error)
{
    const hnp_answers *answers = &trainer->answers;
    hn_status status = HN_OK;
    if (answers->problem.status != HN_OK) return hnp_trainer_log_text(trainer, "warning", "message", answers->problem.message, error);
    for (size_t i = 0; status == HN_OK && i < answers->count; i++)
        status = hnp_trainer_log_sample(trainer, (int64_t)i + 1, &trainer->job->samples.items[i], &answers->items[i], error);
    return status;
}
