"""What freezing saves: the same encoder on the same rows, trained whole, above a frozen trunk, and with the trunk's output cached.

    python3 bench/compare_freezing.py [--model DIR] [--rows 1920] [--hone build/release/hone] FILE...

Prints pairs/s of each epoch (after its first steps; evaluations and saves are not counted) and the ratio to training everything."""
import argparse, gzip, json, os, random, subprocess, tempfile

LABELS = ["entailment", "neutral", "contradiction"]
SETTINGS = [("all trained", {}),
            ("below layer.4 frozen", {"below": "layer.4"}),
            ("the same, cached", {"below": "layer.4", "cache": True}),
            ("head alone", {"below": "head"}),
            ("the same, cached", {"below": "head", "cache": True})]


def read_rows(paths, count):
    rows = []
    for path in paths:
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf8") as file:
            rows += [json.loads(line) for line in file]
    random.Random(0).shuffle(rows)
    return rows[:count]


def epoch_rates(run, pairs_per_epoch):
    """Pairs a second in each epoch, from the rates of its lines of metrics, weighted by time."""
    seconds, pairs = {}, {}
    previous = 0.0
    for line in open(os.path.join(run, "metrics.jsonl")):
        event = json.loads(line)
        if event["event"] != "step":
            continue
        done = event["epoch"] * pairs_per_epoch
        epoch = int(event["epoch"] - 1e-9)
        if event["step"] > 5:
            pairs[epoch] = pairs.get(epoch, 0) + done - previous
            seconds[epoch] = seconds.get(epoch, 0) + (done - previous) / event["pairs_per_second"]
        previous = done
    return [pairs[e] / seconds[e] for e in sorted(pairs)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models-cache/minilm")
    parser.add_argument("--rows", type=int, default=1920)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--hone", default="build/release/hone")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hone-freezing-") as folder:
        rows = read_rows(options.files, options.rows)
        data = os.path.join(folder, "rows.jsonl")
        with open(data, "w", encoding="utf8") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
        full = None
        print(f"{'':24} {'epoch 1':>10} {'epoch 2':>10}   pairs/s, and times what training everything does")
        for number, (name, freeze) in enumerate(SETTINGS):
            run = os.path.join(folder, f"run{number}")
            config = {"model": {"path": options.model}, "task": {"labels": LABELS},
                      "data": {"train": [data], "max_tokens": 128,
                               "fields": {"text": "premise", "pair": "hypothesis", "label": "label"}},
                      "train": {"epochs": 2 if freeze.get("cache") else 1, "precision": options.precision, "log_every": 1},
                      "optim": {"lr": 1e-4}, "freeze": freeze, "checkpoint": {"every": "off"}, "output": {"dir": run}}
            path = os.path.join(folder, f"{number}.json")
            with open(path, "w") as out:
                json.dump(config, out)
            subprocess.run([options.hone, "train", path], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            rates = epoch_rates(run, len(rows))
            full = full or rates[0]
            print(f"{name:24} " + " ".join(f"{rate:10.1f}" for rate in rates) + "   " +
                  " ".join(f"{rate / full:.2f}x" for rate in rates), flush=True)


main()
