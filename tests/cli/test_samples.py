"""`eval.samples`: sample answers at each evaluation of a run. They change nothing that is trained, are those of `hone generate` with
the same weights, and come again when a killed run goes on."""
import json, os, random, re, signal, subprocess, time

from tiny import HONE, digests, hone, killed_run, main, make_config, make_model, metrics
from tiny_decoder import make_decoder, make_lm_config, make_sft_config

TURNS = {"user": "Q: {content}\n", "prompt": "A: "}


def setup(folder, name, make=make_sft_config, **sections):
    """A run of 12 steps that is evaluated every 4."""
    model = make_decoder(os.path.join(folder, "model"), tied=False)
    train = {"max_steps": 12, "log_every": 1, **sections.pop("train", {})}
    evaluate = {"every": "4 steps", **sections.pop("eval", {})}
    run = os.path.join(folder, name)
    path = make(os.path.join(folder, name + ".json"), model, run, train=train, eval=evaluate, checkpoint={"every": "4 steps"},
                optim={"lr": 1e-3}, **sections)
    return path, run


def samples(run):
    return [e for e in metrics(run) if e["event"] == "sample"]


def a_run_with_samples_trains_as_one_without(folder):
    kinds = {"sft": {"freeze": {"below": "head", "unfreeze": "5 steps"}}, "lm": {"make": make_lm_config, "train": {"precision": "bf16"}},
             "lora": {"lora": {"r": 4, "dropout": 0.1}}, "frozen": {"freeze": {"below": "layer.1", "cache": True}}}
    for name, sections in kinds.items():
        config, run = setup(folder, name, **sections)
        hone("train", config)
        config, other = setup(folder, name + "-samples", **sections, eval={"samples": 3, "sample_tokens": 12})
        said = hone("train", config).stderr
        assert digests(other) == digests(run), name
        found, rest = samples(other), [e for e in metrics(other) if e["event"] != "sample"]
        assert rest == metrics(run), name
        assert [(e["step"], e["number"]) for e in found] == [(s, n) for s in (4, 8, 12) for n in (1, 2, 3)], (name, found)
        assert {"prompt", "answer", "finish", "tokens", "reference", "row"} <= found[0].keys(), found[0]
        assert all(e["tokens"] <= 12 and (e["tokens"] == 12) == (e["finish"] == "length") for e in found), found
        assert re.search(r"^step 8: eval dev: .*\nstep 8: sample 1: .*\n    answer:    .*\n    reference: .*\nstep 8: sample 2: ", said, re.M), said
        assert len({e["answer"] for e in found}) > 2, found
        hone("verify", other)


def answers_are_those_of_generate(folder):
    """The last samples of a run are what its last weights say."""
    last = {"samples": 3, "sample_tokens": 20, "restore_best": False}
    chat = ["--chat", f"data.turns.user={TURNS['user']}", f"data.turns.prompt={TURNS['prompt']}"]
    for name, sections, how in (("bf16", {"train": {"precision": "bf16"}}, chat + ["train.precision=bf16"]), ("lora", {"lora": {"r": 4}}, chat),
                                ("text", {"make": make_lm_config}, [])):
        config, run = setup(folder, name, **sections, eval=last)
        hone("train", config)
        found = samples(run)[-3:]
        if how:
            rows = [json.loads(line) for line in open(json.load(open(config))["data"]["dev"][0], encoding="utf8")]
            for e in found:
                row = rows[int(e["row"].rsplit(":", 1)[1]) - 1]
                question = row["instruction"] + ("\n\n" + row["input"] if row.get("input") else "")
                assert e["prompt"] == question and row["output"].startswith(e["reference"]), (e, row)
        asked = [word for e in found for word in ("--prompt", e["prompt"])]
        said = hone("generate", os.path.join(run, "final"), "--json", "--max-tokens", "20", *asked, *how).stdout
        for e, line in zip(found, said.splitlines(), strict=True):
            said = json.loads(line)
            assert (said["text"], said["finish"], said["tokens"]) == (e["answer"], e["finish"], e["tokens"]), (said, e)


def the_templates_stop_ends_an_answer(folder):
    rows = os.path.join(folder, "rows.jsonl")
    with open(rows, "w", encoding="utf8") as f:
        f.writelines(json.dumps({"instruction": f"Say {n}", "output": "!"}) + "\n" for n in range(40))
    config, run = setup(folder, "run", data={"turns": TURNS, "train": [rows], "dev": [rows]}, eval={"samples": 2})
    hone("train", config, "train.max_steps=40", "optim.lr=2e-2", "train.epochs=20", "eval.every=off")
    assert [(e["prompt"], e["answer"], e["finish"], e["tokens"], e["reference"]) for e in samples(run)] == [
        ("Say 0", "!", "stop", 1, "!"), ("Say 20", "!", "stop", 1, "!")], samples(run)


