/* GGUF files as Hugging Face folders: small models of each family, built here, whose every weight says where it stood;
 * what is refused; and that no failing allocation and no changed byte does harm. The values of whole models against
 * transformers are compared by tests/golden/check_gguf_import.py. */
#include "formats/gguf_import.h"

#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "formats/folder.h"
#include "tests/formats/gguf_builder.h"
#include "tests/test.h"

enum { C = 4, HEADS = 2, INNER = 6, VOCABULARY = 14, POSITIONS = 8 };

static char base[] = "/tmp/hone-import-XXXXXX";
static char source[64], target[64];

/* Keys and tensors are counted as they are put, and the header is written last. */
typedef struct model {
    bytes keys, tensors, data;
    uint64_t key_count, tensor_count;
} model;

static void file_of(bytes *out, const model *from)
{
    put_header(out, 3, from->tensor_count, from->key_count);
    put_raw(out, from->keys.data, from->keys.size);
    put_raw(out, from->tensors.data, from->tensors.size);
    put_padding(out);
    put_raw(out, from->data.data, from->data.size);
}

static void key_u32(model *m, const char *key, uint32_t value)
{
    put_u32_key(&m->keys, key, value), m->key_count++;
}
static void key_f32(model *m, const char *key, float value)
{
    put_key(&m->keys, key, 6), put_f32(&m->keys, value), m->key_count++;
}
static void key_text(model *m, const char *key, const char *value)
{
    put_string_key(&m->keys, key, value), m->key_count++;
}
static void key_bool(model *m, const char *key, bool value)
{
    put_key(&m->keys, key, 7), put(&m->keys, value, 1), m->key_count++;
}
static void key_texts(model *m, const char *key, const char *const *texts, size_t count)
{
    put_array_key(&m->keys, key, 8, count), m->key_count++;
    for (size_t i = 0; i < count; i++) put_text(&m->keys, texts[i]);
}
static void key_types(model *m, const int *types, size_t count)
{
    put_array_key(&m->keys, "tokenizer.ggml.token_type", 5, count), m->key_count++;
    for (size_t i = 0; i < count; i++) put(&m->keys, (uint64_t)types[i], 4);
}

/* An F32 tensor [rows, columns] (columns 0: a vector) whose element i is i + 1000 * its number. */
static void tensor(model *m, const char *name, int rows, int columns)
{
    put_padding(&m->data);
    put_tensor(&m->tensors, name, (uint64_t)columns, (uint64_t)rows, 0, m->data.size);
    for (int i = 0; i < rows * (columns ? columns : 1); i++) put_f32(&m->data, (float)(i + 1000 * (int)m->tensor_count));
    m->tensor_count++;
}

