/* Two rings: entry n lies in place n % 256 until entry n + 256 takes it. */
#include "train/control/recorder.h"

#include <stdio.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/strbuf.h"

void hnp_recorder_init(hnp_recorder *recorder)
{
    *recorder = (hnp_recorder){.opened = hn_clock()};
    pthread_mutex_init(&recorder->lock, NULL);
}

void hnp_recorder_close(hnp_recorder *recorder) { pthread_mutex_destroy(&recorder->lock); }

uint64_t hnp_recorder_begin(hnp_recorder *recorder, const char *what, uint64_t bytes)
{
    pthread_mutex_lock(&recorder->lock);
    uint64_t number = recorder->entries++;
    hnp_entry *entry = &recorder->entry[number % HNP_ENTRIES];
    *entry = (hnp_entry){.number = number, .bytes = bytes, .begin = hn_clock()};
    snprintf(entry->what, sizeof entry->what, "%s", what);
    pthread_mutex_unlock(&recorder->lock);
    return number;
}

void hnp_recorder_end(hnp_recorder *recorder, uint64_t number)
{
    pthread_mutex_lock(&recorder->lock);
    hnp_entry *entry = &recorder->entry[number % HNP_ENTRIES];
    if (entry->number == number) entry->end = hn_clock();
    pthread_mutex_unlock(&recorder->lock);
}

void hnp_recorder_notice(hnp_recorder *recorder, const char *text)
{
    pthread_mutex_lock(&recorder->lock);
    uint64_t n = recorder->notices++ % HNP_NOTICES;
    recorder->notice[n].when = hn_clock();
    snprintf(recorder->notice[n].text, sizeof recorder->notice[n].text, "%s", text);
    pthread_mutex_unlock(&recorder->lock);
}

static void add_entries(hn_strbuf *to, const hnp_recorder *recorder)
{
    uint64_t n = recorder->entries, first = n > HNP_ENTRIES ? n - HNP_ENTRIES : 0;
    hn_strbuf_puts(to, "\noperations: number, begin and end in seconds, bytes\n");
    for (uint64_t i = first; i < n; i++) {
        const hnp_entry *entry = &recorder->entry[i % HNP_ENTRIES];
        hn_strbuf_printf(to, "%llu %.3f ", (unsigned long long)i, entry->begin - recorder->opened);
        if (entry->end > 0)
            hn_strbuf_printf(to, "%.3f", entry->end - recorder->opened);
        else
            hn_strbuf_puts(to, "-");
        hn_strbuf_printf(to, " %llu %s\n", (unsigned long long)entry->bytes, entry->what);
    }
}

hn_status hnp_recorder_write(hnp_recorder *recorder, const char *path, const char *line, hn_error *error)
{
    hn_status status;
    hn_strbuf text;
    hn_strbuf_init(&text);
    pthread_mutex_lock(&recorder->lock);
    uint64_t n = recorder->notices, first = n > HNP_NOTICES ? n - HNP_NOTICES : 0;
    hn_strbuf_printf(&text, "%s\n%.3f s after the start\n\nnotices\n", line, hn_clock() - recorder->opened);
    for (uint64_t i = first; i < n; i++)
        hn_strbuf_printf(&text, "%.3f %s\n", recorder->notice[i % HNP_NOTICES].when - recorder->opened, recorder->notice[i % HNP_NOTICES].text);
    add_entries(&text, recorder);
    pthread_mutex_unlock(&recorder->lock);
    if (text.failed)
        status = hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", path);
    else
        status = hn_file_commit(path, text.text, text.length, error);
    hn_strbuf_close(&text);
    return status;
}
