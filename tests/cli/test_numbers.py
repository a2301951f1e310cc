"""Spikes of loss and gradient: warned of or skipped, whatever is logged when, and the same after a kill."""
import os, random, signal, subprocess
from tiny import HONE, digests, hone, killed_run, main, make_config, make_model, metrics

SPIKES = (91, 120, 170) # rows whose value is far off


def make_rows(path):
    rng = random.Random(5)
    with open(path, "w") as f:
        for i in range(200):
            value = 3000.0 if i in SPIKES else rng.random()
            f.write('{"text": "a %s", "label": %.3f}\n' % (" ".join(rng.choice("bcdefg") for _ in range(4)), value))


def setup(folder, run, **sections):
    make_rows(os.path.join(folder, "rows.jsonl"))
    sections.setdefault("train", {}).update({"batch_examples": 4, "epochs": 2, "spike_window": 8})
    sections["eval"] = {"metric": "loss"}
    config = make_config(os.path.join(folder, run + ".json"), make_model(os.path.join(folder, "model")), os.path.join(folder, run),
                         task={"kind": "regress", "labels": []}, data={"train": [os.path.join(folder, "rows.jsonl")], "dev": [],
                         "fields": {"text": "text", "label": "label"}}, **sections)
    return config, os.path.join(folder, run)


def spikes(run):
    return [e for e in metrics(run) if e["event"] == "spike"]


def a_spike_is_warned_of(folder):
    config, run = setup(folder, "warn")
    done = hone("train", config)
    found = spikes(run)
    assert 4 <= len(found) <= 6 and all(e["loss"] > 1e5 and e["in_a_row"] in (1, 2) for e in found), found
    assert f"step {found[0]['step']}: spike: the loss is" in done.stderr and "skipped" not in done.stderr, done.stderr
    config, off = setup(folder, "off", train={"spike_threshold": 0})
    hone("train", config)
    assert not spikes(off) and digests(off) == digests(run), "a warning changed the weights"


def a_spike_is_skipped(folder):
    config, run = setup(folder, "skip", train={"spike_action": "skip", "log_every": 1})
    hone("train", config)
    found, steps = spikes(run), {e["step"]: e for e in metrics(run) if e["event"] == "step"}
    assert 4 <= len(found) <= 6 and all("skipped" in e["reason"] for e in found), found
    assert max(e["loss"] for e in steps.values() if e["loss"] is not None) < 100, "a skipped step is in the log's sums"
    config, rare = setup(folder, "rare", train={"spike_action": "skip", "log_every": 50, "profile": True}, checkpoint={"every": "30 steps"})
    hone("train", config)
    assert digests(rare) == digests(run) and spikes(rare) == found, "what is logged and saved changed what is skipped"


def kills_change_no_decision(folder):
    sections = dict(train={"spike_action": "skip"}, checkpoint={"every": "20 steps"})
    config, run = setup(folder, "plain", **sections)
    hone("train", config)
    config, killed = setup(folder, "killed", **sections)
    assert killed_run(config, random.Random(3), 3, shortest=0.02, longest=0.2) > 0
    assert digests(killed) == digests(run) and metrics(killed) == metrics(run) and spikes(run), "a kill changed the run"


def enough_spikes_roll_the_run_back(folder):
    """To the last checkpoint of the plan that was made before them, whatever is logged, saved on a signal, or killed."""
    sections = dict(train={"spike_action": "rollback", "spike_patience": 1, "max_rollbacks": 9}, checkpoint={"every": "12 steps", "keep": 1})
    config, run = setup(folder, "plain", **sections)
    done = hone("train", config)
    found, back = spikes(run), [e for e in metrics(run) if "rollback" in e.get("message", "")]
    assert len(found) >= len(back) >= 3, (found, back)
    for event in back: # the step behind the spike is made and thrown away
        assert event["step"] - 1 in [e["step"] for e in found], (found, back)
        assert any(f"those of step {s} again" in event["message"] for s in range(0, event["step"] - 1, 12)), event
    assert "rollback 1 of at most 9" in done.stderr, done.stderr
    config, skipping = setup(folder, "skip", train={"spike_action": "skip"})
    hone("train", config)
    assert digests(skipping) != digests(run), "nothing was rolled back"
    sections["train"]["log_every"] = 1
    config, often = setup(folder, "often", **sections)
    hone("train", config, "train.check_every=5", "checkpoint.keep=3")
    assert digests(often) == digests(run) and spikes(often) == found, "what is logged changed a rollback"
    sections["train"]["log_every"] = 5
    config, killed = setup(folder, "killed", **sections)
    assert killed_run(config, random.Random(5), 4, shortest=0.02, longest=0.2) > 0
    assert digests(killed) == digests(run) and metrics(killed) == metrics(run), "a kill changed a rollback"
    config, stopped = setup(folder, "stopped", **sections)
    for step in (found[0]["step"], found[1]["step"] + 1, 60):
        stop_at(config, step)
    hone("train", config, "resume.force=true")
    assert digests(stopped) == digests(run), "a signal changed a rollback"
    config, few = setup(folder, "few", train={"spike_action": "rollback", "spike_patience": 1, "max_rollbacks": 1})
    assert "after 1 rollbacks" in hone("train", config, check=1).stderr


def stop_at(config, step):
    """Ends a run by a signal at about a step, unless it is past it."""
    with subprocess.Popen([HONE, "train", config, "train.log_every=1", "resume.force=true"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True) as process:
        for line in process.stderr:
            if f"step {step} of" in line:
                process.send_signal(signal.SIGTERM)
        assert process.wait() in (0, 75)


def a_step_computed_twice_changes_nothing(folder):
    """With dropout, slices, thawing, a frozen trunk from the cache, and steps that are skipped."""
    variants = {"thaw": dict(train={"spike_action": "skip", "slice_tokens": 40, "precision": "bf16"}, freeze={"unfreeze": "20 steps"},
                             optim={"moments": "bf16"}, checkpoint={"every": "30 steps"}),
                "cache": dict(train={"spike_action": "skip"}, freeze={"below": "layer.2", "cache": True})}
    for name, sections in variants.items():
        config, run = setup(folder, name, **sections)
        hone("train", config)
        for every in (1, 7):
            config, checked = setup(folder, f"{name}{every}", **sections)
            hone("train", config, f"train.check_every={every}")
            assert digests(checked) == digests(run) and metrics(checked) == metrics(run), f"train.check_every={every} changed {name}"


if __name__ == "__main__":
    main(a_spike_is_warned_of, a_spike_is_skipped, kills_change_no_decision, enough_spikes_roll_the_run_back, a_step_computed_twice_changes_nothing)
