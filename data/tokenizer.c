/* See tokenizer.h for the contract and tokenizer_stages.h for the stages. Here: making and freeing, encoding
 * (repair, stages, truncation, template), and the digest of everything that decides ids, to which each stage
 * adds what it was made of. */
#include "data/tokenizer.h"

#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "data/tokenizer_stages.h"

#define FILE_LIMIT ((size_t)64 << 20)

bool hnp_ids_add(hnp_ids *ids, int32_t id)
{
    if (ids->count == ids->capacity) {
        void *memory = ids->items;
        if (!hn_grow(&memory, &ids->capacity, ids->count + 1, sizeof *ids->items)) return false;
        ids->items = memory;
    }
    ids->items[ids->count++] = id;
    return true;
}

void hnp_scratch_init(hnp_scratch *scratch)
{
    *scratch = (hnp_scratch){0};
    hn_strbuf_init(&scratch->repaired);
}

void hnp_scratch_close(hnp_scratch *scratch)
{
    hn_strbuf_close(&scratch->repaired);
    hn_free(scratch->normal.bytes);
    hn_free(scratch->other.bytes);
    hn_free(scratch->waiting);
    hn_free(scratch->points.items);
    hn_free(scratch->points.sorted);
    for (size_t i = 0; i < HNP_MAX_STEPS; i++) hn_free(scratch->parts[i].bytes);
    hnp_regex_room_close(&scratch->regex);
    hn_free(scratch->words);
    hn_free(scratch->symbols);
    hn_free(scratch->heap);
    hn_free(scratch->best);
    hn_free(scratch->text.items);
    hn_free(scratch->pair.items);
}

/* Making one */

hn_status hnp_tokenizer_new(hn_tokenizer **out, hn_error *error)
{
    hn_tokenizer *tokenizer = hn_calloc(1, sizeof *tokenizer);
    if (tokenizer) tokenizer->flags = hnp_unicode_flags();
    if (tokenizer) tokenizer->hasher = hn_hasher_open();
    if (!tokenizer || !tokenizer->flags || !tokenizer->hasher) {
        hn_tokenizer_free(tokenizer);
        return hn_fail(error, HN_ERR_MEMORY, "tokenizer: out of memory");
    }
    *out = tokenizer;
    return HN_OK;
}

static void close_pattern(hnp_pattern *pattern)
{
    hn_free(pattern->text);
    hnp_regex_free(pattern->regex);
}

static void close_stages(hn_tokenizer *tokenizer)
{
    for (size_t i = 0; i < HNP_MAX_STEPS; i++) {
        hnp_normalizer *normalizer = &tokenizer->normalizers[i];
        close_pattern(&normalizer->pattern);
        hn_free(normalizer->content);
        hn_free(normalizer->charsmap.units);
        hn_free(normalizer->charsmap.texts);
        close_pattern(&tokenizer->splitters[i].pattern);
        hn_free(tokenizer->splitters[i].blank);
        hn_free(tokenizer->decoders[i].text);
        hn_free(tokenizer->decoders[i].content);
    }
    hn_free(tokenizer->model.wordpiece.prefix);
    hn_free(tokenizer->model.wordpiece.unknown);
    hn_free(tokenizer->model.bpe.merges);
    hn_free(tokenizer->model.bpe.sides);
    hn_free(tokenizer->model.unigram.scores);
}

void hn_tokenizer_free(hn_tokenizer *tokenizer)
{
    if (!tokenizer) return;
    for (size_t i = 0; i < tokenizer->size; i++) {
        hn_free(tokenizer->names[i].text);
        hn_free(tokenizer->names[i].shown);
    }
    hn_free(tokenizer->names);
    hnp_trie_close(&tokenizer->trie);
    hnp_trie_close(&tokenizer->raw.trie);
    hnp_trie_close(&tokenizer->normal.trie);
    hn_free(tokenizer->added);
    hn_free(tokenizer->flags);
    hn_hasher_free(tokenizer->hasher);
    close_stages(tokenizer);
    hn_free(tokenizer->single.pieces);
    hn_free(tokenizer->both.pieces);
    hn_free(tokenizer);
}

