"""The peer: TRL's SFTTrainer fine-tunes a causal language model on instruction rows, and prints what it measured as JSON.

Three modes, whole or (lora-...) by LoRA, r 16 and alpha 32 on all linear layers, from what a user gets without thinking to what a user
gets who reads the documentation:

    default   TRL's own: bf16 autocast, activations computed again in backward
    fp32      in fp32, activations kept, batches of like lengths
    bf16      the same in bf16 autocast

Everything else is the same for all and for hone: rows, prompt, loss over the answers alone, batch size, learning rate, schedule,
decay, clipping. The clock of the steps starts at the end of step --skip; tokens are counted without padding, batch by batch.
"""
import argparse
import json
import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers
import trl
from datasets import Dataset
from peer import Clock, CountingCollator, steady_rates
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

SORTED = {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"}
MODES = {"default": {}, "fp32": SORTED | {"bf16": False}, "bf16": SORTED | {"bf16": True}}
WITH_INPUT = ("Below is an instruction that describes a task, paired with an input that provides further context. Write a response that "
              "appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n")
WITHOUT = ("Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
           "### Instruction:\n{instruction}\n\n### Response:\n")


def read_rows(path):
    with open(path, encoding="utf8") as lines:
        rows = [json.loads(line) for line in lines]
    return Dataset.from_list([{"prompt": (WITH_INPUT if row.get("input") else WITHOUT).format(**row), "completion": row["output"]}
                              for row in rows])


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=[*MODES, *("lora-" + mode for mode in MODES)], required=True)
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--train", required=True, help="JSONL of instruction, input, output")
    parser.add_argument("--max-steps", type=int, default=0, help="0: no bound")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--skip", type=int, default=2, help="first steps that do not count")
    parser.add_argument("--in-order", action="store_true", help="rows in the order of the file")
    parser.add_argument("--losses", help="a JSON file for the loss of every step")
    parser.add_argument("--adapter", help="a folder for LoRA's first values")
    return parser.parse_args()


class Losses(TrainerCallback):
    """The mean loss of the targets of each step."""

    def __init__(self):
        self.items = []

    def on_log(self, *_, logs=None, **__):
        if logs and "loss" in logs:
            self.items.append(float(logs["loss"]))


def make_trainer(args, callbacks, folder):
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM") if args.mode.startswith("lora-") else None
    mode = MODES[args.mode.removeprefix("lora-")] | ({"train_sampling_strategy": "sequential"} if args.in_order else {})
    options = SFTConfig(
        output_dir=folder, use_cpu=True, per_device_train_batch_size=args.batch, learning_rate=args.lr, lr_scheduler_type="linear",
        weight_decay=0.0, max_grad_norm=1.0, num_train_epochs=1, max_steps=args.max_steps or -1, seed=args.seed, save_strategy="no",
        report_to=[], logging_steps=1 if args.losses else 5, disable_tqdm=True, max_length=args.max_tokens, **mode)
    return SFTTrainer(model=AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32), args=options,
                      train_dataset=read_rows(args.train), processing_class=AutoTokenizer.from_pretrained(args.model),
                      callbacks=callbacks, peft_config=lora)


def target_share(rows):
    """Of the rows' tokens, those of answers."""
    return sum(label != -100 for row in rows for label in row["labels"]) / sum(len(row["labels"]) for row in rows)


def main():
    args = parse()
    set_seed(args.seed)
    transformers.utils.logging.set_verbosity_error()
    clock, losses = Clock(), Losses()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(args, [clock, losses], folder)
        trainer.data_collator = collator = CountingCollator(trainer.data_collator)
        if args.adapter:
            trainer.model.save_pretrained(args.adapter)
        loss = trainer.train().training_loss
        if args.losses:
            with open(args.losses, "w", encoding="utf8") as file:
                json.dump(losses.items, file)
        print(json.dumps({"mode": args.mode, "loss": loss, "target_share": target_share(trainer.train_dataset),
                          "threads": torch.get_num_threads(), "torch": torch.__version__, "transformers": transformers.__version__,
                          "trl": trl.__version__} | steady_rates(clock, collator, args.skip)))


if __name__ == "__main__":
    main()
