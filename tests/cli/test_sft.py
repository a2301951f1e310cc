"""Instruction rows with a tiny Llama: what `hone data` shows, training, evaluation, refusals."""
import json, math, os

from tiny import hone, main, metrics
from tiny_decoder import make_decoder

ROWS = [{"instruction": f"Say {word}", "input": "", "output": f"{word}!"}
        for word in "one two three four five six seven eight nine ten red green blue black white east west north south".split()]
TURNS = {"user": "Q: {content}\n", "input": "Q: {content} ({input})\n", "prompt": "A: "}


def write(path, rows):
    with open(path, "w", encoding="utf8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def setup(folder, rows=ROWS, **data):
    model = make_decoder(os.path.join(folder, "model"))
    config = {"model": {"path": model}, "task": {"kind": "sft"},
              "data": {"train": [write(os.path.join(folder, "train.jsonl"), rows)],
                       "dev": [write(os.path.join(folder, "dev.jsonl"), ROWS[:2] + [{"instruction": "Say x", "output": "y"}])],
                       "turns": TURNS, "max_tokens": 64, **data},
              "train": {"epochs": 6, "batch_examples": 4, "seed": 3, "log_every": 1, "threads": 2}, "optim": {"lr": 1e-2},
              "eval": {"every": "1 epoch"}, "output": {"dir": os.path.join(folder, "run")}}
    path = os.path.join(folder, "config.json")
    with open(path, "w", encoding="utf8") as f:
        json.dump(config, f)
    return path, config["output"]["dir"]


def data_is_shown(folder):
    rows = ROWS + [ROWS[0], {"instruction": "a", "input": "b", "output": "\x1b[31mred"}, {"instruction": "empty", "output": ""}]
    config, _ = setup(folder, rows[-2:] + rows, on_bad_row="skip")
    said = hone("data", config).stdout
    assert "template: own\n" in said, said
    assert "train: 22 examples of 24 rows" in said and "2 refused: nothing to learn; first:" in said, said
    assert "train.jsonl:2: expected words to train on" in said, said
    assert "  2 duplicates\n" in said and "  2 also in data.train; first:" in said and "dev.jsonl:1\n" in said, said
    assert "Q: a (b)\n  A: [\\x1b[31mred<|end|>]\n" in said, said
    assert "Q: Say one\n  A: [one!<|end|>]\n" in said and "(5 of 19 tokens are targets)" in said, said
    assert "\x1b" not in said, said
    said = hone("data", config, "data.loss=user").stdout
    assert "Q: [Say one]\n  A: one!<|end|>\n" in said, said
    said = hone("data", config, "data.max_tokens=20").stdout
    assert "truncated to data.max_tokens" in said, said


def trains(folder):
    config, run = setup(folder)
    hone("train", config)
    evals = [e for e in metrics(run) if e["event"] == "eval"]
    steps = [e for e in metrics(run) if e["event"] == "step"]
    assert abs(steps[0]["loss"] - math.log(258)) < 0.5, steps[0]
    assert evals[-1]["loss"] < 0.8 * evals[0]["loss"] and evals[-1]["targets"] == 5 + 5 + 2, evals
    said = json.loads(hone("eval", run, "task.kind=sft", f"data.turns.user={TURNS['user']}", f"data.turns.prompt={TURNS['prompt']}",
                           "data.dev=" + os.path.join(folder, "dev.jsonl"), "--json").stdout)
    again = json.loads(hone("eval", run, "--json").stdout) # a run knows its task, its data and its template
    assert again == said, (again, said)
    said = hone("generate", run, "--chat", "--prompt", "Say red", "--max-tokens", "8", "--json").stdout
    assert json.loads(said)["prompt_tokens"] == len("Q: Say red\nA: "), said
    assert json.loads(hone("generate", run, "--chat", "--prompt", "Say red", "--max-tokens", "8", "--json", "--template", "plain").stdout)[
        "prompt_tokens"] == len("Say red")
    said = again
    assert said["targets"] == 12 and abs(said["loss"] - min(e["loss"] for e in evals)) < 1e-6, (said, evals)


def prompts_that_begin_alike(folder):
    rows = [row | {"instruction": "As loud as you can, " + row["instruction"]} for row in ROWS]

    def run(share):
        config, run = setup(folder, rows)
        change = ["train.epochs=2", f"train.share_prefixes={share}", "resume.force=true", f"output.dir={run}-{share}"]
        plan = hone("plan", config, *change).stdout
        hone("train", config, *change)
        bytes_of = [float(line.split()[1]) for line in plan.splitlines() if line.startswith("activations")]
        return bytes_of[0], [(m["event"], m["loss"]) for m in metrics(f"{run}-{share}") if m["event"] in ("step", "eval")]

    (less, shared), (more, apart) = run("true"), run("false")
    assert less < more and len(shared) == len(apart), (less, more)
    assert shared != apart and all(a[0] == b[0] and abs(a[1] - b[1]) < 1e-4 for a, b in zip(shared, apart)), (shared, apart)


def refused(folder):
    config, _ = setup(folder)
    for change, code, words in (
            (["data.turns.user=null", "data.turns.input=null", "data.turns.prompt=null"], 1, "has a chat template that hone does not know"),
            (["data.template=chatml"], 2, "data.template: expected auto beside data.turns"),
            (["data.turns.user=Q"], 2, "expected {content} in it"),
            (["data.loss=answers"], 2, "data.loss: expected assistant, user, system or all"),
            (["data.fields.output=out"], 1, "train.jsonl:1: expected a field \"messages\", or \"instruction\" and \"out\""),
            (["data.rows=prompt"], 1, "train.jsonl:1: field \"prompt\": expected a string, got no such field"),
            (["data.max_tokens=16", "data.on_long=refuse"], 1, "(data.max_tokens), got")):
        said = hone("data", config, *change, check=code).stderr
        assert words in said, (change, said)


main(data_is_shown, trains, prompts_that_begin_alike, refused)
