/* See talk.h. */
#include "cli/talk.h"

#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"

enum { PIECE = 256 }; /* tokens of a prompt in one forward */

void hn_talk_options_init(hn_talk_options *o, hn_option table[HN_TALK_OPTIONS])
{
    *o = (hn_talk_options){.sampling = HN_SAMPLING_GREEDY, .max_tokens = 256, .context = 4096};
    const hn_option options[HN_TALK_OPTIONS] = {
        {"--max-tokens", HN_OPTION_INT, &o->max_tokens, 1, 1 << 24, false, NULL},
        {"--context", HN_OPTION_INT, &o->context, 2, 1 << 24, false, NULL},
        {"--temperature", HN_OPTION_FLOAT, &o->sampling.temperature, 0, 100, false, NULL},
        {"--top-k", HN_OPTION_INT, &o->sampling.top_k, 0, 1 << 24, false, &o->sampled},
        {"--top-p", HN_OPTION_FLOAT, &o->sampling.top_p, 0, 1, true, &o->sampled},
        {"--min-p", HN_OPTION_FLOAT, &o->sampling.min_p, 0, 1, false, &o->sampled},
        {"--repetition-penalty", HN_OPTION_FLOAT, &o->sampling.repetition_penalty, 0, 100, true, NULL},
        {"--seed", HN_OPTION_UINT64, &o->sampling.seed, 0, 0, false, &o->sampled},
        {"--stop", HN_OPTION_TEXTS, &o->stops, 0, 0, false, NULL},
        {"--system", HN_OPTION_TEXT, &o->system, 0, 0, false, NULL},
        {"--template", HN_OPTION_TEXT, &o->tmpl, 0, 0, false, NULL},
    };
    memcpy(table, options, sizeof options);
}

hn_status hn_talk_options_check(const hn_talk_options *options, hn_error *error)
{
    for (size_t i = 0; i < options->stops.count; i++) {
        const char *text = options->stops.items[i];
        if (!*text || !hn_utf8_valid(text, strlen(text)))
            return hn_fail(error, HN_ERR_USAGE, "--stop: expected a text in UTF-8, got %s", *text ? "other bytes" : "an empty one");
    }
    if (options->sampled && options->sampling.temperature == 0)
        return hn_fail(error, HN_ERR_USAGE, "--seed, --top-k, --top-p and --min-p choose among tokens by chance: expected --temperature above 0 "
                       "with them; without it the likeliest token is taken");
    return HN_OK;
}

/* The config's template, or the one that the options name. */
static hn_status open_template(hn_talk *talk, const hn_cli_config *config, const hn_talk_options *options, hn_error *error)
{
    hn_template_options how;
    hn_status status = hn_data_template(&how, &config->data, error);
    if (status != HN_OK) return status;
    if (options->tmpl) {
        how.name = options->tmpl;
        how.turns = (hn_template_turns){0};
    }
    if (options->system) how.system = options->system;
    return hn_source_template(&talk->tmpl, &how, talk->source, error);
}

hn_status hn_talk_open(hn_talk *out, const char *path, const hn_cli_config *config, const hn_talk_options *options,
                       bool conversation, hn_error *error)
{
    *out = (hn_talk){0};
    hn_status status = hn_source_open_with(&out->source, path, config->train.lora.adapter, error);
    if (status != HN_OK) return status;
    if (out->source->config.head != HN_HEAD_LM)
        return hn_fail(error, HN_ERR_MISMATCH, "%s: an encoder, which writes no text; expected a decoder (GPT-2, Llama, Qwen, ...)",
                       out->source->path);
    out->positions = out->source->config.positions;
    if (conversation) status = open_template(out, config, options, error);
    return status == HN_OK ? hn_source_stops(&out->stop_ids, &out->stop_id_count, out->source, out->tmpl, error) : status;
}

hn_status hn_talk_start(hn_talk *talk, const hn_cli_config *config, int32_t sequences, int32_t capacity, hn_error *error)
{
    hn_generator_options options = {.sequences = sequences, .capacity = capacity, .tokens = PIECE};
    hn_runner_options how = {.precision = config->train.train.precision == HN_PRECISION_BF16 ? HN_BF16 : HN_F32,
                             .threads = (int)config->train.train.threads,
                             .device = (hn_device)config->train.train.device,
                             .frozen = true,
                             .evaluation = hn_generator_bounds(&options)};
    hn_strbuf initialised, ignored;
    hn_strbuf_init(&initialised);
    hn_strbuf_init(&ignored);
    hn_status status = hn_runner_init(&talk->runner, &talk->source->config, &how, error);
    if (status == HN_OK)
        status = hn_generator_open(&talk->generator, &talk->runner, talk->source->tokenizer, &options, error);
    if (status == HN_OK) status = hn_runner_alloc(&talk->runner, error);
    if (status == HN_OK && talk->runner.device_note.status != HN_OK) hn_cli_notice(talk->runner.device_note.message);
    if (status == HN_OK) status = hn_runner_load(&talk->runner, talk->source, 0, &initialised, &ignored, error);
    if (status == HN_OK) status = hn_generator_alloc(talk->generator, error);
    hn_strbuf_close(&initialised);
    hn_strbuf_close(&ignored);
    return status;
}

hn_generate_options hn_talk_generate_options(const hn_talk *talk, const hn_talk_options *options)
{
    return (hn_generate_options){.sampling = options->sampling,
                                 .max_tokens = options->max_tokens,
                                 .stop_ids = talk->stop_ids,
                                 .stop_id_count = talk->stop_id_count,
                                 .stops = options->stops.items,
                                 .stop_count = options->stops.count};
}

void hn_talk_close(hn_talk *talk)
{
    hn_generator_free(talk->generator);
    hn_runner_close(&talk->runner);
    hn_template_free(talk->tmpl);
    hn_free(talk->stop_ids);
    hn_source_free(talk->source);
    *talk = (hn_talk){0};
}

void hn_talk_print_rate(const hn_generate_stats *stats)
{
    fprintf(stderr, "hone: prompt %lld tokens in %.2f s", (long long)stats->prompt_tokens, stats->prompt_seconds);
    if (stats->prompt_seconds > 0) fprintf(stderr, " (%.0f tokens/s)", (double)stats->prompt_tokens / stats->prompt_seconds);
    fprintf(stderr, ", %lld new tokens", (long long)stats->new_tokens);
    if (stats->new_seconds > 0) fprintf(stderr, ", %.1f tokens/s", (double)stats->later_tokens / stats->new_seconds);
    fputc('\n', stderr);
}
