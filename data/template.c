/* See template.h. Opening a template picks its strings (by name, the user's, or what the model's own chat
 * template is recognised as) and takes them apart; encoding walks the messages and their parts.
 *
 * Text of neighbouring parts is gathered into a run and encoded as one, because a tokenizer joins across the
 * seams of a template ("\n" with the blank that a message begins with); that is what the reference does,
 * which prints the whole conversation before it encodes it. A run ends at a control token, where an answer
 * begins, and where what is trained on begins or ends:
 *
 *     <|im_start|> "user\nWhat is 2+2?" <|im_end|> "\n" <|im_start|> "assistant\n" || "4" <|im_end|> "\n"
 *                                                                                    ^^^^^^^^^^^^^^^ marked
 */
#include "data/template.h"

#include <string.h>

#include "core/mem.h"
#include "data/templates.h"
#include "data/tokenizer_stages.h"

static hn_status no_memory(hn_error *error)
{
    return hn_fail(error, HN_ERR_MEMORY, "template: out of memory");
}

void hn_template_free(hn_template *tmpl)
{
    if (!tmpl) return;
    for (int i = 0; i < HNP_TURNS; i++) hn_free(tmpl->turn[i].items);
    hn_strbuf_close(&tmpl->texts);
    hn_free(tmpl->system);
    hn_free(tmpl->system_input);
    hn_free(tmpl->tokens);
    hn_free(tmpl);
}

const char *hn_template_name(const hn_template *tmpl)
{
    return tmpl->name;
}

hn_digest hn_template_digest(const hn_template *tmpl)
{
    return tmpl->digest;
}

const char *hn_template_names(void)
{
    return hnp_shape_names();
}

unsigned hn_template_loss(const hn_template *tmpl)
{
    return tmpl->loss;
}

const int32_t *hn_template_stops(const hn_template *tmpl, size_t *count)
{
    *count = tmpl->stop_count;
    return tmpl->stops;
}

/* Opening */

/* The user's strings as a shape. */
static hnp_shape own_shape(const hn_template_turns *turns)
{
    return (hnp_shape){
        .name = "own",
        .turn = {[HNP_TURN_BEGIN] = turns->begin,
                 [HNP_TURN_SYSTEM] = turns->system,
                 [HNP_TURN_USER] = turns->user,
                 [HNP_TURN_INPUT] = turns->input,
                 [HNP_TURN_PROMPT] = turns->prompt,
                 [HNP_TURN_ASSISTANT] = turns->assistant ? turns->assistant : "{content}{eos}"}};
}

/* Which strings are meant, and the system prompt that the model's own chat template puts in (hn_free). */
static hn_status choose(hnp_shape *out, char **system, const hn_template_options *options, const char *chat,
                        hn_error *error)
{
    const hn_template_turns *turns = &options->turns;
    const char *name = options->name && strcmp(options->name, "auto") ? options->name : NULL;
    const hnp_shape *named = name ? hnp_shape_find(name) : NULL, *model = NULL;
    bool own =
        turns->begin || turns->system || turns->user || turns->input || turns->prompt || turns->assistant;
    if (name && !named)
        return hn_fail(error, HN_ERR_USAGE, "data.template: expected auto or one of %s, got \"%.60s\"",
                       hnp_shape_names(), name);
    if (own && named)
        return hn_fail(error, HN_ERR_USAGE, "data.template: expected auto beside data.turns, got \"%s\"",
                       name);
    if (own && !turns->user)
        return hn_fail(error, HN_ERR_USAGE,
                       "data.turns.user: expected a format string beside the other turns, got none");
    if (own) {
        *out = own_shape(turns);
        return HN_OK;
    }
    hn_status status = chat ? hnp_shape_recognise(&model, system, chat, error) : HN_OK;
    if (status) return status;
    if (named && named != model) {
        hn_free(*system);
        *system = NULL;
    }
    if (named || model) {
        *out = named ? *named : *model;
        return HN_OK;
    }
    return hn_fail(error, HN_ERR_UNSUPPORTED,
                   "data.template: the model %s; expected data.template to be one of %s, or strings of your "
                   "own in data.turns",
                   chat ? "has a chat template that hone does not know" : "comes without a chat template",
                   hnp_shape_names());
}

