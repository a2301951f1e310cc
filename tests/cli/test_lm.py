"""`hone train` of a language model on plain text, end to end, with a tiny Llama."""
import json, math, os, random, struct

from tiny import SOURCE, digests, hone, killed_run, main, metrics
from tiny_decoder import make_decoder, make_lm_config, make_text


def setup(folder, run="run", model=None, **sections):
    model = model or make_decoder(os.path.join(folder, "model"))
    path = os.path.join(folder, run)
    return make_lm_config(os.path.join(folder, run + ".json"), model, path, **sections), path


def tensors(folder):
    """Names and values of a model.safetensors."""
    data = open(os.path.join(folder, "model.safetensors"), "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header, rest = json.loads(data[8:8 + size]), data[8 + size:]
    return {name: rest[e["data_offsets"][0]:e["data_offsets"][1]] for name, e in header.items() if name != "__metadata__"}


def trains(folder):
    config, run = setup(folder)
    hone("train", config)
    events = metrics(run)
    steps, evals = [e for e in events if e["event"] == "step"], [e for e in events if e["event"] == "eval"]
    assert abs(steps[0]["loss"] - math.log(258)) < 0.5, steps[0]
    assert evals[-1]["loss"] < evals[0]["loss"] < math.log(258), evals
    for e in evals:
        assert abs(e["perplexity"] - math.exp(e["loss"])) < 1e-4 * e["perplexity"] and 0 <= e["accuracy"] <= 1, e
        assert e["targets"] > 100 and "examples" not in e and "confusion" not in e, e
    for place in ("best", "final"):
        path = os.path.join(run, place)
        saved = json.load(open(os.path.join(path, "config.json")))
        assert saved["architectures"] == ["LlamaForCausalLM"] and "id2label" not in saved and "problem_type" not in saved, saved
        assert "lm_head.weight" not in tensors(path), "a tied head is written twice"
        for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            kept = open(os.path.join(path, name)).read()
            assert kept == open(os.path.join(folder, "model", name)).read(), name
    said = json.loads(hone("eval", run, "data.dev=" + os.path.join(folder, "dev.txt"), "--json").stdout)
    assert said["targets"] == evals[-1]["targets"] and abs(said["loss"] - min(e["loss"] for e in evals)) < 1e-6, (said, evals)
    text = hone("eval", run, "data.dev=" + os.path.join(folder, "dev.txt")).stdout
    assert "perplexity" in text and "accuracy" in text and "targets" in text, text
    exported = os.path.join(folder, "exported")
    hone("export", run, exported)
    assert tensors(exported).keys() == tensors(os.path.join(run, "final")).keys()
    hone("verify", run)
    hone("plan", config)
    hone("data", config)


def untied_heads_are_written(folder):
    model = make_decoder(os.path.join(folder, "model"), tied=False)
    config, run = setup(folder, model=model, train={"max_steps": 4})
    hone("train", config)
    after, before = tensors(os.path.join(run, "final")), tensors(model)
    assert after.keys() == before.keys() and after["lm_head.weight"] != before["lm_head.weight"]


def from_scratch(folder):
    model = make_decoder(os.path.join(folder, "model"), tied=False)
    weights = os.path.join(model, "model.safetensors")
    kept = open(weights, "rb").read()
    os.remove(weights)
    def run(name, seed):
        config, path = setup(folder, run=name, model=model, train={"max_steps": 4, "seed": seed, "log_every": 1})
        hone("train", config, check=1) # model.init is pretrained
        said = hone("train", config, "model.init=scratch").stderr
        assert f"every parameter is new, by train.seed {seed}" in said, said
        hone("export", path, os.path.join(folder, name + "-export"), "model.init=scratch")
        return path
    first, second, other = run("a", 1), run("b", 1), run("c", 2)
    assert tensors(os.path.join(first, "final")) == tensors(os.path.join(second, "final")) == tensors(os.path.join(folder, "a-export"))
    assert tensors(os.path.join(first, "final")) != tensors(os.path.join(other, "final"))
    assert abs(metrics(first)[0]["loss"] - math.log(258)) < 0.1, metrics(first)[0]
    # weights that are there are not looked at
    open(weights, "wb").write(b"broken")
    config, path = setup(folder, run="d", model=model, train={"max_steps": 4, "seed": 1, "log_every": 1})
    hone("train", config, "model.init=scratch")
    assert tensors(os.path.join(path, "final")) == tensors(os.path.join(first, "final"))
    open(weights, "wb").write(kept)
    hone("train", os.path.join(folder, "a.json"), "train.max_steps=8", "resume.force=true", check=1) # another init is another run


def killed_runs_end_with_the_same_bytes(folder):
    sections = dict(checkpoint={"every": "4 steps"}, freeze={"unfreeze": "8 steps", "lr_decay": 0.9}, train={"max_steps": 24})
    config, run = setup(folder, **sections)
    hone("train", config)
    for attempt in range(2):
        config, other = setup(folder, run=f"killed{attempt}", **sections)
        kills = killed_run(config, random.Random(attempt), 5, 0.05, 1.0)
        assert digests(other) == digests(run) and metrics(other) == metrics(run), f"differs after {kills} kills"


def frozen_trunks_and_their_cache(folder):
    """Embeddings, which are the tied head too, and the first layer are frozen; kept outputs give the same bits."""
    freeze = {"below": "layer.1"}
    config, run = setup(folder, train={"max_steps": 30}, freeze=freeze)
    hone("train", config)
    before, after = tensors(os.path.join(folder, "model")), tensors(os.path.join(run, "final"))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {n for n in before if ".layers.1." in n or n == "model.norm.weight"}, changed
    config, other = setup(folder, run="cached", train={"max_steps": 30}, freeze={**freeze, "cache": True})
    hone("train", config)
    assert os.path.getsize(os.path.join(other, "trunk-cache.h5")) > 10000
    assert digests(other) == digests(run)


def rows_in_a_batch_do_not_see_each_other(folder):
    """Evaluation gives the same loss whatever stands in a batch; a step in slices of a row each is the step at once."""
    model, dev = make_decoder(os.path.join(folder, "model")), make_text(os.path.join(folder, "dev.txt"), rows=60)
    said = [json.loads(hone("eval", model, "data.dev=" + dev, "data.max_tokens=40", f"train.batch_examples={n}", "--json").stdout)
            for n in (1, 3, 32)]
    assert said[0] == said[1] == said[2], said
    values = []
    for name, slice_tokens in (("whole", 0), ("rows", 1)):
        config, run = setup(folder, run=name, model=model, train={"max_steps": 3, "slice_tokens": slice_tokens}, data={"dev": []})
        hone("train", config)
        data = b"".join(tensors(os.path.join(run, "final"))[n] for n in sorted(tensors(model)))
        values.append(struct.unpack(f"<{len(data) // 4}f", data))
    worst = max(abs(a - b) for a, b in zip(*values))
    assert 0 < worst < 2e-5, worst


def order_of_the_file(folder):
    """Without shuffling and windows a step trains on the next blocks of the file: its loss is that of those blocks."""
    model = make_decoder(os.path.join(folder, "model"), eos_token_id=None)
    config, run = setup(folder, model=model, data={"shuffle": False, "window": 0, "dev": [], "max_tokens": 32},
                        train={"max_steps": 3, "log_every": 1}, optim={"lr": 0})
    hone("train", config)
    text = open(os.path.join(folder, "train.txt"), encoding="utf8").read()
    ids = json.loads(hone("tokenize", model, "--json", input=json.dumps(text) + "\n").stdout)
    for step in range(3):
        blocks = [ids[32 * b:32 * b + 32] for b in range(8 * step, 8 * step + 8)]
        path = os.path.join(folder, "blocks.jsonl")
        with open(path, "w") as f:
            for block in blocks:
                f.write(json.dumps({"text": hone("tokenize", model, "--decode", input=json.dumps(block) + "\n").stdout[:-1]}) + "\n")
        said = json.loads(hone("eval", model, "data.dev=" + path, "data.max_tokens=32", "--json").stdout)
        got = metrics(run)[step]["loss"]
        assert abs(said["loss"] - got) < 1e-6, (step, said, got)


def hostile_texts(folder):
    model = make_decoder(os.path.join(folder, "model"))
    cases = {"nul.txt": (b"some text\0and more\n", "NUL"), "latin.txt": (b"caf\xe9 and more\n", "expected UTF-8"),
             "empty.txt": (b"", "expected rows, got none"), "utf16.txt": (b"\xff\xfea\0", "UTF-16"),
             "rows.jsonl": (b'{"text": 5}\n', "expected a string"), "deep.jsonl": (b"[" * 100000, "JSON"),
             "cut.txt.gz": (b"\x1f\x8b\x08\0\0\0\0\0", "gzip")}
    for name, (content, words) in cases.items():
        path = os.path.join(folder, name)
        open(path, "wb").write(content)
        said = hone("eval", model, "data.dev=" + path, check=1).stderr
        assert words in said and name in said, (name, said)
    for name, content in {"space.txt": b" " * 5000, "lines.txt": b"\n" * 5000, "one.txt": b"x", "bytes.txt": bytes(range(1, 128)) * 20,
                          "emoji.txt": "\U0001f600\u200d\u0301".encode() * 500, "end.txt": b"<|end|>" * 50}.items():
        path = os.path.join(folder, name)
        open(path, "wb").write(content)
        said = json.loads(hone("eval", model, "data.dev=" + path, "data.max_tokens=64", "--json").stdout)
        assert said["targets"] > 0 and math.isfinite(said["loss"]), (name, said)


def the_recipe_runs(folder):
    run = os.path.join(folder, "run")
    hone("train", "configs/pretrain.json", "train.max_steps=6", "eval.every=3 steps", "output.dir=" + run, cwd=SOURCE)
    losses = [e["loss"] for e in metrics(run) if e["event"] == "eval"]
    assert losses[1] < losses[0] < math.log(768) + 0.1, losses
    assert os.path.exists(os.path.join(run, "final/tokenizer.json"))


def refused_by_name(folder):
    config, run = setup(folder)
    for change, words in ((["task.kind=classify", "task.labels=a,b"], "is a decoder"),
                          (["eval.metric=macro_f1"], "does not fit a task of tokens; expected one of loss, perplexity, accuracy"),
                          (["data.max_tokens=500"], "has 128 positions"),
                          (["data.train=" + os.path.join(folder, "model/config.json")], "field \"text\"")):
        said = hone("train", config, *change, check=None)
        assert said.returncode in (1, 2) and words in said.stderr, (change, said.stderr)
    predicted = hone("predict", os.path.join(folder, "model"), "data.predict=" + os.path.join(folder, "dev.txt"), check=1)
    assert "predicts tokens" in predicted.stderr, predicted.stderr


main(trains, untied_heads_are_written, from_scratch, killed_runs_end_with_the_same_bytes, frozen_trunks_and_their_cache,
     rows_in_a_batch_do_not_see_each_other, order_of_the_file, hostile_texts, the_recipe_runs, refused_by_name)
