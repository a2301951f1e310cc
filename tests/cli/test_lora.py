"""LoRA end to end: what a run with adapters leaves, that it opens as a MODEL, merging, going on from an adapter, kill and resume."""
import json, os, random, re, shutil

from tiny import LABELS, TRAIN, digests, hone, killed_run, main, make_config, make_model, metrics
from tiny_decoder import make_decoder, make_lm_config


def decoder_run(folder, run="run", model=None, **sections):
    model = model or os.path.join(folder, "model")
    if not os.path.exists(model):
        make_decoder(model)
    path = os.path.join(folder, run)
    sections.setdefault("lora", {"r": 4, "alpha": 8, "dropout": 0.1, "targets": ["q_proj", "v_proj", "gate_proj", "down_proj"]})
    sections.setdefault("optim", {"lr": 1e-2})
    return make_lm_config(path + ".json", model, path, **sections), path


def json_of(*path):
    with open(os.path.join(*path)) as f:
        return json.load(f)


def loss_of(model, folder, *overrides):
    return json.loads(hone("eval", model, "data.dev=" + os.path.join(folder, "dev.txt"), "data.max_tokens=48", "--json", *overrides).stdout)["loss"]


def arena(plan, name):
    return float(re.search(rf"^{name} +([0-9.]+) MiB", plan, re.M).group(1))


def a_decoder_learns(folder):
    config, run = decoder_run(folder, train={"max_steps": 12}, eval={"every": "6 steps"})
    base = open(os.path.join(folder, "model", "model.safetensors"), "rb").read()
    plan = hone("plan", config).stdout
    hone("train", config)
    losses = [e["loss"] for e in metrics(run) if e["event"] == "eval"]
    assert losses[-1] < losses[0], losses
    for place in ("best", "final"):
        assert sorted(os.listdir(os.path.join(run, place)))[:2] == ["adapter_config.json", "adapter_model.safetensors"], place
        assert "model.safetensors" not in os.listdir(os.path.join(run, place))
    said = json_of(run, "final", "adapter_config.json")
    assert said["r"] == 4 and said["lora_alpha"] == 8 and said["peft_type"] == "LORA" and said["task_type"] == "CAUSAL_LM", said
    assert said["base_model_name_or_path"] == os.path.realpath(os.path.join(folder, "model")), said
    assert all("lora_" in name for name in digests(run)), "a checkpoint holds what never trains"
    assert open(os.path.join(folder, "model", "model.safetensors"), "rb").read() == base
    full = hone("plan", config, "lora.r=0").stdout
    for name in ("gradients", "optimizer"):
        assert arena(plan, name) < 0.5 * arena(full, name), (plan, full)
    assert abs(loss_of(run, folder) - min(losses)) < 1e-6
    adapter, merged = os.path.join(folder, "adapter"), os.path.join(folder, "merged")
    hone("export", run, adapter)
    last = open(os.path.join(adapter, "adapter_model.safetensors"), "rb").read()
    hone("export", run, merged, "--merge")
    assert not os.path.exists(os.path.join(merged, "adapter_config.json"))
    assert abs(loss_of(merged, folder) - loss_of(adapter, folder)) < 1e-5
    assert abs(loss_of(merged, folder) - loss_of(os.path.join(folder, "model"), folder)) > 1e-3, "nothing was merged"
    hone("export", run, merged, "--merge", "--type", "bf16")
    assert last == open(os.path.join(adapter, "adapter_model.safetensors"), "rb").read()


def an_encoder_learns_in_bf16(folder):
    model, run = os.path.join(folder, "model"), os.path.join(folder, "run")
    make_model(model)
    config = make_config(run + ".json", model, run, lora={"r": 3, "rslora": True}, optim={"lr": 1e-2},
                         train={"precision": "bf16", "max_steps": 40})
    plan = hone("plan", config).stdout
    full = hone("plan", config, "lora.r=0").stdout
    assert arena(plan, "parameters") < 0.5 * arena(full, "parameters"), (plan, full)
    hone("train", config)
    said = json_of(run, "final", "adapter_config.json")
    assert said["use_rslora"] and said["task_type"] == "SEQ_CLS" and "classifier" in said["modules_to_save"], said
    assert json_of(run, "final", "config.json")["id2label"]["1"] == LABELS[1]
    want = max(e["accuracy"] for e in metrics(run) if e["event"] == "eval")
    got = json.loads(hone("eval", run, "--json").stdout)
    assert abs(got["accuracy"] - want) < 1e-6, (got, want)
    lines = open(TRAIN, encoding="utf8").readlines()[:3]
    texts = os.path.join(folder, "texts.jsonl")
    open(texts, "w", encoding="utf8").writelines(lines)
    assert len(hone("predict", run, "data.predict=" + texts).stdout.splitlines()) == 3


def killed_runs_end_with_the_same_bytes(folder):
    config, run = decoder_run(folder, train={"max_steps": 20}, checkpoint={"every": "4 steps"})
    hone("train", config)
    config, other = decoder_run(folder, "killed", train={"max_steps": 20}, checkpoint={"every": "4 steps"})
    kills = killed_run(config, random.Random(5), 4, 0.1, 1.5)
    assert digests(other) == digests(run), f"weights differ after {kills} kills"
    assert metrics(other) == metrics(run), f"metrics differ after {kills} kills"


def an_adapter_goes_on(folder):
    config, run = decoder_run(folder, train={"max_steps": 8}, eval={"every": "4 steps", "restore_best": False})
    hone("train", config)
    final = os.path.join(run, "final")
    before = loss_of(final, folder)
    config, other = decoder_run(folder, "more", model=final, lora={}, train={"max_steps": 8}, eval={"every": "8 steps"})
    hone("train", config)
    assert loss_of(other, folder) < before
    assert json_of(other, "final", "adapter_config.json")["r"] == 4
    assert "adapter" in hone("train", config, "lora.r=2", "output.dir=" + other + "2", check=2).stderr
    moved, adapter = os.path.join(folder, "moved"), os.path.join(folder, "adapter")
    shutil.copytree(final, adapter)
    os.rename(os.path.join(folder, "model"), moved)
    assert "base_model_name_or_path" in hone("eval", adapter, "data.dev=" + os.path.join(folder, "dev.txt"), check=1).stderr
    assert abs(loss_of(moved, folder, "lora.adapter=" + adapter) - before) < 1e-6


def what_is_wrong_is_named(folder):
    config, run = decoder_run(folder)
    for overrides, words in (("lora.targets=q_proj,nothing", ("nothing", "q_proj", "down_proj")),
                            ("lora.targets=lm_head", ("lm_head",)),
                            ("lora.modules_to_save=nothing", ("nothing",)),
                            ("lora.modules_to_save=q_proj lora.targets=v_proj", ("qkv", "all of them"))):
        text = hone("plan", config, *overrides.split(), check=None)
        assert text.returncode in (1, 2) and all(word in text.stderr for word in words), (overrides, text.stderr)


main(a_decoder_learns, an_encoder_learns_in_bf16, killed_runs_end_with_the_same_bytes, an_adapter_goes_on, what_is_wrong_is_named)
