/* Instruction rows from strangers: "[" begins a JSON array, "i" a table, anything else JSON lines. Whatever a
 * row's texts spell, its ids hold just the control tokens that its turns have, and only the answers are
 * marked. The bytes are also taken for a chat template and for a format string of the user's. */
#include "core/json.h"
#include "data/reader.h"
#include "data/template.h"
#include "data/template_shapes.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/fuzz/fuzz.h"

static hn_tokenizer *tokenizer;
static hn_template *chatml, *llama2;
static const hn_chat_source files = {.bos = "<s>", .eos = "</s>"};
static const hn_turn_fields fields = {.instruction = "instruction",
                                      .input = "input",
                                      .output = "output",
                                      .prompt = "prompt",
                                      .completion = "completion"};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    hn_error error = {0};
    (void)argc, (void)argv;
    hn_json_init();
    tokenizer = byte_tokenizer(false);
    DEMAND(!hn_template_open(&chatml, &(hn_template_options){.name = "chatml"}, &files, tokenizer, &error));
    DEMAND(!hn_template_open(&llama2, &(hn_template_options){.name = "llama2"}, &files, tokenizer, &error));
    return 0;
}

static void encode(const hn_template *tmpl, hn_dialog *dialog, const hn_row *row, size_t per_turn,
                   size_t per_answer)
{
    hn_error error = {0};
    size_t controls = 0, expected = 0, changes = 0, answers = 0;
    if (hn_template_refusal(tmpl, row->messages, row->message_count)) return;
    DEMAND(!hn_template_encode(tmpl, dialog, row->messages, row->message_count, false, &error));
    for (size_t i = 0; i < row->message_count; i++) {
        bool answer = row->messages[i].role == HN_ROLE_ASSISTANT,
             own = row->messages[i].role != HN_ROLE_SYSTEM || tmpl == chatml;
        answers += answer;
        if (own) expected += answer ? per_answer : per_turn;
    }
    for (int32_t i = 0; i < dialog->count; i++) {
        controls += dialog->ids[i] >= 256;
        changes += dialog->marks[i] && (!i || !dialog->marks[i - 1]);
    }
    DEMAND(controls == expected && changes == answers);
}

static void read_rows(const uint8_t *bytes, size_t size)
{
    hn_reader *reader = NULL;
    hn_error error = {0};
    hn_bad_rows bad = {.skip = true};
    hn_reader_options options = {.turns = &fields, .empty_allowed = true};
    const char *name = size && bytes[0] == '[' ? "f.json" : size && bytes[0] == 'i' ? "f.csv" : "f.jsonl";
    hn_dialog dialog;
    hn_dialog_init(&dialog);
    DEMAND(!hn_reader_open_bytes(&reader, &options, bytes, size, name, &bad, &error));
    for (;;) {
        hn_row row;
        bool end = false;
        hn_status status = hn_reader_next(reader, &row, &end, &error);
        DEMAND(!status == !error.message[0]);
        if (status) fuzz_refused(&error, name);
        if (status || end) break;
        encode(chatml, &dialog, &row, 2, 2);
        encode(llama2, &dialog, &row, 1, 1);
    }
    hn_reader_free(reader);
    hn_dialog_close(&dialog);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1), *system = NULL;
    hn_error error = {0};
    hn_template *own = NULL;
    const hnp_shape *shape;
    DEMAND(text);
    fuzz_begin();
    read_rows(bytes, size);
    memcpy(text, bytes, size);
    text[size] = '\0';
    DEMAND(!hnp_shape_recognise(&shape, &system, text, &error));
    hn_free(system);
    hn_template_options options = {.turns = {.begin = text, .user = text, .assistant = text}};
    if (hn_template_open(&own, &options, &files, tokenizer, &error)) fuzz_refused(&error, "template ");
    hn_template_free(own);
    fuzz_end_of_file(bytes, size);
    free(text);
    return 0;
}
