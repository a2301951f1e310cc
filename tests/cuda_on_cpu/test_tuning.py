"""train.tune: products chosen by time belong to the run. The double of cuBLASLt is slow with all algorithms but one (HONE_EMU_LT_FASTEST),
and each has bits of its own; so a run that chose again, or went by the rule, is told by its weights. Few weights train, so that products are
timed in the activations' memory and not in the gradients'."""
import json, os, shutil, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import tiny
from tiny import digests, main, make_config, make_model, newest

EMULATED = os.path.abspath(os.environ["HONE_EMULATED"])
SPLIT, PLAIN = 1, 2  # cublas_lt.h
tiny.LAYERS = 1


def train(folder, name, *keys, program=EMULATED, check=0, **environment):
    """Trains in folder/name, into its folder "run"; what was said."""
    config, place = os.path.join(folder, "config.json"), os.path.join(folder, name)
    if not os.path.exists(config):
        make_config(config, make_model(os.path.join(folder, "model")), "run", data={"dev": []}, eval={"every": "off"}, freeze={"below": "layer.0"}, checkpoint={"every": "2 steps", "keep": 9},
                    train={"max_steps": 4, "log_every": 1, "batch_examples": 2, "tune": True})
    os.makedirs(place, exist_ok=True)
    done = subprocess.run([program, "train", config, *keys], capture_output=True, text=True, cwd=place,
                          env={**os.environ, **{k: str(v) for k, v in environment.items()}})
    assert done.returncode == check, f"{name}: exit code {done.returncode}, expected {check}\n{done.stderr}"
    return done.stderr


def run_of(folder, name):
    return os.path.join(folder, name, "run")


def killed(folder, name, after=2):
    """The run "first" as a kill leaves it behind the checkpoint of step `after`; 0: before there was one."""
    shutil.copytree(os.path.join(folder, "first"), os.path.join(folder, name))
    run = run_of(folder, name)
    shutil.rmtree(os.path.join(run, "final"))
    for checkpoint in os.listdir(os.path.join(run, "checkpoints")):
        if int(checkpoint[5:]) > after:
            shutil.rmtree(os.path.join(run, "checkpoints", checkpoint))
    return run


def plans(run):
    with open(os.path.join(run, "plans.jsonl")) as file:
        header, *rest = map(json.loads, file)
    return header, rest


def state(run):
    with open(os.path.join(newest(run), "manifest.json")) as file:
        return json.load(file)["state"]


def goes_on_with_what_was_chosen(folder, weights):
    for after in (2, 0):
        copy = killed(folder, f"killed-{after}", after)
        said = train(folder, f"killed-{after}", HONE_EMU_LT_FASTEST=PLAIN)
        assert "train.tune: products as they stand in" in said and "chosen" not in said, said
        assert digests(copy) == weights, after
    copy = killed(folder, "off")
    assert "train.tune: true -> false" in train(folder, "off", "train.tune=false", check=1)
    train(folder, "off", "train.tune=false", "resume.force=true")
    assert state(copy)["tuned"] is None


def a_table_that_was_lost_is_an_error(folder, digest, weights):
    def shorter(path):
        with open(path) as file:
            lines = file.readlines()
        with open(path, "w") as file:
            file.writelines(lines[:-1])

    def damaged(path):
        with open(path, "r+") as file:
            text = file.read()
            file.seek(text.index('"algorithm":"') + len('"algorithm":"'))
            file.write("x")

    for name, spoil, what, force in (("lost", os.remove, "No such file", "products chosen anew"),
                                     ("shorter", shorter, "has the digest", "what it holds now"),
                                     ("damaged", damaged, "an algorithm is 128 hexadecimal digits", "products chosen anew")):
        copy = killed(folder, name)
        spoil(os.path.join(copy, "plans.jsonl"))
        said = train(folder, name, check=1)
        assert f"the checkpoint was made with tuned products of the digest {digest}, but" in said and what in said, said
        assert f"restore the file, or resume.force=true goes on with {force}, and other bits" in said, said
        said = train(folder, name, "resume.force=true", HONE_EMU_LT_FASTEST=PLAIN)
        assert digest in said and what in said and ("were chosen" in said) == (name != "shorter"), said
        assert state(copy)["tuned"] not in (None, digest) and (name == "shorter" or digests(copy) != weights), name
    copy = killed(folder, "young", after=0)  # no checkpoint depends on the table yet
    damaged(os.path.join(copy, "plans.jsonl"))
    said = train(folder, "young")
    assert "an algorithm is 128 hexadecimal digits" in said and "were chosen" in said, said


def another_gpu_chooses_anew_and_says_so(folder, weights):
    there = []
    copy = killed(folder, "moved")
    for chosen in (True, False):
        said = train(folder, "moved", HONE_EMU_NAME="other GPU", HONE_EMU_LT_FASTEST=PLAIN)
        assert "the checkpoint was made with cuda sm_80, emulated GPU, cublaslt" in said and "with other bits" in said, said
        assert ('products were tuned on "emulated GPU"' in said) == ("were chosen" in said) == chosen, said
        assert plans(copy)[0]["gpu"] == "other GPU"
        there.append(digests(copy))
        shutil.rmtree(os.path.join(copy, "checkpoints"))  # killed before it saved anything there
        shutil.copytree(os.path.join(run_of(folder, "first"), "checkpoints", "step-2"), os.path.join(copy, "checkpoints", "step-2"))
    assert there[0] == there[1] != weights


def a_run_keeps_its_products(folder):
    said, run = train(folder, "first", HONE_EMU_LT_FASTEST=SPLIT), run_of(folder, "first")
    assert "train.tune: the fastest products were chosen and stand in run/plans.jsonl" in said, said
    header, chosen = plans(run)
    assert header["gpu"] == "emulated GPU" and len(chosen) > 15, (header, len(chosen))
    train(folder, "rule", "train.tune=false", HONE_EMU_LT_FASTEST=SPLIT)
    rule, weights = run_of(folder, "rule"), digests(run)
    assert not os.path.exists(os.path.join(rule, "plans.jsonl")) and state(rule)["tuned"] is None
    assert digests(rule) != weights
    goes_on_with_what_was_chosen(folder, weights)
    a_table_that_was_lost_is_an_error(folder, state(run)["tuned"], weights)
    another_gpu_chooses_anew_and_says_so(folder, weights)


def the_cpu_has_nothing_to_choose(folder):
    said = train(folder, "with", program=tiny.HONE)
    assert "train.tune: nothing to choose among" in said and not os.path.exists(os.path.join(run_of(folder, "with"), "plans.jsonl")), said
    train(folder, "without", "train.tune=false", program=tiny.HONE)
    assert digests(run_of(folder, "with")) == digests(run_of(folder, "without"))


if __name__ == "__main__":
    main(a_run_keeps_its_products, the_cpu_has_nothing_to_choose)
