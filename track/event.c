/* The list of sinks. One that fails does not keep the event from the others: a full disk must not make the
 * terminal silent. */
#include "track/event.h"

static hn_status emit(hn_sinks *sinks, const hn_event *event, bool logs, hn_error *error)
{
    hn_status first = HN_OK;
    for (size_t i = 0; i < sinks->count; i++) {
        hn_sink *sink = sinks->items[i];
        hn_status status = logs || !sink->log ? sink->emit(sink, event, error) : HN_OK;
        if (first == HN_OK) first = status;
    }
    return first;
}

hn_status hn_sinks_emit(hn_sinks *sinks, const hn_event *event, hn_error *error)
{
    return emit(sinks, event, true, error);
}

hn_status hn_sinks_show(hn_sinks *sinks, const hn_event *event, hn_error *error)
{
    return emit(sinks, event, false, error);
}

hn_status hn_sinks_settle(hn_sinks *sinks, hn_error *error)
{
    hn_status first = HN_OK;
    for (size_t i = 0; i < sinks->count; i++) {
        hn_sink *sink = sinks->items[i];
        hn_status status = sink->settle ? sink->settle(sink, error) : HN_OK;
        if (first == HN_OK) first = status;
    }
    return first;
}

hn_status hn_sinks_flush(hn_sinks *sinks, hn_error *error)
{
    hn_status first = HN_OK;
    for (size_t i = 0; i < sinks->count; i++) {
        hn_sink *sink = sinks->items[i];
        hn_status status = sink->flush ? sink->flush(sink, error) : HN_OK;
        if (first == HN_OK) first = status;
    }
    return first;
}

void hn_sinks_close(hn_sinks *sinks)
{
    for (size_t i = 0; i < sinks->count; i++) sinks->items[i]->close(sinks->items[i]);
    sinks->count = 0;
}
