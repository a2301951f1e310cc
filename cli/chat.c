/* hone chat: a conversation. A line of standard input is a message, its answer goes to standard output; a pipe is talked with as a
 * person is.
 *
 * The whole conversation is encoded again for every answer, and the generator goes on from what its cache has in common with it, so
 * that only what is new is read. Where it does not fit the context any more, its oldest question and answer are left out. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/talk.h"
#include "core/mem.h"

enum { MAX_TOKENS = 1024 };

typedef struct chatting {
    hn_talk talk;
    hn_talk_options options;
    hn_message *messages; /* texts are owned; question and answer by turns */
    size_t count, capacity;
    hn_dialog dialog;
    int32_t context; /* tokens */
    hn_generate_stats stats;
    bool ended_line; /* the last thing written was a newline */
    char *answer;    /* of this turn, owned until it becomes a message */
    size_t answer_length;
} chatting;

/* Set by Ctrl-C, until the next message is read. */
static volatile int interrupted;

static void on_interrupt(int number)
{
    (void)number;
    if (interrupted) _exit(HN_EXIT_DONE);
    interrupted = 1;
}

/* Bytes that may hold a NUL: a model may write one. NULL: out of memory. */
static char *copy_of(const char *text, size_t length)
{
    char *copy = hn_malloc(length + 1);
    if (copy) memcpy(copy, text, length);
    return copy;
}

static hn_status add_message(chatting *c, hn_role role, const char *text, size_t length, hn_error *error)
{
    void *messages = c->messages;
    char *copy = copy_of(text, length);
    if (!copy || !hn_grow(&messages, &c->capacity, c->count + 1, sizeof *c->messages)) {
        hn_free(copy);
        return hn_fail(error, HN_ERR_MEMORY, "out of memory for a message of %zu bytes", length);
    }
    c->messages = messages;
    c->messages[c->count++] = (hn_message){.role = role, .text = copy, .length = length};
    return HN_OK;
}

static void drop_messages(chatting *c, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) hn_free((char *)c->messages[i].text);
    memmove(c->messages + first, c->messages + first + count, (c->count - first - count) * sizeof *c->messages);
    c->count -= count;
}

/* The conversation's ids with room for an answer; *fits false: not even the last message by itself. */
static hn_status encode(chatting *c, bool *fits, hn_error *error)
{
    int32_t room = c->context / 4 < c->options.max_tokens ? c->context / 4 : c->options.max_tokens;
    for (*fits = true;;) {
        hn_status status = hn_template_encode(c->talk.tmpl, &c->dialog, c->messages, c->count, true, error);
        if (status != HN_OK || c->dialog.count <= c->context - room) return status;
        if (c->count < 3) {
            *fits = c->dialog.count <= c->context;
            return HN_OK;
        }
        hn_cli_notice("the conversation is longer than --context: its oldest question and answer are left out");
        drop_messages(c, 0, 2);
    }
}

static hn_status write_out(chatting *c, const char *text, size_t length, hn_error *error)
{
    if (fwrite(text, 1, length, stdout) != length || fflush(stdout))
        return hn_fail_errno(error, "standard output: cannot write");
    if (length) c->ended_line = text[length - 1] == '\n';
    return HN_OK;
}

static hn_status stream_text(void *context, size_t prompt, const char *text, size_t length, hn_error *error)
{
    (void)prompt;
    return write_out(context, text, length, error);
}

static hn_status keep_answer(void *context, size_t prompt, const hn_answer *answer, hn_error *error)
{
    chatting *c = context;
    (void)prompt;
    c->answer = copy_of(answer->text, answer->length);
    c->answer_length = answer->length;
    if (answer->finish == HN_FINISH_CONTEXT) hn_cli_notice("the answer ended where the context does (--context)");
    return c->answer ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "out of memory for an answer");
}

/* Answers the last message. */
static hn_status answer(chatting *c, hn_error *error)
{
    bool fits = false;
    hn_status status = encode(c, &fits, error);
    if (status != HN_OK) return status;
    if (!fits) {
        hn_cli_notice("this message is longer than --context; it is left out");
        drop_messages(c, c->count - 1, 1);
        return HN_OK;
    }
    hn_prompt prompt = {.ids = c->dialog.ids, .count = c->dialog.count, .fresh = true};
    hn_listener listener = {stream_text, keep_answer, c};
    hn_generate_options options = hn_talk_generate_options(&c->talk, &c->options);
    options.resume = true;
    options.interrupt = &interrupted;
    c->ended_line = false;
    status = hn_generate(c->talk.generator, &c->stats, &prompt, 1, &options, &listener, error);
    if (status == HN_OK) status = add_message(c, HN_ROLE_ASSISTANT, c->answer, c->answer_length, error);
    hn_free(c->answer);
    c->answer = NULL;
    if (status == HN_OK && !c->ended_line) status = write_out(c, "\n", 1, error);
    return status;
}

