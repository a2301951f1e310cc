/* What a tokenizer is made of. Shared by the files of data/ that make one (from tokenizer.json, from
 * vocab.txt, from vocab.json and merges.txt) and those that are its stages; users see tokenizer.h only.
 *
 *     text -> [added tokens as they stand] -> normalizers -> [added tokens, normalized] -> splitters -> words
 *          -> model -> ids -> truncation -> template of special tokens -> ids and types
 *     ids  -> tokens -> decoders -> text
 *
 * Normalizers, splitters and decoders are lists of steps; a step is a function pointer beside its settings,
 * one struct a stage. Whoever reads a tokenizer's description picks the functions; the loops (tokenizer.c,
 * split.c, decode.c) call them and know none by name. A splitter hands each of its parts on to the next one
 * (hnp_split_next), and behind the last one stands the model. Steps append to the scratch and return false
 * only when memory runs out, or with scratch->refused set. */
#ifndef HONE_DATA_TOKENIZER_STAGES_H
#define HONE_DATA_TOKENIZER_STAGES_H

#include <jansson.h>

#include "core/digest.h"
#include "data/regex.h"
#include "data/tokenizer.h"
#include "data/trie.h"
#include "data/unicode.h"

#define HNP_MAX_ID (1 << 22)      /* ids stand in an array: no file makes it larger than this */
#define HNP_MAX_ADDED_LENGTH 1024 /* bytes of an added token: bounds the work at each byte of a text */
#define HNP_MAX_WORD                                                                                         \
    1000 /* characters of a word that is still taken apart: bounds the work at each character */
#define HNP_MAX_STEPS 16 /* of a stage */
#define HNP_GROWTH 64 /* a text becomes at most so many times as long, and a little (normalize.c) */
#define HNP_GROWTH_SPARE ((size_t)64 << 10)

typedef struct hnp_span {
    const char *text;
    size_t length;
    bool first; /* begins where the text begins */
} hnp_span;

typedef struct hnp_ids {
    int32_t *items;
    size_t count, capacity;
} hnp_ids;

typedef struct hnp_buffer {
    char *bytes;
    size_t length, capacity;
} hnp_buffer;

/* Code points with the combining classes of their non-starters. */
typedef struct hnp_points {
    uint32_t *items, *sorted;
    size_t count, capacity, sorted_capacity;
} hnp_points;

/* A symbol of a word that BPE merges: neighbours by index, -1 at the ends; id -1 when it was merged away. */
typedef struct hnp_symbol {
    int32_t id, previous, next;
} hnp_symbol;

/* The best way to a byte of a word, for Unigram. */
typedef struct hnp_best {
    double score;
    int32_t start, id; /* start -1: no way yet */
} hnp_best;

typedef struct hnp_word_entry hnp_word_entry;