static hn_status check_needs(const hnp_shape *shape, const hn_tokenizer *tokenizer, hn_error *error)
{
    for (size_t i = 0; i < sizeof shape->needs / sizeof shape->needs[0] && shape->needs[i]; i++) {
        const char *token = shape->needs[i];
        int32_t id;
        if (hn_tokenizer_special_at(tokenizer, token, strlen(token), &id) != strlen(token))
            return hn_fail(error, HN_ERR_UNSUPPORTED,
                           "template %s: expected the special token %s in the model's vocabulary, got none; "
                           "alpaca and plain "
                           "need no tokens of their own",
                           shape->name, token);
    }
    return HN_OK;
}

static hn_status copy_text(char **out, const char *text, hn_error *error)
{
    if (!text) return HN_OK;
    *out = hn_strdup(text);
    return *out ? HN_OK : no_memory(error);
}

/* `model`: what the model's own chat template puts in. */
static hn_status set_system(hn_template *tmpl, const hnp_shape *shape, const char *asked, const char *model,
                            hn_error *error)
{
    bool place = shape->turn[HNP_TURN_SYSTEM] || shape->turn[HNP_TURN_OPENING];
    if (asked && *asked && !place)
        return hn_fail(error, HN_ERR_USAGE, "data.system: template %s has no place for a system prompt",
                       shape->name);
    if (asked) return *asked ? copy_text(&tmpl->system, asked, error) : HN_OK;
    hn_status status = copy_text(&tmpl->system, model ? model : shape->system, error);
    return status || model ? status : copy_text(&tmpl->system_input, shape->system_input, error);
}

static hn_status take_digest(hn_template *tmpl, hn_error *error)
{
    hn_hasher *hasher = hn_hasher_open();
    if (!hasher) return no_memory(error);
    for (int i = 0; i < HNP_TURNS; i++) {
        const hnp_parts *parts = &tmpl->turn[i];
        int64_t head[2] = {parts->given, (int64_t)parts->count};
        hn_hasher_add(hasher, head, sizeof head);
        for (size_t k = 0; k < parts->count; k++) {
            const hnp_part *part = &parts->items[k];
            int64_t numbers[5] = {part->kind, part->id, (int64_t)part->length, part->trim_left,
                                  part->trim_right};
            hn_hasher_add(hasher, numbers, sizeof numbers);
            hn_hasher_add(hasher, tmpl->texts.text + part->from, part->length);
        }
    }
    int64_t rest[4] = {tmpl->alternate, tmpl->loss, tmpl->system != NULL, tmpl->system_input != NULL};
    hn_hasher_add(hasher, rest, sizeof rest);
    hn_hasher_add_text(hasher, tmpl->system ? tmpl->system : "");
    hn_hasher_add_text(hasher, tmpl->system_input ? tmpl->system_input : "");
    tmpl->digest = hn_hasher_digest(hasher);
    hn_hasher_free(hasher);
    return HN_OK;
}

static void set_stops(hn_template *tmpl, int32_t eos)
{
    const hnp_parts *answer = &tmpl->turn[HNP_TURN_ASSISTANT];
    tmpl->stops[tmpl->stop_count++] = answer->items[answer->end - 1].id;
    if (eos >= 0 && eos != tmpl->stops[0]) tmpl->stops[tmpl->stop_count++] = eos;
}

