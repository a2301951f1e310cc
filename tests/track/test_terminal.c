/* What a person sees: plain lines, the live line, colours only when asked for, a terminal that goes away. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "core/mem.h"
#include "tests/test.h"
#include "track/event.h"

#define INT(key, value)                                                                                      \
    {                                                                                                        \
        .name = key, .kind = HN_FIELD_INT, .integer = (value)                                                \
    }
#define FLOAT(key, value)                                                                                    \
    {                                                                                                        \
        .name = key, .kind = HN_FIELD_FLOAT, .number = (value)                                               \
    }
#define TEXT(key, value)                                                                                     \
    {                                                                                                        \
        .name = key, .kind = HN_FIELD_TEXT, .text = (value)                                                  \
    }
#define EVENT(sink, kind, step, ...)                                                                         \
    do {                                                                                                     \
        const hn_field fields_[] = {__VA_ARGS__};                                                            \
        const hn_event event_ = {kind, step, fields_, sizeof fields_ / sizeof *fields_};                     \
        CHECK_OK((sink)->emit(sink, &event_, &error));                                                       \
    } while (0)

static hn_error error;
static int ends[2]; /* of a pipe: the sink writes into the second */
static char text[8192];

static hn_sink *open_sink(int live, int colour)
{
    hn_sink *sink = NULL;
    hn_error_reset(&error);
    if (pipe(ends) || fcntl(ends[0], F_SETFL, O_NONBLOCK)) abort();
    if (hn_sink_terminal_open(&sink, ends[1], live, colour, &error) != HN_OK) abort();
    return sink;
}

/* What was written since the last look. */
static const char *seen(void)
{
    ssize_t got = read(ends[0], text, sizeof text - 1);
    text[got > 0 ? got : 0] = '\0';
    return text;
}

static void close_sink(hn_sink *sink)
{
    sink->close(sink);
    seen();
    close(ends[0]);
    close(ends[1]);
}

TEST(plain_lines)
{
    hn_sink *sink = open_sink(0, 0);
    EVENT(sink, "start", 0, TEXT("model", "minilm, 22.7M parameters"), TEXT("plan", "600 steps"),
          FLOAT("time", 0.1));
    CHECK_TEXT(seen(), "model minilm, 22.7M parameters\nplan 600 steps\n");
    EVENT(sink, "step", 300, FLOAT("epoch", 1.25), INT("steps", 1200), FLOAT("loss", 0.61234),
          FLOAT("lr", 9.2e-5), FLOAT("grad_norm", 1.5), FLOAT("pairs_per_second", 412.3),
          FLOAT("tokens_per_second", 15832), FLOAT("time_left", 125), FLOAT("time", 60));
    CHECK_TEXT(seen(), "epoch 1.25 | step 300 of 1200 | loss 0.6123 | lr 9.2e-05 | 412 pairs/s | 15.8k "
                       "tokens/s | 2m 05s left\n");
    EVENT(sink, "eval", 300, TEXT("set", "dev"), FLOAT("loss", 0.7041), FLOAT("accuracy", 0.70712),
          INT("examples", 200), INT("best", 1), {.name = "confusion", .kind = HN_FIELD_JSON, .text = "[[1]]"},
          FLOAT("time", 61));
    CHECK_TEXT(seen(), "step 300: eval dev: loss 0.7041, accuracy 0.7071 (best so far)\n");
    EVENT(sink, "eval", 310, FLOAT("loss", NAN), INT("best", 0));
    CHECK_TEXT(seen(), "step 310: eval: loss nan\n");
    EVENT(sink, "checkpoint", 300, INT("bytes", 272674920), FLOAT("seconds", 0.834), FLOAT("held", 0.0117), FLOAT("time", 62));
    CHECK_TEXT(seen(), "step 300: saved 272.7 MB in 0.83 s, training waited 12 ms\n");
    EVENT(sink, "unfreeze", 310, TEXT("group", "layer\033[31m.3"));
    CHECK_TEXT(seen(), "step 310: layer?[31m.3 trains from here\n");
    EVENT(sink, "bad_step", 311, TEXT("reason", "the loss is not a number"), INT("in_a_row", 1));
    CHECK_TEXT(seen(), "step 311: skipped: the loss is not a number\n");
    EVENT(sink, "bad_step", 312, TEXT("reason", "the loss is not a number"), INT("in_a_row", 2));
    CHECK_TEXT(seen(), "step 312: skipped: the loss is not a number (2 in a row)\n");
    EVENT(sink, "spike", 313, TEXT("reason", "the loss is 9, beyond 3"), FLOAT("loss", 9), INT("in_a_row", 2));
    CHECK_TEXT(seen(), "step 313: spike: the loss is 9, beyond 3 (2 in a row)\n");
    EVENT(sink, "warning", 313, TEXT("message", "mind this"));
    CHECK_TEXT(seen(), "step 313: warning: mind this\n");
    EVENT(sink, "stop", 400, TEXT("reason", "accuracy did not improve"));
    CHECK_TEXT(seen(), "step 400: stopped: accuracy did not improve\n");
    EVENT(sink, "cache", 5, INT("examples", 7), FLOAT("gib", 0.25), FLOAT("share", 1e-5), FLOAT("time", 3));
    CHECK_TEXT(seen(), "step 5: cache examples 7, gib 0.2500, share 1.000e-05\n");
    const hn_event bare = {"step", 9, NULL, 0};
    CHECK_OK(sink->emit(sink, &bare, &error));
    CHECK_TEXT(seen(), "step 9\n");
    close_sink(sink);
}

