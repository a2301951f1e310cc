/* What a tokenizer is made of. Shared by the files of data/ that make one (from tokenizer.json, from
 * vocab.txt) and those that are its stages; users see tokenizer.h only.
 *
 *     text -> [added tokens as they stand] -> normalize -> [added tokens, normalized] -> split -> word -> ids
 *          -> truncation -> template of special tokens -> ids and types
 *
 * A stage is a function pointer beside its settings: whoever reads a tokenizer's description picks the
 * functions, the loop in tokenizer.c calls them and knows none by name. Stages append to the scratch and
 * return false only when memory runs out. */
#ifndef HONE_DATA_TOKENIZER_STAGES_H
#define HONE_DATA_TOKENIZER_STAGES_H

#include <jansson.h>

#include "core/digest.h"
#include "data/tokenizer.h"
#include "data/trie.h"
#include "data/unicode.h"

#define HNP_MAX_ID (1 << 22)      /* ids stand in an array: no file makes it larger than this */
#define HNP_MAX_ADDED_LENGTH 1024 /* bytes of an added token: bounds the work at each byte of a text */
#define HNP_MAX_WORD                                                                                         \
    1000 /* characters of a word that is still taken apart: bounds the work at each character */

typedef struct hnp_span {
    const char *text;
    size_t length;
} hnp_span;

typedef struct hnp_ids {
    int32_t *items;
    size_t count, capacity;
} hnp_ids;

/* Buffers of one encoding, grown and kept. */
typedef struct hnp_scratch {
    hn_strbuf repaired; /* the text, where it was not UTF-8 */
    char *normal;       /* the normalized piece */
    size_t normal_length, normal_capacity;
    uint32_t *waiting; /* non-starters that wait for their canonical order */
    size_t waiting_count, waiting_capacity;
    uint64_t classes[4]; /* set of the combining classes that wait */
    hnp_ids text, pair;
    hnp_ids *ids; /* where tokens go now: text or pair */
} hnp_scratch;

typedef struct hnp_added_token {
    const char *content; /* once added, borrowed from the tokenizer's names */
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
} hnp_added_token;

/* A matcher finds the leftmost longest added token. */
typedef struct hnp_matcher {
    hnp_trie trie; /* content -> index of the added token */
    bool first[256];
    bool any;
} hnp_matcher;

typedef struct hnp_bert_settings {
    bool clean, chinese, strip, lower;
    unsigned char ascii[128]; /* what a byte becomes; HNP_DROPPED: nothing */
} hnp_bert_settings;
#define HNP_DROPPED 0xFF

typedef struct hnp_wordpiece_settings {
    char *prefix, *unknown;
    int32_t unknown_id, max_chars;
    bool continues;     /* some token begins with the prefix */
    uint32_t continued; /* its node */
} hnp_wordpiece_settings;

/* The ids a text or pair is wrapped in. */
enum { HNP_PIECE_A = -1, HNP_PIECE_B = -2 };
typedef struct hnp_piece {
    int32_t id; /* a token, or the place of a text */
    int32_t type;
} hnp_piece;
typedef struct hnp_template {
    hnp_piece *pieces;
    size_t count, capacity;
    size_t special; /* pieces that are tokens */
} hnp_template;

typedef struct hnp_name {
    char *text;  /* NULL: no token has this id */
    char *shown; /* what decoding writes; NULL: the text */
    bool added, special;
} hnp_name;

struct hn_tokenizer {
    hnp_name *names; /* [size] by id */
    size_t size, names_capacity;
    size_t vocabulary; /* tokens of the model */
    hnp_trie trie;     /* the model's tokens -> id */
    hnp_added_token *added;
    size_t added_count, added_capacity;
    int64_t added_next;      /* the id that the next new added token gets */
    hnp_matcher raw, normal; /* added tokens looked for before and after normalizing */
    uint8_t *flags;          /* of code points */
    hn_digest digest;

    bool (*normalize)(const hn_tokenizer *tokenizer, hnp_scratch *scratch,
                      hnp_span piece); /* NULL: taken as it stands */
    bool (*split)(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span piece); /* NULL: one word */
    bool (*word)(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span word);
    void (*decode)(const hn_tokenizer *tokenizer, hn_strbuf *out, const char *token,
                   bool first); /* NULL: blanks between */
    hnp_bert_settings bert;
    hnp_wordpiece_settings wordpiece;
    char *decode_prefix;
    bool decode_cleanup;
    hnp_template single, both; /* around a text, around a pair */
};

/* tokenizer.c */
hn_status hnp_tokenizer_new(hn_tokenizer **out, hn_error *error);
/* Gives the id its token. `where` is what errors call the place. */
hn_status hnp_tokenizer_name(hn_tokenizer *tokenizer, int64_t id, const char *token, const char *where,
                             hn_error *error);
hn_status hnp_template_add(hnp_template *to, int32_t id, int32_t type, hn_error *error);
/* [CLS] A [SEP] (B [SEP]) */
hn_status hnp_template_bert(hn_tokenizer *tokenizer, int32_t cls, int32_t sep, hn_error *error);
/* A (B): no special tokens */
hn_status hnp_template_plain(hn_tokenizer *tokenizer, hn_error *error);
/* When everything is set: the digest, and what is worked out from the settings. */
hn_status hnp_tokenizer_finish(hn_tokenizer *tokenizer, hn_error *error);
/* The model's tokens, when all have their names: the trie. */
hn_status hnp_tokenizer_index(hn_tokenizer *tokenizer, hn_error *error);
bool hnp_ids_add(hnp_ids *ids, int32_t id);
void hnp_scratch_close(hnp_scratch *scratch);

/* tokenizer_vocab.c: vocab.txt (and what tokenizer_config.json says of it). */
hn_status hnp_vocab_open(hn_tokenizer **out, const char *folder, hn_error *error);

/* added.c */
/* token.id is the one that the file gives it; another than the reference would give is an error. */
hn_status hnp_added_add(hn_tokenizer *tokenizer, hnp_added_token token, const char *where, hn_error *error);
/* The same from its JSON object: content and flags. */
hn_status hnp_added_read(hn_tokenizer *tokenizer, const json_t *item, int32_t id, const char *where,
                         hn_error *error);
hn_status hnp_added_finish(hn_tokenizer *tokenizer, hn_error *error);
bool hnp_added_encode(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span text);

/* bert.c */
void hnp_bert_init(hn_tokenizer *tokenizer);
bool hnp_bert_normalize(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span piece);
bool hnp_bert_split(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span piece);

/* wordpiece.c */
hn_status hnp_wordpiece_init(hn_tokenizer *tokenizer, const char *prefix, const char *unknown,
                             int64_t max_chars, const char *where, hn_error *error);
bool hnp_wordpiece_word(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span word);
hn_status hnp_wordpiece_decoder(hn_tokenizer *tokenizer, const char *prefix, bool cleanup, hn_error *error);
void hnp_wordpiece_decode(const hn_tokenizer *tokenizer, hn_strbuf *out, const char *token, bool first);

#endif
