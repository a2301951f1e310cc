"""Whole runs with and without train.graphs on the emulated GPU: same bits, in both types, over slices, through a thaw, with whatever else
keeps graphs away; and runs whose graphs fail. HONE_EMU_* stand in runtime.c."""
import json, os, re, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import tiny
from tiny import TRAIN, digests, main, make_config, make_model, metrics
from tiny_decoder import make_decoder, make_lm_config

tiny.LAYERS = 2  # a layer of all tokens, one of the first ones
EMULATED = os.path.abspath(os.environ["HONE_EMULATED"])


def train(config, run, *keys, check=0, **environment):
    """Standard error, and how many graphs were launched how often."""
    done = subprocess.run([EMULATED, "train", config, "train.device=cuda", f"output.dir={run}", *keys], capture_output=True, text=True,
                          env={**os.environ, "HONE_EMU_REPORT": "1", **environment})
    assert done.returncode == check, f"exit code {done.returncode}, expected {check}\n{done.stderr}"
    graphs, launches = map(int, re.search(r"emulated GPU: (\d+) graphs, launched (\d+) times", done.stderr).groups())
    return done.stderr, graphs, launches


def setup(folder, rows=4, **sections):
    """Short pairs of varying lengths, the same ones in every epoch."""
    data = os.path.join(folder, "train.jsonl")
    os.makedirs(folder, exist_ok=True)
    with open(TRAIN, encoding="utf8") as source, open(data, "w", encoding="utf8") as file:
        file.writelines(sorted(source.read().splitlines(True), key=len)[5:5 + 3 * rows:3])
    train = {"batch_examples": 4, "log_every": 1, "epochs": 100, "max_steps": 5, **sections.pop("train", {})}
    return make_config(os.path.join(folder, "config.json"), make_model(os.path.join(folder, "model")), os.path.join(folder, "run"),
                       data={"train": [data], "dev": []}, train=train, eval={"every": "off", "metric": "loss"}, **sections)


def alike(folder, config, *keys, least=1):
    """The same run with and without graphs; the losses."""
    runs = [os.path.join(folder, name) for name in ("with", "without")]
    said, graphs, launches = train(config, runs[0], *keys)
    assert graphs >= 1 and launches >= least and "train.graphs" not in said, (graphs, launches, said)
    print(f"  {graphs} graphs, launched {launches} times")
    assert train(config, runs[1], "train.graphs=false", *keys)[1:] == (0, 0)
    assert digests(runs[0]) == digests(runs[1])
    assert metrics(runs[0]) == metrics(runs[1])
    return [event["loss"] for event in metrics(runs[0]) if event["event"] == "step"]


def same_bits(folder):
    """Over one or two slices a step; a layer and the head train, then the layer below thaws."""
    for precision, least in (("fp32", 12), ("bf16", 10)):
        where = os.path.join(folder, precision)
        config = setup(where, rows=8, train={"max_steps": 22, "slice_tokens": 0 if precision == "bf16" else 60, "precision": precision},
                       freeze={"below": "layer.1", "unfreeze": "12 steps"})
        losses = alike(where, config, least=least)
        assert len(set(losses)) == 22, losses
        assert sum(event["event"] == "unfreeze" for event in metrics(os.path.join(where, "with"))) == 1


def what_keeps_graphs_away(folder):
    config, run = setup(folder), os.path.join(folder, "plain")
    assert train(config, run)[2] == 4
    for name, keys, environment, said in (("profile", ["train.profile=true"], {}, None), ("sync", [], {"HN_CUDA_SYNC": "1"}, "HN_CUDA_SYNC=1"),
                                          ("refused", [], {"HONE_EMU_GRAPHS": "refused"}, "out of memory")):
        other = os.path.join(folder, name)
        stderr, _, launches = train(config, other, *keys, **environment)
        notices = [line for line in stderr.splitlines() if "train.graphs: going on without graphs" in line]
        assert launches == 0 and len(notices) == (said is not None) and all(said in line for line in notices), (name, launches, stderr)
        assert digests(other) == digests(run), name


def heads(folder):
    """A number for each pair; blocks of text of one length; a trunk read from its cache."""
    config = setup(folder, task={"kind": "regress", "labels": []})
    rows = os.path.join(folder, "train.jsonl")
    with open(rows, encoding="utf8") as file:
        pairs = [json.loads(line) for line in file]
    with open(rows, "w", encoding="utf8") as file:
        file.writelines(json.dumps({**pair, "label": len(pair["premise"]) / 50}) + "\n" for pair in pairs)
    regress = alike(os.path.join(folder, "regress"), config)
    cpu = os.path.join(folder, "cpu")
    done = subprocess.run([EMULATED, "train", config, "train.device=cpu", f"output.dir={cpu}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    there = [event["loss"] for event in metrics(cpu) if event["event"] == "step"]
    assert len(there) == len(regress) and all(abs(a - b) <= 1e-4 * abs(a) for a, b in zip(there, regress)), (there, regress)

    config = make_lm_config(os.path.join(folder, "lm.json"), make_decoder(os.path.join(folder, "decoder")), os.path.join(folder, "run"),
                            data={"dev": [], "max_tokens": 16}, eval={"every": "off"},
                            train={"batch_examples": 2, "max_steps": 4, "log_every": 1})
    alike(os.path.join(folder, "lm"), config)

    where = os.path.join(folder, "cached")
    alike(where, setup(where, freeze={"below": "head", "cache": True}))


def a_graph_that_fails_on_the_gpu(folder):
    """Its step is named (counted from 0: the first is enqueued, the second captured and launched), and the run goes on to the same end."""
    config = setup(folder, checkpoint={"every": "2 steps", "keep": 2})
    whole, run = os.path.join(folder, "whole"), os.path.join(folder, "lost")
    train(config, whole)
    said, _, launches = train(config, run, check=1, HONE_EMU_GRAPHS="3")
    assert launches == 3 and re.search(r"step 3: .*unspecified launch failure", said), said
    subprocess.run([EMULATED, "verify", run], check=True, capture_output=True)
    assert train(config, run)[2] == 2
    assert digests(run) == digests(whole)


if __name__ == "__main__":
    main(same_bits, what_keeps_graphs_away, heads, a_graph_that_fails_on_the_gpu)
