/* See config.h. */
#include "eval/config.h"

#define AT(member) .offset = offsetof(hn_eval_config, member), .safe_on_resume = true

const hn_key hn_eval_keys[] = {
    {"choices", "files", HN_KEY_LIST, AT(choices.files), .fallback = "null",
     .help = "Multiple choice (hone eval): files of questions, or folders of them; CSV as MMLU publishes it, .tsv, .jsonl, .json"},
    {"choices", "examples", HN_KEY_LIST, AT(choices.examples), .fallback = "null",
     .help = "Solved questions to show first, of the same subjects: files or folders, as MMLU's dev"},
    {"choices", "shots", HN_KEY_INT, AT(choices.shots), .unit = "examples", .max = 1000, .fallback = "5",
     .help = "Solved questions before each question, where choices.examples has them; fewer where they do not fit"},
    {"choices", "answers", HN_KEY_CHOICE, AT(choices.answers), .choices = "letters|texts", .fallback = "\"letters\"",
     .help = "What is scored behind the prompt: the letter of each option, or its text"},
    {"choices", "normalize", HN_KEY_CHOICE, AT(choices.normalize), .choices = "none|tokens|characters", .fallback = "\"none\"",
     .help = "What an option's log-probability is divided by: its length in tokens or characters, for choices.answers=texts"},
    {"choices", "heading", HN_KEY_STRING, AT(choices.heading), .fallback = "null",
     .help = "Text before everything, with {subject}; null: MMLU's line for letters, nothing for texts"},
    {"choices", "prompt", HN_KEY_STRING, AT(choices.prompt), .fallback = "null",
     .help = "A question with {question}, {options} (a line each, with letters) and {subject}; null: MMLU's for letters, "
             "\"Question: ... Answer:\" for texts"},
    {"choices", "every", HN_KEY_INT, AT(choices.every), .unit = "questions", .min = 1, .max = 1e9, .fallback = "1",
     .help = "Ask only each so many-th question: a quick look"},
    {"choices", "fields.question", HN_KEY_STRING, AT(choices.question), .fallback = "null",
     .help = "Field (or column) of the question; null: question"},
    {"choices", "fields.options", HN_KEY_STRING, AT(choices.options), .fallback = "null",
     .help = "Field of the list of options; null: choices, options or endings. In tables: columns A, B, ..."},
    {"choices", "fields.answer", HN_KEY_STRING, AT(choices.answer), .fallback = "null",
     .help = "Field of the answer: a letter, a number from 0, or the option itself; null: answer, answerKey or label"},
    {"choices", "fields.subject", HN_KEY_STRING, AT(choices.subject), .fallback = "null",
     .help = "Field of the subject; null: subject. Where rows have none it is the file's name"},

    {"zero_shot", "files", HN_KEY_LIST, AT(zero_shot.files), .fallback = "null",
     .help = "Labels by inference (hone eval): files of texts, .jsonl, .json, .tsv or .csv; - is standard input"},
    {"zero_shot", "labels", HN_KEY_LIST, AT(zero_shot.labels), .fallback = "null",
     .help = "The labels to choose from, in words that fit into zero_shot.hypothesis"},
    {"zero_shot", "hypothesis", HN_KEY_STRING, AT(zero_shot.hypothesis), .fallback = "\"This example is {}.\"",
     .help = "What a text may entail: a sentence with {}, where a label goes"},
    {"zero_shot", "multi_label", HN_KEY_BOOL, AT(zero_shot.multi_label), .fallback = "false",
     .help = "Labels do not exclude each other: each is scored by itself, entailment against contradiction"},
    {"zero_shot", "entailment", HN_KEY_STRING, AT(zero_shot.entailment), .fallback = "null",
     .help = "The model's class that means entailment; null: the one whose name begins with entail"},
    {"zero_shot", "contradiction", HN_KEY_STRING, AT(zero_shot.contradiction), .fallback = "null",
     .help = "For multi_label, the class that means contradiction; null: the one that begins with contra, or the other of two"},
    {"zero_shot", "label_map", HN_KEY_MAP, AT(zero_shot.label_map), .fallback = "null",
     .help = "What labels in the files stand for: {\"3\": \"business\"}"},
    {"zero_shot", "fields.text", HN_KEY_STRING, AT(zero_shot.text), .fallback = "\"text\"", .help = "Field (or column) of the text"},
    {"zero_shot", "fields.label", HN_KEY_STRING, AT(zero_shot.label), .fallback = "null",
     .help = "Field of the text's own label, which makes metrics; null: label, where the first row has it"},
};
const size_t hn_eval_key_count = sizeof hn_eval_keys / sizeof hn_eval_keys[0];
