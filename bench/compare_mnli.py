"""Fine-tunes the same encoder on the same rows with hone and with the transformers Trainer, and prints them side by side.

Every contestant is a process of its own. In each round all of them run, one after the other, in an order that turns by one from
round to round, together with a measurement of what the machine can do (bench/ceiling.c); so a machine that is slow for a while is
slow for all. Ratios are taken within a round. Printed is the median of the rounds; the JSON in bench/results/ has every run.

    pairs/s, tokens/s   after the first steps (--skip); tokens without padding
    hone fp32, bf16     how many times as many pairs a second hone does in that precision
    of ceiling          multiplications and additions of the model's products, as a share of the fp32 product ceiling; also those that
                        a contestant finds a way to leave out (hone: most of the last layer)
    peak MiB            ru_maxrss of the process
    first step s        from starting the process until the first step starts; hone from the second round on has its token cache
"""
import argparse
import glob
import gzip
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time

BENCH = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(BENCH)
SHARED = [os.path.join(ROOT, "..", "shared", "data", "nli", name) for name in ("mnli_train.jsonl.gz", "lingnli_train.jsonl.gz")]
SAMPLE = [os.path.join(ROOT, "data", "samples", "nli_train.jsonl")]
LABELS = ["entailment", "neutral", "contradiction"]
HONE = {"hone fp32": "fp32", "hone bf16": "bf16"}
TRAINER = {"Trainer default": "default", "Trainer dynamic": "dynamic", "Trainer tuned": "tuned"}
PAIRS_A_SECOND = "pairs_per_second"


def read_rows(files):
    rows = []
    for path in files:
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf8") as lines:
            rows += [row for row in map(json.loads, lines) if row["label"] in LABELS]
    return rows


def find_files(given):
    """Files named, every *train*.jsonl[.gz] of a folder named, or the shared data, or the sample that ships with hone."""
    if not given:
        return SHARED if all(os.path.exists(path) for path in SHARED) else SAMPLE
    files = []
    for path in given:
        files += sorted(glob.glob(os.path.join(path, "*train*.jsonl*"))) if os.path.isdir(path) else [path]
    if not files:
        raise SystemExit(f"compare_mnli: no *train*.jsonl or *train*.jsonl.gz in {', '.join(given)}")
    return files


def write_rows(files, count, path):
    """The same `count` rows for everybody, drawn with a fixed seed."""
    rows = read_rows(files)
    random.Random(0).shuffle(rows)
    rows = rows[:count] if count else rows
    with open(path, "w", encoding="utf8") as out:
        for row in rows:
            out.write(json.dumps({key: row[key] for key in ("premise", "hypothesis", "label")}) + "\n")
    return len(rows)


def flops_a_token(model):
    """Of the products of one token, forward and backward: 6 for each weight of the layers. Attention's own are left out."""
    with open(os.path.join(model, "config.json"), encoding="utf8") as file:
        config = json.load(file)
    width, inner = config["hidden_size"], config["intermediate_size"]
    return 6 * config["num_hidden_layers"] * (4 * width * width + 2 * width * inner)


def run_child(command, log, poll=None):
    """Runs a process to its end. Returns (start, peak MiB, its output, what poll() gave first)."""
    with open(log, "w+", encoding="utf8") as output:
        start, seen = time.time(), None
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG if poll else 0)
            if pid:
                break
            seen = seen or poll()
            time.sleep(0.1 if seen else 0.005)
        seen = seen or (poll() if poll else None)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if child.returncode:
        raise SystemExit(f"compare_mnli: {' '.join(command)} ended with {child.returncode}:\n{text[-2000:]}")
    return start, usage.ru_maxrss / 1024, text, seen


def read_steps(metrics):
    """The step events of a metrics.jsonl, whole lines only."""
    try:
        with open(metrics, encoding="utf8") as lines:
            events = [json.loads(line) for line in lines if line.endswith("\n")]
    except FileNotFoundError:
        return []
    return [event for event in events if event["event"] == "step"]


