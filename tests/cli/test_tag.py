"""`hone train` of tags of words, end to end, with a tiny BERT: words with a digit, words of three letters, others."""
import json, os, random

from tiny import digests, hone, killed_run, main, make_model, metrics

TAGS = ["O", "NUM", "SHORT"]


def make_rows(path, count, seed):
    rng = random.Random(seed)
    with open(path, "w") as f:
        for _ in range(count):
            words = [rng.choice(["man", "dog", "the", "sleeps", "woman", "outside", "person", "two", "xyzzying"]) for _ in range(rng.randint(1, 9))]
            tags = ["SHORT" if len(w) == 3 else "NUM" if w == "xyzzying" else "O" for w in words]
            f.write(json.dumps({"words": words, "tags": tags}) + "\n")
    return path


def setup(folder, run="run", **sections):
    model, path = os.path.join(folder, "model"), os.path.join(folder, run)
    if not os.path.exists(model):
        make_model(model)
        make_rows(os.path.join(folder, "train.jsonl"), 240, 1)
        make_rows(os.path.join(folder, "dev.jsonl"), 40, 2)
    config = {"model": {"path": model}, "task": {"kind": "tag", "labels": TAGS},
              "data": {"train": [os.path.join(folder, "train.jsonl")], "dev": [os.path.join(folder, "dev.jsonl")], "max_tokens": 64},
              "train": {"epochs": 4, "batch_examples": 16, "batch_tokens": 1024, "seed": 3, "log_every": 5, "threads": 1},
              "optim": {"lr": 3e-3}, "eval": {"every": "1 epoch", "metric": "macro_f1"}, "checkpoint": {"every": "off"},
              "output": {"dir": path}}
    for section, keys in sections.items():
        config.setdefault(section, {}).update(keys)
    with open(path + ".json", "w") as f:
        json.dump(config, f)
    return path + ".json", path


def trains_and_predicts(folder):
    config, run = setup(folder)
    hone("train", config)
    last = [e for e in metrics(run) if e["event"] == "eval"][-1]
    words = [w for line in open(os.path.join(folder, "dev.jsonl")) for w in json.loads(line)["words"]]
    assert last["examples"] == len(words) and last["macro_f1"] > 0.9 and last["accuracy"] > 0.9, last
    saved = json.load(open(os.path.join(run, "final/config.json")))
    assert saved["architectures"] == ["BertForTokenClassification"] and "problem_type" not in saved, saved
    assert saved["id2label"] == {str(i): tag for i, tag in enumerate(TAGS)}, saved
    measured = json.loads(hone("eval", run, "data.dev=" + os.path.join(folder, "dev.jsonl"), "--json").stdout)
    assert abs(measured["macro_f1"] - max(e["macro_f1"] for e in metrics(run) if e["event"] == "eval")) < 1e-6, measured
    rows = '{"words": ["the", "xyzzying", "outside", "zzzz"]}\n{"words": ["dog"]}\n'
    lines = [json.loads(line) for line in hone("predict", run, "data.predict=-", input=rows).stdout.splitlines()]
    assert lines[0]["tags"][:3] == ["SHORT", "NUM", "O"] and len(lines[0]["tags"]) == 4 and lines[1]["tags"] == ["SHORT"], lines
    assert "( SHORT )" in hone("data", config).stdout
    again, other = setup(folder, run="again", train={"epochs": 4, "slice_tokens": 40, "threads": 2})
    hone("train", again)
    assert abs([e for e in metrics(other) if e["event"] == "eval"][-1]["loss"] - last["loss"]) < 0.05
    frozen = dict(freeze={"below": "layer.2"}, train={"epochs": 2})
    plain, a = setup(folder, run="plain", **frozen)
    hone("train", plain)
    cached, b = setup(folder, run="cached", **{**frozen, "freeze": {"below": "layer.2", "cache": True}})
    hone("train", cached)
    assert digests(a) == digests(b)


def learns_by_lora(folder):
    """The classifier trains whole beside the adapters, and an adapter is a MODEL; killed runs end with the same bytes."""
    sections = dict(lora={"r": 4, "rslora": True, "dropout": 0.1}, optim={"lr": 2e-2}, checkpoint={"every": "5 steps"})
    config, run = setup(folder, **sections)
    hone("train", config)
    said = json.load(open(os.path.join(run, "final/adapter_config.json")))
    assert said["task_type"] == "TOKEN_CLS" and said["modules_to_save"] == ["classifier"] and "classifier" not in said["target_modules"], said
    evals = [e for e in metrics(run) if e["event"] == "eval"]
    assert evals[-1]["macro_f1"] > 0.6 and all("lora_" in name or "head.out" in name for name in digests(run)), evals
    dev = "data.dev=" + os.path.join(folder, "dev.jsonl")
    best = max(e["macro_f1"] for e in evals)
    merged = os.path.join(folder, "merged")
    hone("export", run, merged, "--merge")
    for model in (run, os.path.join(run, "best")):
        assert abs(json.loads(hone("eval", model, dev, "task.kind=tag", "data.max_tokens=64", "--json").stdout)["macro_f1"] - best) < 1e-6, model
    assert json.loads(hone("eval", merged, dev, "task.kind=tag", "--json").stdout)["macro_f1"] > 0.6
    again, other = setup(folder, run="killed", **sections)
    kills = killed_run(again, random.Random(2), 4, 0.05, 0.8)
    assert digests(other) == digests(run) and metrics(other) == metrics(run), f"differs after {kills} kills"
    said = hone("train", config, "lora.targets=query,classifier", "output.dir=" + run + "2", check=None)
    assert said.returncode == 2 and 'target "classifier" names no linear layer' in said.stderr, said.stderr
    said = hone("train", config, "lora.modules_to_save=query", "lora.targets=value", "output.dir=" + run + "3", check=None)
    assert said.returncode in (1, 2), said.stderr


def bad_rows(folder):
    config, run = setup(folder)
    path = os.path.join(folder, "bad.jsonl")
    for row, words in (('{"words": ["a", "b"], "tags": ["O"]}', "expected 2 tags, one a word, got 1"),
                       ('{"words": ["a"], "tags": ["X"]}', "word 1: expected one of O, NUM, SHORT"),
                       ('{"words": [], "tags": []}', "a list of texts"), ('{"words": "a", "tags": ["O"]}', "a list of texts"),
                       ('{"words": ["a", ""], "tags": ["O", "O"]}', "item 2: expected a text that is not empty"),
                       ('{"words": ["a"], "tags": ["-"]}', "expected a word with a tag"),
                       ('{"words": ["a"]}', "tags")):
        with open(path, "w") as f:
            f.write(row + "\n")
        said = hone("train", config, "data.train=" + path, check=1).stderr
        assert words in said and "bad.jsonl:1" in said, (row, said)
    with open(os.path.join(folder, "table.csv"), "w") as f:
        f.write("words,tags\na,O\n")
    assert "lists of words" in hone("train", config, "data.train=" + os.path.join(folder, "table.csv"), check=1).stderr


main(trains_and_predicts, learns_by_lora, bad_rows)