static hn_status fill(hn_template *tmpl, const hnp_shape *shape, const hn_template_options *options,
                      const char *model_system, const hn_chat_source *source, hn_error *error)
{
    const hn_tokenizer *tokenizer = tmpl->tokenizer;
    int32_t bos = source && source->bos ? hn_tokenizer_id(tokenizer, source->bos)
                                        : hn_tokenizer_lead(tokenizer, 0),
            eos = source && source->eos ? hn_tokenizer_id(tokenizer, source->eos) : -1;
    tmpl->name = shape->name;
    tmpl->alternate = shape->alternate;
    tmpl->loss = options->loss ? options->loss : HN_LOSS_ANSWERS;
    hn_status status = check_needs(shape, tokenizer, error);
    for (int i = 0; i < HNP_TURNS && !status; i++)
        if (shape->turn[i]) status = hnp_parts_parse(tmpl, (hnp_turn)i, shape->turn[i], bos, eos, error);
    if (!status) status = set_system(tmpl, shape, options->system, model_system, error);
    if (!status) set_stops(tmpl, eos);
    return status ? status : take_digest(tmpl, error);
}

hn_status hn_template_open(hn_template **out, const hn_template_options *options,
                           const hn_chat_source *source, const hn_tokenizer *tokenizer, hn_error *error)
{
    hnp_shape shape = {0};
    char *system = NULL;
    hn_template *tmpl = hn_calloc(1, sizeof *tmpl);
    if (!tmpl) return no_memory(error);
    hn_strbuf_init(&tmpl->texts);
    tmpl->tokenizer = tokenizer;
    hn_status status = choose(&shape, &system, options, source ? source->chat : NULL, error);
    if (!status) status = fill(tmpl, &shape, options, system, source, error);
    hn_free(system);
    if (status)
        hn_template_free(tmpl);
    else
        *out = tmpl;
    return status;
}

/* Encoding */

void hn_dialog_init(hn_dialog *dialog)
{
    *dialog = (hn_dialog){0};
    hn_encoding_init(&dialog->encoding);
    hn_strbuf_init(&dialog->run);
}

void hn_dialog_close(hn_dialog *dialog)
{
    hn_free(dialog->ids);
    hn_free(dialog->marks);
    hn_encoding_close(&dialog->encoding);
    hn_strbuf_close(&dialog->run);
    hn_dialog_init(dialog);
}

const char *hn_template_refusal(const hn_template *tmpl, const hn_message *messages, size_t count)
{
    if (!count) return "expected messages, got none";
    bool begins = messages[0].role == HN_ROLE_SYSTEM;
    bool turn = tmpl->turn[HNP_TURN_SYSTEM].given, opening = tmpl->turn[HNP_TURN_OPENING].given;
    if (begins && !turn && !opening) return "the template has no place for a system prompt";
    if (begins && !turn && count == 1) return "expected a user's turn behind the system prompt, got none";
    for (size_t i = begins; i < count; i++) {
        bool user = (i - begins) % 2 == 0;
        if (tmpl->alternate && messages[i].role != (user ? HN_ROLE_USER : HN_ROLE_ASSISTANT))
            return "the template takes user and assistant by turns, and a system prompt at the beginning "
                   "only";
        if (messages[i].role == HN_ROLE_SYSTEM && !turn)
            return "the template takes a system prompt at the beginning only";
    }
    return NULL;
}

/* The ids that are being made. */
typedef struct writer {
    const hn_template *tmpl;
    hn_dialog *out;
    hn_part_place place;
    bool mark;  /* of the run */
    bool strip; /* white space at the run's beginning is the token's before it */
    hn_error *error;
} writer;

static hn_status add_ids(writer *w, const int32_t *ids, size_t count)
{
    hn_dialog *out = w->out;
    size_t ids_capacity = out->capacity, marks_capacity = out->capacity, need = (size_t)out->count + count;
    void *memory = out->ids, *marks = out->marks;
    if (need > INT32_MAX / 4 || !hn_grow(&memory, &ids_capacity, need, sizeof *out->ids))
        return no_memory(w->error);
    out->ids = memory;
    if (!hn_grow(&marks, &marks_capacity, need, sizeof *out->marks)) return no_memory(w->error);
    out->marks = marks;
    out->capacity = ids_capacity;
    for (size_t i = 0; i < count; i++) {
        out->ids[out->count] = ids[i];
        out->marks[out->count++] = w->mark;
    }
    return HN_OK;
}

