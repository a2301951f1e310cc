/* See config.h. Defaults are those of a careful fine-tuning run; the ones that decide the result are written out in configs/. */
#include "train/config.h"

#include <float.h>

#include "eval/metrics.h"

#define AT(member) .offset = offsetof(hn_train_config, member)
#define MAX_COUNT 1e15

const hn_key hn_train_keys[] = {
    {"model", "path", HN_KEY_STRING, AT(model.path),
     .help = "Pretrained checkpoint: a Hugging Face folder, or a run folder (its best)"},
    {"model", "init", HN_KEY_CHOICE, AT(model.init), .choices = "pretrained|scratch", .fallback = "\"pretrained\"",
     .help = "Weights to start from: the checkpoint's; or new ones by the family's rule and train.seed, and then "
             "model.path needs a config.json and a tokenizer alone"},

    {"task", "kind", HN_KEY_CHOICE, AT(task.kind), .choices = "classify|regress|lm|sft|mlm|tag",
     .fallback = "\"classify\"",
     .help = "Classes of texts or pairs; one number for each; a language model of plain text; answers to instructions; "
             "hidden tokens of plain text (encoders); a class for every word"},
    {"task", "labels", HN_KEY_LIST, AT(task.labels), .fallback = "[]",
     .help = "Label names in the order of their numbers; empty: the model's own"},

    {"train", "epochs", HN_KEY_FLOAT, AT(train.epochs), .unit = "epochs", .min = 0.001, .max = 1e6, .fallback = "3",
     .safe_on_resume = true, .help = "Passes over the training data"},
    {"train", "max_steps", HN_KEY_INT, AT(train.max_steps), .unit = "steps", .max = MAX_COUNT, .fallback = "0",
     .safe_on_resume = true, .help = "Upper bound of optimizer steps; 0: none"},
    {"train", "batch_tokens", HN_KEY_INT, AT(train.batch_tokens), .unit = "tokens", .min = 1, .max = 1 << 24,
     .fallback = "4096", .help = "Most tokens in one optimizer step"},
    {"train", "batch_examples", HN_KEY_INT, AT(train.batch_examples), .unit = "examples", .min = 1, .max = 1 << 20,
     .fallback = "32", .help = "Most examples in one optimizer step"},
    {"train", "slice_tokens", HN_KEY_INT, AT(train.slice_tokens), .unit = "tokens", .max = 1 << 24, .fallback = "0",
     .help = "Most tokens in memory at once: a larger batch is accumulated in slices; 0: whole batches"},
    {"train", "share_prefixes", HN_KEY_BOOL, AT(train.share_prefixes), .fallback = "true",
     .help = "Answers: what prompts of a batch begin with in common is computed once a batch, where nothing is dropped out"},
    {"train", "precision", HN_KEY_CHOICE, AT(train.precision), .choices = "fp32|bf16", .fallback = "\"fp32\"",
     .help = "Type of weights and activations; masters, statistics and loss are always fp32"},
    {"train", "seed", HN_KEY_INT, AT(train.seed), .max = 9e15, .fallback = "42",
     .help = "Keys the order of the data, new parameters and dropout"},
    {"train", "label_smoothing", HN_KEY_FLOAT, AT(train.label_smoothing), .max = 0.999, .min = 0, .fallback = "0",
     .help = "Share of the target spread over all labels"},
    {"train", "max_bad_steps", HN_KEY_INT, AT(train.max_bad_steps), .unit = "steps", .min = 1, .max = 1e6,
     .fallback = "10", .help = "Steps in a row with a NaN or Inf, all skipped, after which the run stops"},
    {"train", "threads", HN_KEY_INT, AT(train.threads), .unit = "threads", .max = 4096, .fallback = "0",
     .safe_on_resume = true, .help = "Threads of the CPU backend; 0: one a core. Results do not depend on it"},
    {"train", "log_every", HN_KEY_INT, AT(train.log_every), .unit = "steps", .min = 1, .max = 1e9, .fallback = "10",
     .safe_on_resume = true, .help = "Steps between two lines of metrics"},
    {"train", "profile", HN_KEY_BOOL, AT(train.profile), .fallback = "false", .safe_on_resume = true,
     .help = "Measure the time of every operation and print it at the end"},

    {"optim", "lr", HN_KEY_FLOAT, AT(optim.lr), .max = 1e3, .fallback = "5e-5", .help = "Peak learning rate"},
    {"optim", "schedule", HN_KEY_CHOICE, AT(optim.schedule), .choices = "linear|cosine|constant|inverse_sqrt|wsd",
     .fallback = "\"linear\"", .help = "Learning rate after the warm-up"},
    {"optim", "warmup", HN_KEY_FLOAT, AT(optim.warmup), .max = 1e9, .fallback = "0.06",
     .help = "Steps of linear warm-up; below 1: share of all steps"},
    {"optim", "decay", HN_KEY_FLOAT, AT(optim.decay), .max = 1, .fallback = "0.2",
     .help = "wsd: share of all steps at the end over which the rate falls"},
    {"optim", "final", HN_KEY_FLOAT, AT(optim.final), .max = 1, .fallback = "0",
     .help = "linear, cosine, wsd: last learning rate as a share of the peak"},
    {"optim", "weight_decay", HN_KEY_FLOAT, AT(optim.weight_decay), .max = 10, .fallback = "0.01",
     .help = "Decoupled weight decay; biases and norms are left out"},
    {"optim", "clip", HN_KEY_FLOAT, AT(optim.clip), .max = FLT_MAX, .fallback = "1.0",
     .help = "Largest global norm of the gradient; 0: not clipped"},
    {"optim", "beta1", HN_KEY_FLOAT, AT(optim.beta1), .max = 0.999999, .fallback = "0.9",
     .help = "Decay of AdamW's first moment"},
    {"optim", "beta2", HN_KEY_FLOAT, AT(optim.beta2), .max = 0.9999999, .fallback = "0.999",
     .help = "Decay of AdamW's second moment"},
    {"optim", "epsilon", HN_KEY_FLOAT, AT(optim.epsilon), .min = 1e-30, .max = 1, .fallback = "1e-8",
     .help = "AdamW's epsilon"},
    {"optim", "moments", HN_KEY_CHOICE, AT(optim.moments), .choices = "fp32|bf16", .fallback = "\"fp32\"",
     .help = "Type of AdamW's moments: bf16, rounded at random, takes half the memory"},

    {"freeze", "below", HN_KEY_STRING, AT(freeze.below), .fallback = "null",
     .help = "Freeze every group below this one: embeddings, layer.0, ..., head"},
    {"freeze", "groups", HN_KEY_LIST, AT(freeze.groups), .fallback = "[]", .help = "Freeze these groups by name"},
    {"freeze", "unfreeze", HN_KEY_INTERVAL, AT(freeze.unfreeze), .max = 1e12, .fallback = "\"off\"",
     .help = "Thaw one frozen group, top-down, every so often (ULMFiT)"},
    {"freeze", "unfreeze_warmup", HN_KEY_INT, AT(freeze.unfreeze_warmup), .unit = "steps", .max = 1e9,
     .fallback = "10", .help = "Steps over which a thawed group's learning rate rises"},
    {"freeze", "lr_decay", HN_KEY_FLOAT, AT(freeze.lr_decay), .min = 0.01, .max = 1, .fallback = "1",
     .help = "Learning rate of a group as a share of that of the group above it"},
    {"freeze", "cache", HN_KEY_BOOL, AT(freeze.cache), .fallback = "false",
     .help = "Keep the frozen trunk's output on disk and read it back in later epochs"},
    {"freeze", "cache_budget", HN_KEY_FLOAT, AT(freeze.cache_budget), .unit = "GiB", .min = 0, .max = 1e6,
     .fallback = "8", .help = "Most disk space for that; examples beyond it are computed each time"},

    {"lora", "r", HN_KEY_INT, AT(lora.r), .max = 65536, .fallback = "0",
     .help = "Rank of low-rank adapters (LoRA); all else is frozen. 0: none, or those of lora.adapter or model.path go on"},
    {"lora", "alpha", HN_KEY_FLOAT, AT(lora.alpha), .min = 1e-6, .max = 1e6, .fallback = "16",
     .help = "Adapters count alpha / r, or alpha / sqrt(r) with lora.rslora"},
    {"lora", "dropout", HN_KEY_FLOAT, AT(lora.dropout), .max = 0.999, .fallback = "0",
     .help = "Share of what an adapter reads that is dropped in training"},
    {"lora", "targets", HN_KEY_LIST, AT(lora.targets), .fallback = "[\"all-linear\"]",
     .help = "Layers with adapters, by their Hugging Face names or the last words of them (q_proj, v_proj); all-linear: all but the "
             "output's"},
    {"lora", "rslora", HN_KEY_BOOL, AT(lora.rslora), .fallback = "false",
     .help = "Scale by the root of the rank, which keeps large ranks from standing still (rsLoRA)"},
    {"lora", "modules_to_save", HN_KEY_LIST, AT(lora.modules_to_save), .fallback = "[]",
     .help = "Modules that train whole beside the adapters and are saved with them; empty: an encoder's head"},
    {"lora", "adapter", HN_KEY_STRING, AT(lora.adapter), .fallback = "null",
     .help = "A PEFT folder whose adapter goes on the model, whatever base it names"},

    {"eval", "every", HN_KEY_INTERVAL, AT(eval.every), .max = 1e12, .fallback = "\"1 epoch\"",
     .help = "How often the dev sets are evaluated; also at the end"},
    {"eval", "metric", HN_KEY_CHOICE, AT(eval.metric), .choices = HN_METRIC_CHOICES, .fallback = "\"loss\"",
     .help = "What the best checkpoint and early stopping go by, on the first dev set"},
    {"eval", "direction", HN_KEY_CHOICE, AT(eval.direction), .choices = "auto|max|min", .fallback = "\"auto\"",
     .help = "Whether more is better; auto: by the metric"},
    {"eval", "patience", HN_KEY_INT, AT(eval.patience), .unit = "evaluations", .max = 1e9, .fallback = "0",
     .help = "Stop after so many evaluations without an improvement; 0: never"},
    {"eval", "min_delta", HN_KEY_FLOAT, AT(eval.min_delta), .max = 1e9, .fallback = "0",
     .help = "An improvement counts for patience when it is more than this"},
    {"eval", "batch_tokens", HN_KEY_INT, AT(eval.batch_tokens), .unit = "tokens", .max = 1 << 24, .fallback = "0",
     .safe_on_resume = true, .help = "Most tokens in a batch of evaluation; 0: as in training"},
    {"eval", "restore_best", HN_KEY_BOOL, AT(eval.restore_best), .fallback = "true",
     .help = "final/ holds the best weights instead of the last"},

    {"checkpoint", "every", HN_KEY_INTERVAL, AT(checkpoint.every), .max = 1e12, .fallback = "\"500 steps\"",
     .safe_on_resume = true, .help = "How often the whole state is saved; also at the end and on a signal"},
    {"checkpoint", "keep", HN_KEY_INT, AT(checkpoint.keep), .min = 1, .max = 1e6, .fallback = "2",
     .safe_on_resume = true, .help = "Checkpoints kept; older ones are deleted after a newer one is safe"},

    {"output", "dir", HN_KEY_STRING, AT(output.dir), .help = "Run folder"},

    {"resume", "force", HN_KEY_BOOL, AT(resume.force), .fallback = "false", .safe_on_resume = true,
     .help = "Go on although keys marked as safe to change differ from the run's"},
};
const size_t hn_train_key_count = sizeof hn_train_keys / sizeof *hn_train_keys;