static void sizes(model *m, const char *architecture, const char *epsilon)
{
    char key[64];
    *m = (model){0};
    key_text(m, "general.architecture", architecture);
    const struct {
        const char *name;
        uint32_t value;
    } keys[] = {{"block_count", 1}, {"embedding_length", C}, {"feed_forward_length", INNER}, {"context_length", POSITIONS},
                {"attention.head_count", HEADS}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        snprintf(key, sizeof key, "%s.%s", architecture, keys[i].name);
        key_u32(m, key, keys[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.%s", architecture, epsilon);
    key_f32(m, key, 1e-5f);
}

#define MARK "\xe2\x96\x81"

static void decoder_tensors(model *m, bool head)
{
    tensor(m, "token_embd.weight", VOCABULARY, C);
    tensor(m, "blk.0.attn_q.weight", C, C);
    tensor(m, "blk.0.attn_k.weight", C, C);
    tensor(m, "blk.0.attn_v.weight", C, C);
    tensor(m, "blk.0.attn_output.weight", C, C);
    tensor(m, "blk.0.attn_norm.weight", C, 0);
    tensor(m, "blk.0.ffn_norm.weight", C, 0);
    tensor(m, "blk.0.ffn_gate.weight", INNER, C);
    tensor(m, "blk.0.ffn_up.weight", INNER, C);
    tensor(m, "blk.0.ffn_down.weight", C, INNER);
    tensor(m, "output_norm.weight", C, 0);
    if (head) tensor(m, "output.weight", VOCABULARY, C);
}

static void sentencepiece(model *m)
{
    static const char *const tokens[VOCABULARY] = {"<unk>", "<s>", "</s>", "<0x0A>", MARK, "a", "b", "c",
                                                   MARK "a", "bc", "ab", "abc", "<user>", "\"\\"};
    static const int types[VOCABULARY] = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1, 1, 4, 1};
    static const float scores[VOCABULARY] = {0, 0, 0, 0, -9, -9, -9, -9, -1, -2, -3, -4, 0, -9};
    key_text(m, "tokenizer.ggml.model", "llama");
    key_texts(m, "tokenizer.ggml.tokens", tokens, VOCABULARY);
    key_types(m, types, VOCABULARY);
    put_array_key(&m->keys, "tokenizer.ggml.scores", 6, VOCABULARY), m->key_count++;
    for (int i = 0; i < VOCABULARY; i++) put_f32(&m->keys, scores[i]);
    key_u32(m, "tokenizer.ggml.bos_token_id", 1);
    key_u32(m, "tokenizer.ggml.eos_token_id", 2);
    key_text(m, "tokenizer.chat_template", "{{ messages[0]['content'] }}\n");
}

static void byte_level(model *m, const char *pre)
{
    static const char *const tokens[VOCABULARY] = {"a", "b", "c", "ab", "abc", "d", "e", "f", "g", "h", "i", "j", "k", "<|end|>"};
    static const int types[VOCABULARY] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3};
    static const char *const merges[] = {"a b", "ab c"};
    key_text(m, "tokenizer.ggml.model", "gpt2");
    if (pre) key_text(m, "tokenizer.ggml.pre", pre);
    key_texts(m, "tokenizer.ggml.tokens", tokens, VOCABULARY);
    key_types(m, types, VOCABULARY);
    key_texts(m, "tokenizer.ggml.merges", merges, 2);
    key_u32(m, "tokenizer.ggml.bos_token_id", 13);
    key_u32(m, "tokenizer.ggml.eos_token_id", 13);
}

static void llama(model *m)
{
    sizes(m, "llama", "layer_norm_rms_epsilon");
    key_f32(m, "llama.rope.freq_base", 50000);
    sentencepiece(m);
    decoder_tensors(m, true);
}

static void gpt2(model *m)
{
    sizes(m, "gpt2", "layer_norm_epsilon");
    byte_level(m, NULL);
    tensor(m, "token_embd.weight", VOCABULARY, C);
    tensor(m, "position_embd.weight", POSITIONS, C);
    tensor(m, "output_norm.weight", C, 0), tensor(m, "output_norm.bias", C, 0);
    tensor(m, "blk.0.attn_norm.weight", C, 0), tensor(m, "blk.0.attn_norm.bias", C, 0);
    tensor(m, "blk.0.attn_qkv.weight", 3 * C, C), tensor(m, "blk.0.attn_qkv.bias", 3 * C, 0);
    tensor(m, "blk.0.attn_output.weight", C, C), tensor(m, "blk.0.attn_output.bias", C, 0);
    tensor(m, "blk.0.ffn_norm.weight", C, 0), tensor(m, "blk.0.ffn_norm.bias", C, 0);
    tensor(m, "blk.0.ffn_up.weight", INNER, C), tensor(m, "blk.0.ffn_up.bias", INNER, 0);
    tensor(m, "blk.0.ffn_down.weight", C, INNER), tensor(m, "blk.0.ffn_down.bias", C, 0);
    /* the embedding once more */
    put_padding(&m->data);
    put_tensor(&m->tensors, "output.weight", C, VOCABULARY, 0, m->data.size);
    for (int i = 0; i < VOCABULARY * C; i++) put_f32(&m->data, (float)i);
    m->tensor_count++;
}

static void bert(model *m)
{
    static const char *const tokens[VOCABULARY] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", MARK "a", MARK "b", "ab", "c",
                                                   MARK "[", MARK "]", MARK "ab", "d", "[unused1]"};
    static const int types[VOCABULARY] = {3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    sizes(m, "bert", "layer_norm_epsilon");
    key_bool(m, "bert.attention.causal", false);
    key_text(m, "tokenizer.ggml.model", "bert");
    key_texts(m, "tokenizer.ggml.tokens", tokens, VOCABULARY);
    key_types(m, types, VOCABULARY);
    key_u32(m, "tokenizer.ggml.padding_token_id", 0);
    key_u32(m, "tokenizer.ggml.unknown_token_id", 1);
    key_u32(m, "tokenizer.ggml.bos_token_id", 2);
    key_u32(m, "tokenizer.ggml.seperator_token_id", 3);
    tensor(m, "token_embd.weight", VOCABULARY, C);
    tensor(m, "position_embd.weight", POSITIONS, C);
    tensor(m, "token_types.weight", 2, C);
    tensor(m, "token_embd_norm.weight", C, 0), tensor(m, "token_embd_norm.bias", C, 0);
    static const char *const parts[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    char name[64];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "blk.0.%s.weight", parts[i]), tensor(m, name, C, C);
        snprintf(name, sizeof name, "blk.0.%s.bias", parts[i]), tensor(m, name, C, 0);
    }
    tensor(m, "blk.0.attn_output_norm.weight", C, 0), tensor(m, "blk.0.attn_output_norm.bias", C, 0);
    tensor(m, "blk.0.ffn_up.weight", INNER, C), tensor(m, "blk.0.ffn_up.bias", INNER, 0);
    tensor(m, "blk.0.ffn_down.weight", C, INNER), tensor(m, "blk.0.ffn_down.bias", C, 0);
    tensor(m, "blk.0.layer_output_norm.weight", C, 0), tensor(m, "blk.0.layer_output_norm.bias", C, 0);
}

static void qwen(model *m, const char *architecture)
{
    sizes(m, architecture, "layer_norm_rms_epsilon");
    byte_level(m, NULL);
    decoder_tensors(m, false);
    if (!strcmp(architecture, "qwen2")) {
        tensor(m, "blk.0.attn_q.bias", C, 0), tensor(m, "blk.0.attn_k.bias", C, 0), tensor(m, "blk.0.attn_v.bias", C, 0);
    } else {
        tensor(m, "blk.0.attn_q_norm.weight", C / HEADS, 0), tensor(m, "blk.0.attn_k_norm.weight", C / HEADS, 0);
    }
}
static void qwen2(model *m) { qwen(m, "qwen2"); }
static void qwen3(model *m) { qwen(m, "qwen3"); }

static hn_status import_bytes(const bytes *file, hn_dtype dtype, hn_error *error)
{
    hn_gguf_summary summary;
    if (hn_file_commit(source, file->data, file->size, error) != HN_OK) abort();
    return hn_gguf_import(&summary, source, target, dtype, error);
}

static hn_status import_model(const model *m, hn_dtype dtype, hn_error *error)
{
    static bytes file;
    file_of(&file, m);
    return import_bytes(&file, dtype, error);
}

/* The folder's tokenizer.json, or another of its files. */
static json_t *read_json(const char *name)
{
    json_t *value = NULL;
    char *path = hn_path_join(target, name);
    if (hn_json_load(&value, path, HN_JSON_LIMITS_LARGE, NULL) != HN_OK) value = NULL;
    hn_free(path);
    return value;
}

