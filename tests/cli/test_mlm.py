"""`hone train` of a masked language model on plain text, end to end, with a tiny BERT."""
import json, os, random

from tiny import DEV, digests, hone, killed_run, main, make_model, metrics
from tiny_decoder import make_lm_config


def setup(folder, run="run", **sections):
    model = os.path.join(folder, "model")
    if not os.path.exists(model):
        make_model(model)
    path = os.path.join(folder, run)
    sections["task"] = {"kind": "mlm"}
    return make_lm_config(path + ".json", model, path, **sections), path


def trains(folder):
    config, run = setup(folder, train={"epochs": 10}, eval={"every": "2 epoch", "metric": "perplexity"})
    said = hone("train", config).stderr
    assert "new parameters, not in the checkpoint: cls.predictions.bias" in said, said
    evals = [e for e in metrics(run) if e["event"] == "eval"]
    losses = [e["loss"] for e in metrics(run) if e["event"] == "step"]
    assert sum(losses[-3:]) < 0.95 * sum(losses[:3]), losses
    saved = json.load(open(os.path.join(run, "final/config.json")))
    assert saved["architectures"] == ["BertForMaskedLM"] and "problem_type" not in saved, saved
    best = min(e["loss"] for e in evals)
    dev = "data.dev=" + os.path.join(folder, "dev.txt")
    measured = json.loads(hone("eval", run, dev, "--json").stdout)
    assert abs(measured["loss"] - best) < 1e-6 and measured["targets"] == evals[0]["targets"], (measured, best)
    # the head is loaded again
    again, other = setup(folder, run="again", train={"max_steps": 1})
    assert "new parameters" not in hone("train", again, "model.path=" + os.path.join(run, "final")).stderr
    assert "predicts tokens" in hone("predict", run, "data.predict=" + DEV, check=1).stderr
    hone("data", config)
    hone("plan", config)
    hone("export", run, os.path.join(folder, "exported"))


def masks_change_with_the_step(folder):
    """Nothing is learnt here: the batch's loss differs for its mask alone, and an evaluation has the same mask each time."""
    config, run = setup(folder, train={"epochs": 3, "batch_examples": 4096, "batch_tokens": 1 << 20, "log_every": 1},
                        optim={"lr": 0}, eval={"every": "1 steps"})
    model = os.path.join(folder, "model", "config.json")
    shape = json.load(open(model))
    shape.update(hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    json.dump(shape, open(model, "w"))
    hone("train", config)
    events = metrics(run)
    losses, evals = [[e["loss"] for e in events if e["event"] == kind] for kind in ("step", "eval")]
    assert len(set(losses)) == 3 and len(set(evals)) == 1 and len(evals) == 3, (losses, evals)


def killed_runs_end_with_the_same_bytes(folder):
    sections = dict(checkpoint={"every": "4 steps"}, freeze={"unfreeze": "8 steps"}, train={"max_steps": 24},
                    data={"mask_words": True})
    config, run = setup(folder, **sections)
    hone("train", config)
    for attempt in range(2):
        config, other = setup(folder, run=f"killed{attempt}", **sections)
        kills = killed_run(config, random.Random(attempt), 5, 0.05, 1.0)
        assert digests(other) == digests(run) and metrics(other) == metrics(run), f"differs after {kills} kills"
    config, other = setup(folder, run="threads", **{**sections, "train": {"max_steps": 24, "threads": 1}})
    hone("train", config)
    assert digests(other) == digests(run)


def learns_by_lora(folder):
    """The head trains whole beside the adapters but for the table of tokens; killed runs end with the same bytes."""
    sections = dict(lora={"r": 4, "dropout": 0.1}, optim={"lr": 1e-2}, checkpoint={"every": "4 steps"}, train={"epochs": 4})
    config, run = setup(folder, **sections)
    hone("train", config)
    said = json.load(open(os.path.join(run, "final/adapter_config.json")))
    assert said["task_type"] is None and said["modules_to_save"] == ["cls.predictions"], said
    assert not any("embeddings" in name for name in digests(run))
    evals = [e["loss"] for e in metrics(run) if e["event"] == "eval"]
    assert evals[-1] < evals[0], evals
    dev = ["data.dev=" + os.path.join(folder, "dev.txt"), "task.kind=mlm", "data.max_tokens=48", "--json"]
    for model in (run, os.path.join(run, "best")):
        assert abs(json.loads(hone("eval", model, *dev).stdout)["loss"] - min(evals)) < 1e-6, model
    merged, adapter = os.path.join(folder, "merged"), os.path.join(folder, "adapter")
    hone("export", run, merged, "--merge")
    hone("export", run, adapter)
    losses = [json.loads(hone("eval", model, *dev).stdout)["loss"] for model in (merged, adapter)]
    assert abs(losses[0] - losses[1]) < 1e-5, losses
    again, other = setup(folder, run="killed", **sections)
    kills = killed_run(again, random.Random(3), 4, 0.05, 0.8)
    assert digests(other) == digests(run) and metrics(other) == metrics(run), f"differs after {kills} kills"


def refused_by_name(folder):
    config, run = setup(folder)
    for change, words in ((["freeze.below=layer.1", "freeze.cache=true"], "no output of the trunk comes twice"),
                          (["lora.r=4", "lora.modules_to_save=attention.output.LayerNorm"], "is missing"),
                          (["task.kind=lm"], "is an encoder, which reads whole texts"),
                          (["eval.metric=macro_f1"], "does not fit a task of tokens"),
                          (["data.mask_probability=0"], "data.mask_probability")):
        said = hone("train", config, *change, check=None)
        assert said.returncode in (1, 2) and words in said.stderr, (change, said.stderr)


main(trains, masks_change_with_the_step, killed_runs_end_with_the_same_bytes, learns_by_lora, refused_by_name)
