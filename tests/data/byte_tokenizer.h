/* A tokenizer that knows bytes and control tokens only: the ids of a text are plain to see, and nothing joins
 * across the seams of a template. */
#ifndef HONE_TESTS_DATA_BYTE_TOKENIZER_H
#define HONE_TESTS_DATA_BYTE_TOKENIZER_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "data/tokenizer_stages.h"

static const char *const byte_controls[] = {
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|strips|>",
};
enum { BOS = 256, EOS, IM_START, IM_END, STRIPS = 265 };

/* Byte b is the id b, control token k the id 256 + k; lead: BOS before every text. */
static hn_tokenizer *byte_tokenizer(bool lead)
{
    hn_tokenizer *tokenizer = NULL;
    hn_error error = {0};
    json_t *vocabulary = json_object(), *added = json_array();
    for (int b = 0; b < 256; b++) {
        char name[3] = "";
        name[hnp_byte_put(name, (unsigned char)b)] = '\0';
        json_object_set_new(vocabulary, name, json_integer(b));
    }
    for (size_t k = 0; k < sizeof byte_controls / sizeof byte_controls[0]; k++)
        json_array_append_new(added, json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id",
                                               (json_int_t)(256 + k), "content", byte_controls[k], "special",
                                               1, "normalized", 0, "lstrip", (int)(k == STRIPS - 256),
                                               "rstrip", (int)(k == STRIPS - 256), "single_word", 0));
    json_t *post =
        !lead ? json_null()
              : json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], "
                          "s:{s:{s:s, s:[i], s:[s]}}}",
                          "type", "TemplateProcessing", "single", "SpecialToken", "id", "<s>", "type_id", 0,
                          "Sequence", "id", "A", "type_id", 0, "pair", "Sequence", "id", "A", "type_id", 0,
                          "Sequence", "id", "B", "type_id", 1, "special_tokens", "<s>", "id", "<s>", "ids",
                          BOS, "tokens", "<s>");
    json_t *root =
        json_pack("{s:s, s:o, s:n, s:{s:s, s:b, s:b, s:b}, s:{s:s, s:b, s:b, s:b}, s:o, s:{s:s, s:o, s:[]}}",
                  "version", "1.0", "added_tokens", added, "normalizer", "pre_tokenizer", "type", "ByteLevel",
                  "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 0, "decoder", "type", "ByteLevel",
                  "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 0, "post_processor", post, "model",
                  "type", "BPE", "vocab", vocabulary, "merges");
    char *text = json_dumps(root, JSON_COMPACT);
    if (!text || hn_tokenizer_open_json(&tokenizer, text, strlen(text), "toy", &error)) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    hn_free(text);
    json_decref(root);
    return tokenizer;
}

/* Ids as text, what is marked between [[ and ]]. */
static inline const char *byte_show(const int32_t *ids, const uint16_t *marks, int32_t count)
{
    static char out[8192];
    size_t used = 0;
    bool mark = false;
    for (int32_t i = 0; i <= count && used < sizeof out - 100; i++) {
        bool now = i < count && marks[i];
        if (now != mark) used += (size_t)snprintf(out + used, sizeof out - used, "%s", now ? "[[" : "]]");
        mark = now;
        if (i == count) break;
        if (ids[i] >= 256)
            used += (size_t)snprintf(out + used, sizeof out - used, "%s", byte_controls[ids[i] - 256]);
        else
            out[used++] = (char)ids[i];
    }
    out[used] = '\0';
    return out;
}

#endif