def steady_rates(steps, skip):
    """Pairs and tokens a second from the end of step `skip` on; every step is logged, with its own rates and its time."""
    if len(steps) <= skip:
        raise SystemExit(f"compare_mnli: hone logged {len(steps)} steps, expected more than --skip {skip}")
    pairs = tokens = 0
    for before, step in zip(steps[skip - 1:], steps[skip:]):
        seconds = step["time"] - before["time"]
        pairs += step[PAIRS_A_SECOND] * seconds
        tokens += step["tokens_per_second"] * seconds
    seconds = steps[-1]["time"] - steps[skip - 1]["time"]
    return pairs / seconds, tokens / seconds


def run_hone(precision, options, work):
    folder = os.path.join(work, f"hone-{precision}")
    shutil.rmtree(folder, ignore_errors=True)
    metrics = os.path.join(folder, "metrics.jsonl")
    config = {
        "model": {"path": options.model},
        "task": {"kind": "classify", "labels": LABELS},
        "data": {"train": [options.rows_file], "fields": {"text": "premise", "pair": "hypothesis", "label": "label"},
                 "max_tokens": 128, "cache": os.path.join(work, "cache")},
        "train": {"epochs": 1, "max_steps": options.steps, "batch_tokens": 128 * options.batch,
                  "batch_examples": options.batch, "precision": precision, "log_every": 1},
        "optim": {"lr": 1e-4, "schedule": "linear", "warmup": 100, "weight_decay": 0.01, "clip": 1.0},
        "eval": {"every": "off"}, "checkpoint": {"every": "off"}, "output": {"dir": folder}}
    path = os.path.join(work, f"hone-{precision}.json")
    with open(path, "w", encoding="utf8") as file:
        json.dump(config, file, indent=2)

    def first_step():
        return time.time() if read_steps(metrics) else None

    start, peak, _, seen = run_child([options.hone, "train", path], path[:-5] + ".log", first_step)
    steps = read_steps(metrics)
    pairs, tokens = steady_rates(steps, options.skip)
    first = options.batch / steps[0][PAIRS_A_SECOND]  # seconds of the first step; it was seen at its end
    return {PAIRS_A_SECOND: pairs, "tokens_per_second": tokens, "peak_mib": peak, "steps": len(steps),
            "first_step_seconds": seen - start - first if seen else None, "loss": steps[-1]["loss"]}


def run_trainer(mode, options, work):
    steps = options.default_steps if mode == "default" else options.steps
    start, peak, text, _ = run_child(
        [options.python, os.path.join(BENCH, "trainer_mnli.py"), "--mode", mode, "--model", options.model, "--train",
         options.rows_file, "--batch", str(options.batch), "--max-steps", str(steps), "--skip", str(options.skip)],
        os.path.join(work, f"trainer-{mode}.log"))
    result = json.loads(text.strip().splitlines()[-1])
    result["first_step_seconds"] = result.pop("first_step_at") - start
    return result | {"peak_mib": peak}


def run_ceiling(options, work):
    return json.loads(run_child([options.ceiling], os.path.join(work, "ceiling.log"))[2])


def run_rounds(options, work):
    names = [name for name in [*HONE, *TRAINER] if any(name.endswith(" " + mode) for mode in options.modes)]
    rounds = []
    for number in range(options.rounds):
        turn = number % len(names)
        runs = {}
        ceiling = run_ceiling(options, work)
        for name in names[turn:] + names[:turn]:
            print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr, flush=True)
            runs[name] = (run_hone(HONE[name], options, work) if name in HONE else run_trainer(TRAINER[name], options, work))
        rounds.append({"ceiling": ceiling, "runs": runs})
    return names, rounds


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def summarise(names, rounds, flops):
    """A row a contestant: medians over the rounds, ratios and shares taken within each round."""
    table = {}
    for name in names:
        runs = [one["runs"][name] for one in rounds]
        row = {key: median(run[key] for run in runs) for key in (PAIRS_A_SECOND, "tokens_per_second", "peak_mib")}
        warm = runs[1:] if name in HONE and len(runs) > 1 else runs
        row["first_step_seconds"] = median(run["first_step_seconds"] for run in warm)
        for peer in HONE:
            if peer in names:
                row[f"times_{HONE[peer]}"] = median(
                    one["runs"][peer][PAIRS_A_SECOND] / one["runs"][name][PAIRS_A_SECOND] for one in rounds)
        row["of_ceiling"] = median(
            one["runs"][name]["tokens_per_second"] * flops / (1e9 * one["ceiling"]["fp32_gflops"]) for one in rounds)
        table[name] = row
    return table


