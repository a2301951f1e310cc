/* hone: finds the verb and hands it the rest of the command line. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "core/json.h"

const hn_verb hn_verbs[] = {
    {"train", "CONFIG.json [key=value ...]", "fine-tune; goes on where it stopped when the run folder exists",
     "Trains the model of model.path on data.train and leaves a run folder in output.dir. Keys given as section.key=value win\n"
     "over the file; `hone keys` lists them. Ctrl-C saves and stops (exit code 75); the same command goes on.\n",
     hn_verb_train},
    {"eval", "MODEL data.dev=FILE|choices.files=FILES|zero_shot.files=FILES [key=value ...] [--json] [--each]", "metrics on labelled data",
     "MODEL is a Hugging Face folder with a head, or a run folder (its best). Prints loss, accuracy and the rest of each dev\n"
     "set; --json prints one JSON object a set.\n"
     "With choices.files a language model answers questions with options (`hone keys choices`): accuracy by subject; --each\n"
     "prints a JSON line a question, with the log-probability of every option.\n"
     "With zero_shot.files a model of entailment sorts texts by zero_shot.labels, which it was never trained on: metrics where\n"
     "rows have labels, with --each a JSON line a text too; else these lines alone.\n",
     hn_verb_eval},
    {"predict", "MODEL data.predict=FILE|- [key=value ...]", "one JSON line an input, in order",
     "Reads rows as for training, labels left aside, and prints {\"label\", \"probabilities\"} (or {\"value\"} for regression)\n"
     "for each.\n",
     hn_verb_predict},
    {"generate", "MODEL [--prompt TEXT ... | --file FILE] [options] [key=value ...]", "text that goes on from a prompt",
     "Prints what a language model writes, as it writes it; several prompts run side by side, and their answers come in order.\n"
     "  --prompt TEXT           what to go on from (may come several times; without any: a text from its beginning)\n"
     "  --file FILE             prompts, one a line; in .jsonl a line is a string or {\"prompt\": ...}; - is standard input\n"
     "  --chat                  the prompt is a question: it is asked by the model's own template\n"
     "  --system TEXT           with --chat: the system prompt\n"
     "  --template NAME         with --chat: another template\n"
     "  --max-tokens N          of one answer (256)\n"
     "  --temperature T         0: the likeliest token each time (0)\n"
     "  --top-k N --top-p P --min-p P\n"
     "                          only from the N likeliest; from those that have P of the probability; from those at least\n"
     "                          P times as likely as the likeliest\n"
     "  --repetition-penalty R  above 1: tokens that were there already are less likely (1)\n"
     "  --seed N                same seed, same text (0)\n"
     "  --stop TEXT             ends an answer, and is left out (may come several times)\n"
     "  --context N             tokens of a prompt with its answer at most (4096, or what the model has)\n"
     "  --batch N               prompts side by side, 1 to 16 (8)\n"
     "  --json                  one JSON object an answer\n",
     hn_verb_generate},
    {"chat", "MODEL [options] [key=value ...]", "a conversation",
     "A line of standard input is a message; the answer comes as it is written. Turns are put into the model's own chat template.\n"
     "Options are those of generate, without --prompt, --file, --chat, --batch and --json; --max-tokens is 1024.\n"
     "/new begins another conversation; Ctrl-C stops an answer, twice it ends the program, and so does the end of the input.\n",
     hn_verb_chat},
    {"tokenize", "MODEL [--pair] [--json] [--decode]", "a line in, one JSON array of ids out",
     "  --pair    a line is two texts with a tab between\n"
     "  --json    lines are JSON strings (so that a text may hold a newline)\n"
     "  --decode  lines are JSON arrays of ids, and text comes out\n",
     hn_verb_tokenize},
    {"data", "CONFIG.json [key=value ...]", "what the model will see",
     "Reads the data as `train` would and prints counts, lengths, labels, duplicates, refused rows and the first examples.\n",
     hn_verb_data},
    {"plan", "CONFIG.json [key=value ...]", "memory, steps and tokens of a run, before it starts",
     "Prints the memory that `train` would allocate, arena by arena, and the number of steps.\n", hn_verb_plan},
    {"import", "FILE.gguf DIR [--type f32|bf16|f16]", "a GGUF file as a Hugging Face folder",
     "Dequantises FILE (llama, qwen2, qwen3, gpt2, bert) and writes DIR: config, weights, tokenizer and chat template.\n",
     hn_verb_import},
    {"export", "RUN DIR [--merge] [--type f32|bf16|f16]", "the newest checkpoint of a run as a Hugging Face folder",
     "Writes the weights of the newest checkpoint that verifies, with config and tokenizer, to DIR: of a run with adapters (LoRA)\n"
     "these alone, as PEFT loads them; with --merge the whole model with the adapters in its weights.\n", hn_verb_export},
    {"verify", "RUN|CHECKPOINT", "every byte against its digest",
     "Checks all checkpoints of a run folder, or one checkpoint folder. Exit code 1 when any byte is wrong.\n", hn_verb_verify},
    {"keys", "[WORD] [--markdown]", "the config reference",
     "Lists the config keys whose name or help contains WORD (all without one), from the table that parses them.\n", hn_verb_keys},
};
const int hn_verb_count = sizeof hn_verbs / sizeof *hn_verbs;

static void usage(FILE *out)
{
    fprintf(out, "hone %s: fine-tunes transformers\n\n", HONE_VERSION);
    for (int i = 0; i < hn_verb_count; i++) fprintf(out, "  hone %-9s %s\n", hn_verbs[i].name, hn_verbs[i].summary);
    fprintf(out, "\nhone VERB --help says more. Results go to stdout, everything else to stderr.\n");
}

static int run_verb(const hn_verb *verb, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            printf("hone %s %s\n\n%s", verb->name, verb->arguments, verb->help);
            return HN_EXIT_DONE;
        }
    return verb->run(argc, argv);
}

/* The exit code of a verb, unless its output did not get out (a full disk, a closed pipe). */
static int flush_output(int code)
{
    bool lost = ferror(stdout);
    lost |= fflush(stdout) != 0;
    if (code != HN_EXIT_DONE || !lost) return code;
    fprintf(stderr, "hone: standard output: cannot write all of the results\n");
    return HN_EXIT_FAILED;
}

int main(int argc, char **argv)
{
    hn_json_init();
    if (argc < 2) {
        usage(stderr);
        return HN_EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        usage(stdout);
        return HN_EXIT_DONE;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("hone %s\n", HONE_VERSION);
        return HN_EXIT_DONE;
    }
    for (int i = 0; i < hn_verb_count; i++)
        if (!strcmp(argv[1], hn_verbs[i].name)) return flush_output(run_verb(&hn_verbs[i], argc - 2, argv + 2));
    fprintf(stderr, "hone: there is no command \"%s\"; hone --help lists them\n", argv[1]);
    return HN_EXIT_USAGE;
}
