/* The flight recorder: what a process did last, for the log of a failure. Any thread. Shared inside train/. */
#ifndef HONE_TRAIN_CONTROL_RECORDER_H
#define HONE_TRAIN_CONTROL_RECORDER_H

#include <pthread.h>
#include <stdint.h>

#include "core/error.h"

enum { HNP_ENTRIES = 256, HNP_NOTICES = 64 };

typedef struct hnp_entry {
    uint64_t number, bytes;
    double begin, end; /* seconds of hn_clock; end 0: not ended */
    char what[64];
} hnp_entry;

typedef struct hnp_recorder {
    pthread_mutex_t lock;
    double opened;
    uint64_t entries, notices; /* ever made */
    hnp_entry entry[HNP_ENTRIES];
    struct {
        double when;
        char text[248];
    } notice[HNP_NOTICES];
} hnp_recorder;

void hnp_recorder_init(hnp_recorder *recorder);
void hnp_recorder_close(hnp_recorder *recorder);
uint64_t hnp_recorder_begin(hnp_recorder *recorder, const char *what, uint64_t bytes); /* gives its number */
void hnp_recorder_end(hnp_recorder *recorder, uint64_t number); /* one that is too old is forgotten already */
void hnp_recorder_notice(hnp_recorder *recorder, const char *text);
/* A text file: the line, then notices and operations, oldest first. */
hn_status hnp_recorder_write(hnp_recorder *recorder, const char *path, const char *line, hn_error *error);

#endif
