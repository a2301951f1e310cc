"""hone's training steps at the shapes of shapes.py: random weights (model.init=scratch), random text, bf16. Prints one JSON object.

    python3 bench/gpu/hone_steps.py HONE WORK [--seconds 400] [--device cuda] [--rehearse]

HONE is the program; WORK is a folder for configs, text and runs, each run deleted when it is read. All setups with CUDA graphs, then all
without. Rates are of the steps after the first, from the times in metrics.jsonl; only tokens that exist are counted, as everywhere in
hone. Python's standard library is enough."""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import time

from shapes import is_pairs, lengths, setups

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LOG_EVERY = 5
HOW = {True: "hone bf16", False: "hone bf16, no graphs"}


def write_model(folder, setup):
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(setup["config"], file)
    if is_pairs(setup):
        with open(os.path.join(folder, "vocab.txt"), "w") as file:
            file.write("\n".join(SPECIALS + [f"w{i}" for i in range(setup["config"]["vocab_size"] - len(SPECIALS))]) + "\n")
    else:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(ROOT, "configs", "tiny-llama", name), folder)


def write_data(path, setup, steps):
    """Pairs of exactly the given lengths, one word a token; or text for as many tokens as the steps take."""
    draw = random.Random(1)
    words = setup["config"]["vocab_size"] - len(SPECIALS)
    with open(path, "w") as file:
        if is_pairs(setup):
            for length in lengths(setup, steps):
                text = [f"w{draw.randrange(words)}" for _ in range(length - 3)] # [CLS], [SEP], [SEP]
                half = len(text) // 2
                row = {"premise": " ".join(text[:half]), "hypothesis": " ".join(text[half:]), "label": draw.choice("abc")}
                file.write(json.dumps(row) + "\n")
            return
        with open(os.path.join(ROOT, "data", "samples", "stories_train.txt")) as stories:
            known = sorted(set(stories.read().split()))
        for _ in range(2 * sum(lengths(setup, steps)) // 200 + 10): # a word is half a token at least
            file.write(" ".join(draw.choice(known) for _ in range(200)) + "\n")


def config_of(setup, folder, data, steps, device, graphs):
    tokens = setup["sequences"] * setup["longest"]
    pairs = is_pairs(setup)
    task = {"kind": "classify", "labels": ["a", "b", "c"]} if pairs else {"kind": "lm"}
    rows = {"train": [data], "dev": [], "max_tokens": 128 if pairs else setup["longest"]}
    if pairs:
        rows["fields"] = {"text": "premise", "pair": "hypothesis", "label": "label"}
    return {"model": {"path": folder, "init": "scratch"}, "task": task, "data": rows,
            "train": {"epochs": 100, "max_steps": steps, "batch_tokens": tokens, "batch_examples": setup["sequences"],
                      "precision": "bf16", "seed": 42, "log_every": LOG_EVERY, "device": device, "graphs": graphs},
            "optim": {"lr": 1e-4, "schedule": "constant", "warmup": 0, "weight_decay": 0.01, "clip": 1.0},
            "eval": {"every": "off"}, "checkpoint": {"every": "off"}}


def rate_of(metrics):
    """Tokens a second, the median of all lines but the first, and the last loss."""
    with open(metrics) as file:
        steps = [event for event in map(json.loads, file) if event["event"] == "step"]
    rates = [event["tokens_per_second"] for event in steps[1:]]
    if not rates:
        raise ValueError(f"{len(steps)} lines of steps, expected at least 2")
    return statistics.median(rates), steps[-1]["loss"]


def measure(hone, work, name, setup, steps, device, graphs, seconds):
    folder = os.path.join(work, name.split(",")[0])
    shutil.rmtree(folder, ignore_errors=True)
    write_model(os.path.join(folder, "model"), setup)
    write_data(os.path.join(folder, "data.jsonl" if is_pairs(setup) else "data.txt"), setup, steps)
    data = os.path.join(folder, "data.jsonl" if is_pairs(setup) else "data.txt")
    config = config_of(setup, os.path.join(folder, "model"), data, steps, device, graphs)
    config["output"] = {"dir": os.path.join(folder, "run")}
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)
    begun = time.time()
    run = subprocess.run([hone, "train", os.path.join(folder, "config.json")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True, errors="replace", timeout=seconds)
    if run.returncode:
        raise ValueError(run.stdout.strip().splitlines()[-1] if run.stdout.strip() else f"hone ended with {run.returncode}")
    rate, loss = rate_of(os.path.join(folder, "run", "metrics.jsonl"))
    shutil.rmtree(folder)
    example = sum(lengths(setup, steps)) / (steps * setup["sequences"])
    return {"setup": name, "how": HOW[graphs], "tokens_per_second": rate, "examples_per_second": rate / example, "loss": loss,
            "seconds": round(time.time() - begun, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hone")
    parser.add_argument("work")
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rehearse", action="store_true")
    arguments = parser.parse_args()
    deadline, rows = time.time() + arguments.seconds, []
    ways = [(graphs, *item) for graphs in HOW for item in setups(arguments.rehearse).items()]
    for graphs, name, setup in ways:
        try:
            steps = arguments.steps if arguments.rehearse else setup.get("steps", arguments.steps)
            rows.append(measure(os.path.abspath(arguments.hone), os.path.abspath(arguments.work), name, setup, steps, arguments.device,
                                graphs, max(1, deadline - time.time())))
        except (ValueError, subprocess.TimeoutExpired, OSError) as error:
            rows.append({"setup": name, "how": HOW[graphs], "failed": str(error)[:400]})
    print(json.dumps({"rehearsal": arguments.rehearse, "steps": rows}, indent=1))


if __name__ == "__main__":
    main()
