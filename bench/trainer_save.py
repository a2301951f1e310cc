"""The peer: the transformers Trainer takes a few steps and saves its whole state (weights, optimizer, scheduler, random numbers) between
them, and prints how long each save held it up, in JSON. It saves while training waits and asks the disk for nothing: how long the disk needs for
the same files is measured behind each save, by fsync.

The same state by torch.save alone, in one file, is measured as well."""
import argparse
import json
import os
import tempfile
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, Trainer, TrainingArguments, set_seed


def sync(folder):
    """Seconds that the disk needs for what is in the folder, and its bytes."""
    size, started = 0, time.perf_counter()
    for where, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(where, name), "rb") as file:
                os.fsync(file.fileno())
                size += os.fstat(file.fileno()).st_size
    return time.perf_counter() - started, size


class Saver(Trainer):
    """Measures its own saves."""
    saves = []

    def _save_checkpoint(self, *args, **kwargs):
        started = time.perf_counter()
        super()._save_checkpoint(*args, **kwargs)
        held = time.perf_counter() - started
        disk, size = sync(os.path.join(self.args.output_dir, f"checkpoint-{self.state.global_step}"))
        self.saves.append({"held": held, "disk": disk, "bytes": size})


def torch_save(trainer, folder):
    state = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}
    path, started = os.path.join(folder, "state.pt"), time.perf_counter()
    torch.save(state, path)
    held = time.perf_counter() - started
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return {"held": held, "disk": time.perf_counter() - started - held, "bytes": os.path.getsize(path)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--kind", choices=["classify", "sft"], required=True)
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--folder", required=True, help="on the disk that is measured")
    args = parser.parse_args()
    set_seed(0)
    transformers.utils.logging.set_verbosity_error()
    classify = args.kind == "classify"
    model = (AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=3) if classify
             else AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32))
    row = {"input_ids": list(range(1000, 1032)), "attention_mask": [1] * 32}
    row["labels"] = 0 if classify else row["input_ids"]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        options = TrainingArguments(
            output_dir=folder, use_cpu=True, per_device_train_batch_size=1, max_steps=args.saves, save_strategy="steps", save_steps=1,
            save_total_limit=1, report_to=[], logging_steps=1000, disable_tqdm=True)
        trainer = Saver(model=model, args=options, train_dataset=[row] * (args.saves + 1))
        trainer.train()
        print(json.dumps({"trainer": trainer.saves, "torch": [torch_save(trainer, folder) for _ in range(args.saves)],
                          "torch_version": torch.__version__, "transformers": transformers.__version__}))


if __name__ == "__main__":
    main()