static hn_status end_run(writer *w)
{
    hn_dialog *out = w->out;
    if (out->run.failed) return no_memory(w->error);
    if (!out->run.length) return HN_OK;
    hn_status status =
        hn_tokenizer_encode_part(w->tmpl->tokenizer, &out->encoding, out->run.text, out->run.length, w->place,
                                 w->tmpl->tokens, w->tmpl->token_count, w->error);
    if (!status) status = add_ids(w, out->encoding.ids, (size_t)out->encoding.count);
    w->place = HN_PART_JOINED;
    hn_strbuf_reset(&out->run);
    return status;
}

static hn_status set_mark(writer *w, bool mark)
{
    hn_status status = mark != w->mark ? end_run(w) : HN_OK;
    w->mark = mark;
    return status;
}

/* As Python's str.strip and Jinja's trim take it. */
static bool is_space(const hn_template *tmpl, uint32_t point)
{
    return (tmpl->tokenizer->flags[point] & HNP_SPACE) || (point >= 0x1C && point <= 0x1F);
}

static void trim_left(const hn_template *tmpl, const char **text, size_t *length)
{
    while (*length) {
        uint32_t point;
        bool good;
        size_t taken = hnp_utf8_get(&point, &good, *text, *length);
        if (!good || !is_space(tmpl, point)) return;
        *text += taken;
        *length -= taken;
    }
}

static void trim_right(const hn_template *tmpl, const char *text, size_t *length)
{
    while (*length) {
        uint32_t point;
        bool good;
        size_t start = *length - 1;
        while (start && ((unsigned char)text[start] & 0xC0) == 0x80) start--;
        hnp_utf8_get(&point, &good, text + start, *length - start);
        if (!good || !is_space(tmpl, point)) return;
        *length = start;
    }
}

static void add_text(writer *w, const char *text, size_t length)
{
    if (w->strip) trim_left(w->tmpl, &text, &length);
    if (!length) return;
    hn_strbuf_add(&w->out->run, text, length);
    w->strip = false;
}

static hn_status add_token(writer *w, const hnp_part *part)
{
    hn_strbuf *run = &w->out->run;
    if (part->trim_left && run->length) {
        trim_right(w->tmpl, run->text, &run->length);
        run->text[run->length] = '\0';
    }
    hn_status status = end_run(w);
    if (!status) status = add_ids(w, &part->id, 1);
    w->place = HN_PART_BEHIND_TOKEN;
    w->strip = part->trim_right;
    return status;
}

static void add_message(writer *w, const hnp_part *part, const char *text, size_t length)
{
    if (part->trim_left) trim_left(w->tmpl, &text, &length);
    if (part->trim_right) trim_right(w->tmpl, text, &length);
    add_text(w, text, length);
}

/* One turn. `system` is for {system}; marked: what is the role's own is trained on. */
static hn_status add_turn(writer *w, hnp_turn number, const hn_message *message, const hn_message *system,
                          bool marked)
{
    const hn_template *tmpl = w->tmpl;
    const hnp_parts *parts = &tmpl->turn[number];
    bool all = tmpl->loss & HN_LOSS_ALL;
    hn_status status = HN_OK;
    for (size_t i = 0; i < parts->count && !status; i++) {
        const hnp_part *part = &parts->items[i];
        status = set_mark(w, all || (marked && i >= parts->words && i < parts->end));
        if (status) break;
        switch (part->kind) {
        case HNP_PART_TEXT: add_text(w, tmpl->texts.text + part->from, part->length); break;
        case HNP_PART_TOKEN: status = add_token(w, part); break;
        case HNP_PART_INPUT: add_message(w, part, message->input, message->input_length); break;
        case HNP_PART_SYSTEM: add_message(w, part, system->text, system->length); break;
        case HNP_PART_CONTENT:
            add_message(w, part, message->text, message->length);
            if (!message->input_length || number == HNP_TURN_INPUT) break;
            add_text(w, "\n\n", 2);
            add_message(w, part, message->input, message->input_length);
            break;
        }
    }
    return status;
}

