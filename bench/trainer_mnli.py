"""The peer: the transformers Trainer fine-tunes a BERT-like encoder on sentence pairs, and prints what it measured as JSON.

Three modes, from what a user gets without thinking to what a user gets who reads the documentation:

    default   the Trainer's own: fp32, every pair padded to --max-tokens
    dynamic   fp32, padded to the longest of the batch, batches of like lengths
    tuned     as dynamic, in bf16 autocast

Everything else is the same for all and for hone: rows, batch size, learning rate, schedule, weight decay, clipping, dropout. The
clock of the steps starts at the end of step --skip, so start-up and the first, slow steps are left out; tokens are counted without
padding, batch by batch.
"""
import argparse
import json
import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy
import torch
import transformers
from peer import Clock, CountingCollator, steady_rates
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments, set_seed)

LABELS = {"entailment": 0, "neutral": 1, "contradiction": 2}
MODES = {
    "default": {},
    "dynamic": {"train_sampling_strategy": "group_by_length"},
    "tuned": {"train_sampling_strategy": "group_by_length", "bf16": True},
}


def read_rows(path):
    with open(path, encoding="utf8") as lines:
        return [json.loads(line) for line in lines]


def encode(tokenizer, rows, max_tokens, padding):
    encoded = tokenizer([row["premise"] for row in rows], [row["hypothesis"] for row in rows], truncation=True,
                        max_length=max_tokens, padding=padding)
    keys = list(encoded.keys())
    return [{key: encoded[key][i] for key in keys} | {"labels": LABELS[row["label"]]} for i, row in enumerate(rows)]


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--train", required=True, help="JSONL of premise, hypothesis, label")
    parser.add_argument("--dev", help="JSONL to evaluate on afterwards")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--max-steps", type=int, default=0, help="0: no bound")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--skip", type=int, default=5, help="first steps that do not count")
    return parser.parse_args()


def make_trainer(args, tokenizer, rows, clock, collator, folder):
    model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=len(LABELS))
    padding = "max_length" if args.mode == "default" else False
    options = TrainingArguments(
        output_dir=folder, use_cpu=True, per_device_train_batch_size=args.batch, per_device_eval_batch_size=64,
        learning_rate=args.lr, lr_scheduler_type="linear", warmup_steps=args.warmup, weight_decay=0.01, max_grad_norm=1.0,
        num_train_epochs=args.epochs, max_steps=args.max_steps or -1, seed=args.seed, save_strategy="no", report_to=[],
        logging_steps=50, disable_tqdm=True, **MODES[args.mode])
    return Trainer(model=model, args=options, train_dataset=encode(tokenizer, rows, args.max_tokens, padding),
                   data_collator=collator, compute_metrics=accuracy, callbacks=[clock])


def main():
    args = parse()
    set_seed(args.seed)
    transformers.utils.logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    clock, collator = Clock(), CountingCollator(DataCollatorWithPadding(tokenizer))
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(args, tokenizer, read_rows(args.train), clock, collator, folder)
        loss = trainer.train().training_loss
        result = {"mode": args.mode, "loss": loss, "threads": torch.get_num_threads(), "torch": torch.__version__,
                  "transformers": transformers.__version__, "numpy": numpy.__version__} | steady_rates(clock, collator, args.skip)
        if args.dev:
            dev = encode(tokenizer, read_rows(args.dev), args.max_tokens, False)
            trainer.data_collator = DataCollatorWithPadding(tokenizer)
            evaluated = trainer.evaluate(dev)
            result |= {"dev_accuracy": evaluated["eval_accuracy"], "dev_loss": evaluated["eval_loss"]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
