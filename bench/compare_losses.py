"""Fine-tunes a language model on the same rows, in the order of the file, with hone and with TRL's SFTTrainer, both in fp32, and prints
the loss of their steps side by side: whole, or (--lora) by adapters that start from the same values.

Smoothed is the mean of the last --smooth steps. --losses keeps TRL's (and with --lora its first adapter) from one call to the next,
since TRL takes most of the time.
"""
import argparse
import json
import os
import tempfile

from compare_sft import MAX_TOKENS, ROWS, SAMPLE, hone_config, read_rows
from comparison import BENCH, ROOT, find_files, read_steps, run_child, write_lines


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="Alpaca-like rows: .json or .jsonl, plain or .gz, or a folder of them")
    parser.add_argument("--model", default=os.path.join(ROOT, "models-cache", "smollm2"), help="Hugging Face folder")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--smooth", type=int, default=10)
    parser.add_argument("--losses", help="folder for TRL's losses")
    parser.add_argument("--python", required=True, help="the interpreter that has TRL")
    parser.add_argument("--hone", default=os.path.join(ROOT, "build", "release", "hone"))
    return parser.parse_args()


def run_trl(options, folder):
    """TRL's losses, and the folder of its first adapter."""
    losses, adapter = os.path.join(folder, "losses.json"), os.path.join(folder, "adapter")
    if not os.path.exists(losses):
        run_child([options.python, os.path.join(BENCH, "trl_sft.py"), "--mode", "lora-fp32" if options.lora else "fp32", "--in-order",
                   "--model", options.model, "--train", options.rows_file, "--batch", str(options.batch), "--lr", str(options.lr),
                   "--max-tokens", str(MAX_TOKENS), "--losses", losses, *(["--adapter", adapter] if options.lora else [])],
                  os.path.join(folder, "trl.log"))
    with open(losses, encoding="utf8") as file:
        return json.load(file), adapter


def run_hone(options, adapter, folder):
    config = hone_config("lora" if options.lora else "full", "fp32", options, folder)
    config["data"]["shuffle"] = False
    config["optim"]["lr"] = options.lr
    config["train"] |= {"epochs": 1, "log_every": 1}
    config |= {"eval": {"every": "off"}, "checkpoint": {"every": "off"}, "output": {"dir": os.path.join(folder, "run")}}
    if options.lora:
        config["lora"] = {"adapter": adapter}
    path = os.path.join(folder, "hone.json")
    with open(path, "w", encoding="utf8") as file:
        json.dump(config, file)
    run_child([options.hone, "train", path], os.path.join(folder, "hone.log"))
    return [step["loss"] for step in read_steps(os.path.join(folder, "run", "metrics.jsonl"))]


def smoothed(losses, count):
    return [sum(losses[max(0, i + 1 - count):i + 1]) / min(count, i + 1) for i in range(len(losses))]


def largest(ours, theirs):
    return max(abs(a - b) / b for a, b in zip(ours, theirs))


def main():
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        options.rows_file = os.path.join(folder, "rows.jsonl")
        rows = read_rows(find_files(options.data, ROWS, SAMPLE, "*.json*"))[:options.rows]
        write_lines(rows, options.rows_file)
        keep = options.losses or folder
        os.makedirs(keep, exist_ok=True)
        theirs, adapter = run_trl(options, keep)
        ours = run_hone(options, adapter, folder)
    if len(ours) != len(theirs):
        raise SystemExit(f"compare_losses: hone logged {len(ours)} steps, TRL {len(theirs)}")
    smooth = smoothed(ours, options.smooth), smoothed(theirs, options.smooth)
    print(f"{len(rows)} rows, batch {options.batch}, {'LoRA' if options.lora else 'whole'}, rate {options.lr:g}, fp32")
    print(f"{'step':>6}{'hone':>12}{'TRL':>12}{'hone smooth':>14}{'TRL smooth':>14}{'difference':>13}")
    for i in sorted({0, *range(options.smooth - 1, len(ours), options.smooth), len(ours) - 1}):
        a, b = smooth[0][i], smooth[1][i]
        print(f"{i + 1:6}{ours[i]:12.5f}{theirs[i]:12.5f}{a:14.5f}{b:14.5f}{(a - b) / b:13.1e}")
    print(f"largest difference of a step {largest(ours, theirs):.1e}, smoothed {largest(*smooth):.1e}")


if __name__ == "__main__":
    main()
