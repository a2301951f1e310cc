"""What saving costs: hone fine-tunes MiniLM (sentence pairs) and SmolLM2-135M (instruction rows), all parameters in fp32, without saves and with
saves beside the training; dd writes as many bytes to the same disk with conv=fsync; the transformers Trainer saves the same state.

    held ms     what training waited for a save, by hone's own clock (`held` of metrics.jsonl); the Trainer's saves are waited for whole
    steps       that in steps without a save, median and most
    in s        from the hand-over until the checkpoint is safe: written, read back and compared, on the disk, renamed. Of the Trainer: written and,
                by us, fsync; nothing is read back
    MB/s, of dd its bytes by that time, and beside dd in the same round: 1 is a disk that is kept as busy as dd keeps it
    last s      the save at the end of a run, which is waited for
    peak MiB    ru_maxrss without and with saves

A round measures everybody, one after the other; medians are of all saves of all rounds, ratios are taken within a round. What else runs on the machine
takes part: the load is printed.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

from comparison import BENCH, ROOT, SAMPLES, SHARED, fail, find_files, machine, median, open_text, read_steps, run_child, write_lines

NLI = ("premise", "hypothesis", "label")
SFT = ("instruction", "input", "output")
MODELS = {
    "minilm": {"every": 6, "files": [os.path.join(SHARED, "nli", "mnli_train.jsonl.gz")], "sample": "nli_train.jsonl", "fields": NLI,
               "config": {"task": {"kind": "classify", "labels": ["entailment", "neutral", "contradiction"]},
                          "data": {"fields": {"text": NLI[0], "pair": NLI[1], "label": NLI[2]}, "max_tokens": 128},
                          "train": {"batch_examples": 32, "batch_tokens": 4096}}},
    "smollm2": {"every": 5, "files": [os.path.join(SHARED, "sft", "alpaca_data.json.gz")], "sample": "instructions_train.jsonl",
                "fields": SFT, "config": {"task": {"kind": "sft"}, "data": {"template": "alpaca", "max_tokens": 128},
                                          "train": {"batch_examples": 4, "batch_tokens": 512}}},
}
MOST_CHARACTERS = 400  # of a row: short steps, beside which a save is long
SAVED = re.compile(r"step (\d+): saved [\d.]+ MB in ([\d.]+) s, training waited (\d+) ms")


def write_rows(model, path):
    files = find_files([], model["files"], [os.path.join(SAMPLES, model["sample"])], "")
    rows = []
    for name in files:
        with open_text(name) as text:
            rows += json.load(text) if ".jsonl" not in name else [json.loads(line) for line in text]
    rows = [{key: row.get(key, "") for key in model["fields"]} for row in rows if row[model["fields"][2]]]
    write_lines([row for row in rows if sum(map(len, row.values())) < MOST_CHARACTERS][:2000], path)


def dd(folder, size):
    """Seconds of dd with conv=fsync."""
    path, started = os.path.join(folder, "dd"), time.monotonic()
    subprocess.run(["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={size >> 20}", "conv=fsync"], check=True,
                   stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    os.remove(path)
    return seconds


def train(model, saves, options, work):
    """A run of hone; what its steps took, and what its saves."""
    kind, run = MODELS[model], os.path.join(work, "run")
    shutil.rmtree(run, ignore_errors=True)
    steps = kind["every"] * (options.saves if saves else 1) + 2
    config = kind["config"] | {"model": {"path": getattr(options, model)}, "eval": {"every": "off"}, "output": {"dir": run},
                               "checkpoint": {"every": f"{kind['every']} steps" if saves else "off", "keep": 1}}
    config["data"] = config["data"] | {"train": [os.path.join(work, model + ".jsonl")], "cache": os.path.join(work, "cache")}
    config["train"] = config["train"] | {"epochs": 100, "max_steps": steps, "log_every": 1}
    path = os.path.join(work, "config.json")
    with open(path, "w", encoding="utf8") as file:
        json.dump(config, file)
    _, peak, text, _ = run_child([options.hone, "train", path], os.path.join(work, "log"))
    events = read_steps(os.path.join(run, "metrics.jsonl"))
    said = {int(step): (float(seconds), float(held) / 1e3) for step, seconds, held in SAVED.findall(text)}
    if len(events) != steps or len(said) != (options.saves if saves else 0) + 1:
        fail(f"{len(events)} steps and {len(said)} saves, expected {steps} and {options.saves + 1}:\n{text[-2000:]}")
    last = said.pop(steps)
    size = os.path.getsize(os.path.join(run, "checkpoints", f"step-{steps}", "rank-0.h5"))
    shutil.rmtree(run)
    return {"bytes": size, "peak_mib": peak, "last": last[0], "saves": [{"seconds": s, "held": h} for s, h in said.values()],
            "steps": [{"step": after["step"], "seconds": after["time"] - before["time"], "held": after["held"]}
                      for before, after in zip(events, events[1:])]}


def beside(model, run):
    """Seconds of the steps that a save was handed over in (it is at the end of the step before), and of the others."""
    every = MODELS[model]["every"]
    with_save = [one["seconds"] for one in run["steps"] if one["step"] > every and one["step"] % every == 1]
    return with_save, [one["seconds"] for one in run["steps"] if one["step"] % every != 1]


def measure(model, options, work):
    """One round: everybody, and dd before and after."""
    print(f"{model}: hone", file=sys.stderr, flush=True)
    plain, saving = train(model, False, options, work), train(model, True, options, work)
    disk = [dd(work, saving["bytes"])]
    print(f"{model}: the Trainer", file=sys.stderr, flush=True)
    peer = json.loads(run_child([options.python, os.path.join(BENCH, "trainer_save.py"), "--model", getattr(options, model), "--kind",
                                 MODELS[model]["config"]["task"]["kind"], "--folder", work],
                                os.path.join(work, "log"))[2].strip().splitlines()[-1])
    disk.append(dd(work, saving["bytes"]))
    return {"load": os.getloadavg()[0], "plain": plain, "saving": saving, "dd": disk, "peer": peer}


def span(values, scale, form):
    """The median, and the least and the most."""
    values = [scale * value for value in values]
    return f"{median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def print_table(model, rounds):
    size = rounds[0]["saving"]["bytes"]
    step = median(one["seconds"] for each in rounds for one in each["plain"]["steps"][1:])
    rate = [size / seconds / 1e6 for each in rounds for seconds in each["dd"]]
    print(f"\n{model}: {size / 1e6:.1f} MB a checkpoint; dd with fsync {span(rate, 1, '.0f')} MB/s; a step without saves {1e3 * step:.0f} ms; "
          f"load {', '.join(format(each['load'], '.1f') for each in rounds)}; median (least-most)")
    print(f"{'':12}{'held ms':>22}{'steps':>12}{'in s':>22}{'MB/s':>16}{'of dd':>18}")

    def row(name, saves):
        """saves(round): (held, seconds, bytes) of each."""
        each = [saves(one) for one in rounds]
        every = [save for one in each for save in one]
        ratios = [save[2] / save[1] / statistics.mean(size / seconds for seconds in one["dd"]) for one, group in zip(rounds, each)
                  for save in group]
        held = [save[0] for save in every]
        print(f"{name:12}{span(held, 1e3, '.0f'):>22}{median(held) / step:6.2f}{max(held) / step:6.2f}"
              f"{span([save[1] for save in every], 1, '.2f'):>22}{span([save[2] / save[1] for save in every], 1e-6, '.0f'):>16}"
              f"{span(ratios, 1, '.2f'):>18}")

    row("hone", lambda one: [(save["held"], save["seconds"], size) for save in one["saving"]["saves"]])
    row("hone, last", lambda one: [(run["last"], run["last"], size) for run in (one["plain"], one["saving"])])
    for key, name in (("trainer", "Trainer"), ("torch", "torch.save")):
        row(name, lambda one: [(save["held"], save["held"] + save["disk"], save["bytes"]) for save in one["peer"][key]])
    pairs = [beside(model, one["saving"]) for one in rounds]
    print(f"steps of the run that saves: {span([s for with_save, _ in pairs for s in with_save], 1e3, '.0f')} ms behind a hand-over, "
          f"{span([s for _, others in pairs for s in others], 1e3, '.0f')} ms else; peak MiB without saves "
          f"{median(one['plain']['peak_mib'] for one in rounds):.0f}, with {median(one['saving']['peak_mib'] for one in rounds):.0f}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for model in MODELS:
        parser.add_argument("--" + model, default=os.path.join(ROOT, "models-cache", model), help="Hugging Face folder")
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--saves", type=int, default=4, help="of a run, beside its last one")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the peer's packages")
    parser.add_argument("--results", default=os.path.join(BENCH, "results"), help="folder on the disk that is measured: of the JSON, and of the runs")
    parser.add_argument("--hone", default=os.path.join(ROOT, "build", "release", "hone"))
    options = parser.parse_args()
    if set(options.models) - set(MODELS) or options.rounds < 1 or options.saves < 1:
        parser.error(f"--models takes {','.join(MODELS)}; --rounds and --saves at least 1")
    return options


def main():
    options = parse()
    work = os.path.join(options.results, f"save-{time.strftime('%Y%m%d-%H%M%S')}")
    os.makedirs(work)
    for model in options.models:
        write_rows(MODELS[model], os.path.join(work, model + ".jsonl"))
    rounds = {model: [] for model in options.models}
    for number in range(options.rounds):
        for model in options.models:
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            rounds[model].append(measure(model, options, work))
            with open(work + ".json", "w", encoding="utf8") as file:  # a campaign that is stopped keeps its rounds
                json.dump({"machine": machine(), "options": vars(options), "rounds": rounds}, file, indent=2)
    for model, measured in rounds.items():
        print_table(model, measured)
    shutil.rmtree(work)
    print(f"every run: {os.path.relpath(work + '.json', ROOT)}")


if __name__ == "__main__":
    main()
