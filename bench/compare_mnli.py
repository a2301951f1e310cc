"""Fine-tunes the same encoder on the same rows with hone and with the transformers Trainer, and prints them side by side.

    pairs/s, tokens/s   after the first steps (--skip); tokens without padding
    hone fp32, bf16     how many times as many pairs a second hone does in that precision
    of ceiling          multiplications and additions of the model's products, as a share of the fp32 product ceiling; also those that
                        a contestant finds a way to leave out (hone: most of the last layer)
    peak MiB            ru_maxrss of the process
    fp32, bf16 mem      hone's peak in that precision as a share of it
    first step          seconds from starting the process until the first step starts; hone from the second round on has its token
                        cache

Below the table: hone beside the fastest peer of each round. How rounds and medians are taken: comparison.py.
"""
import json
import os
import random

from comparison import PAIRS, SAMPLES, SHARED, Contestant, compare, find_files, open_text, parse, run_hone, run_peer, write_lines

ROWS = [os.path.join(SHARED, "nli", name) for name in ("mnli_train.jsonl.gz", "lingnli_train.jsonl.gz")]
SAMPLE = [os.path.join(SAMPLES, "nli_train.jsonl")]
LABELS = ["entailment", "neutral", "contradiction"]
HONE = ["fp32", "bf16"]
TRAINER = ["default", "dynamic", "tuned"]


def read_rows(files):
    rows = []
    for path in files:
        with open_text(path) as lines:
            rows += [row for row in map(json.loads, lines) if row["label"] in LABELS]
    return rows


def write_rows(options):
    """The same rows for everybody, drawn with a fixed seed."""
    files = find_files(options.data, ROWS, SAMPLE, "*train*.jsonl*")
    rows = read_rows(files)
    random.Random(0).shuffle(rows)
    rows = rows[:options.rows] if options.rows else rows
    write_lines(({key: row[key] for key in ("premise", "hypothesis", "label")} for row in rows), options.rows_file)
    return len(rows), files


def flops_a_token(model):
    """Of the products of one token, forward and backward: 6 for each weight of the layers. Attention's own are left out."""
    with open(os.path.join(model, "config.json"), encoding="utf8") as file:
        config = json.load(file)
    width, inner = config["hidden_size"], config["intermediate_size"]
    return 6 * config["num_hidden_layers"] * (4 * width * width + 2 * width * inner)


def hone_config(precision, options, work):
    return {"model": {"path": options.model},
            "task": {"kind": "classify", "labels": LABELS},
            "data": {"train": [options.rows_file], "fields": {"text": "premise", "pair": "hypothesis", "label": "label"},
                     "max_tokens": 128, "cache": os.path.join(work, "cache")},
            "train": {"batch_tokens": 128 * options.batch, "batch_examples": options.batch, "precision": precision},
            "optim": {"lr": 1e-4, "schedule": "linear", "warmup": 100, "weight_decay": 0.01, "clip": 1.0}}


def contestants(options):
    ours = [Contestant(f"hone {mode}", lambda work, mode=mode: run_hone(f"hone-{mode}", hone_config(mode, options, work), options, work),
                       hone=mode) for mode in HONE if mode in options.modes]
    return ours + [Contestant(f"Trainer {mode}", lambda work, mode=mode: run_peer("trainer_mnli.py", mode, [], options, work))
                   for mode in TRAINER if mode in options.modes]


def main():
    options = parse(__doc__, "JSONL files (or a folder of *train*.jsonl[.gz]) of premise, hypothesis, label", HONE + TRAINER,
                    {"model": "minilm", "rows": 1920, "batch": 32, "default_steps": 15, "skip": 5})
    compare("mnli", options, write_rows, contestants, PAIRS, lambda *_: flops_a_token(options.model))


if __name__ == "__main__":
    main()
