"""train.recompute changes no bit of a run, whatever it is set to and when; `hone plan` counts each setting, `auto` takes the first
that fits, and a run that does not fit is told which would."""
import json, os, re

import tiny
from tiny import digests, hone, main, make_config, make_model, metrics

SETTINGS = ("none", "selective", "full")


def weights(run):
    return open(os.path.join(run, "final", "model.safetensors"), "rb").read()


def plan(*args):
    """Chosen, bytes of all arenas with each setting, everything that was said."""
    text = hone("plan", *args).stdout
    said = re.search(r"^recompute +(\w+) +\(all arenas with none: ([\d.]+) MiB, with selective: ([\d.]+) MiB, "
                     r"with full: ([\d.]+) MiB\)$", text, re.M)
    return said[1], dict(zip(SETTINGS, map(float, said.groups()[1:]))), text


def every_setting_gives_the_same_run(folder):
    model = make_model(os.path.join(folder, "model"))
    for precision in ("fp32", "bf16"):
        runs = {}
        for setting in (*SETTINGS, "auto"):
            run = os.path.join(folder, precision + setting)
            config = make_config(os.path.join(folder, "c.json"), model, run, train={"precision": precision, "recompute": setting, "max_steps": 12}, eval={"every": "6 steps"})
            hone("train", config)
            runs[setting] = (metrics(run), digests(run), weights(run))
        assert all(run == runs["none"] for run in runs.values()), "a setting gives another run"
        assert len(runs["none"][0]) > 5


def a_run_goes_on_with_another_setting(folder):
    model = make_model(os.path.join(folder, "model"))
    straight, run = os.path.join(folder, "straight"), os.path.join(folder, "run")
    config = make_config(os.path.join(folder, "c.json"), model, run, optim={"schedule": "constant", "warmup": 2}, eval={"restore_best": False})
    hone("train", config, "train.max_steps=20", f"output.dir={straight}")
    hone("train", config, "train.max_steps=12", "train.recompute=selective")
    said = hone("train", config, "train.max_steps=20", "train.recompute=full", check=1).stderr
    assert 'train.recompute: "selective" -> "full"' in said and "resume.force=true goes on" in said, said
    hone("train", config, "train.max_steps=20", "train.recompute=full", "resume.force=true")
    assert digests(run) == digests(straight) and weights(run) == weights(straight)


def the_plan_counts_each_setting(folder):
    model = make_model(os.path.join(folder, "model"))
    config = make_config(os.path.join(folder, "c.json"), model, os.path.join(folder, "run"))
    chosen, totals, _ = plan(config)
    assert chosen == "none" and totals["full"] < totals["selective"] < totals["none"], totals
    for setting in SETTINGS:
        said, again, text = plan(config, f"train.recompute={setting}")
        assert said == setting and again == totals, (setting, text)
        assert abs(float(re.search(r"^all arenas +([\d.]+) MiB", text, re.M)[1]) - totals[setting]) < 0.11, text


def too_large_a_run(folder):
    """A model so deep that its activations are 1.5 times the free memory, and one 30 times."""
    tiny.HIDDEN, tiny.MLP = 128, 512
    model = make_model(os.path.join(folder, "model"))
    rows = [json.loads(line) for line in open(tiny.TRAIN)]
    with open(os.path.join(folder, "train.jsonl"), "w") as f:
        for i in range(4000):
            f.write(json.dumps(rows[i % len(rows)]) + "\n")
    config = make_config(os.path.join(folder, "c.json"), model, os.path.join(folder, "run"),
                         data={"train": [os.path.join(folder, "train.jsonl")]},
                         train={"batch_tokens": 1 << 20, "batch_examples": 1 << 19, "device": "cpu"})
    config = [config, "model.init=scratch"]
    settings = json.load(open(os.path.join(model, "config.json")))

    def deep(layers):
        json.dump(settings | {"num_hidden_layers": layers}, open(os.path.join(model, "config.json"), "w"))
        return plan(*config, "train.recompute=none")[1]["none"]

    small = deep(12)
    layer = (deep(22) - small) / 10
    free = int(re.search(r"MemAvailable: +(\d+)", open("/proc/meminfo").read())[1]) / 1024
    deep(int(12 + 1.5 * free / layer))
    chosen, totals, text = plan(*config)
    assert chosen == "selective" and "does not fit" not in text, text
    text = plan(*config, "train.recompute=none")[2]
    words = f"MiB are free: set train.recompute=selective, with which it takes {totals['selective']:.0f} MiB, or lower"
    assert "does not fit: this run takes" in text and words in text, text
    said = hone("train", *config, "train.recompute=none", check=1).stderr
    assert words in said, said
    deep(int(30 * free / layer))
    chosen, totals, text = plan(*config)
    assert chosen == "full" and ", even with train.recompute=full, and" in text, text
    assert "even with train.recompute=full, and" in hone("train", *config, check=1).stderr
    assert "set train.recompute=full" in hone("train", *config, "train.recompute=selective", check=1).stderr


main(every_setting_gives_the_same_run, a_run_goes_on_with_another_setting, the_plan_counts_each_setting, too_large_a_run)
