"""What the comparisons of this folder share: rows, runs of hone and of a peer, rounds, and the table.

Every contestant is a process of its own. In each round all of them run, one after the other, in an order that turns by one from
round to round, together with a measurement of what the machine can do (bench/ceiling.c); so a machine that is slow for a while is
slow for all. Ratios are taken within a round. Printed is the median of the rounds; the JSON in bench/results/ has every run.
"""
import argparse
import dataclasses
import glob
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from typing import Callable

BENCH = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(BENCH)
SHARED = os.path.join(ROOT, "..", "shared", "data")
SAMPLES = os.path.join(ROOT, "data", "samples")
PAIRS, TOKENS = "pairs_per_second", "tokens_per_second"


@dataclasses.dataclass
class Contestant:
    name: str
    run: Callable[[str], dict]  # given a folder to work in, what it measured
    hone: str = ""              # the precision, of hone; "" of a peer
    group: str = ""             # contestants are compared within a group


def fail(text):
    raise SystemExit(f"{os.path.basename(sys.argv[0])[:-3]}: {text}")


def find_files(given, shared, sample, pattern):
    """Files named, every file of a folder named that fits, or the shared data, or the sample that ships with hone."""
    if not given:
        return shared if all(os.path.exists(path) for path in shared) else sample
    files = []
    for path in given:
        files += sorted(glob.glob(os.path.join(path, pattern))) if os.path.isdir(path) else [path]
    if not files:
        fail(f"no {pattern} in {', '.join(given)}")
    return files