TEST(samples)
{
    char prompt[182], answer[402], expected[600];
    hn_sink *sink = open_sink(0, 1);
    EVENT(sink, "sample", 60, INT("number", 2), TEXT("prompt", " Why do\n\ncats purr?\n"), TEXT("answer", "They\tdo \033[31mnot."),
          TEXT("finish", "stop"), INT("tokens", 5), TEXT("reference", "To\xc2\x9b be kind\x7f."), TEXT("row", "a:1"), FLOAT("time", 3));
    CHECK_TEXT(seen(), "step 60: sample 2: Why do cats purr?\n    answer:    They do ?[31mnot.\n    reference: To? be kind?.\n");
    EVENT(sink, "sample", 60, INT("number", 1), TEXT("prompt", "p"), TEXT("answer", "goes"), TEXT("finish", "length"));
    CHECK_TEXT(seen(), "step 60: sample 1: p\n    answer:    goes…\n");
    EVENT(sink, "sample", 60, INT("number", 1), TEXT("prompt", ""), TEXT("answer", ""), TEXT("finish", "stop"));
    CHECK_TEXT(seen(), "step 60: sample 1: \n    answer:    \n");
    /* A prompt's end stays, an answer's beginning, and no character is cut in two: 160 and 320 bytes fall within one. */
    for (int i = 0; i < 180; i += 2) memcpy(prompt + i, "ä", 2);
    for (int i = 1; i < 401; i += 2) memcpy(answer + i, "ä", 2);
    answer[0] = prompt[180] = 'x';
    answer[401] = prompt[181] = '\0';
    EVENT(sink, "sample", 1, TEXT("prompt", prompt), TEXT("answer", answer), TEXT("finish", "length"));
    snprintf(expected, sizeof expected, "step 1: sample: …%s\n    answer:    %.319s…\n", prompt + 22, answer);
    CHECK_TEXT(seen(), expected);
    const hn_event bare = {"sample", 9, NULL, 0};
    CHECK_OK(sink->emit(sink, &bare, &error));
    CHECK_TEXT(seen(), "step 9: sample\n");
    close_sink(sink);
}

