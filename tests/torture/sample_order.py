"""Promise: the order of samples is exact, and its place is found at once. A training that saves after every step is resumed from
each step of its epochs: every later line of its metrics (a loss is that of its batch's samples) and the weights must be those of
the undisturbed run. Then a model of a few hundred weights is trained for 10^6 steps, and resumed at step 10 and there: both must be
at their next step in less than a second.

    HONE=build/release/hone python3 tests/torture/sample_order.py [--trials 0] [--far 1000000]

tests/data/test_order.c compares the samples' ids themselves."""
import json
from promise import *

LIMIT = 1.0  # seconds from the start of the process to its end one step later


def resumes(training, chosen):
    every = steps(os.path.join(training.folder, "run"))

    def resumed(step, rng, folder):
        config, run = training.unfinished(folder)
        for later in every:
            if later > step:
                shutil.rmtree(os.path.join(run, "checkpoints", f"step-{later}"))
        training.goes_on(config, run)

    return attempt("the order of samples is exact, resumed at every step", spread(every, chosen.trials), resumed, chosen,
                   lambda: f"{len(every)} steps")


def few_weights(folder):
    """Ten rows, a step a row."""
    tiny.HIDDEN, tiny.LAYERS, tiny.HEADS, tiny.MLP, tiny.POSITIONS = 8, 1, 1, 8, 16
    model, rows = tiny.make_model(os.path.join(folder, "few")), os.path.join(folder, "ten.jsonl")
    with open(rows, "w") as f:
        for n in range(10):
            f.write(json.dumps({"premise": "a " + "abcdefghij"[n], "hypothesis": "b", "label": tiny.LABELS[n % 3]}) + "\n")
    return model, rows


def seeks(base, chosen):
    model, rows = few_weights(base)
    seconds = {}

    def found(step, rng, folder):
        run = os.path.join(folder, "run")
        config = make_config(run + ".json", model, run, data={"train": [rows], "dev": []}, eval={"every": "off"},
                             train={"epochs": step // 10 + 1, "max_steps": step, "batch_examples": 1, "threads": 1,
                                    "log_every": 100000}, checkpoint={"every": "off"}, optim={"schedule": "constant", "warmup": 0})
        hone("train", config)
        began = time.monotonic()
        done = hone("train", config, f"train.max_steps={step + 1}", "resume.force=true")
        seconds[step] = time.monotonic() - began
        assert f"going on from step {step}" in done.stderr, done.stderr[-500:]
        assert steps(run)[-1] == step + 1
        assert seconds[step] < LIMIT, f"took {seconds[step]:.2f} s"

    return attempt("a place in the order is found at once", [10, chosen.far], found, chosen,
                   lambda: ", ".join(f"step {step} in {taken:.2f} s" for step, taken in sorted(seconds.items())))


def main():
    parser = options(__doc__, 8)
    parser.add_argument("--far", type=int, default=20000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hone-torture-", dir=SHM) as base:
        training = Training(base, train={"epochs": 3, "batch_examples": 2, "log_every": 1}, eval={"every": "1 epoch"},
                            checkpoint={"every": "1 steps", "keep": 100})
        failures = resumes(training, chosen)
        chosen.jobs = 1
        return failures + seeks(base, chosen)


sys.exit(main() != 0)
