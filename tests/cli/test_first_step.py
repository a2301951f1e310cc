"""The first step of a run follows the gradient of the mean loss over all targets of its batch, in every task: with AdamW's epsilon so
large that a step is the rate times the gradient, the loss of the batch falls by the rate times the squared norm."""
import json, os

from tiny import LABELS, TRAIN, hone, main, make_model, metrics
from tiny_decoder import make_decoder, make_lm_config, make_sft_config

RATE = 0.01
OPTIM = {"lr": RATE, "epsilon": 1, "schedule": "constant", "warmup": 0, "weight_decay": 0, "clip": 0}
ONE_STEP = {"train": {"epochs": 1, "max_steps": 1, "batch_examples": 4096, "batch_tokens": 1 << 20, "slice_tokens": 300, "log_every": 1},
            "optim": OPTIM, "eval": {"every": "1 steps", "metric": "loss"}, "checkpoint": {"every": "off"}}


def check(config, run, *overrides):
    hone("train", config, *overrides)
    events = metrics(run)
    step = next(e for e in events if e["event"] == "step")
    after = next(e for e in events if e["event"] == "eval")["loss"]
    foretold, fell = RATE * step["grad_norm"] ** 2, step["loss"] - after
    assert foretold > 1e-4 and 0.8 * foretold < fell < 1.05 * foretold, f"fell by {fell}, foretold {foretold}"


def first_lines(path, to, count, word=""):
    """The first lines of a file that hold a word."""
    lines = [line for line in open(path, encoding="utf8") if word in line][:count]
    open(to, "w", encoding="utf8").writelines(lines)
    return to


def encoder(folder):
    model = make_model(os.path.join(folder, "model"))
    path = os.path.join(model, "config.json")
    config = json.load(open(path))
    config.update(hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    json.dump(config, open(path, "w"))
    return model


def write(folder, config):
    path = os.path.join(folder, "config.json")
    json.dump(config, open(path, "w"))
    return path


def plain_text(folder):
    run = os.path.join(folder, "run")
    config = make_lm_config(run + ".json", make_decoder(os.path.join(folder, "model")), run, **ONE_STEP)
    check(config, run, "data.train=" + os.path.join(folder, "dev.txt"))


def answers(folder):
    run, model = os.path.join(folder, "run"), make_decoder(os.path.join(folder, "model"))
    rows = first_lines(os.path.join(os.path.dirname(TRAIN), "instructions_dev.jsonl"), os.path.join(folder, "rows.jsonl"), 12)
    config = make_sft_config(run + ".json", model, run, **ONE_STEP)
    check(config, run, "data.train=" + rows, "data.dev=" + rows)


def classes(folder):
    rows = first_lines(TRAIN, os.path.join(folder, "rows.jsonl"), 24, '"neutral"') # of one class: a gradient to measure
    check(write(folder, {"model": {"path": encoder(folder)}, "task": {"kind": "classify", "labels": LABELS},
                         "data": {"train": [rows], "dev": [rows], "max_tokens": 64,
                                  "fields": {"text": "premise", "pair": "hypothesis", "label": "label"}},
                         "output": {"dir": os.path.join(folder, "run")}, **ONE_STEP}), os.path.join(folder, "run"))


def tags(folder):
    rows = os.path.join(folder, "rows.jsonl")
    with open(rows, "w") as f:
        for line in open(TRAIN, encoding="utf8").readlines()[:12]:
            words = json.loads(line)["premise"].split()
            f.write(json.dumps({"words": words, "tags": ["-" if "a" in w else "LONG" if len(w) > 4 else "O" for w in words]}) + "\n")
    check(write(folder, {"model": {"path": encoder(folder)}, "task": {"kind": "tag", "labels": ["O", "LONG"]},
                         "data": {"train": [rows], "dev": [rows], "max_tokens": 64}, "output": {"dir": os.path.join(folder, "run")},
                         **ONE_STEP}), os.path.join(folder, "run"))


main(plain_text, answers, classes, tags)