TEST(rates_and_times)
{
    static const struct {
        double rate, left;
        const char *end;
    } cases[] = {
        {3.14159, 0, " | 3.1 pairs/s | 0s left\n"},      {9999, 59.4, " | 9999 pairs/s | 59s left\n"},
        {10000, 60, " | 10.0k pairs/s | 1m 00s left\n"}, {2.5e6, 3725, " | 2.50M pairs/s | 1h 02m left\n"},
        {1, 90000, " | 1.0 pairs/s | 1d 01h left\n"},    {1, -5, " | 1.0 pairs/s | 0s left\n"},
        {1, NAN, " | 1.0 pairs/s | 0s left\n"},          {1, INFINITY, " | 1.0 pairs/s | 0s left\n"}};
    hn_sink *sink = open_sink(0, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[128];
        EVENT(sink, "step", 1, FLOAT("pairs_per_second", cases[i].rate), FLOAT("time_left", cases[i].left));
        snprintf(line, sizeof line, "step 1%s", cases[i].end);
        CHECK_TEXT(seen(), line);
    }
    close_sink(sink);
}

TEST(one_live_line)
{
    hn_sink *sink = open_sink(1, 0);
    EVENT(sink, "step", 1, FLOAT("loss", 1));
    CHECK_TEXT(seen(), "\r\033[Kstep 1 | loss 1.0000");
    EVENT(sink, "step", 2, FLOAT("loss", 0.5));
    CHECK_TEXT(seen(), "\r\033[Kstep 2 | loss 0.5000");
    EVENT(sink, "checkpoint", 2, FLOAT("time", 3));
    CHECK_TEXT(
        seen(),
        "\r\033[Kstep 2: saved\nstep 2 | loss 0.5000"); /* above the live line, which is drawn again */
    EVENT(sink, "step", 123456789012345678, FLOAT("epoch", 1234567), INT("steps", 123456789012345678),
          FLOAT("loss", 123456.5), FLOAT("time_left", 9e10));
    CHECK_INT(strlen(seen()), 4 + 79); /* cut to the width */
    sink->close(sink);
    CHECK_TEXT(seen(), "\n"); /* the last one stays */
    close(ends[0]);
    close(ends[1]);
}

TEST(nothing_live_leaves_nothing)
{
    hn_sink *sink = open_sink(1, 0);
    sink->close(sink);
    CHECK_TEXT(seen(), "");
    close(ends[0]);
    close(ends[1]);
}

TEST(colours)
{
    hn_sink *sink = open_sink(0, 1);
    EVENT(sink, "eval", 1, FLOAT("loss", 1), INT("best", 1));
    CHECK_TEXT(seen(), "\033[32mstep 1: eval: loss 1.0000 (best so far)\033[0m\n");
    EVENT(sink, "eval", 1, FLOAT("loss", 1), INT("best", 0));
    CHECK_TEXT(seen(), "step 1: eval: loss 1.0000\n");
    EVENT(sink, "warning", 1, TEXT("message", "m"));
    CHECK_TEXT(seen(), "\033[33mstep 1: warning: m\033[0m\n");
    close_sink(sink);
}

TEST(a_terminal_that_went_away)
{
    hn_sink *sink = open_sink(1, 0);
    signal(SIGPIPE, SIG_IGN);
    close(ends[0]);
    EVENT(sink, "step", 1, FLOAT("loss", 1));
    EVENT(sink, "warning", 1, TEXT("message", "m"));
    sink->close(sink);
    close(ends[1]);
}

TEST(memory_runs_out)
{
    hn_sink *sink = NULL;
    for (size_t n = 1; n <= 2; n++) {
        hn_error_reset(&error);
        hn_mem_fail_at(n);
        hn_status status = hn_sink_terminal_open(&sink, 2, 0, 0, &error);
        hn_mem_fail_at(0);
        CHECK_INT(status, HN_ERR_MEMORY);
    }
    sink = open_sink(0, 0);
    hn_mem_fail_at(1);
    const hn_event event = {"stop", 1, NULL, 0};
    hn_status status = sink->emit(sink, &event, &error);
    hn_mem_fail_at(0);
    CHECK_INT(status, HN_OK); /* the line is dropped, the run goes on */
    CHECK_TEXT(seen(), "");
    close_sink(sink);
}

TEST_MAIN(RUN(plain_lines); RUN(samples); RUN(rates_and_times); RUN(one_live_line); RUN(nothing_live_leaves_nothing);
          RUN(colours); RUN(a_terminal_that_went_away); RUN(memory_runs_out))
