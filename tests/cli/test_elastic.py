"""train.elastic on one process: batches in parts, whose gradients add up as a tree. What several processes make of it: tests/ranks."""
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
from tiny import *

STEPS = 24


def setup(folder, run, parts, **sections):
    model = os.path.join(folder, "model")
    if not os.path.exists(model):
        make_model(model)
    where = os.path.join(folder, run)
    sections["train"] = {"max_steps": STEPS, "log_every": 1} | ({"elastic": True, "elastic_parts": parts} if parts else {}) | sections.get("train", {})
    return make_config(where + ".json", model, where, **sections), where


def steps(run):
    return [event for event in metrics(run) if event["event"] == "step"]


def the_sum_is_the_batch(folder):
    """Loss, norm and what was read are those of the plain run, but for the order of sums; other numbers of parts have other bits."""
    config, plain = setup(folder, "plain", 0)
    hone("train", config)
    seen = {str(digests(plain))}
    for parts in (1, 2, 8, 64):
        config, run = setup(folder, f"parts{parts}", parts)
        hone("train", config)
        for a, b in zip(steps(plain), steps(run), strict=True):
            assert abs(a["loss"] - b["loss"]) < 1e-4 * a["loss"] and abs(a["grad_norm"] - b["grad_norm"]) < 1e-3 * a["grad_norm"], (parts, a, b)
            assert {key: a[key] for key in ("tokens", "step", "epoch", "lr") if key in a} == {key: b[key] for key in ("tokens", "step", "epoch", "lr") if key in b}, (a, b)
        assert parts == 1 or str(digests(run)) not in seen, parts
        seen.add(str(digests(run)))


def nothing_else_changes_a_bit(folder):
    """Neither threads, nor a stop and a resume, nor recomputing, nor slices of one example of the part's."""
    variants = {"threads": {"threads": 1}, "full": {"recompute": "full"}, "checked": {"check_every": 3}}
    for precision in ("fp32", "bf16"):
        config, run = setup(folder, precision, 4, train={"precision": precision})
        hone("train", config)
        for name, keys in variants.items():
            config, other = setup(folder, precision + name, 4, train=keys | {"precision": precision})
            hone("train", config)
            assert digests(other) == digests(run), (precision, name)
        config, other = setup(folder, precision + "killed", 4, train={"precision": precision})
        kills = killed_run(config, random.Random(5), 4, 0.1, 1.0)
        assert digests(other) == digests(run) and metrics(other) == metrics(run), (precision, kills)


def freezing_goes_with_it(folder):
    """Groups that thaw have zero in every node before; a frozen trunk is read from its cache."""
    for name, sections in {"thaw": {"freeze": {"unfreeze": "6 steps"}}, "below": {"freeze": {"below": "layer.2"}}, "lora": {"lora": {"r": 4}}}.items():
        config, plain = setup(folder, name + "-plain", 0, **sections)
        hone("train", config)
        config, run = setup(folder, name, 4, **sections)
        hone("train", config)
        for a, b in zip(steps(plain), steps(run), strict=True):
            assert abs(a["loss"] - b["loss"]) < 1e-4 * a["loss"], (name, a, b)
    config, cached = setup(folder, "cached", 4, freeze={"below": "layer.2", "cache": True})
    hone("train", config)
    assert digests(cached) == digests(os.path.join(folder, "below"))


def what_is_asked_for_is_checked(folder):
    config, run = setup(folder, "six", 6)
    said = hone("train", config, check=2).stderr
    assert "train.elastic_parts: expected a power of two, got 6" in said, said
    config, run = setup(folder, "other", 4)
    hone("train", config, "train.max_steps=3")
    said = hone("train", config, "train.max_steps=3", "train.elastic_parts=8", check=1).stderr
    assert "train.elastic_parts" in said and "another config" in said, said


def the_plan_counts_the_parts(folder):
    def rows(config):
        return {line.split()[0]: float(line.split()[1]) for line in hone("plan", config).stdout.splitlines() if line.endswith("MiB")}
    plain = rows(setup(folder, "p0", 0)[0])
    assert "parts" not in plain, plain
    for parts in (1, 2, 8):
        now = rows(setup(folder, f"p{parts}", parts)[0])
        levels = parts.bit_length() - 1
        assert abs(now.get("parts", 0) - levels * plain["gradients"]) < 0.11, (parts, now, plain)


main(the_sum_is_the_batch, nothing_else_changes_a_bit, freezing_goes_with_it, what_is_asked_for_is_checked, the_plan_counts_the_parts)
