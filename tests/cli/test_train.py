"""Training end to end on a tiny model: what a run folder holds, resume bit for bit, and what must not change a bit."""
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
from tiny import *


def setup(folder, run="run", **sections):
    model = os.path.join(folder, "model")
    if not os.path.exists(model):
        make_model(model)
    run = os.path.join(folder, run)
    return make_config(run + ".json", model, run, **sections), run


def a_run_leaves_what_it_promises(folder):
    few = os.path.join(folder, "few.jsonl")
    with open(few, "w", encoding="utf8") as f:
        f.writelines(open(TRAIN, encoding="utf8").readlines()[:24])
    config, run = setup(folder, train={"epochs": 60}, data={"train": [few]}, optim={"lr": 3e-3}, eval={"every": "20 epoch"})
    done = hone("train", config)
    assert "final weights" in done.stdout, done.stdout
    for name in ("config.json", "metrics.jsonl", "best/model.safetensors", "best/config.json", "best/vocab.txt", "final/model.safetensors"):
        assert os.path.exists(os.path.join(run, name)), name
    events = metrics(run)
    losses = [e["loss"] for e in events if e["event"] == "step"]
    assert losses[-1] < 0.8 * losses[0], losses
    assert [e for e in events if e["event"] == "eval"], events
    hone("verify", run)
    again = hone("train", config)
    assert "nothing to do" in again.stderr, again.stderr
    final = os.path.join(run, "final")
    weights = open(os.path.join(final, "model.safetensors"), "rb").read()
    shutil.rmtree(final)
    again = hone("train", config)
    assert "nothing to do" not in again.stderr and metrics(run) == events, again.stderr
    assert open(os.path.join(final, "model.safetensors"), "rb").read() == weights


def killed_runs_end_with_the_same_bytes(folder):
    config, run = setup(folder)
    hone("train", config)
    expected, events = digests(run), metrics(run)
    rng = random.Random(11)
    for attempt in range(3):
        config, other = setup(folder, run=f"killed{attempt}")
        kills = killed_run(config, rng, 6, 0.05, 1.2)
        assert digests(other) == expected, f"weights differ after {kills} kills"
        assert metrics(other) == events, f"metrics differ after {kills} kills"


def every_save_is_told(folder):
    config, run = setup(folder, run="told", checkpoint={"every": "7 steps"}, train={"max_steps": 20, "log_every": 1})
    said = re.findall(r"step (\d+): saved ([\d.]+) MB in [\d.]+ s, training waited \d+ ms\n", hone("train", config).stderr)
    size = os.path.getsize(os.path.join(run, "checkpoints/step-20/rank-0.h5"))
    assert [int(step) for step, _ in said] == [7, 14, 20] and all(0.5 < 1e6 * float(mb) / size < 1.5 for _, mb in said), (said, size)
    events = [json.loads(line) for line in open(os.path.join(run, "metrics.jsonl"))]
    held = [e["held"] for e in events if e["event"] == "step"]
    assert len(held) == 20 and held[0] < 0.01 and all(0 <= one < 10 for one in held), held
    assert not any(e["event"] == "checkpoint" for e in events), events


def bf16_moments_take_half_the_place(folder):
    config, run = setup(folder)
    hone("train", config)
    config, rounded = setup(folder, run="rounded", optim={"moments": "bf16"})
    hone("train", config)
    optimizer = [float(line.split()[1]) for moments in ("fp32", "bf16")
                 for line in hone("plan", config, f"optim.moments={moments}").stdout.splitlines() if line.startswith("optimizer")]
    assert 0.45 < optimizer[1] / optimizer[0] < 0.6, optimizer
    losses = [[e["loss"] for e in metrics(path) if e["event"] == "step"] for path in (run, rounded)]
    assert losses[0] != losses[1] and all(abs(a - b) < 0.05 * a for a, b in zip(*losses)), losses
    config, other = setup(folder, run="killed", optim={"moments": "bf16"})
    kills = killed_run(config, random.Random(5), 6, 0.05, 1.2)
    assert digests(other) == digests(rounded) and metrics(other) == metrics(rounded), f"differs after {kills} kills"
    said = hone("train", config, "optim.moments=fp32", check=1).stderr  # a run's moments keep their type
    assert "optim.moments" in said, said