hn_status hnp_tokenizer_name(hn_tokenizer *tokenizer, int64_t id, const char *token, const char *where,
                             hn_error *error)
{
    if (id < 0 || id >= HNP_MAX_ID)
        return hn_fail(error, HN_ERR_FORMAT, "%s: id of \"%.60s\": 0 to %d expected, got %lld", where, token,
                       HNP_MAX_ID - 1, (long long)id);
    size_t old = tokenizer->size, need = (size_t)id + 1;
    void *memory = tokenizer->names;
    if (!hn_grow(&memory, &tokenizer->names_capacity, need, sizeof *tokenizer->names)) goto memory;
    tokenizer->names = memory;
    if (need > old) {
        memset(tokenizer->names + old, 0, (need - old) * sizeof *tokenizer->names);
        tokenizer->size = need;
    }
    hnp_name *name = &tokenizer->names[id];
    if (name->text)
        return hn_fail(error, HN_ERR_FORMAT, "%s: id %lld stands for \"%.60s\" and \"%.60s\"", where,
                       (long long)id, name->text, token);
    name->text = hn_strdup(token);
    if (name->text) return HN_OK;
memory:
    return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", where);
}

hn_status hnp_tokenizer_index(hn_tokenizer *tokenizer, hn_error *error)
{
    hnp_key *keys = hn_calloc(tokenizer->size + 1, sizeof *keys);
    size_t count = 0;
    bool done = keys != NULL;
    for (size_t i = 0; done && i < tokenizer->size; i++) {
        const char *text = tokenizer->names[i].text;
        if (text) keys[count++] = (hnp_key){text, strlen(text), (int32_t)i};
    }
    done = done && hnp_trie_init(&tokenizer->trie, keys, count);
    hn_free(keys);
    tokenizer->vocabulary = count;
    return done ? HN_OK : hn_fail(error, HN_ERR_MEMORY, "tokenizer: out of memory for %zu tokens", count);
}

hn_status hnp_template_add(hnp_template *to, int32_t id, int32_t type, hn_error *error)
{
    void *memory = to->pieces;
    if (!hn_grow(&memory, &to->capacity, to->count + 1, sizeof *to->pieces))
        return hn_fail(error, HN_ERR_MEMORY, "tokenizer: out of memory for its template");
    to->pieces = memory;
    to->pieces[to->count++] = (hnp_piece){id, type};
    to->special += id >= 0;
    return HN_OK;
}

hn_status hnp_template_bert(hn_tokenizer *tokenizer, int32_t cls, int32_t sep, hn_error *error)
{
    const hnp_piece pieces[] = {{cls, 0}, {HNP_PIECE_A, 0}, {sep, 0}, {HNP_PIECE_B, 1}, {sep, 1}};
    for (size_t i = 0; i < 5; i++) {
        if (i < 3 && hnp_template_add(&tokenizer->single, pieces[i].id, pieces[i].type, error))
            return error->status;
        if (hnp_template_add(&tokenizer->both, pieces[i].id, pieces[i].type, error)) return error->status;
    }
    return HN_OK;
}

hn_status hnp_template_roberta(hn_tokenizer *tokenizer, int32_t cls, int32_t sep, hn_error *error)
{
    const int32_t pieces[] = {cls, HNP_PIECE_A, sep, sep, HNP_PIECE_B, sep};
    for (size_t i = 0; i < 6; i++) {
        if (i < 3 && hnp_template_add(&tokenizer->single, pieces[i], 0, error)) return error->status;
        if (hnp_template_add(&tokenizer->both, pieces[i], 0, error)) return error->status;
    }
    return HN_OK;
}