static hn_status add_begin(writer *w)
{
    hn_status status = HN_OK;
    int32_t id;
    w->mark = w->tmpl->loss & HN_LOSS_ALL;
    if (w->tmpl->turn[HNP_TURN_BEGIN].given) return add_turn(w, HNP_TURN_BEGIN, NULL, NULL, false);
    for (size_t i = 0; !status && (id = hn_tokenizer_lead(w->tmpl->tokenizer, i)) >= 0; i++)
        status = add_ids(w, &id, 1);
    return status;
}

static hn_status add_user(writer *w, const hn_message *message, const hn_message *system, bool marked)
{
    bool input = message->input_length && w->tmpl->turn[HNP_TURN_INPUT].given;
    return add_turn(w,
                    system  ? HNP_TURN_OPENING
                    : input ? HNP_TURN_INPUT
                            : HNP_TURN_USER,
                    message, system, marked);
}

static hn_status add_answer(writer *w, const hn_message *message, bool marked)
{
    hn_status status = add_turn(w, HNP_TURN_PROMPT, NULL, NULL, false);
    if (!status) status = end_run(w);
    return status ? status : add_turn(w, HNP_TURN_ASSISTANT, message, NULL, marked);
}

/* The system prompt of a conversation that brings none. */
static bool default_system(const hn_template *tmpl, hn_message *out, const hn_message *messages)
{
    bool input = messages[0].input_length && tmpl->system_input;
    const char *text = input ? tmpl->system_input : tmpl->system;
    if (text) *out = (hn_message){.role = HN_ROLE_SYSTEM, .text = text, .length = strlen(text)};
    return text && messages[0].role != HN_ROLE_SYSTEM;
}

static hn_status add_messages(writer *w, const hn_message *messages, size_t count)
{
    const hn_template *tmpl = w->tmpl;
    const hn_message *waiting = NULL; /* a system prompt that the first user's turn holds */
    bool turn = tmpl->turn[HNP_TURN_SYSTEM].given;
    hn_message given;
    hn_status status = HN_OK;
    if (default_system(tmpl, &given, messages)) {
        if (turn)
            status = add_turn(w, HNP_TURN_SYSTEM, &given, NULL, false);
        else
            waiting = &given;
    }
    for (size_t i = 0; i < count && !status; i++) {
        const hn_message *message = &messages[i];
        bool marked = tmpl->loss >> message->role & 1;
        if (message->role == HN_ROLE_ASSISTANT) {
            status = add_answer(w, message, marked);
        } else if (message->role == HN_ROLE_USER) {
            status = add_user(w, message, waiting, marked);
            waiting = NULL;
        } else if (turn) {
            status = add_turn(w, HNP_TURN_SYSTEM, message, NULL, marked);
        } else {
            waiting = message;
        }
    }
    return status;
}

hn_status hn_template_encode(const hn_template *tmpl, hn_dialog *out, const hn_message *messages,
                             size_t count, bool prompt_only, hn_error *error)
{
    writer w = {.tmpl = tmpl, .out = out, .place = HN_PART_FIRST, .error = error};
    HN_ASSERT(!hn_template_refusal(tmpl, messages, count));
    out->count = 0;
    hn_strbuf_reset(&out->run);
    hn_status status = add_begin(&w);
    if (!status) status = add_messages(&w, messages, count);
    if (!status && prompt_only) status = add_turn(&w, HNP_TURN_PROMPT, NULL, NULL, false);
    if (!status) status = end_run(&w);
    if (prompt_only && out->count) memset(out->marks, 0, (size_t)out->count * sizeof *out->marks);
    return status;
}
