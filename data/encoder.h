/* Shared by the files of the encoder: the slots that rows wait in (encode.c), and how conversations are
 * encoded. */
#ifndef HONE_DATA_ENCODER_H
#define HONE_DATA_ENCODER_H

#include "data/encode.h"
#include "data/mask.h"
#include "data/rows.h"
#include "data/template.h"

#define HNP_SLOT_ROWS 1024

/* A message that waits; texts are offsets in the slot's. */
struct hnp_turn_at {
    hn_role role;
    size_t text, length, input, input_length;
};

struct hnp_item {
    size_t text, text_length, pair, pair_length; /* offsets in slot.texts */
    bool has_pair, continues, unfinished;
    size_t first_message, message_count; /* of a conversation, in slot.messages */
    int32_t label, file;
    int32_t tokens; /* its number of them, once it is encoded */
    bool refused;   /* the tokenizer takes too long for it, makes too much of it, ... */
    size_t refusal; /* why: offset in slot.texts */
    float value;
    int64_t line;
    const char *path; /* borrowed from the source */
};

struct hnp_example {
    int64_t end; /* the slot's tokens up to its last */
    int32_t segment, item;
};

typedef enum hnp_slot_state { EMPTY, FILLED, TAKEN, DONE } hnp_slot_state;

struct hnp_slot {
    hnp_slot_state state;
    struct hnp_item items[HNP_SLOT_ROWS];
    size_t count;
    struct hnp_example *examples;
    size_t example_count, example_capacity;
    hn_strbuf texts;
    struct hnp_turn_at *messages;
    size_t message_count, message_capacity;
    hn_message *views; /* the messages of one row, while it is encoded */
    size_t view_capacity;
    void *tokens; /* u16 or i32 */
    size_t token_count, token_capacity;
    uint16_t *marks; /* of the tokens, for tasks that have them */
    size_t mark_count, mark_capacity;
    int64_t truncated;
    hn_error error;
};

/* Appends ids to the slot's tokens. */
hn_status hnp_slot_tokens(struct hnp_slot *slot, const int32_t *ids, size_t count, bool wide);
/* An example of row `item` that ends at token `end` of the slot. */
hn_status hnp_slot_example(struct hnp_slot *slot, size_t item, size_t end, int32_t segment);

/* encode_documents.c. A document, or a piece of one, as blocks. */
hn_status hnp_encode_document(const hnp_encode_options *options, const hnp_frame *frame, struct hnp_slot *slot, size_t number,
                              bool wide, hn_encoding *encoding);
/* Counts one that made none. */
hn_status hnp_count_document(const hnp_encode_options *options, const struct hnp_item *item, hn_error *error);

/* encode_words.c. A row with a tag that is none, or without any, is counted: *good false. */
hn_status hnp_check_words(const hnp_encode_options *options, const hn_row *row, bool *good, hn_error *error);
hn_status hnp_encode_words(const hnp_encode_options *options, const hnp_frame *frame, struct hnp_slot *slot, size_t number, bool wide,
                           hn_encoding *encoding);
/* Counts a row whose words with tags were all cut. */
hn_status hnp_count_words(const hnp_encode_options *options, const struct hnp_item *item, hn_error *error);

/* encode_turns.c. A row that is no conversation for the template, or has nothing to learn, is counted: *good
 * false. */
hn_status hnp_check_turns(const hnp_encode_options *options, const hn_row *row, bool *good, hn_error *error);
/* Its messages into the slot; the caller has set the rest of the item. `words`: a space goes before each, a NUL behind its tag.
 * false: out of memory. */
bool hnp_take_turns(struct hnp_slot *slot, struct hnp_item *item, const hn_row *row, bool words);
hn_status hnp_encode_turns(const hnp_encode_options *options, struct hnp_slot *slot, size_t number, bool wide,
                           hn_dialog *room);
/* Counts a row that made no example, and why. */
hn_status hnp_count_turns(const hnp_encode_options *options, const struct hnp_item *item, hn_error *error);

#endif