hn_status hnp_template_plain(hn_tokenizer *tokenizer, hn_error *error)
{
    if (hnp_template_add(&tokenizer->single, HNP_PIECE_A, 0, error)) return error->status;
    if (hnp_template_add(&tokenizer->both, HNP_PIECE_A, 0, error)) return error->status;
    return hnp_template_add(&tokenizer->both, HNP_PIECE_B, 1, error);
}

void hnp_hash_int(hn_tokenizer *tokenizer, int64_t value)
{
    hn_hasher_add(tokenizer->hasher, &value, sizeof value);
}

static void hash_template(hn_tokenizer *tokenizer, const hnp_template *from)
{
    hnp_hash_int(tokenizer, (int64_t)from->count);
    for (size_t i = 0; i < from->count; i++) {
        hnp_hash_int(tokenizer, from->pieces[i].id);
        hnp_hash_int(tokenizer, from->pieces[i].type);
    }
}

hn_status hnp_tokenizer_finish(hn_tokenizer *tokenizer, const char *where, hn_error *error)
{
    if (hnp_added_finish(tokenizer, where, error)) return error->status;
    hash_template(tokenizer, &tokenizer->single);
    hash_template(tokenizer, &tokenizer->both);
    for (size_t i = 0; i < tokenizer->size; i++) {
        if (!tokenizer->names[i].text) continue;
        hnp_hash_int(tokenizer, (int64_t)i);
        hn_hasher_add_text(tokenizer->hasher, tokenizer->names[i].text);
    }
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const hnp_added_token *token = &tokenizer->added[i];
        hnp_hash_int(tokenizer, token->id);
        hnp_hash_int(tokenizer, token->single_word | token->lstrip << 1 | token->rstrip << 2 |
                                    token->normalized << 3 | token->special << 4);
    }
    tokenizer->digest = hn_hasher_digest(tokenizer->hasher);
    hn_hasher_free(tokenizer->hasher);
    tokenizer->hasher = NULL;
    return HN_OK;
}

/* A folder without tokenizer.json. */
static hn_status open_older(hn_tokenizer **out, const char *folder, hn_error *error)
{
    char *path = hn_path_join(folder, "merges.txt");
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    bool merges = hn_path_exists(path);
    hn_free(path);
    return merges ? hnp_merges_open(out, folder, error) : hnp_vocab_open(out, folder, error);
}

hn_status hn_tokenizer_open(hn_tokenizer **out, const char *folder, hn_error *error)
{
    char *bytes = NULL, *real = NULL, *path = hn_path_join(folder, "tokenizer.json");
    size_t size;
    hn_status status;
    if (!path) return hn_fail(error, HN_ERR_MEMORY, "%s: out of memory", folder);
    if (!hn_path_exists(path))
        status = open_older(out, folder, error);
    else if (!(status = hn_path_inside(&real, folder, "tokenizer.json", NULL, error)) &&
             !(status = hn_file_read(&bytes, &size, real, FILE_LIMIT, error)))
        status = hn_tokenizer_open_json(out, bytes, size, path, error);
    hn_free(bytes);
    hn_free(real);
    hn_free(path);
    return status;
}

int32_t hn_tokenizer_vocabulary(const hn_tokenizer *tokenizer)
{
    return (int32_t)tokenizer->size;
}

hn_digest hn_tokenizer_digest(const hn_tokenizer *tokenizer)
{
    return tokenizer->digest;
}

const char *hn_tokenizer_token(const hn_tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && (size_t)id < tokenizer->size ? tokenizer->names[id].text : NULL;
}

int32_t hn_tokenizer_id(const hn_tokenizer *tokenizer, const char *token)
{
    int32_t id = hnp_trie_find(&tokenizer->trie, token, strlen(token));
    for (size_t i = 0; id < 0 && i < tokenizer->added_count; i++)
        if (!strcmp(tokenizer->added[i].content, token)) id = tokenizer->added[i].id;
    return id;
}

/* Encoding */