def open_text(path):
    return (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf8")


def write_lines(rows, path):
    with open(path, "w", encoding="utf8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


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
        fail(f"{' '.join(command)} ended with {child.returncode}:\n{text[-2000:]}")
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
    """Tokens (and pairs) a second from the end of step `skip` on; every step is logged, with its own rates and its time."""
    if len(steps) <= skip:
        fail(f"hone logged {len(steps)} steps, expected more than --skip {skip}")
    done = {key: 0 for key in (PAIRS, TOKENS) if key in steps[0]}
    for before, step in zip(steps[skip - 1:], steps[skip:]):
        for key in done:
            done[key] += step[key] * (step["time"] - before["time"])
    seconds = steps[-1]["time"] - steps[skip - 1]["time"]
    return {key: value / seconds for key, value in done.items()}


def run_hone(name, config, options, work):
    """`hone train` with the config, to which are added the folder of the run and what every comparison wants of it."""
    folder = os.path.join(work, name)
    shutil.rmtree(folder, ignore_errors=True)
    metrics = os.path.join(folder, "metrics.jsonl")
    config = config | {"eval": {"every": "off"}, "checkpoint": {"every": "off"}, "output": {"dir": folder}}
    config["train"] = config["train"] | {"epochs": 1, "max_steps": options.steps, "log_every": 1}
    path = os.path.join(work, name + ".json")
    with open(path, "w", encoding="utf8") as file:
        json.dump(config, file, indent=2)

    def first_step():
        return time.time() if read_steps(metrics) else None

    start, peak, _, seen = run_child([options.hone, "train", path], path[:-5] + ".log", first_step)
    steps = read_steps(metrics)
    started = seen - steps[0]["time"] if seen else None  # the first step is seen at its end
    return steady_rates(steps, options.skip) | {"peak_mib": peak, "steps": len(steps), "loss": steps[-1]["loss"],
                                                "first_step_seconds": started and started - start}


def run_peer(script, mode, arguments, options, work):
    """A script of this folder that prints what it measured as its last line, in JSON. Its default mode may run fewer steps."""
    steps = options.default_steps if mode.endswith("default") else options.steps
    start, peak, text, _ = run_child(
        [options.python, os.path.join(BENCH, script), "--mode", mode, "--model", options.model, "--train", options.rows_file,
         "--batch", str(options.batch), "--max-steps", str(steps), "--skip", str(options.skip), *arguments],
        os.path.join(work, f"{script[:-3]}-{mode}.log"))
    result = json.loads(text.strip().splitlines()[-1])
    result["first_step_seconds"] = result.pop("first_step_at") - start
    return result | {"peak_mib": peak}


def run_rounds(contestants, options, work):
    rounds = []
    for number in range(options.rounds):
        turn = number % len(contestants)
        runs = {}
        ceiling = json.loads(run_child([options.ceiling], os.path.join(work, "ceiling.log"))[2])
        for one in contestants[turn:] + contestants[:turn]:
            print(f"round {number + 1} of {options.rounds}: {one.name}", file=sys.stderr, flush=True)
            runs[one.name] = one.run(work)
        rounds.append({"ceiling": ceiling, "runs": runs})
    return rounds


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def summarise(contestants, rounds, rate, flops):
    """A row a contestant: medians over the rounds, ratios and shares taken within each round. `rate` is compared; flops(contestant)
    are those of a token's products."""
    table = {}
    for one in contestants:
        runs = [each["runs"][one.name] for each in rounds]
        row = {key: median(run[key] for run in runs) for key in {rate, TOKENS, "peak_mib"}}
        warm = runs[1:] if one.hone and len(runs) > 1 else runs
        row["first_step_seconds"] = median(run["first_step_seconds"] for run in warm)
        for peer in contestants:
            if not peer.hone or peer.group != one.group:
                continue
            pairs = [(each["runs"][peer.name], each["runs"][one.name]) for each in rounds]
            row[f"times_{peer.hone}"] = median(ours[rate] / theirs[rate] for ours, theirs in pairs)
            row[f"memory_{peer.hone}"] = median(ours["peak_mib"] / theirs["peak_mib"] for ours, theirs in pairs)
        row["of_ceiling"] = median(
            each["runs"][one.name][TOKENS] * flops(one) / (1e9 * each["ceiling"]["fp32_gflops"]) for each in rounds)
        table[one.name] = row
    return table


def beside_best(contestants, rounds, rate):
    """Of hone's contestants: how many times the rate, and what share of the memory, of the peer that is fastest in the round."""
    best = {}
    for one in contestants:
        peers = [peer.name for peer in contestants if not peer.hone and peer.group == one.group]
        if not one.hone or not peers:
            continue
        pairs = []
        for each in rounds:
            name = max(peers, key=lambda peer: each["runs"][peer][rate])
            pairs.append((each["runs"][one.name], each["runs"][name], name))
        best[one.name] = {"times": median(ours[rate] / theirs[rate] for ours, theirs, _ in pairs),
                          "memory": median(ours["peak_mib"] / theirs["peak_mib"] for ours, theirs, _ in pairs),
                          "peers": sorted({name for _, _, name in pairs})}
    return best


COLUMNS = (("pairs/s", PAIRS, ".1f"), ("tokens/s", TOKENS, ".0f"), ("hone fp32", "times_fp32", ".2f"),
           ("hone bf16", "times_bf16", ".2f"), ("of ceiling", "of_ceiling", ".0%"), ("peak MiB", "peak_mib", ".0f"),
           ("fp32 mem", "memory_fp32", ".2f"), ("bf16 mem", "memory_bf16", ".2f"), ("first step", "first_step_seconds", ".2f"))


def print_table(table, best, rounds):
    ceilings = {key: median(each["ceiling"][key] for each in rounds) for key in rounds[0]["ceiling"]}
    print("ceiling: " + ", ".join(f"{key} {'none' if value is None else value}" for key, value in ceilings.items()))
    columns = [column for column in COLUMNS if any(column[1] in row for row in table.values())]
    print(f"{'':22}" + "".join(f"{head:>11}" for head, _, _ in columns))
    for name, row in table.items():
        cells = ("-" if row.get(key) is None else format(row[key], form) for _, key, form in columns)
        print(f"{name:22}" + "".join(f"{cell:>11}" for cell in cells))
    for name, row in best.items():
        print(f"{name}: {row['times']:.2f} times {' or '.join(row['peers'])}, the fastest peer, in {row['memory']:.2f} of its memory")


def machine():
    with open("/proc/cpuinfo", encoding="utf8") as lines:
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {"cpu": cpu, "cores": os.cpu_count(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")}


def parse(description, data, modes, defaults):
    """The arguments that every comparison has. defaults: model, rows, batch, default_steps, skip."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help=data)
    parser.add_argument("--model", default=os.path.join(ROOT, "models-cache", defaults["model"]), help="Hugging Face folder")
    parser.add_argument("--rows", type=int, default=defaults["rows"], help="rows drawn; 0: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=defaults["batch"])
    parser.add_argument("--steps", type=int, default=0, help="most steps of a run; 0: one epoch")
    parser.add_argument("--default-steps", type=int, default=defaults["default_steps"], help="most steps of the peer's default")
    parser.add_argument("--skip", type=int, default=defaults["skip"], help="first steps that do not count")
    parser.add_argument("--modes", type=lambda text: text.split(","), default=modes, help=f"which contestants, of {','.join(modes)}")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the peer's packages")
    parser.add_argument("--results", default=os.path.join(BENCH, "results"), help="folder of the JSON, and of the runs while they run")
    parser.add_argument("--hone", default=os.path.join(ROOT, "build", "release", "hone"))
    parser.add_argument("--ceiling", default=os.path.join(ROOT, "build", "release", "bench", "ceiling"))
    options = parser.parse_args()
    unknown = sorted(set(options.modes) - set(modes))
    if unknown or options.skip < 1 or options.rounds < 1:
        parser.error(f"unknown mode {unknown[0]}" if unknown else "--skip and --rounds must be at least 1")
    return options


def compare(kind, options, write_rows, contestants, rate, flops):
    """Runs the rounds and prints the table. write_rows(options) writes options.rows_file and returns how many rows, of which files;
    contestants(options) are those of options.modes; `rate` is what is compared; flops(contestant, rounds) those of a token's
    products."""
    work = os.path.join(options.results, f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}")
    os.makedirs(work)
    options.rows_file = os.path.join(work, "rows.jsonl")
    count, files = write_rows(options)
    print(f"{count} rows of {', '.join(os.path.basename(path) for path in files)}, batch {options.batch}, "
          f"{options.rounds} rounds", flush=True)
    chosen = contestants(options)
    rounds = run_rounds(chosen, options, work)
    table = summarise(chosen, rounds, rate, lambda one: flops(one, rounds))
    best = beside_best(chosen, rounds, rate)
    print_table(table, best, rounds)
    path = work + ".json"
    with open(path, "w", encoding="utf8") as file:
        json.dump({"machine": machine(), "rows": count, "options": vars(options), "table": table, "best": best, "rounds": rounds}, file,
                  indent=2)
    shutil.rmtree(work)
    print(f"every run: {os.path.relpath(path, ROOT)}")