def killed_runs_write_the_same_samples(folder):
    config, run = setup(folder, "whole", eval={"samples": 2}, train={"max_steps": 40})
    hone("train", config)
    config, other = setup(folder, "killed", eval={"samples": 2}, train={"max_steps": 40})
    kills = killed_run(config, random.Random(5), 6, 0.2, 2.0)
    assert digests(other) == digests(run) and metrics(other) == metrics(run), f"differs after {kills} kills"
    said = [e["answer"] for e in samples(run)]
    assert len(said) > 10 and said[:2] != said[-2:], said


def a_signal_ends_answers_and_they_come_again(folder):
    """What is stopped in the middle of its samples has logged nothing of that evaluation, and does it anew when it goes on."""
    asked = {"samples": 28, "sample_tokens": 100}
    config, run = setup(folder, "whole", eval=asked, train={"max_steps": 5})
    hone("train", config)
    for delay in (0.08, 0.3, 0.5):
        config, other = setup(folder, f"stopped{delay}", eval=asked, train={"max_steps": 5})
        process = subprocess.Popen([HONE, "train", config], stderr=subprocess.PIPE, text=True)
        while "step 4 of" not in process.stderr.readline():
            assert process.poll() is None, process.returncode
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        rest, code = process.stderr.read(), process.wait()
        assert code == 75 or "step 5 of" in rest, (code, rest)
        print(f"stopped after {delay} s: " + ("in the evaluation" if "eval dev" not in rest else "too late"))
        hone("train", config)
        assert digests(other) == digests(run) and metrics(other) == metrics(run), delay


def questions_of_ones_own(folder):
    asked = ["Who are you?", "Say x, then y"]
    config, run = setup(folder, "run", eval={"samples": 9, "sample_prompts": asked, "sample_tokens": 5})
    hone("train", config)
    found = samples(run)
    assert [e["prompt"] for e in found] == asked * 3 and "reference" not in found[0] and "row" not in found[0], found
    # other questions, or none, are no other run
    said = hone("train", config, "eval.sample_prompts=Why?", "eval.samples=0", "train.max_steps=16", "resume.force=true").stderr
    assert "step 16: sample 1: Why?\n    answer:" in said, said


def the_plan_has_them(folder):
    config, _ = setup(folder, "run")
    assert "samples" not in hone("plan", config).stdout
    assert re.search(r"^samples +0\.\d MiB$", hone("plan", config, "eval.samples=8").stdout, re.M)
    huge = hone("plan", config, "eval.samples=8", "eval.sample_tokens=1000000").stdout # no more than the model's positions
    assert re.search(r"^samples +0\.\d MiB$", huge, re.M), huge


def refused(folder):
    encoder = make_config(os.path.join(folder, "encoder.json"), make_model(os.path.join(folder, "encoder")), os.path.join(folder, "run"))
    config, _ = setup(folder, "run")
    for path, change, words in (
            (encoder, ["eval.samples=2"], "eval.samples: this task.kind writes no text; expected lm or sft with it, or 0"),
            (encoder, ["eval.sample_prompts=a"], "eval.sample_prompts: this task.kind writes no text; expected lm or sft with it, or an empty list"),
            (config, ["eval.samples=-1"], "eval.samples: expected an integer from 0 to 1000, got -1"),
            (config, ["eval.samples=few"], "eval.samples: expected an integer"),
            (config, ["eval.sample_tokens=0"], "eval.sample_tokens: expected an integer from 1 to"),
            (config, ["eval.sample_prompts=[1]"], "eval.sample_prompts: expected a list of strings"),
            (config, ["eval.samples=2", "data.dev=[]"], "eval.samples: samples are written when the dev sets are evaluated"),
            (config, ["eval.sample=2"], "eval.samples")):
        said = hone("train", path, *change, check=2).stderr
        assert words in said, (change, said)


main(a_run_with_samples_trains_as_one_without, answers_are_those_of_generate, the_templates_stop_ends_an_answer, killed_runs_write_the_same_samples,
     a_signal_ends_answers_and_they_come_again, questions_of_ones_own,
     the_plan_has_them, refused)
