"""Jobs of several processes that stop, are killed, go on with another number of processes, or never begin."""
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
from ranks import *

STEPS = 30


def setup(folder, run, **sections):
    usual = {"eval": {"every": "10 steps"}, "checkpoint": {"every": "5 steps", "keep": 2}}
    return prepare(folder, run, make_model, make_config, {"max_steps": STEPS, "timeout": 8, "silence": 4}, usual | sections)


def undisturbed(folder):
    config, run = setup(folder, "undisturbed")
    train(1, config)
    return run


def same(a, b):
    assert metrics(a) == metrics(b), [pair for pair in zip(metrics(a), metrics(b)) if pair[0] != pair[1]][:1]
    assert weights(a) == weights(b)


def a_run_goes_on_with_any_number(folder):
    """4 processes save, 1 goes on, then 8, then 2; and every file of a checkpoint is verified."""
    flat = {"optim": {"lr": 1e-3, "schedule": "constant", "warmup": 0}, "data": {"dev": []}}  # or each end would move the rates, or choose a best
    config, expected = setup(folder, "expected", **flat)
    train(1, config)
    config, run = setup(folder, "sizes", **flat)
    for ranks, steps in ((4, 8), (1, 14), (8, 21), (2, STEPS)):
        said = train(ranks, config, f"train.max_steps={steps}", "resume.force=true")
        files = sorted(name for name in os.listdir(newest(run)) if name.endswith(".h5"))
        assert files == [f"rank-{r}.h5" for r in range(ranks)], (ranks, files)
        hone("verify", run)
        assert steps == 8 or "going on from step" in said, said
    assert weights(run) == weights(expected)


def a_signal_to_one_stops_all(folder):
    expected = undisturbed(folder)
    for ranks, told in ((2, 1), (4, 0), (4, 3)):
        config, run = setup(folder, f"told-{ranks}-{told}")
        job = Job(ranks, config)
        job.wait_for("step 6 of")
        job.processes[told].send_signal(signal.SIGTERM)
        codes = job.wait(None)
        assert codes == [75] * ranks, (codes, job.everything())
        assert "saved; run the same command again to go on" in job.said(0), job.said(0)
        job.close()
        train(ranks, config)
        same(run, expected)


def a_kill_ends_the_job_and_costs_nothing(folder):
    expected = undisturbed(folder)
    for ranks, victim in ((2, 0), (3, 2), (4, 1)):
        config, run = setup(folder, f"killed-{ranks}-{victim}", train={"elastic": ranks != 3})
        job = Job(ranks, config)
        job.wait_for("step 12 of")
        began = time.monotonic()
        job.processes[victim].send_signal(signal.SIGKILL)
        codes = job.wait(None, within=40)
        took = time.monotonic() - began
        assert took < 30 and all(code not in (0, 75) for code in codes), (took, codes)
        said = "".join(job.said(r) for r in range(ranks) if r != victim)
        assert re.search(rf"rank {victim} \([^)]*pid \d+\)", said), said
        job.close()
        logs = [os.path.join(run, "logs", f"rank-{r}.log") for r in range(ranks)]
        assert [os.path.exists(log) for log in logs] == [r != victim for r in range(ranks)], os.listdir(run)
        assert "forward and backward" in open(logs[victim - 1], encoding="utf8").read(), open(logs[victim - 1]).read()
        train(ranks, config)
        if ranks != 3:
            same(run, expected)


def a_disk_that_refuses_one_rank_costs_no_training(folder):
    """Its part of every checkpoint fails, and so do they on all ranks; at the end all say so."""
    expected = undisturbed(folder)
    config, run = setup(folder, "refused")
    job = Job(2, config, limited={1: 60000})
    codes = job.wait(None)
    assert codes == [1, 1], (codes, job.everything())
    said = job.said(0)
    assert "rank 1" in said and "File too large" in said and f"step {STEPS} of {STEPS}" in said, said
    assert not [name for name in os.listdir(os.path.join(run, "checkpoints")) if os.path.exists(os.path.join(run, "checkpoints", name, "manifest.json"))]
    job.close()
    train(2, config)
    assert weights(run) == weights(expected)


def an_evaluation_may_take_long(folder):
    """Longer than the time after which a rank without a sign of progress counts as stuck: it gives signs."""
    many = os.path.join(folder, "many.jsonl")
    for times in (40, 400, 4000):  # until it is long on this machine and in this build
        with open(many, "w", encoding="utf8") as f:
            f.write(open(DEV, encoding="utf8").read() * times)
        config, run = setup(folder, f"long-{times}", train={"max_steps": 2, "timeout": 1, "elastic": False}, data={"dev": [many]}, eval={"every": "off"})
        began = time.monotonic()
        said = train(2, config)
        assert "eval dev" in said, said
        if time.monotonic() - began > 4:
            break


def ranks_that_differ_are_refused(folder):
    config, run = setup(folder, "differ")
    other = os.path.join(folder, "other.jsonl")
    with open(other, "w", encoding="utf8") as f:
        f.writelines(open(TRAIN, encoding="utf8").readlines()[:900])
    for changed, expected in ((["optim.lr=0.5"], "the config differs"), ([f"data.train={other}"], "differ")):
        job = Job(2, config, changed={1: changed})
        codes = job.wait(None)
        assert 0 not in codes and "rank 1" in job.said(0) and expected in job.said(0), (codes, job.everything())
        job.close()
    assert not os.path.exists(os.path.join(run, "metrics.jsonl"))


def what_cannot_be_is_said(folder):
    config, run = setup(folder, "three")
    job = Job(3, config)
    codes = job.wait(None)
    assert codes == [2, 2, 2] and "train.elastic: expected 1, 2, 4" in job.said(0), (codes, job.everything())
    job.close()
    done = hone("train", config, check=2, env=os.environ | {"RANK": "0"})
    assert "WORLD_SIZE" in done.stderr, done.stderr
    done = hone("train", config, "train.transport=none", "train.max_steps=2", env=os.environ | {"RANK": "0", "WORLD_SIZE": "2"})
    assert "final weights" in done.stdout, done.stdout


main(a_run_goes_on_with_any_number, a_signal_to_one_stops_all, a_kill_ends_the_job_and_costs_nothing,
     a_disk_that_refuses_one_rank_costs_no_training, an_evaluation_may_take_long, ranks_that_differ_are_refused, what_cannot_be_is_said)