static bool same_json(const json_t *value, const char *text)
{
    json_t *expected = json_loads(text, JSON_DECODE_ANY, NULL);
    bool same = expected && json_equal(value, expected);
    json_decref(expected);
    return same;
}

/* Element i of a tensor of the folder, NaN when it has none. */
static float element(const hn_folder *folder, const char *name, size_t i)
{
    size_t count;
    const hn_named_tensor *tensors = hn_folder_tensors(folder, &count);
    for (size_t t = 0; t < count; t++)
        if (!strcmp(tensors[t].name, name)) return ((const float *)tensors[t].tensor.data)[i];
    return NAN;
}

TEST(llama_is_turned_into_its_folder)
{
    static model m;
    hn_error error = {0};
    hn_folder *folder = NULL;
    size_t count;
    llama(&m);
    CHECK_OK(import_model(&m, HN_F32, &error));
    CHECK_OK(hn_folder_open(&folder, target, &error));
    hn_folder_tensors(folder, &count);
    CHECK_INT(count, 12);
    /* Heads of 2 rows have nothing to turn: 1 pair. Values stand as they were. */
    CHECK(element(folder, "model.layers.0.self_attn.q_proj.weight", 5) == 1005);
    CHECK(element(folder, "model.layers.0.mlp.down_proj.weight", 7) == 9007);
    CHECK(element(folder, "lm_head.weight", 55) == 11055);
    CHECK(same_json(hn_folder_config(folder),
                    "{\"architectures\": [\"LlamaForCausalLM\"], \"attention_bias\": false, \"bos_token_id\": 1, \"eos_token_id\": 2,"
                    "\"head_dim\": 2, \"hidden_act\": \"silu\", \"hidden_size\": 4, \"intermediate_size\": 6, "
                    "\"max_position_embeddings\": 8, \"mlp_bias\": false, \"model_type\": \"llama\", \"num_attention_heads\": 2, "
                    "\"num_hidden_layers\": 1, \"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-05, \"rope_theta\": 50000.0, "
                    "\"tie_word_embeddings\": false, \"torch_dtype\": \"float32\", \"vocab_size\": 14}"));
    hn_folder_free(folder);
}

TEST(rows_of_a_head_are_put_in_order)
{
    static model m;
    hn_error error = {0};
    hn_folder *folder = NULL;
    sizes(&m, "llama", "layer_norm_rms_epsilon");
    key_u32(&m, "llama.attention.head_count_kv", 1);
    key_u32(&m, "llama.attention.key_length", 8); /* with 4 the order is its own inverse */
    sentencepiece(&m);
    tensor(&m, "token_embd.weight", VOCABULARY, C);
    tensor(&m, "blk.0.attn_q.weight", 16, C);
    tensor(&m, "blk.0.attn_k.weight", 8, C);
    tensor(&m, "blk.0.attn_v.weight", 8, C);
    tensor(&m, "blk.0.attn_output.weight", C, 16);
    tensor(&m, "blk.0.attn_norm.weight", C, 0), tensor(&m, "blk.0.ffn_norm.weight", C, 0);
    tensor(&m, "blk.0.ffn_gate.weight", INNER, C), tensor(&m, "blk.0.ffn_up.weight", INNER, C);
    tensor(&m, "blk.0.ffn_down.weight", C, INNER), tensor(&m, "output_norm.weight", C, 0);
    CHECK_OK(import_model(&m, HN_F32, &error));
    CHECK_OK(hn_folder_open(&folder, target, &error));
    /* x0 y0 x1 y1 ... -> x0 x1 ... y0 y1 ..., head by head */
    static const int from[16] = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
    for (size_t row = 0; row < 16; row++)
        CHECK(element(folder, "model.layers.0.self_attn.q_proj.weight", row * C + 1) == (float)(1000 + from[row] * C + 1));
    for (size_t row = 0; row < 8; row++)
        CHECK(element(folder, "model.layers.0.self_attn.k_proj.weight", row * C) == (float)(2000 + from[row] * C));
    CHECK(element(folder, "model.layers.0.self_attn.v_proj.weight", 5) == 3005);
    CHECK(json_is_true(json_object_get(hn_folder_config(folder), "tie_word_embeddings")));
    hn_folder_free(folder);
}

TEST(a_sentencepiece_tokenizer_gets_merges)
{
    static model m;
    hn_error error = {0};
    llama(&m);
    CHECK_OK(import_model(&m, HN_BF16, &error));
    json_t *json = read_json("tokenizer.json"), *config = read_json("tokenizer_config.json");
    json_t *bpe = json_object_get(json, "model");
    CHECK(json && config);
    CHECK(same_json(json_object_get(bpe, "merges"), "[\"" MARK " a\", \"b c\", \"a b\", \"ab c\", \"a bc\"]"));
    CHECK_INT(json_integer_value(json_object_get(json_object_get(bpe, "vocab"), "\"\\")), 13);
    CHECK_TEXT(json_string_value(json_object_get(bpe, "unk_token")), "<unk>");
    CHECK(json_is_true(json_object_get(bpe, "byte_fallback")) && json_is_true(json_object_get(bpe, "fuse_unk")));
    json_t *added = json_object_get(json, "added_tokens");
    CHECK_INT(json_array_size(added), 4);
    CHECK_TEXT(json_string_value(json_object_get(json_array_get(added, 3), "content")), "<user>");
    CHECK(json_is_false(json_object_get(json_array_get(added, 3), "special")));
    CHECK(json_is_true(json_object_get(json_array_get(added, 0), "special")));
    CHECK(same_json(json_object_get(json_object_get(json, "post_processor"), "single"),
                    "[{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}]"));
    CHECK(same_json(json_object_get(json_object_get(json, "post_processor"), "special_tokens"),
                    "{\"<s>\": {\"id\": \"<s>\", \"ids\": [1], \"tokens\": [\"<s>\"]}}"));
    CHECK_INT(json_array_size(json_object_get(json_object_get(json, "normalizer"), "normalizers")), 2);
    CHECK_TEXT(json_string_value(json_object_get(config, "chat_template")), "{{ messages[0]['content'] }}\n");
    CHECK_TEXT(json_string_value(json_object_get(config, "eos_token")), "</s>");
    CHECK(json_is_true(json_object_get(config, "add_bos_token")));
    json_decref(json);
    json_decref(config);
}

