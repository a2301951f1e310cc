"""What `hone plan` counts is what a run takes: the peak of its memory is the arenas plus the base that it states, for both
precisions, frozen or not, with activations kept or made again. The arenas are full at the largest batch, which every run here meets.
Not under the sanitizers, which keep books of their own."""
import os, re, sys

import tiny
from tiny import hone, main, make_config, make_model

if os.path.basename(os.environ.get("HONE_BUILD", "")) != "release":
    print("skipped: memory is measured in the release build")
    sys.exit(77)


def peak(*args):
    """MiB that `hone args` took at most."""
    process = os.posix_spawn(tiny.HONE, [tiny.HONE, *args], os.environ,
                             file_actions=[(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)])
    _, status, usage = os.wait4(process, 0)
    assert status == 0, f"exit code {os.waitstatus_to_exitcode(status)}"
    return usage.ru_maxrss / 1024


def the_plan_is_what_a_run_takes(folder):
    tiny.HIDDEN, tiny.LAYERS, tiny.MLP = 384, 6, 1536
    model = make_model(os.path.join(folder, "model"))
    for name, keys in {"fp32": {"train": {"precision": "fp32"}}, "bf16": {"train": {"precision": "bf16"}},
                       "frozen": {"freeze": {"below": "layer.4"}}, "selective": {"train": {"recompute": "selective"}},
                       "full": {"train": {"precision": "bf16", "recompute": "full"}}}.items():
        config = make_config(os.path.join(folder, name + ".json"), model, os.path.join(folder, name), **keys)
        planned = float(re.search(r"^peak +([\d.]+) MiB", hone("plan", config).stdout, re.M)[1])
        taken = peak("train", config)
        print(f"{name}: {planned:.0f} MiB planned, {taken:.0f} MiB taken")
        assert abs(taken - planned) <= 0.1 * planned, f"{name}: {planned} MiB planned, {taken} MiB taken"


main(the_plan_is_what_a_run_takes)
