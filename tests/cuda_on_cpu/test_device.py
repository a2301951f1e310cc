"""Which device a run takes, and what becomes of one whose device fails: hone with an emulated GPU (HONE_EMU_*: runtime.c), and hone
as it was built."""
import json, os, shutil, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import tiny
from tiny import digests, main, make_config, make_model, metrics

PLAIN, EMULATED = tiny.HONE, os.path.abspath(os.environ["HONE_EMULATED"])


def hone(program, *args, check=0, **environment):
    done = subprocess.run([program, *map(str, args)], capture_output=True, text=True,
                          env={**os.environ, **{k: str(v) for k, v in environment.items()}})
    assert done.returncode == check, f"{args}: exit code {done.returncode}, expected {check}\n{done.stdout}\n{done.stderr}"
    return done


def setup(folder, name, **sections):
    model = os.path.join(folder, "model")
    if not os.path.exists(model):
        make_model(model)
    sections.setdefault("train", {"max_steps": 6, "log_every": 1, "batch_examples": 8})
    sections.setdefault("eval", {"every": "4 steps", "metric": "accuracy"})
    sections.setdefault("checkpoint", {"every": "2 steps", "keep": 2})
    return make_config(os.path.join(folder, name + ".json"), model, os.path.join(folder, name), **sections), os.path.join(folder, name)


def losses(run):
    return [(e["step"], e["loss"], e["grad_norm"]) for e in metrics(run) if e["event"] == "step"]


def the_gpu_trains_as_the_cpu_does(folder):
    for precision, apart in (("fp32", 1e-5), ("bf16", 2e-2)):
        runs = []
        for device in ("cpu", "cuda"):
            config, run = setup(folder, device + precision)
            said = hone(EMULATED, "train", config, f"train.device={device}", f"train.precision={precision}").stderr
            assert ("cuda sm_80" in said) == (device == "cuda"), said
            runs.append(losses(run))
        assert len(runs[0]) == 6, runs[0]
        for (step, loss, norm), (step_too, loss_too, norm_too) in zip(*runs):
            assert step == step_too and abs(loss - loss_too) <= apart * loss and abs(norm - norm_too) <= 10 * apart * norm, (precision, runs)


def best_and_final_are_read_by_any_hone(folder):
    config, run = setup(folder, "run")
    hone(EMULATED, "train", config, "train.device=cuda")
    dev = "data.dev=" + tiny.DEV
    here = json.loads(hone(PLAIN, "eval", run, dev, "--json").stdout)
    there = json.loads(hone(EMULATED, "eval", run, dev, "train.device=cuda", "--json").stdout)
    assert here["examples"] == there["examples"] and abs(here["loss"] - there["loss"]) < 1e-5 * here["loss"], (here, there)
    assert here["accuracy"] == there["accuracy"], (here, there)


def without_cuda(folder):
    config, run = setup(folder, "run")
    said = hone(PLAIN, "train", config, "train.device=cuda", check=1).stderr
    assert "train.device=cuda: this hone was built without CUDA" in said, said
    assert not os.path.exists(os.path.join(run, "metrics.jsonl"))
    assert "train.device" not in hone(PLAIN, "train", config, "train.max_steps=1").stderr


def without_a_gpu(folder):
    config, run = setup(folder, "run")
    said = hone(EMULATED, "train", config, "train.device=cuda", check=1, HONE_EMU_ABSENT=1).stderr
    assert "train.device=cuda: no usable GPU" in said, said
    said = hone(EMULATED, "train", config, "train.max_steps=1", HONE_EMU_ABSENT=1).stderr
    assert "no usable GPU" in said and "running on the CPU" in said and "cuda sm" not in said, said
    config, run = setup(folder, "auto")
    assert "cuda sm_80" in hone(EMULATED, "train", config, "train.max_steps=1").stderr
    plan = hone(EMULATED, "plan", config, "train.device=cuda", HONE_EMU_ABSENT=1).stdout
    assert "workspace" in plan and "free on this machine" not in plan, plan
    assert plan.splitlines()[:7] == hone(EMULATED, "plan", config, "train.device=cuda").stdout.splitlines()[:7]


def too_little_memory(folder):
    config, run = setup(folder, "run")
    said = hone(EMULATED, "train", config, "train.device=cuda", check=1, HONE_EMU_MEMORY=1 << 20).stderr
    assert "1 MiB are free" in said and "train.slice_tokens" in said, said


def a_lost_device_loses_no_checkpoint(folder):
    """The GPU fails somewhere in the middle, again and again; each run goes on from the last checkpoint, and the end is that of a run
    that never failed."""
    config, whole = setup(folder, "whole")
    hone(EMULATED, "train", config, "train.device=cuda", "eval.every=off")
    config, run = setup(folder, "run")
    failures = 0
    for calls in (700, 400, 40, 700):
        done = subprocess.run([EMULATED, "train", config, "train.device=cuda", "eval.every=off"], capture_output=True, text=True,
                              env={**os.environ, "HONE_EMU_FAIL": f"{calls}:719"})
        if done.returncode == 0:
            break
        failures += 1
        assert done.returncode == 1 and "unspecified launch failure" in done.stderr, done.stderr
        if os.path.exists(os.path.join(run, "checkpoints")) and os.listdir(os.path.join(run, "checkpoints")):
            hone(PLAIN, "verify", run)
    assert failures >= 3, failures
    hone(EMULATED, "train", config, "train.device=cuda", "eval.every=off")
    assert digests(run) == digests(whole)


if __name__ == "__main__":
    main(the_gpu_trains_as_the_cpu_does, best_and_final_are_read_by_any_hone, without_cuda, without_a_gpu, too_little_memory,
         a_lost_device_loses_no_checkpoint)
