"""Promise: kill anywhere, same weights. Each trial trains a tiny model, is killed by SIGKILL at random moments, is started again until
it ends, and must have the same bytes in weights and moments and the same metrics (times and rates aside) as an undisturbed run.

    HONE=build/release/hone python3 tests/torture/kill_resume.py [--trials 50] [--kills 6] [--seed 1] [--precision bf16]
                                       [--task lm|sft] [--lora]

Prints `promise, tried, held` and the seed; every failure with what differed."""
import argparse, os, random, sys, tempfile, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
from tiny import digests, hone, killed_run, make_config, make_model, metrics
from tiny_decoder import make_decoder, make_lm_config, make_sft_config

TASKS = {"classify": (make_model, make_config), "lm": (make_decoder, make_lm_config),
         "sft": (make_decoder, make_sft_config)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--task", choices=TASKS, default="classify")
    parser.add_argument("--lora", action="store_true", help="adapters on a frozen base")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    make_source, make = TASKS[options.task]
    held, kills, started = 0, 0, time.time()
    sections = dict(train={"epochs": 2, "precision": options.precision}, checkpoint={"every": "7 steps"},
                    freeze={"unfreeze": "20 steps", "lr_decay": 0.9}, eval={"every": "15 steps"})
    if options.lora:
        sections["lora"] = {"r": 4, "dropout": 0.1}
    with tempfile.TemporaryDirectory(prefix="hone-torture-") as folder:
        model = make_source(os.path.join(folder, "model"))
        config = make(os.path.join(folder, "plain.json"), model, os.path.join(folder, "plain"), **sections)
        hone("train", config)
        expected, events = digests(os.path.join(folder, "plain")), metrics(os.path.join(folder, "plain"))
        for trial in range(options.trials):
            run = os.path.join(folder, f"run{trial}")
            config = make(run + ".json", model, run, **sections)
            try:
                kills += killed_run(config, rng, options.kills)
                assert digests(run) == expected, "weights or moments differ"
                assert metrics(run) == events, "metrics differ"
                held += 1
            except AssertionError as problem:
                print(f"trial {trial}: {problem}")
    print(f"{options.task}{' with LoRA' if options.lora else ''}: kill anywhere, same weights: tried {options.trials}, held {held}; {kills} kills, seed {options.seed}, "
          f"{options.precision}, {time.time() - started:.0f} s")
    sys.exit(held != options.trials)


main()