void hn_encoding_init(hn_encoding *encoding)
{
    *encoding = (hn_encoding){0};
}

void hn_encoding_close(hn_encoding *encoding)
{
    if (encoding->scratch) hnp_scratch_close(encoding->scratch);
    hn_free(encoding->scratch);
    hn_free(encoding->ids);
    hn_free(encoding->types);
    *encoding = (hn_encoding){0};
}

/* The text with U+FFFD where it is no UTF-8; `valid` bytes at its beginning are. */
static bool repair(hnp_scratch *scratch, hnp_span *text, size_t valid)
{
    hn_strbuf *out = &scratch->repaired;
    hn_strbuf_reset(out);
    hn_strbuf_add(out, text->text, valid);
    for (size_t at = valid; at < text->length;) {
        uint32_t point;
        bool good;
        char bytes[4];
        at += hnp_utf8_get(&point, &good, text->text + at, text->length - at);
        hn_strbuf_add(out, bytes, hnp_utf8_put(bytes, point));
    }
    *text = (hnp_span){out->text, out->length, text->first};
    return !out->failed;
}

bool hnp_encode_text(const hn_tokenizer *tokenizer, hnp_scratch *scratch, hnp_ids *ids, hnp_span text)
{
    size_t valid = hnp_utf8_valid(text.text, text.length);
    scratch->ids = ids;
    hnp_scratch_bound(scratch, text.length);
    ids->count = 0;
    if (valid < text.length && !repair(scratch, &text, valid)) return false;
    return hnp_added_encode(tokenizer, scratch, text) && ids->count < INT32_MAX / 4;
}

/* How many ids of each text stay when `room` are allowed: the reference's "longest first", which takes from
 * the longer text until both are equal, then from both; an odd id stays with the longer one, the second when
 * both were equal. */
static void truncate(size_t *first, size_t *second, size_t room)
{
    if (*first + *second <= room) return;
    bool swapped = *first > *second;
    size_t shorter = swapped ? *second : *first, longer = shorter;
    if (shorter <= room && room - shorter > shorter) longer = room - shorter;
    if (shorter + longer > room) {
        shorter = room / 2;
        longer = shorter + room % 2;
    }
    *first = swapped ? longer : shorter;
    *second = swapped ? shorter : longer;
}

bool hnp_encoding_reserve(hn_encoding *out, size_t count)
{
    if (count <= out->capacity) return true;
    size_t ids_capacity = out->capacity, types_capacity = out->capacity;
    void *ids = out->ids, *types = out->types;
    if (!hn_grow(&ids, &ids_capacity, count, sizeof *out->ids)) return false;
    out->ids = ids;
    if (!hn_grow(&types, &types_capacity, count, sizeof *out->types)) return false;
    out->types = types;
    out->capacity = ids_capacity;
    return true;
}

static void append(hn_encoding *out, const int32_t *ids, size_t count, int32_t type)
{
    if (count) memcpy(out->ids + out->count, ids, count * sizeof *ids);
    for (size_t i = 0; i < count; i++) out->types[(size_t)out->count + i] = type;
    out->count += (int32_t)count;
}

hnp_scratch *hnp_scratch_take(const hn_tokenizer *tokenizer, hn_encoding *encoding)
{
    hnp_scratch *scratch = encoding->scratch;
    if (!scratch && (scratch = encoding->scratch = hn_malloc(sizeof *scratch))) hnp_scratch_init(scratch);
    if (!scratch) return NULL;
    scratch->refused = NULL;
    return hnp_words_prepare(tokenizer, scratch) ? scratch : NULL;
}

hn_status hnp_encode_failed(const hnp_scratch *scratch, size_t length, hn_error *error)
{
    if (scratch && scratch->refused)
        return hn_fail(error, HN_ERR_UNSUPPORTED, "tokenizer: a text of %zu bytes: %s", length,
                       scratch->refused);
    return hn_fail(error, HN_ERR_MEMORY, "tokenizer: out of memory for a text of %zu bytes", length);
}