/* A line that is a message, without its end; *length -1: there is no more. */
static hn_status read_line(char **line, size_t *capacity, ssize_t *length, bool person, hn_error *error)
{
    for (;;) {
        if (person) fputs("> ", stderr);
        errno = 0;
        *length = getline(line, capacity, stdin);
        if (*length >= 0 || errno != EINTR) break;
        clearerr(stdin);
        if (person) fputs("\n(Ctrl-C again ends this, and so does Ctrl-D)\n", stderr);
    }
    if (*length < 0 && ferror(stdin)) return hn_fail_errno(error, "standard input: cannot read");
    if (*length > 0 && (*line)[*length - 1] == '\n') --*length;
    if (*length > 0 && (*line)[*length - 1] == '\r') --*length;
    return HN_OK;
}

static hn_status take_line(chatting *c, const char *text, size_t length, hn_error *error)
{
    if (!length) return HN_OK;
    if (length == 4 && !memcmp(text, "/new", 4)) {
        drop_messages(c, 0, c->count);
        return HN_OK;
    }
    hn_status status = add_message(c, HN_ROLE_USER, text, length, error);
    if (status != HN_OK) return status;
    const char *refusal = hn_template_refusal(c->talk.tmpl, c->messages, c->count);
    if (refusal) return hn_fail(error, HN_ERR_USAGE, "template %s: %s", hn_template_name(c->talk.tmpl), refusal);
    return answer(c, error);
}

static hn_status talk(chatting *c, hn_error *error)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length = 0;
    bool person = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    if (person)
        fprintf(stderr, "hone: template %s; /new begins another conversation, Ctrl-C stops an answer, Ctrl-D ends\n",
                hn_template_name(c->talk.tmpl));
    hn_status status = HN_OK;
    while (status == HN_OK) {
        status = read_line(&line, &capacity, &length, person, error);
        if (status != HN_OK || length < 0) break;
        interrupted = 0;
        status = take_line(c, line, (size_t)length, error);
    }
    free(line);
    if (person && status == HN_OK) fputc('\n', stderr);
    if (status == HN_OK && c->stats.new_tokens) hn_talk_print_rate(&c->stats);
    return status;
}

static hn_status chat(chatting *c, const char *model, const hn_cli_config *config, hn_error *error)
{
    struct sigaction action = {.sa_handler = on_interrupt}; /* no SA_RESTART: it ends a wait for a line */
    hn_status status = hn_talk_options_check(&c->options, error);
    if (status == HN_OK) status = hn_talk_open(&c->talk, model, config, &c->options, true, error);
    if (status != HN_OK) return status;
    c->context = c->options.context < c->talk.positions ? c->options.context : c->talk.positions;
    status = hn_talk_start(&c->talk, config, 1, c->context, error);
    if (status != HN_OK) return status;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    return talk(c, error);
}

int hn_verb_chat(int argc, char **argv)
{
    hn_arguments arguments;
    hn_cli_config config;
    hn_error error = {0};
    chatting c = {0};
    hn_option table[HN_TALK_OPTIONS + 1] = {{0}};
    hn_cli_tables(&config);
    hn_dialog_init(&c.dialog);
    hn_talk_options_init(&c.options, table);
    c.options.max_tokens = MAX_TOKENS;
    hn_status status = hn_cli_options(table, &argc, argv, &error);
    if (status == HN_OK) status = hn_cli_arguments(&arguments, argc, argv, 1, 1, NULL, &error);
    if (status == HN_OK)
        status = hn_cli_model_config(&config, arguments.words[0], arguments.overrides, arguments.override_count, &error);
    if (status == HN_OK) status = chat(&c, arguments.words[0], &config, &error);
    if (c.count) drop_messages(&c, 0, c.count);
    hn_free(c.messages);
    hn_dialog_close(&c.dialog);
    hn_talk_close(&c.talk);
    hn_cli_config_close(&config);
    return status == HN_OK ? HN_EXIT_DONE : hn_cli_fail(&error);
}