/* Buffers of one encoding, grown and kept. */
typedef struct hnp_scratch {
    hn_strbuf repaired;       /* the text, where it was not UTF-8 */
    hnp_buffer normal, other; /* what a normalizer wrote, and what it read when it was not the first */
    uint32_t *waiting;        /* non-starters that wait for their canonical order */
    size_t waiting_count, waiting_capacity;
    uint64_t classes[4]; /* set of the combining classes that wait */
    hnp_points points;
    hnp_buffer parts[HNP_MAX_STEPS]; /* what the splitter of that number wrote */
    hnp_regex_room regex;
    const char *refused;   /* why a step gave up, when it was not memory */
    size_t most, room;     /* bytes that a buffer may hold for the text, and those that its steps may still add */
    hnp_word_entry *words; /* ids of words that were met lately */
    hn_digest words_of;    /* the tokenizer that gave them */
    hnp_symbol *symbols;
    uint64_t *heap; /* rank << 32 | symbol */
    size_t symbols_capacity, heap_count, heap_capacity;
    hnp_best *best;
    size_t best_capacity;
    hnp_ids text, pair;
    hnp_ids *ids; /* where tokens go now: text or pair */
    /* Of hn_tokenizer_encode_part; false and NULL for whole texts. */
    bool plain;            /* control tokens are not looked for: special ones, and those of `barred` */
    bool joined;           /* no word yet, and the text goes on where another one ended: nothing is put before it */
    const int32_t *barred; /* [barred_count] */
    size_t barred_count;
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

/* What Replace and Split look for: a string, or a regular expression when `regex` is set. */
typedef struct hnp_pattern {
    char *text;
    size_t length;
    hnp_regex *regex;
} hnp_pattern;

typedef struct hnp_bert_settings {
    bool clean, chinese, strip, lower;
    const uint16_t *flags;    /* of code points, the tokenizer's */
    unsigned char ascii[128]; /* what a byte becomes; HNP_DROPPED: nothing */
} hnp_bert_settings;
#define HNP_DROPPED 0xFF

/* SentencePiece's table of replacements: a double array, and the replacements it points into. */
typedef struct hnp_charsmap {
    uint32_t *units;
    size_t count;
    char *texts; /* each ends with NUL */
    size_t size;
    bool plain[128]; /* ASCII characters that stay as they are */
} hnp_charsmap;

typedef enum hnp_form { HNP_NFC, HNP_NFD, HNP_NFKC, HNP_NFKD } hnp_form;

typedef struct hnp_normalizer hnp_normalizer;
typedef bool hnp_normalize_function(const hn_tokenizer *tokenizer, const hnp_normalizer *step,
                                    hnp_scratch *scratch, hnp_span piece); /* writes scratch->normal */
struct hnp_normalizer {
    hnp_normalize_function *apply;
    hnp_bert_settings bert;
    hnp_form form;
    hnp_charsmap charsmap;
    hnp_pattern pattern; /* Replace */
    char *content;       /* Replace, Prepend */
    bool left, right;    /* Strip */
};

typedef enum hnp_behavior {
    HNP_REMOVED,
    HNP_ISOLATED,
    HNP_MERGED_WITH_PREVIOUS,
    HNP_MERGED_WITH_NEXT,
    HNP_CONTIGUOUS
} hnp_behavior;
typedef enum hnp_prepend { HNP_ALWAYS, HNP_FIRST, HNP_NEVER } hnp_prepend;

/* Length of the part at the beginning of a text (length >= 1): a split pattern written by hand. */
typedef size_t hnp_known_pattern(const uint16_t *flags, const char *text, size_t length);

typedef struct hnp_splitter hnp_splitter;
typedef bool hnp_split_function(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                                hnp_span piece);
struct hnp_splitter {
    hnp_split_function *apply;
    uint16_t kind; /* flag of the characters that Digits, Punctuation, WhitespaceSplit look for */
    hnp_behavior behavior;
    bool invert;
    hnp_pattern pattern;
    hnp_known_pattern *known; /* NULL: the pattern is left to the regular expression */
    char *blank;              /* what Metaspace writes for a blank */
    hnp_prepend prepend;
    bool prefix, cut; /* ByteLevel: add_prefix_space, use_regex; Metaspace: split */
    bool map;         /* ByteLevel: characters for bytes are written here, not left to the model */
};

typedef struct hnp_wordpiece_settings {
    char *prefix, *unknown;
    int32_t unknown_id, max_chars;
    bool continues;     /* some token begins with the prefix */
    uint32_t continued; /* its node */
} hnp_wordpiece_settings;

typedef struct hnp_merge {
    uint64_t pair; /* left << 32 | right; all ones: free */
    uint32_t rank;
    int32_t id;
} hnp_merge;

enum { HNP_LEFT = 1, HNP_RIGHT = 2 };
#define HNP_CLASSES 130 /* of characters: ASCII, U+2581, all others */
typedef struct hnp_bpe_settings {
    hnp_merge *merges; /* an open hash table */
    size_t mask;
    int shift;
    unsigned char *sides; /* by id: some merge has the token on its left, on its right */
    int32_t unknown_id; /* -1: none; such characters vanish */
    bool fuse_unknown, byte_fallback, ignore_merges;
    bool raw;            /* words are bytes whose characters the model knows: `bytes` */
    bool blank;          /* U+2581 has a token */
    bool joins[HNP_CLASSES][HNP_CLASSES]; /* some merge joins such characters (bpe.c) */
    int32_t bytes[256];  /* of byte-level models: id of the character that stands for a byte */
    int32_t escape[256]; /* of byte fallback: id of <0xNN>, or -1 */
    int32_t ascii[128];  /* id of a character, or -1 */
} hnp_bpe_settings;

typedef struct hnp_unigram_settings {
    double *scores; /* [vocabulary] */
    double unknown; /* score of a character without a token */
    int32_t unknown_id;
    bool byte_fallback;
    int32_t escape[256];
} hnp_unigram_settings;

typedef struct hnp_model {
    bool (*word)(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span word); /* appends its ids */
    hnp_wordpiece_settings wordpiece;
    hnp_bpe_settings bpe;
    hnp_unigram_settings unigram;
} hnp_model;

/* Tokens on their way to text: one after the other, with their ends. */
typedef struct hnp_texts {
    hn_strbuf bytes;
    size_t *ends;
    size_t count, capacity;
    size_t most;   /* bytes that a step may make of them */
    bool too_long; /* it would be more */
} hnp_texts;

typedef struct hnp_decoder hnp_decoder;
typedef bool hnp_decode_function(const hnp_decoder *step, hnp_texts *out, const hnp_texts *in);
struct hnp_decoder {
    hnp_decode_function *apply;
    char *text;         /* WordPiece: prefix; Replace: what; Strip: the character; Metaspace: the character */
    char *content;      /* Replace: by */
    size_t start, stop; /* Strip: at most so many */
    bool cleanup;       /* WordPiece */
    bool strip;         /* Metaspace: the first token loses its blanks */
};

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
    uint16_t *flags;         /* of code points */
    hn_hasher *hasher;       /* while it is made: every stage adds what it decides by */
    hn_digest digest;

    hnp_normalizer normalizers[HNP_MAX_STEPS];
    hnp_splitter splitters[HNP_MAX_STEPS];
    hnp_decoder decoders[HNP_MAX_STEPS];
    size_t normalizer_count, splitter_count, decoder_count;
    hnp_model model;
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
/* <s> A </s> (</s> B </s>), all of type 0 */
hn_status hnp_template_roberta(hn_tokenizer *tokenizer, int32_t cls, int32_t sep, hn_error *error);
/* A (B): no special tokens */
hn_status hnp_template_plain(hn_tokenizer *tokenizer, hn_error *error);
/* When everything is set: the digest, and what is worked out from the settings. `where` is the file for messages. */
hn_status hnp_tokenizer_finish(hn_tokenizer *tokenizer, const char *where, hn_error *error);
/* The model's tokens, when all have their names: the trie. */
hn_status hnp_tokenizer_index(hn_tokenizer *tokenizer, hn_error *error);
void hnp_hash_int(hn_tokenizer *tokenizer, int64_t value);
bool hnp_ids_add(hnp_ids *ids, int32_t id);
/* A text of `length` bytes begins: what its steps may make of it (normalize.c). */
void hnp_scratch_bound(hnp_scratch *scratch, size_t length);
/* A step made so many bytes of so many. false: refused. */
bool hnp_scratch_grew(hnp_scratch *scratch, size_t before, size_t after);
/* Room for `rest` more bytes behind those there, in a buffer of the scratch. false: no memory, or refused. */
bool hnp_buffer_reserve(hnp_scratch *scratch, hnp_buffer *buffer, size_t rest);
/* The ids of a text (repaired where it is no UTF-8), without those around it. false: no memory, or refused. */
bool hnp_encode_text(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_ids *ids, hnp_span text);
/* The scratch of an encoding, made when it has none, for this tokenizer; NULL: no memory. */
hnp_scratch *hnp_scratch_take(const hn_tokenizer *tokenizer, hn_encoding *encoding);
/* Room for `count` ids and types. */
bool hnp_encoding_reserve(hn_encoding *encoding, size_t count);
/* Why encoding `length` bytes failed. */
hn_status hnp_encode_failed(const hnp_scratch *scratch, size_t length, hn_error *error);
/* tokenizer_part.c: this id is not to come out of the text that is encoded now. */
bool hnp_id_barred(const hn_tokenizer *tokenizer, const hnp_scratch *scratch, int32_t id);

/* The caller reserved the room. */
void hnp_buffer_put(hnp_buffer *buffer, const char *bytes, size_t length);
void hnp_scratch_init(hnp_scratch *scratch);
void hnp_scratch_close(hnp_scratch *scratch);

/* tokenizer_vocab.c: vocab.txt (and what tokenizer_config.json says of it). */
hn_status hnp_vocab_open(hn_tokenizer **out, const char *folder, hn_error *error);
/* tokenizer_config.json beside a vocabulary; no root: there is none. An added_tokens.json that it does not
 * replace is refused. */
typedef struct hnp_config {
    json_t *root;
    char *path;
} hnp_config;
hn_status hnp_config_open(hnp_config *config, const char *folder, hn_error *error);
void hnp_config_close(hnp_config *config);
/* A special token: a string, or an object with "content". Borrowed; left as it is where there is none. */
hn_status hnp_config_special(const char **token, const hnp_config *config, const char *key, hn_error *error);
/* "added_tokens_decoder": {"100": {"content": "[UNK]", ...}, ...} */
hn_status hnp_config_added(hn_tokenizer *tokenizer, const hnp_config *config, hn_error *error);

/* tokenizer_merges.c: vocab.json and merges.txt. */
hn_status hnp_merges_open(hn_tokenizer **out, const char *folder, hn_error *error);
/* tokenizer_json_model.c: {"token": id, ...}; `where` is what errors call it. */
hn_status hnp_vocabulary_read(hn_tokenizer *tokenizer, json_t *vocabulary, const char *where,
                              hn_error *error);

/* added.c */
/* token.id is the one that the file gives it; another than the reference would give is an error. */
hn_status hnp_added_add(hn_tokenizer *tokenizer, hnp_added_token token, const char *where, hn_error *error);
/* The same from its JSON object: content and flags. */
hn_status hnp_added_read(hn_tokenizer *tokenizer, const json_t *item, int32_t id, const char *where,
                         hn_error *error);
hn_status hnp_added_finish(hn_tokenizer *tokenizer, const char *where, hn_error *error);
bool hnp_added_encode(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span text);

/* normalize.c: the loop, and the short steps. */
bool hnp_normalize(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span *piece);
hnp_normalize_function hnp_prepend_normalize, hnp_replace_normalize, hnp_strip_normalize,
    hnp_accents_normalize, hnp_lower_normalize;
/* normal_forms.c, charsmap.c */
hnp_normalize_function hnp_form_normalize, hnp_charsmap_normalize;
/* From the file's base64. */
hn_status hnp_charsmap_init(hnp_charsmap *out, const char *base64, const char *where, hn_error *error);

/* Finds the pattern in text[from, length): true and where; length + 1 when it is not there. false: refused.
 */
bool hnp_pattern_find(const hnp_pattern *pattern, hnp_scratch *scratch, hnp_span text, size_t from,
                      size_t *start, size_t *end);

/* split.c: the loop, and the short steps. */
bool hnp_split(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span piece);
/* Hands a part on to what stands behind `step`. */
bool hnp_split_next(const hn_tokenizer *tokenizer, const hnp_splitter *step, hnp_scratch *scratch,
                    hnp_span part);
hnp_split_function hnp_runs_split, hnp_words_split, hnp_pattern_split, hnp_metaspace_split, hnp_bytes_split;
/* split_patterns.c: patterns of GPT-2, Llama 3 and Qwen2, by their exact text; NULL: another. */
hnp_known_pattern *hnp_known_pattern_find(const char *text);
hnp_known_pattern hnp_gpt2_pattern;

/* bytes_map.c: the characters that stand for bytes in byte-level models. */
size_t hnp_byte_put(char out[2], unsigned char byte);
int hnp_byte_of(uint32_t point); /* -1: stands for none */

/* bert.c */
void hnp_bert_init(hn_tokenizer *tokenizer, hnp_normalizer *step);
hnp_split_function hnp_bert_split;

/* words.c: the model, behind a cache of short words. */
bool hnp_word(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_span word);
/* Before the words of another tokenizer. */
bool hnp_words_prepare(const hn_tokenizer *tokenizer, hnp_scratch *scratch);

/* wordpiece.c */
hn_status hnp_wordpiece_init(hn_tokenizer *tokenizer, const char *prefix, const char *unknown,
                             int64_t max_chars, const char *where, hn_error *error);
hn_status hnp_wordpiece_decoder(hn_tokenizer *tokenizer, const char *prefix, bool cleanup, hn_error *error);

/* bpe.c: after hnp_tokenizer_index, init with the settings, then merges in their order, then finish. */
typedef struct hnp_bpe_options {
    const char *unknown; /* NULL: none */
    bool fuse_unknown, byte_fallback, ignore_merges;
} hnp_bpe_options;
hn_status hnp_bpe_init(hn_tokenizer *tokenizer, hnp_bpe_options options, size_t merges, const char *where,
                       hn_error *error);
/* Merge number `rank`; `where` and the number name it. */
hn_status hnp_bpe_merge(hn_tokenizer *tokenizer, hnp_span left, hnp_span right, size_t rank,
                        const char *where, hn_error *error);
/* When the splitters are known: what ByteLevel leaves to the model. */
hn_status hnp_bpe_finish(hn_tokenizer *tokenizer, const char *where, hn_error *error);

/* unigram.c: takes the scores (hn_malloc), also when it fails. */
hn_status hnp_unigram_init(hn_tokenizer *tokenizer, double *scores, int64_t unknown_id, bool byte_fallback,
                           const char *where, hn_error *error);

/* decode.c */
/* Empty, without memory. */
void hnp_texts_init(hnp_texts *texts);
hnp_decode_function hnp_wordpiece_decode, hnp_bytes_decode, hnp_metaspace_decode, hnp_fuse_decode,
    hnp_fallback_decode, hnp_replace_decode, hnp_strip_decode;
/* Escapes of byte fallback: ids of <0x00> ... <0xFF>, -1 where there is none. */
void hnp_escapes_find(int32_t out[256], const hn_tokenizer *tokenizer);

#endif