/* A text, or a pair, as ids in the scratch. */
static hn_status encode_texts(hnp_scratch **out, const hn_tokenizer *tokenizer, hn_encoding *encoding, hnp_span text, hnp_span pair,
                              hn_error *error)
{
    hnp_scratch *scratch = hnp_scratch_take(tokenizer, encoding);
    if (!scratch) goto failed;
    scratch->plain = scratch->joined = false;
    scratch->pair.count = 0;
    if (!hnp_encode_text(tokenizer, scratch, &scratch->text, text)) goto failed;
    if (pair.text && !hnp_encode_text(tokenizer, scratch, &scratch->pair, pair)) goto failed;
    *out = scratch;
    return HN_OK;
failed:
    return hnp_encode_failed(scratch, text.length + pair.length, error);
}

/* So many ids of each text, with the template around them. false: out of memory. */
static bool put_together(hn_encoding *out, const hnp_template *around, const hnp_scratch *scratch, size_t first, size_t second,
                         bool special)
{
    if (!hnp_encoding_reserve(out, first + second + (special ? around->special : 0))) return false;
    out->count = 0;
    for (size_t i = 0; i < around->count; i++) {
        const hnp_piece *piece = &around->pieces[i];
        if (piece->id == HNP_PIECE_A)
            append(out, scratch->text.items, first, piece->type);
        else if (piece->id == HNP_PIECE_B)
            append(out, scratch->pair.items, second, piece->type);
        else if (special)
            append(out, &piece->id, 1, piece->type);
    }
    return true;
}

hn_status hn_tokenizer_encode(const hn_tokenizer *tokenizer, hn_encoding *out, const char *text,
                              size_t length, const char *pair, size_t pair_length, bool special,
                              int32_t max_tokens, hn_error *error)
{
    const hnp_template *around = pair ? &tokenizer->both : &tokenizer->single;
    hnp_scratch *scratch = NULL;
    hn_status status = encode_texts(&scratch, tokenizer, out, (hnp_span){text, length, true},
                                    (hnp_span){pair, pair_length, true}, error);
    if (status) return status;
    size_t first = scratch->text.count, second = scratch->pair.count, wrap = special ? around->special : 0;
    size_t limit = max_tokens > 0 ? (size_t)max_tokens : SIZE_MAX, room = limit > wrap ? limit - wrap : 0;
    if (pair)
        truncate(&first, &second, room);
    else if (first > room)
        first = room;
    if (!put_together(out, around, scratch, first, second, special))
        return hnp_encode_failed(scratch, length + pair_length, error);
    if ((size_t)out->count > limit) out->count = (int32_t)limit;
    return HN_OK;
}

hn_status hn_tokenizer_encode_beside(const hn_tokenizer *tokenizer, hn_encoding *out, const char *text, size_t length,
                                     const char *pair, size_t pair_length, int32_t max_tokens, hn_error *error)
{
    HN_ASSERT(pair && max_tokens > 0);
    hnp_scratch *scratch = NULL;
    hn_status status = encode_texts(&scratch, tokenizer, out, (hnp_span){text, length, true},
                                    (hnp_span){pair, pair_length, true}, error);
    if (status) return status;
    size_t first = scratch->text.count, second = scratch->pair.count, whole = second + tokenizer->both.special;
    if (whole > (size_t)max_tokens)
        return hn_fail(error, HN_ERR_USAGE, "tokenizer: \"%.*s\", which is not to be cut: expected at most %d tokens with the special "
                       "ones, got %zu", (int)(pair_length < 60 ? pair_length : 60), pair, (int)max_tokens, whole);
    if (first > (size_t)max_tokens - whole) first = (size_t)max_tokens - whole;
    return put_together(out, &tokenizer->both, scratch, first, second, true) ? HN_OK
                                                                             : hnp_encode_failed(scratch, length + pair_length, error);
}
