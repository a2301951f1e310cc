/* The list of sinks: all of them get the event, in order, and the first error is the one that is told. */
#include "track/event.h"

#include "tests/test.h"

typedef struct probe {
    int number, events, flushed;
    hn_status answer;
} probe;

static char order[16];

static void note(int number)
{
    size_t used = strlen(order);
    snprintf(order + used, sizeof order - used, "%d", number);
}

static hn_status probe_emit(hn_sink *sink, const hn_event *event, hn_error *error)
{
    probe *p = sink->state;
    p->events += event->step == 7;
    note(p->number);
    return p->answer == HN_OK ? HN_OK : hn_fail(error, p->answer, "sink %d", p->number);
}

static hn_status probe_flush(hn_sink *sink, hn_error *error)
{
    probe *p = sink->state;
    p->flushed++;
    return p->answer == HN_OK ? HN_OK : hn_fail(error, p->answer, "flush %d", p->number);
}

static void probe_close(hn_sink *sink)
{
    note(((probe *)sink->state)->number);
}

TEST(all_get_it_and_the_first_error_wins)
{
    hn_error error = {0};
    probe probes[3] = {
        {.number = 1}, {.number = 2, .answer = HN_ERR_IO}, {.number = 3, .answer = HN_ERR_MEMORY}};
    hn_sink sinks[3];
    for (int i = 0; i < 3; i++)
        sinks[i] = (hn_sink){
            .state = &probes[i], .emit = probe_emit, .flush = i ? probe_flush : NULL, .close = probe_close};
    hn_sinks list = {.items = {&sinks[0], &sinks[1], &sinks[2]}, .count = 3};
    const hn_event event = {"step", 7, NULL, 0};
    CHECK_INT(hn_sinks_emit(&list, &event, &error), HN_ERR_IO);
    CHECK_TEXT(error.message, "sink 2");
    for (int i = 0; i < 3; i++) CHECK_INT(probes[i].events, 1);
    hn_error_reset(&error);
    CHECK_INT(hn_sinks_flush(&list, &error), HN_ERR_IO);
    CHECK_TEXT(error.message, "flush 2");
    CHECK_INT(probes[2].flushed, 1);
    sinks[1].log = true;
    CHECK_INT(hn_sinks_show(&list, &event, &error), HN_ERR_MEMORY); /* no log is asked */
    for (int i = 0; i < 3; i++) CHECK_INT(probes[i].events, i == 1 ? 1 : 2);
    hn_sinks_close(&list);
    CHECK_TEXT(order, "12313123");
    CHECK_INT(list.count, 0);
    CHECK_OK(hn_sinks_emit(&list, &event, &error)); /* nobody listens */
    CHECK_OK(hn_sinks_flush(&list, &error));
}

TEST_MAIN(RUN(all_get_it_and_the_first_error_wins))
