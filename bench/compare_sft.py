"""Fine-tunes the same language model on the same instruction rows with hone and with TRL's SFTTrainer, and prints them side by side.

Whole, and by LoRA (r 16, alpha 32, all linear layers); the two groups are compared each by itself.

    tokens/s            after the first steps (--skip); those of prompts and answers, without padding. hone computes what the prompts
                        of a batch begin with in common once (train.share_prefixes) and counts it, as TRL does, in every row
    hone fp32, bf16     how many times as many hone does in that precision
    of ceiling          multiplications and additions of the model's products, as a share of the fp32 product ceiling: those that the
                        task needs row by row (no gradient of a frozen weight; the head at the answers' tokens alone, whose share a run of TRL
                        tells: without one the head is left out)
    peak MiB            ru_maxrss of the process
    fp32, bf16 mem      hone's peak in that precision as a share of it
    first step          seconds from starting the process until the first step starts; hone from the second round on has its token
                        cache

Below the table: hone beside the fastest of TRL's in each round. How rounds and medians are taken: comparison.py. What TRL's modes
are: trl_sft.py.
"""
import json
import os
import random

from comparison import SAMPLES, SHARED, TOKENS, Contestant, compare, find_files, median, open_text, parse, run_hone, run_peer, write_lines

ROWS = [os.path.join(SHARED, "sft", "alpaca_data.json.gz")]
SAMPLE = [os.path.join(SAMPLES, "instructions_train.jsonl")]
FIELDS = ("instruction", "input", "output")
GROUPS = {"full": "", "lora": "LoRA "}
HONE = ["fp32", "bf16"]
TRL = ["default", "fp32", "bf16"]
MAX_TOKENS = 512


def read_rows(files):
    rows = []
    for path in files:
        with open_text(path) as text:
            rows += json.load(text) if ".jsonl" not in path else [json.loads(line) for line in text]
    return [{key: row.get(key, "") for key in FIELDS} for row in rows if row["output"]]


def write_rows(options):
    """The same rows for everybody, drawn with a fixed seed."""
    files = find_files(options.data, ROWS, SAMPLE, "*.json*")
    rows = read_rows(files)
    random.Random(0).shuffle(rows)
    rows = rows[:options.rows] if options.rows else rows
    write_lines(rows, options.rows_file)
    return len(rows), files


def flops_a_token(config, group, share):
    """Of the products of one token: 6 for each weight of the layers and, at a share of the tokens, of the head; 4 for a weight that is
    frozen. Attention's own and LoRA's are left out."""
    width, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    size = config.get("head_dim") or width // heads
    attention = width * size * (2 * heads + 2 * config.get("num_key_value_heads", heads))
    weights = config["num_hidden_layers"] * (attention + 3 * width * inner) + share * config["vocab_size"] * width
    return (4 if group == "lora" else 6) * weights


def hone_config(group, precision, options, work):
    """Without padding nothing is gained by batches of like lengths, and the longest rows would stand together: so no window."""
    config = {"model": {"path": options.model},
              "task": {"kind": "sft"},
              "data": {"train": [options.rows_file], "template": "alpaca", "max_tokens": MAX_TOKENS, "window": 0,
                       "cache": os.path.join(work, "cache")},
              "train": {"batch_tokens": MAX_TOKENS * options.batch, "batch_examples": options.batch, "precision": precision},
              "optim": {"lr": 2e-5, "schedule": "linear", "warmup": 0, "weight_decay": 0, "clip": 1.0}}
    return config | ({"lora": {"r": 16, "alpha": 32}} if group == "lora" else {})


def contestants(options):
    chosen = []
    for group, title in GROUPS.items():
        if group not in options.modes:
            continue
        for mode in HONE:
            chosen.append(Contestant(
                f"hone {title}{mode}", lambda work, group=group, mode=mode: run_hone(
                    f"hone-{group}-{mode}", hone_config(group, mode, options, work), options, work), hone=mode, group=group))
        for mode in TRL:
            name = mode if group == "full" else "lora-" + mode
            chosen.append(Contestant(
                f"TRL {title}{mode}", lambda work, name=name: run_peer(
                    "trl_sft.py", name, ["--max-tokens", str(MAX_TOKENS)], options, work), group=group))
    return [one for one in chosen if one.name.split()[0].lower() + "-" + one.name.split()[-1] in options.modes]


def main():
    modes = [*GROUPS, *("hone-" + mode for mode in HONE), *("trl-" + mode for mode in TRL)]
    options = parse(__doc__, "Alpaca-like rows: .json or .jsonl, plain or .gz, or a folder of them", modes,
                    {"model": "smollm2", "rows": 160, "batch": 8, "default_steps": 6, "skip": 2})
    with open(os.path.join(options.model, "config.json"), encoding="utf8") as file:
        config = json.load(file)

    def flops(one, rounds):
        share = median(run.get("target_share") for each in rounds for run in each["runs"].values())
        return flops_a_token(config, one.group, share or 0)

    compare("sft", options, write_rows, contestants, TOKENS, flops)


if __name__ == "__main__":
    main()