def print_table(table, rounds):
    def cell(value, form):
        return format("-" if value is None else format(value, form), ">11")

    ceilings = {key: median(one["ceiling"][key] for one in rounds) for key in rounds[0]["ceiling"]}
    print("ceiling: " + ", ".join(f"{key} {'none' if value is None else value}" for key, value in ceilings.items()))
    heads = ("pairs/s", "tokens/s", "hone fp32", "hone bf16", "of ceiling", "peak MiB", "first step")
    print(f"{'':17}" + "".join(f"{head:>11}" for head in heads))
    for name, row in table.items():
        print(f"{name:17}" + cell(row[PAIRS_A_SECOND], ".1f") + cell(row["tokens_per_second"], ".0f")
              + cell(row.get("times_fp32"), ".2f") + cell(row.get("times_bf16"), ".2f") + cell(row["of_ceiling"], ".0%")
              + cell(row["peak_mib"], ".0f") + cell(row["first_step_seconds"], ".2f"))


def machine():
    with open("/proc/cpuinfo", encoding="utf8") as lines:
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {"cpu": cpu, "cores": os.cpu_count(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="JSONL files (or a folder of *train*.jsonl[.gz]) of premise, hypothesis, label")
    parser.add_argument("--model", default=os.path.join(ROOT, "models-cache", "minilm"), help="Hugging Face folder")
    parser.add_argument("--rows", type=int, default=1920, help="rows drawn; 0: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=0, help="most steps of a run; 0: one epoch")
    parser.add_argument("--default-steps", type=int, default=15, help="steps of Trainer default, every one of which is alike")
    parser.add_argument("--skip", type=int, default=5, help="first steps that do not count")
    parser.add_argument("--modes", type=lambda text: text.split(","), default="fp32,bf16,default,dynamic,tuned".split(","),
                        help="which contestants: fp32 and bf16 of hone, default, dynamic and tuned of the Trainer")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has transformers")
    parser.add_argument("--results", default=os.path.join(BENCH, "results"), help="folder of the JSON, and of the runs while they run")
    parser.add_argument("--hone", default=os.path.join(ROOT, "build", "release", "hone"))
    parser.add_argument("--ceiling", default=os.path.join(ROOT, "build", "release", "bench", "ceiling"))
    options = parser.parse_args()
    unknown = set(options.modes) - set(HONE.values()) - set(TRAINER.values())
    if unknown or options.skip < 1 or options.rounds < 1:
        parser.error(f"unknown mode {unknown.pop()}" if unknown else "--skip and --rounds must be at least 1")
    return options


def main():
    options = parse()
    stamp = time.strftime("%Y%m%d-%H%M%S")
    work = os.path.join(options.results, f"mnli-{stamp}")
    os.makedirs(work)
    options.rows_file = os.path.join(work, "rows.jsonl")
    files = find_files(options.data)
    count = write_rows(files, options.rows, options.rows_file)
    print(f"{count} rows of {', '.join(os.path.basename(path) for path in files)}, batch {options.batch}, "
          f"{options.rounds} rounds", flush=True)
    names, rounds = run_rounds(options, work)
    table = summarise(names, rounds, flops_a_token(options.model))
    print_table(table, rounds)
    path = work + ".json"
    with open(path, "w", encoding="utf8") as file:
        json.dump({"machine": machine(), "rows": count, "options": vars(options), "table": table, "rounds": rounds}, file, indent=2)
    shutil.rmtree(work)
    print(f"every run: {os.path.relpath(path, ROOT)}")


if __name__ == "__main__":
    main()