TEST(gpt2_is_turned_and_tied)
{
    static model m;
    hn_error error = {0};
    hn_folder *folder = NULL;
    size_t count;
    gpt2(&m);
    CHECK_OK(import_model(&m, HN_F32, &error));
    CHECK_OK(hn_folder_open(&folder, target, &error));
    hn_folder_tensors(folder, &count);
    CHECK_INT(count, 16); /* without the copy of the embedding */
    for (size_t in = 0; in < C; in++)
        for (size_t out = 0; out < 3 * C; out++)
            CHECK(element(folder, "transformer.h.0.attn.c_attn.weight", in * 3 * C + out) == (float)(6000 + out * C + in));
    CHECK(element(folder, "transformer.h.0.mlp.c_proj.weight", 1) == 14006);
    CHECK(json_is_true(json_object_get(hn_folder_config(folder), "tie_word_embeddings")));
    json_t *json = read_json("tokenizer.json");
    CHECK(same_json(json_object_get(json, "pre_tokenizer"),
                    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}"));
    CHECK(same_json(json_object_get(json_object_get(json, "model"), "merges"), "[\"a b\", \"ab c\"]"));
    CHECK(json_is_null(json_object_get(json, "post_processor")));
    json_decref(json);
    hn_folder_free(folder);
}

TEST(a_wordpiece_vocabulary_gets_its_hashes_back)
{
    static model m;
    hn_error error = {0};
    bert(&m);
    CHECK_OK(import_model(&m, HN_F32, &error));
    json_t *json = read_json("tokenizer.json");
    CHECK(same_json(json_object_get(json_object_get(json, "model"), "vocab"),
                    "{\"[PAD]\": 0, \"[UNK]\": 1, \"[CLS]\": 2, \"[SEP]\": 3, \"[MASK]\": 4, \"a\": 5, \"b\": 6, \"##ab\": 7, \"##c\": 8, "
                    "\"[\": 9, \"]\": 10, \"ab\": 11, \"##d\": 12, \"[unused1]\": 13}"));
    CHECK(json_is_true(json_object_get(json_object_get(json, "normalizer"), "lowercase")));
    CHECK_INT(json_array_size(json_object_get(json_object_get(json, "post_processor"), "pair")), 5);
    json_decref(json);
}

/* The regular expression, as far as its numbers, by the name of the split. */
TEST(splits_go_by_their_names)
{
    static const struct {
        const char *pre, *says;
        bool ignore_merges;
    } cases[] = {{"llama-bpe", "\\p{N}{1,3}|", true}, {"qwen2", "\\p{N}| ?[", false}, {"smollm", "individual_digits", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static model m;
        hn_error error = {0};
        hn_strbuf text;
        sizes(&m, "llama", "layer_norm_rms_epsilon");
        byte_level(&m, cases[i].pre);
        decoder_tensors(&m, false);
        CHECK_OK(import_model(&m, HN_F16, &error));
        json_t *json = read_json("tokenizer.json");
        json_t *first = json_array_get(json_object_get(json_object_get(json, "pre_tokenizer"), "pretokenizers"), 0);
        json_t *regex = json_object_get(json_object_get(first, "pattern"), "Regex");
        hn_strbuf_init(&text);
        hn_json_write(&text, first, 0);
        CHECK_CONTAINS(regex ? json_string_value(regex) : text.text, cases[i].says);
        CHECK_INT(json_is_true(json_object_get(json_object_get(json, "model"), "ignore_merges")), cases[i].ignore_merges);
        CHECK_INT(json_is_object(json_object_get(json, "post_processor")), cases[i].ignore_merges); /* Llama 3 adds bos */
        hn_strbuf_close(&text);
        json_decref(json);
    }
}

TEST(qwen_folders_open)
{
    static model m;
    hn_error error = {0};
    hn_folder *folder = NULL;
    qwen2(&m);
    CHECK_OK(import_model(&m, HN_F32, &error));
    CHECK_OK(hn_folder_open(&folder, target, &error));
    CHECK(element(folder, "model.layers.0.self_attn.k_proj.bias", 3) == 12003);
    hn_folder_free(folder);
    folder = NULL;
    qwen3(&m);
    CHECK_OK(import_model(&m, HN_F32, &error));
    CHECK_OK(hn_folder_open(&folder, target, &error));
    CHECK(element(folder, "model.layers.0.self_attn.q_norm.weight", 1) == 11001);
    hn_folder_free(folder);
}

/* Rotation: keys and tensors, and what of config.json they become. */
static void rope_linear(model *m) { key_text(m, "llama.rope.scaling.type", "linear"), key_f32(m, "llama.rope.scaling.factor", 4); }
static void rope_old(model *m) { key_f32(m, "llama.rope.scale_linear", 2.5f); }
static void rope_yarn(model *m)
{
    key_text(m, "llama.rope.scaling.type", "yarn"), key_f32(m, "llama.rope.scaling.factor", 4);
    key_u32(m, "llama.rope.scaling.original_context_length", 2048);
}
/* What Llama 3.2 ships for heads of 16 and theta 500,000: wavelengths below 2048 as they were, above 8192 stretched by 32, and
 * one of 4443 in between: 1 / ((1 - s) / 32 + s), s = (8192 / 4443 - 1) / 3. */
static void rope_llama3(model *m)
{
    static const float divisors[] = {1, 1, 1, 1, 3.29226210f, 32, 32, 32};
    key_f32(m, "llama.rope.freq_base", 500000);
    put_padding(&m->data);
    put_tensor(&m->tensors, "rope_freqs.weight", 0, 8, 0, m->data.size);
    for (int i = 0; i < 8; i++) put_f32(&m->data, divisors[i]);
    m->tensor_count++;
}

TEST(rotations_are_told)
{
    static const struct {
        void (*add)(model *);
        const char *expected;
    } cases[] = {
        {rope_linear, "{\"rope_type\": \"linear\", \"factor\": 4.0}"},
        {rope_old, "{\"rope_type\": \"linear\", \"factor\": 2.5}"},
        {rope_yarn, "{\"rope_type\": \"yarn\", \"factor\": 4.0, \"original_max_position_embeddings\": 2048}"},
        {rope_llama3, "{\"rope_type\": \"llama3\", \"factor\": 32.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
                      "\"original_max_position_embeddings\": 8192}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static model m;
        hn_error error = {0};
        sizes(&m, "llama", "layer_norm_rms_epsilon");
        key_u32(&m, "llama.attention.key_length", 16);
        sentencepiece(&m);
        tensor(&m, "token_embd.weight", VOCABULARY, C);
        tensor(&m, "blk.0.attn_q.weight", 32, C), tensor(&m, "blk.0.attn_k.weight", 32, C), tensor(&m, "blk.0.attn_v.weight", 32, C);
        tensor(&m, "blk.0.attn_output.weight", C, 32);
        tensor(&m, "blk.0.attn_norm.weight", C, 0), tensor(&m, "blk.0.ffn_norm.weight", C, 0);
        tensor(&m, "blk.0.ffn_gate.weight", INNER, C), tensor(&m, "blk.0.ffn_up.weight", INNER, C);
        tensor(&m, "blk.0.ffn_down.weight", C, INNER), tensor(&m, "output_norm.weight", C, 0);
        cases[i].add(&m);
        CHECK_OK(import_model(&m, HN_F32, &error));
        json_t *config = read_json("config.json");
        if (!same_json(json_object_get(config, "rope_scaling"), cases[i].expected)) TEST_FAIL("case %zu", i);
        json_decref(config);
    }
}

/* What is refused: each adds to a good Llama (its head comes last) and says a part of the message. */
static void no_architecture(model *m) { *m = (model){0}; }
static void other_architecture(model *m) { *m = (model){0}, key_text(m, "general.architecture", "mamba"); }
static void unknown_key(model *m) { llama(m), key_f32(m, "llama.logit_scale", 2); }
static void experts(model *m) { llama(m), key_u32(m, "llama.expert_count", 8); }
static void window(model *m) { llama(m), key_u32(m, "llama.attention.sliding_window", 4096); }
static void part_rotated(model *m) { llama(m), key_u32(m, "llama.rope.dimension_count", 1); }
static void not_causal(model *m) { llama(m), key_bool(m, "llama.attention.causal", false); }
static void odd_heads(model *m) { llama(m), key_u32(m, "llama.attention.key_length", 3); }
static void heads_of_keys(model *m) { llama(m), key_u32(m, "llama.attention.head_count_kv", 3); }
static void rope_long(model *m) { llama(m), key_text(m, "llama.rope.scaling.type", "longrope"); }
static void rope_both(model *m) { llama(m), rope_linear(m), put_padding(&m->data), put_tensor(&m->tensors, "rope_freqs.weight", 0, 1, 0, m->data.size), put_f32(&m->data, 1), m->tensor_count++; }
static void rope_strange(model *m) { llama(m), put_padding(&m->data), put_tensor(&m->tensors, "rope_freqs.weight", 0, 1, 0, m->data.size), put_f32(&m->data, 3), m->tensor_count++; }
static void unknown_tensor(model *m) { llama(m), tensor(m, "blk.0.attn_q.scale", 1, 0); }
static void tensor_in_a_layer(model *m) { llama(m), tensor(m, "blk.0.output_norm.weight", C, 0); }
static void tensor_in_no_layer(model *m) { llama(m), tensor(m, "ffn_norm.weight", C, 0); }
static void layer_too_high(model *m) { llama(m), tensor(m, "blk.1.attn_norm.weight", C, 0); }
static void layer_written_twice(model *m) { llama(m), tensor(m, "blk.00.attn_norm.weight", C, 0); }
static void tensor_missing(model *m) { sizes(m, "llama", "layer_norm_rms_epsilon"), sentencepiece(m), tensor(m, "token_embd.weight", VOCABULARY, C); }
static void vocabulary_small(model *m) { sizes(m, "qwen2", "layer_norm_rms_epsilon"), byte_level(m, NULL), tensor(m, "token_embd.weight", 13, C); }
static void no_tokenizer(model *m) { sizes(m, "llama", "layer_norm_rms_epsilon"), decoder_tensors(m, false); }
static void tokenizer_other(model *m)
{
    static const char *const tokens[] = {"a"};
    sizes(m, "llama", "layer_norm_rms_epsilon"), key_text(m, "tokenizer.ggml.model", "t5");
    key_texts(m, "tokenizer.ggml.tokens", tokens, 1), decoder_tensors(m, false);
}
static void pre_missing(model *m) { sizes(m, "llama", "layer_norm_rms_epsilon"), byte_level(m, NULL), decoder_tensors(m, false); }
static void pre_other(model *m) { sizes(m, "llama", "layer_norm_rms_epsilon"), byte_level(m, "tekken"), decoder_tensors(m, false); }
static void token_ids(model *m) { llama(m), key_u32(m, "tokenizer.ggml.padding_token_id", VOCABULARY); }
static void with_tokens(model *m, const char *const *tokens, const int *types, const char *merge)
{
    sizes(m, "llama", "layer_norm_rms_epsilon");
    key_text(m, "tokenizer.ggml.model", "gpt2"), key_text(m, "tokenizer.ggml.pre", "qwen2");
    key_texts(m, "tokenizer.ggml.tokens", tokens, 3), key_types(m, types, 3);
    key_texts(m, "tokenizer.ggml.merges", &merge, 1), decoder_tensors(m, false);
}
static const char *const abc[] = {"a", "b", "ab"}, *const abb[] = {"a", "b", "abb"}, *const aba[] = {"a", "b", "a"}, *const blank[] = {"a", "b", ""};
static const int normal[] = {1, 1, 1}, strange[] = {1, 7, 1}, control[] = {1, 1, 3};
static void tokens_twice(model *m) { with_tokens(m, aba, normal, "a b"); }
static void token_type(model *m) { with_tokens(m, abc, strange, "a b"); }
static void token_empty(model *m) { with_tokens(m, blank, control, "a b"); }
static void merge_unknown(model *m) { with_tokens(m, abc, normal, "b a"); }
static void merge_right(model *m) { with_tokens(m, abb, normal, "a bb"); }
static void merge_left(model *m) { with_tokens(m, abb, normal, "ab b"); }
static void merge_three(model *m) { with_tokens(m, abc, normal, "a b b"); }
static void merge_one(model *m) { with_tokens(m, abc, normal, "ab"); }

static const struct {
    void (*build)(model *);
    hn_status status;
    const char *says;
} refused[] = {
    {no_architecture, HN_ERR_FORMAT, "key general.architecture: expected it"},
    {other_architecture, HN_ERR_UNSUPPORTED, "expected one of llama, qwen2, qwen3, gpt2, bert, got \"mamba\""},
    {unknown_key, HN_ERR_UNSUPPORTED, "key llama.logit_scale: hone does not know what it changes"},
    {experts, HN_ERR_UNSUPPORTED, "key llama.expert_count: expected 0 (hone has no experts), got 8"},
    {window, HN_ERR_UNSUPPORTED, "key llama.attention.sliding_window: expected 0 (hone has no sliding window), got 4096"},
    {part_rotated, HN_ERR_UNSUPPORTED, "key llama.rope.dimension_count: expected 2 (whole heads are rotated), got 1"},
    {not_causal, HN_ERR_UNSUPPORTED, "key llama.attention.causal: expected true, got false"},
    {odd_heads, HN_ERR_FORMAT, "each of even size, got 2 heads, 2 of keys, each of 3"},
    {heads_of_keys, HN_ERR_FORMAT, "expected a multiple of the heads of keys, each of even size, got 2 heads, 3 of keys"},
    {rope_long, HN_ERR_UNSUPPORTED, "key llama.rope.scaling.type: expected none, linear or yarn, got \"longrope\""},
    {rope_both, HN_ERR_UNSUPPORTED, "tensor rope_freqs.weight: expected it or a rope.scaling.type, got both"},
    {rope_strange, HN_ERR_UNSUPPORTED, "tensor rope_freqs.weight: expected Llama 3's divisors"},
    {tensor_in_a_layer, HN_ERR_UNSUPPORTED, "tensor blk.0.output_norm.weight: hone knows none of this name"},
    {tensor_in_no_layer, HN_ERR_UNSUPPORTED, "tensor ffn_norm.weight: hone knows none of this name"},
    {unknown_tensor, HN_ERR_UNSUPPORTED, "tensor blk.0.attn_q.scale: hone knows none of this name"},
    {layer_too_high, HN_ERR_UNSUPPORTED, "tensor blk.1.attn_norm.weight: hone knows none of this name in a model of architecture llama with 1 layers"},
    {layer_written_twice, HN_ERR_UNSUPPORTED, "tensor blk.00.attn_norm.weight: hone knows none"},
    {tensor_missing, HN_ERR_FORMAT, "tensor output_norm.weight: expected it in a model of architecture llama"},
    {vocabulary_small, HN_ERR_FORMAT, "tensor output_norm.weight: expected it"},
    {no_tokenizer, HN_ERR_FORMAT, "key tokenizer.ggml.tokens: expected it, the file lacks it"},
    {tokenizer_other, HN_ERR_UNSUPPORTED, "key tokenizer.ggml.model: expected gpt2, llama or bert, got \"t5\""},
    {pre_missing, HN_ERR_FORMAT, "key tokenizer.ggml.pre: expected it, the file lacks it"},
    {pre_other, HN_ERR_UNSUPPORTED, "key tokenizer.ggml.pre: expected one of gpt-2, "},
    {token_ids, HN_ERR_FORMAT, "key tokenizer.ggml.padding_token_id: expected an integer from 0 to 13, got 14"},
    {tokens_twice, HN_ERR_FORMAT, "key tokenizer.ggml.tokens: tokens 0 and 2 have the same text"},
    {token_type, HN_ERR_FORMAT, "key tokenizer.ggml.token_type: token 1: expected 1 to 6, got 7"},
    {token_empty, HN_ERR_FORMAT, "token 2: expected text in a special token"},
    {merge_unknown, HN_ERR_FORMAT, "merge 0: expected two tokens with a blank between that make a third, got \"b a\""},
    {merge_right, HN_ERR_FORMAT, "that make a third, got \"a bb\""},
    {merge_left, HN_ERR_FORMAT, "that make a third, got \"ab b\""},
    {merge_three, HN_ERR_FORMAT, "merge 0: expected two tokens with a blank"},
    {merge_one, HN_ERR_FORMAT, "merge 0: expected two tokens with a blank"},
};

TEST(what_is_not_known_is_refused_by_name)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        static model m;
        hn_error error = {0};
        hn_folder_remove(target, NULL);
        refused[i].build(&m);
        hn_status status = import_model(&m, HN_F32, &error);
        if (status != refused[i].status || !strstr(error.message, refused[i].says))
            TEST_FAIL("case %zu (%s): got status %d: %s", i, refused[i].says, status, error.message);
        CHECK_CONTAINS(error.message, source);
        CHECK(!hn_path_exists(target));
    }
}

/* A token over the limit, tokens that are more than the embedding's rows, scores that are too few or NaN. */
TEST(vocabularies_must_fit)
{
    static model m;
    static char word[1100];
    const char *tokens[] = {"a", word};
    const int types[] = {1};
    for (int i = 0; i < 4; i++) {
        static const char *const says[] = {"token 1: expected at most 1024 bytes, got 1099", "key tokenizer.ggml.token_type: expected 2, one a token, got 1",
                                           "key tokenizer.ggml.scores: expected 2, one a token, got 1", "token 1: expected a finite number, got nan"};
        hn_error error = {0};
        memset(word, 'w', sizeof word - 1);
        if (i) word[1] = 0;
        sizes(&m, "llama", "layer_norm_rms_epsilon");
        key_text(&m, "tokenizer.ggml.model", "llama"), key_bool(&m, "tokenizer.ggml.add_bos_token", false);
        key_texts(&m, "tokenizer.ggml.tokens", tokens, 2);
        if (i == 1) key_types(&m, types, 1);
        put_array_key(&m.keys, "tokenizer.ggml.scores", 6, i == 2 ? 1 : 2), m.key_count++;
        put_f32(&m.keys, 0);
        if (i != 2) put_f32(&m.keys, NAN);
        decoder_tensors(&m, false);
        CHECK_INT(import_model(&m, HN_F32, &error), HN_ERR_FORMAT);
        CHECK_CONTAINS(error.message, says[i]);
    }
}

/* Every value of a folder's tensor, asked for a few rows at a time where it has no data (the last dimension at a time). */
static bool same_values(const hn_folder *folder, size_t index, const hn_tensor *expected)
{
    static float values[1024];
    size_t count;
    const hn_tensor *tensor = &hn_folder_tensors(folder, &count)[index].tensor;
    const hn_tensor_source *source_of = hn_folder_source(folder);
    int64_t total = hn_tensor_count(tensor), step = 2 * tensor->shape[tensor->rank - 1];
    if (tensor->data || tensor->dtype != HN_F32 || total > 1024 || memcmp(tensor->shape, expected->shape, sizeof tensor->shape)) return false;
    for (int64_t done = 0; done < total; done += step)
        if (source_of->fill(source_of->context, values + done, index, done, total - done < step ? total - done : step, NULL)) return false;
    return !memcmp(values, expected->data, (size_t)total * sizeof(float));
}

/* What an import wrote and what the file gives when it is opened as a folder are the same: config, tensors, tokenizer. */
TEST(opened_as_a_folder_it_is_that_folder)
{
    static void (*const build[])(model *) = {llama, gpt2, bert, qwen2, qwen3};
    for (int which = 0; which < 5; which++) {
        static model m;
        hn_error error = {0};
        hn_folder *written = NULL, *opened = NULL;
        size_t count, opened_count, size;
        hn_digest digest, other;
        char *text = NULL;
        build[which](&m);
        CHECK_OK(import_model(&m, HN_F32, &error));
        CHECK_OK(hn_folder_open(&written, target, &error));
        CHECK_OK(hn_folder_open(&opened, source, &error));
        CHECK(json_equal(hn_folder_config(written), hn_folder_config(opened)));
        CHECK(!hn_folder_source(written) && hn_folder_source(opened));
        CHECK_TEXT(hn_folder_weights(opened), source);
        const hn_named_tensor *tensors = hn_folder_tensors(written, &count), *of_file = hn_folder_tensors(opened, &opened_count);
        CHECK_INT(opened_count, count);
        for (size_t i = 0; i < count; i++) {
            size_t t = 0;
            while (t < count && strcmp(tensors[t].name, of_file[i].name)) t++;
            CHECK(t < count);
            if (!same_values(opened, i, &tensors[t].tensor)) TEST_FAIL("%s differs", of_file[i].name);
        }
        CHECK_OK(hn_folder_intact(opened, &error));
        static const char *const files[] = {"tokenizer.json", "tokenizer_config.json"};
        for (int i = 0; i < 2; i++) {
            char *of_folder = NULL;
            CHECK_OK(hn_folder_read(&text, &size, opened, files[i], SIZE_MAX, &error));
            CHECK_INT(strlen(text), size);
            CHECK_OK(hn_folder_read(&of_folder, &size, written, files[i], SIZE_MAX, &error));
            CHECK_TEXT(text, of_folder);
            hn_free(text), hn_free(of_folder);
        }
        CHECK_OK(hn_folder_read(&text, &size, opened, "vocab.txt", SIZE_MAX, &error));
        CHECK(!text && !size);
        CHECK_OK(hn_folder_digest(&digest, opened, &error));
        hn_folder_free(opened);
        opened = NULL;
        m.data.data[5] ^= 1;
        static bytes file;
        file_of(&file, &m);
        CHECK_OK(hn_file_commit(source, file.data, file.size, &error));
        CHECK_OK(hn_folder_open(&opened, source, &error));
        CHECK_OK(hn_folder_digest(&other, opened, &error));
        CHECK(!hn_digest_equal(digest, other));
        hn_folder_free(opened);
        hn_folder_free(written);
    }
}

/* A folder saved with the tokenizer of a GGUF file has its files. */
TEST(its_tokenizer_goes_into_other_folders)
{
    static model m;
    static bytes file;
    hn_error error = {0};
    hn_folder *opened = NULL, *again = NULL;
    char *before = NULL, *after = NULL;
    float values[4] = {1, 2, 3, 4};
    hn_named_tensor one = {"weight", hn_tensor_1d(values, HN_F32, 4)};
    size_t size;
    llama(&m);
    file_of(&file, &m);
    CHECK_OK(hn_file_commit(source, file.data, file.size, &error));
    CHECK_OK(hn_folder_open(&opened, source, &error));
    CHECK_OK(hn_folder_save(target, hn_folder_config(opened), &one, 1, HN_F32, opened, NULL, 0, &error));
    CHECK_OK(hn_folder_open(&again, target, &error));
    CHECK_OK(hn_folder_read(&before, &size, opened, "tokenizer_config.json", SIZE_MAX, &error));
    CHECK_OK(hn_folder_read(&after, &size, again, "tokenizer_config.json", SIZE_MAX, &error));
    CHECK_TEXT(after, before);
    hn_free(before), hn_free(after);
    hn_folder_free(again);
    hn_folder_free(opened);
}

TEST(only_files_of_that_name_are_taken_for_one)
{
    hn_error error = {0};
    hn_folder *folder = NULL;
    char *path = hn_path_join(base, "other.bin"), *as_folder = hn_path_join(base, "folder.gguf"), *none = hn_path_join(base, "none.GGUF");
    CHECK_OK(hn_file_commit(path, "GGUF", 4, &error));
    CHECK_INT(hn_folder_open(&folder, path, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, "ends in .gguf");
    hn_error_reset(&error);
    CHECK_INT(hn_folder_open(&folder, none, &error), HN_ERR_IO);
    CHECK_CONTAINS(error.message, none);
    hn_error_reset(&error);
    CHECK_OK(hn_folder_make(as_folder, &error));
    CHECK(!hn_folder_is_gguf(as_folder) && hn_folder_is_gguf(none) && !hn_folder_is_gguf(".gguf"));
    hn_free(path), hn_free(as_folder), hn_free(none);
}

TEST(every_allocation_of_opening_may_fail)
{
    static model m;
    static bytes file;
    hn_error error = {0};
    hn_folder *folder = NULL;
    gpt2(&m);
    file_of(&file, &m);
    CHECK_OK(hn_file_commit(source, file.data, file.size, &error));
    for (size_t nth = 1; !folder; nth++) {
        hn_error_reset(&error);
        hn_mem_fail_at(nth);
        hn_status status = hn_folder_open(&folder, source, &error);
        hn_mem_fail_at(0);
        if (status != HN_OK) CHECK_INT(status, HN_ERR_MEMORY);
        CHECK(nth < 2000);
    }
    hn_folder_free(folder);
}

TEST(every_allocation_may_fail)
{
    static void (*const build[])(model *) = {llama, gpt2, bert};
    for (int which = 0; which < 3; which++) {
        static model m;
        static bytes file;
        hn_error error = {0};
        build[which](&m);
        file_of(&file, &m);
        CHECK_OK(hn_file_commit(source, file.data, file.size, &error));
        for (size_t nth = 1;; nth++) {
            hn_gguf_summary summary;
            hn_error_reset(&error);
            hn_mem_fail_at(nth);
            hn_status status = hn_gguf_import(&summary, source, target, HN_BF16, &error);
            hn_mem_fail_at(0);
            if (status == HN_OK) break;
            CHECK_INT(status, HN_ERR_MEMORY);
            CHECK(nth < 2000);
        }
    }
}

/* A changed byte gives another folder or an error, never harm (the sanitizers watch). */
TEST(changed_bytes_do_no_harm)
{
    static model m;
    static bytes file;
    llama(&m);
    file_of(&file, &m);
    for (size_t at = 0; at < m.keys.size + m.tensors.size; at += 29) {
        hn_error error = {0};
        file.data[at] ^= 1;
        if (import_bytes(&file, HN_BF16, &error) != HN_OK) CHECK_CONTAINS(error.message, "hone-import-");
        file.data[at] ^= 1;
    }
}

int main(void)
{
    hn_json_init();
    if (!mkdtemp(base)) return 1;
    snprintf(source, sizeof source, "%s/small.gguf", base);
    snprintf(target, sizeof target, "%s/out", base);
    RUN(llama_is_turned_into_its_folder);
    RUN(rows_of_a_head_are_put_in_order);
    RUN(a_sentencepiece_tokenizer_gets_merges);
    RUN(gpt2_is_turned_and_tied);
    RUN(a_wordpiece_vocabulary_gets_its_hashes_back);
    RUN(splits_go_by_their_names);
    RUN(qwen_folders_open);
    RUN(rotations_are_told);
    RUN(what_is_not_known_is_refused_by_name);
    RUN(vocabularies_must_fit);
    RUN(opened_as_a_folder_it_is_that_folder);
    RUN(its_tokenizer_goes_into_other_folders);
    RUN(only_files_of_that_name_are_taken_for_one);
    RUN(every_allocation_of_opening_may_fail);
    RUN(every_allocation_may_fail);
    RUN(changed_bytes_do_no_harm);
    hn_folder_remove(base, NULL);
    printf("%d tests, %d failures\n", test_ran, test_failures);
    return test_failures || !test_ran;
}