def a_signal_saves_and_the_run_goes_on(folder):
    config, run = setup(folder)
    hone("train", config)
    config, other = setup(folder, run="stopped", checkpoint={"every": "off"})
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        process = subprocess.Popen([HONE, "train", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "freezing" in line:
                break
        time.sleep(0.15)
        process.send_signal(number)
        text = process.stderr.read()
        code = process.wait()
        assert code in (75, 0), f"exit code {code}: {text}"
        if code == 75:
            assert "run the same command again" in text, text
    hone("train", config)
    assert digests(other) == digests(run)
    assert metrics(other) == metrics(run)


def nothing_but_training_changes_the_weights(folder):
    config, run = setup(folder, train={"max_steps": 25})
    hone("train", config)
    variants = {"threads": dict(train={"max_steps": 25, "threads": 1}),
                "no-eval": dict(train={"max_steps": 25}, eval={"every": "off"}, data={"dev": []}),
                "eval-often": dict(train={"max_steps": 25, "log_every": 1}, eval={"every": "3 steps"}),
                "no-cache": dict(train={"max_steps": 25}, data={"cache": "off"}),
                "saves": dict(train={"max_steps": 25}, checkpoint={"every": "2 steps"}),
                "profile": dict(train={"max_steps": 25, "profile": True})}
    for name, sections in variants.items():
        config, other = setup(folder, run=name, **sections)
        hone("train", config)
        assert digests(other) == digests(run), f"{name} changed the weights"


def slices_are_the_big_batch(folder):
    import struct
    def weights(run):
        with open(os.path.join(run, "final/model.safetensors"), "rb") as f:
            size, = struct.unpack("<Q", f.read(8))
            f.read(size)
            data = f.read()
        return struct.unpack(f"<{len(data) // 4}f", data)
    config, run = setup(folder, train={"max_steps": 4}, data={"dev": []})
    hone("train", config)
    config, other = setup(folder, run="slices", train={"max_steps": 4, "slice_tokens": 100}, data={"dev": []})
    hone("train", config)
    a, b = weights(run), weights(other)
    worst = max(abs(x - y) for x, y in zip(a, b))
    assert 0 < worst < 1e-4, worst


def other_dev_data_is_refused(folder):
    dev = os.path.join(folder, "dev.jsonl")
    shutil.copy(DEV, dev)
    config, run = setup(folder, train={"max_steps": 5}, data={"dev": [dev]})
    hone("train", config)
    with open(dev, "a", encoding="utf8") as f:
        f.write(open(DEV, encoding="utf8").readline())
    assert "dev data" in hone("train", config, check=1).stderr


def another_config_is_refused(folder):
    config, run = setup(folder, train={"max_steps": 12})
    hone("train", config)
    done = hone("train", config, "optim.lr=0.5", check=1)
    assert "optim.lr" in done.stderr and "0.001" in done.stderr, done.stderr
    done = hone("train", config, "train.max_steps=20", check=1)
    assert "resume.force=true" in done.stderr, done.stderr
    hone("train", config, "train.max_steps=20", "resume.force=true")
    assert metrics(run)[-1]["step"] == 20, metrics(run)[-1]


def a_finished_run_goes_on_with_more_epochs(folder):
    """From the very end of an epoch, and to groups that the shorter run would never have thawed."""
    freeze = {"unfreeze": "40 steps", "unfreeze_warmup": 3}
    config, run = setup(folder, data={"dev": []}, freeze=freeze, checkpoint={"every": "1 epoch"})
    hone("train", config)
    steps = metrics(run)[-1]["step"]
    hone("train", config, "train.epochs=2", "resume.force=true")
    assert metrics(run)[-1]["step"] == 2 * steps, metrics(run)[-1]
    again = hone("train", config, "train.epochs=2")
    assert "nothing to do" in again.stderr, again.stderr


def a_kill_behind_a_resume_repeats_no_event(folder):
    """Stopped by a signal at a step whose line and evaluation are still to come; then killed right after them."""
    config, run = setup(folder, train={"log_every": 1, "max_steps": 20}, eval={"every": "5 steps"}, checkpoint={"every": "off"})
    process = subprocess.Popen([HONE, "train", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "step 5 of" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.stderr.read()
    assert process.wait() == 75
    process = subprocess.Popen([HONE, "train", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seen = 0
    for line in process.stderr:
        seen += "step" in line and "of" in line
        if seen > 3:
            break
    process.kill()
    process.wait()
    hone("train", config)
    keys = [(e["event"], e["step"]) for e in metrics(run)]
    assert len(keys) == len(set(keys)), keys


def set_tensor(model, name, value):
    """Overwrites one tensor of a model folder with a constant."""
    path = os.path.join(model, "model.safetensors")
    with open(path, "r+b") as f:
        size, = struct.unpack("<Q", f.read(8))
        begin, end = json.loads(f.read(size))[name]["data_offsets"]
        f.seek(8 + size + begin)
        f.write(struct.pack("<f", value) * ((end - begin) // 4))


def a_nan_never_reaches_the_weights(folder):
    """The word "bicycle" embeds as numbers whose sum overflows: steps that meet it are skipped and counted, the others train, and nothing spreads."""
    model = make_model(os.path.join(folder, "model"))
    words = open(os.path.join(model, "vocab.txt"), encoding="utf8").read().split("\n")
    path = os.path.join(model, "model.safetensors")
    with open(path, "r+b") as f:
        size, = struct.unpack("<Q", f.read(8))
        begin, _ = json.loads(f.read(size))["embeddings.word_embeddings.weight"]["data_offsets"]
        f.seek(8 + size + begin + words.index("bicycle") * HIDDEN * 4)
        f.write(struct.pack("<f", 3e38) * HIDDEN)
    config, run = setup(folder, train={"max_steps": 40, "max_bad_steps": 30}, data={"dev": []})
    hone("train", config)
    events = metrics(run)
    bad = [e for e in events if e["event"] == "bad_step"]
    assert 0 < len(bad) < 40 and all("skipped" in e["reason"] for e in bad), bad
    with open(os.path.join(run, "final/model.safetensors"), "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(size)), f.read()
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        values = struct.unpack(f"<{(entry['data_offsets'][1] - entry['data_offsets'][0]) // 4}f",
                               data[slice(*entry["data_offsets"])])
        wrong = sum(not abs(v) < 1e30 for v in values)
        assert wrong == (HIDDEN if "word_embeddings" in name else 0), (name, wrong)


def a_run_of_nan_stops_and_says_why(folder):
    config, run = setup(folder, train={"max_bad_steps": 4}, data={"dev": []})
    set_tensor(os.path.join(folder, "model"), "embeddings.LayerNorm.weight", 3e38)
    done = hone("train", config, check=1)
    for part in ("4 steps in a row", "optim.lr", "0.001"):
        assert part in done.stderr, done.stderr
    bad = [(e["step"], e["in_a_row"]) for e in metrics(run) if e["event"] == "bad_step"]
    assert bad == [(1, 1), (2, 2), (3, 3), (4, 4)], metrics(run)


def early_stopping_ends_the_run(folder):
    """With a rate of 0 nothing improves: the first evaluation is the best, and patience runs out at the fourth."""
    config, run = setup(folder, optim={"lr": 0}, eval={"every": "4 steps", "metric": "loss", "patience": 3})
    done = hone("train", config)
    assert "early stopping" in done.stderr, done.stderr
    events = metrics(run)
    assert [e["step"] for e in events if e["event"] == "eval"] == [4, 8, 12, 16], events
    assert [e["best"] for e in events if e["event"] == "eval"] == [1, 0, 0, 0], events
    assert events[-1]["event"] == "stop" and events[-1]["step"] == 16, events[-1]
    assert "nothing to do" in hone("train", config).stderr
    config, run = setup(folder, run="max", eval={"every": "4 steps", "metric": "loss", "direction": "max"}, train={"max_steps": 20})
    hone("train", config)
    evals = [e for e in metrics(run) if e["event"] == "eval"]
    assert [e["best"] for e in evals] == [int(all(e["loss"] > b["loss"] for b in evals[:i])) for i, e in enumerate(evals)], evals


def keys_have_their_effect(folder):
    """What is cheap to see in the first steps' log: rates, losses, groups."""
    base = dict(train={"max_steps": 8, "log_every": 1}, data={"dev": []})
    config, run = setup(folder, **base)
    def steps(name, *overrides):
        hone("train", config, f"output.dir={os.path.join(folder, name)}", *overrides)
        return [e for e in metrics(os.path.join(folder, name)) if e["event"] == "step"]
    plain = steps("plain", "optim.warmup=0", "optim.schedule=constant")
    rates = lambda name, *o: [round(e["lr"] / 1e-3, 4) for e in steps(name, "optim.warmup=0", *o)]
    assert rates("linear", "optim.final=0.5") == [round(1 - 0.5 * i / 8, 4) for i in range(8)]
    assert rates("cosine", "optim.schedule=cosine", "optim.final=0.2")[4] == 0.6
    assert rates("wsd", "optim.schedule=wsd", "optim.decay=0.25") == [1] * 7 + [0.5]
    for name, override in (("smooth", "train.label_smoothing=0.3"), ("clip", "optim.clip=0.01"), ("seed", "train.seed=4"),
                           ("decay", "optim.weight_decay=5"), ("beta", "optim.beta1=0.5"), ("groups", "freeze.groups=layer.1"),
                           ("below", "freeze.below=head"), ("rates", "freeze.lr_decay=0.1"), ("bf16", "train.precision=bf16")):
        other = steps(name, "optim.warmup=0", "optim.schedule=constant", override)
        assert [e["loss"] for e in other] != [e["loss"] for e in plain], f"{override} changed nothing"


def a_checkpoint_that_cannot_be_written_costs_no_training(folder):
    """Files may not grow beyond what best/ needs: the weights with moments do not fit."""
    import resource
    config, run = setup(folder, train={"max_steps": 25}, data={"dev": [], "cache": "off"})
    limit = os.path.getsize(os.path.join(folder, "model/model.safetensors")) * 3 // 2
    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    done = hone("train", config, check=1, preexec_fn=limited)
    events = metrics(run)
    assert [e["step"] for e in events if e["event"] == "warning"] == [10, 20], events
    assert [e["step"] for e in events if e["event"] == "step"][-1] == 25, events
    assert "step-25" in done.stderr, done.stderr
    hone("train", config)


def gradual_unfreezing_survives_kills(folder):
    freeze = {"unfreeze": "8 steps", "lr_decay": 0.8, "unfreeze_warmup": 3}
    config, run = setup(folder, freeze=freeze)
    done = hone("train", config)
    assert "layer.2 from step 8" in done.stderr, done.stderr
    assert [e["group"] for e in metrics(run) if e["event"] == "unfreeze"] == ["layer.2", "layer.1", "layer.0", "embeddings"]
    config, other = setup(folder, run="killed", freeze=freeze, checkpoint={"every": "4 steps"})
    rng = random.Random(5)
    for _ in range(5):
        process = subprocess.Popen([HONE, "train", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.1, 0.8))
        process.kill()
        process.wait()
    hone("train", config)
    assert digests(other) == digests(run)
    assert metrics(other) == metrics(run)


def the_trunk_cache_changes_no_bit(folder):
    for below in ("layer.1", "head"):
        config, run = setup(folder, run="plain-" + below, train={"epochs": 2}, freeze={"below": below})
        hone("train", config)
        config, other = setup(folder, run="cached-" + below, train={"epochs": 2}, freeze={"below": below, "cache": True})
        hone("train", config)
        assert digests(other) == digests(run), f"freeze.below={below}: the cache changed the weights"
        cache = os.path.join(other, "trunk-cache.h5")
        assert os.path.getsize(cache) > 1000
        # A damaged cache is computed again, not trusted; that of its structures is made anew. Both are said.
        for first, said in ((4096, "the trunk cache is damaged at example"), (0, "; made anew")):
            shutil.rmtree(os.path.join(other, "checkpoints"))
            with open(cache, "r+b") as f:
                data = bytearray(f.read())
                for i in range(first, len(data), 997):
                    data[i] ^= 0x41
                f.seek(0)
                f.write(data)
            done = hone("train", config)
            assert digests(other) == digests(run), f"freeze.below={below}: a damaged cache changed the weights"
            assert said in done.stderr, done.stderr
        hone("train", config, "freeze.cache_budget=0", "output.dir=" + other + "-none")
        assert digests(other + "-none") == digests(run), f"freeze.below={below}: no budget changed the weights"


main(a_run_leaves_what_it_promises, killed_runs_end_with_the_same_bytes, every_save_is_told, bf16_moments_take_half_the_place,
     a_signal_saves_and_the_run_goes_on,
     nothing_but_training_changes_the_weights, slices_are_the_big_batch, another_config_is_refused, other_dev_data_is_refused,
     a_finished_run_goes_on_with_more_epochs, a_kill_behind_a_resume_repeats_no_event,
     a_nan_never_reaches_the_weights, a_run_of_nan_stops_and_says_why, early_stopping_ends_the_run, keys_have_their_effect,
     a_checkpoint_that_cannot_be_written_costs_no_training,
     gradual_unfreezing_survives_kills, the_trunk_cache_changes_no_bit)
