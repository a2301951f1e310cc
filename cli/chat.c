/* hone chat: a conversation. A line of standard input is a message, its answer goes to standard output; a pipe is talked with as a
 * person is.
 *
 * The whole conversation is encoded again for every answer, and the generator goes on from what its cache has in common with it, so
 * that only what is new is read. Where it does not fit the context any more, its oldest question and answer are left out.
 *
 * Ctrl-C is let through at two places only, while an answer is written and while a line is waited for, and to this thread only: so
 * none gets lost between a prompt and the wait behind it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#include "cli/talk.h"
#include "core/mem.h"

enum { MAX_TOKENS = 1024 };

/* Lines of standard input. */
typedef struct reader {
    char *bytes;
    size_t first, end, capacity; /* those not given out yet */
    bool over, person;
    sigset_t waiting; /* the signals that stay blocked during a wait */
} reader;

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

/* More bytes behind those that are there; none at the end of the input. Ctrl-C at a prompt is answered by a hint. */
static hn_status read_more(reader *in, hn_error *error)
{
    enum { PIECE = 4096 };
    void *bytes = in->bytes;
    if (in->first) memmove(in->bytes, in->bytes + in->first, in->end - in->first);
    in->end -= in->first;
    in->first = 0;
    if (!hn_grow(&bytes, &in->capacity, in->end + PIECE, 1)) return hn_fail(error, HN_ERR_MEMORY, "out of memory for a message");
    in->bytes = bytes;
    for (;;) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(STDIN_FILENO, &set);
        ssize_t got = pselect(STDIN_FILENO + 1, &set, NULL, NULL, NULL, &in->waiting);
        if (got > 0) got = read(STDIN_FILENO, in->bytes + in->end, PIECE);
        if (got < 0 && errno == EINTR) {
            if (in->person) fputs("\n(Ctrl-C again ends this, and so does Ctrl-D)\n> ", stderr);
            continue;
        }
        if (got < 0) return hn_fail_errno(error, "standard input: cannot read");
        in->end += (size_t)got;
        in->over = got == 0;
        return HN_OK;
    }
}

/* The next line, without its end, good until the next call; NULL: there is no more. */
static hn_status read_line(reader *in, const char **line, size_t *length, hn_error *error)
{
    hn_status status = HN_OK;
    char *newline = NULL;
    *line = NULL;
    if (in->person) fputs("> ", stderr);
    while (status == HN_OK && !in->over && !(newline = in->end > in->first ? memchr(in->bytes + in->first, '\n', in->end - in->first) : NULL))
        status = read_more(in, error);
    if (status != HN_OK || (in->over && in->first == in->end)) return status;
    if (!newline) newline = memchr(in->bytes + in->first, '\n', in->end - in->first);
    *line = in->bytes + in->first;
    *length = (size_t)((newline ? newline : in->bytes + in->end) - *line);
    in->first += *length + (newline != NULL);
    if (*length && (*line)[*length - 1] == '\r') --*length;
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
    reader in = {.person = isatty(STDIN_FILENO) && isatty(STDERR_FILENO)};
    const char *line;
    size_t length;
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    pthread_sigmask(SIG_BLOCK, NULL, &in.waiting);
    sigdelset(&in.waiting, SIGINT);
    if (in.person)
        fprintf(stderr, "hone: template %s; /new begins another conversation, Ctrl-C stops an answer, Ctrl-D ends\n",
                hn_template_name(c->talk.tmpl));
    hn_status status = HN_OK;
    while (status == HN_OK) {
        status = read_line(&in, &line, &length, error);
        if (status != HN_OK || !line) break;
        interrupted = 0;
        pthread_sigmask(SIG_UNBLOCK, &interrupt, NULL);
        status = take_line(c, line, length, error);
        pthread_sigmask(SIG_BLOCK, &interrupt, NULL);
    }
    hn_free(in.bytes);
    if (in.person && status == HN_OK) fputc('\n', stderr);
    if (status == HN_OK && c->stats.new_tokens) hn_talk_print_rate(&c->stats);
    return status;
}

static hn_status chat(chatting *c, const char *model, const hn_cli_config *config, hn_error *error)
{
    struct sigaction action = {.sa_handler = on_interrupt}; /* no SA_RESTART: it ends a wait for a line */
    sigset_t interrupt;
    hn_status status = hn_talk_options_check(&c->options, error);
    if (status == HN_OK) status = hn_talk_open(&c->talk, model, config, &c->options, true, error);
    if (status != HN_OK) return status;
    c->context = c->options.context < c->talk.positions ? c->options.context : c->talk.positions;
    sigemptyset(&action.sa_mask);
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    pthread_sigmask(SIG_BLOCK, &interrupt, NULL); /* threads that start from here on never take it */
    status = hn_talk_start(&c->talk, config, 1, c->context, error);
    if (status != HN_OK) return status;
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
