/* Templates by name, as their models' chat templates print them. Which control tokens a string holds is found
 * out when the template is opened, from the tokenizer. */
#include "data/template_shapes.h"

#include <string.h>

#define ALPACA_TASK "Below is an instruction that describes a task"
#define ALPACA_ANSWER "Write a response that appropriately completes the request."
#define CHATML(role) "<|im_start|>" role "\n{content}<|im_end|>\n"
#define LLAMA3(role) "<|start_header_id|>" role "<|end_header_id|>\n\n{content|trim}<|eot_id|>"
#define LLAMA31_DATE "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
#define ZEPHYR(role) "<|" role "|>\n{content}{eos}\n"
#define GEMMA(role) "<start_of_turn>" role "\n{content|trim}<end_of_turn>\n"

static const hnp_shape shapes[] = {
    {.name = "alpaca",
     .turn = {[HNP_TURN_SYSTEM] = "{content}\n\n",
              [HNP_TURN_USER] = "### Instruction:\n{content}\n\n",
              [HNP_TURN_INPUT] = "### Instruction:\n{content}\n\n### Input:\n{input}\n\n",
              [HNP_TURN_PROMPT] = "### Response:\n",
              [HNP_TURN_ASSISTANT] = "{content}{eos}"},
     .system = ALPACA_TASK ". " ALPACA_ANSWER,
     .system_input = ALPACA_TASK ", paired with an input that provides further context. " ALPACA_ANSWER,
     .alternate = true},
    {.name = "chatml",
     .turn = {[HNP_TURN_BEGIN] = "",
              [HNP_TURN_SYSTEM] = CHATML("system"),
              [HNP_TURN_USER] = CHATML("user"),
              [HNP_TURN_PROMPT] = "<|im_start|>assistant\n",
              [HNP_TURN_ASSISTANT] = "{content}<|im_end|>\n"},
     .needs = {"<|im_start|>", "<|im_end|>"}},
    {.name = "llama2",
     .turn = {[HNP_TURN_BEGIN] = "",
              [HNP_TURN_OPENING] = "{bos}[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{content|rtrim} [/INST]",
              [HNP_TURN_USER] = "{bos}[INST] {content|trim} [/INST]",
              [HNP_TURN_ASSISTANT] = " {content|trim} {eos}"},
     .alternate = true},
    {.name = "llama3",
     .turn = {[HNP_TURN_BEGIN] = "{bos}",
              [HNP_TURN_SYSTEM] = LLAMA3("system"),
              [HNP_TURN_USER] = LLAMA3("user"),
              [HNP_TURN_PROMPT] = "<|start_header_id|>assistant<|end_header_id|>\n\n",
              [HNP_TURN_ASSISTANT] = "{content|trim}<|eot_id|>"},
     .needs = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}},
    {.name = "llama3.1",
     .turn = {[HNP_TURN_BEGIN] = "{bos}",
              [HNP_TURN_SYSTEM] =
                  "<|start_header_id|>system<|end_header_id|>\n\n" LLAMA31_DATE "{content|trim}<|eot_id|>",
              [HNP_TURN_USER] = LLAMA3("user"),
              [HNP_TURN_PROMPT] = "<|start_header_id|>assistant<|end_header_id|>\n\n",
              [HNP_TURN_ASSISTANT] = "{content|trim}<|eot_id|>"},
     .system = "",
     .needs = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}},
    {.name = "zephyr",
     .turn = {[HNP_TURN_BEGIN] = "",
              [HNP_TURN_SYSTEM] = ZEPHYR("system"),
              [HNP_TURN_USER] = ZEPHYR("user"),
              [HNP_TURN_PROMPT] = "<|assistant|>\n",
              [HNP_TURN_ASSISTANT] = "{content}{eos}\n"}},
    {.name = "mistral",
     .turn = {[HNP_TURN_BEGIN] = "{bos}",
              [HNP_TURN_OPENING] = "[INST] {system}\n\n{content} [/INST]",
              [HNP_TURN_USER] = "[INST] {content} [/INST]",
              [HNP_TURN_ASSISTANT] = "{content}{eos}"},
     .alternate = true},
    {.name = "gemma",
     .turn = {[HNP_TURN_BEGIN] = "{bos}",
              [HNP_TURN_OPENING] = "<start_of_turn>user\n{system}\n\n{content|trim}<end_of_turn>\n",
              [HNP_TURN_USER] = GEMMA("user"),
              [HNP_TURN_PROMPT] = "<start_of_turn>model\n",
              [HNP_TURN_ASSISTANT] = "{content|trim}<end_of_turn>\n"},
     .alternate = true,
     .needs = {"<start_of_turn>", "<end_of_turn>"}},
    {.name = "plain",
     .turn = {[HNP_TURN_SYSTEM] = "{content}\n\n",
              [HNP_TURN_USER] = "{content}",
              [HNP_TURN_ASSISTANT] = "{content}{eos}"}},
};

const hnp_shape *hnp_shape_find(const char *name)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (!strcmp(shapes[i].name, name)) return &shapes[i];
    return NULL;
}

const char *hnp_shape_names(void)
{
    return "alpaca, chatml, llama2, llama3, llama3.1, zephyr, mistral, gemma, plain";
}
