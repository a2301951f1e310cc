"""Promise: evaluation, logging, profiling, saving, threads and caches change nothing: final weights and moments have the same bytes, whatever of
these is on or off and however often.

    HONE=build/release/hone python3 tests/torture/same_bits.py [--seed 3] [--all]

--all: two tasks in both precisions instead of one in fp32. Prints `promise, tried, held` and the seed; every configuration that changed something by name."""
import argparse, os, sys, tempfile, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
from tiny import digests, hone, make_config, make_model
from tiny_decoder import make_decoder, make_lm_config

VARIANTS = {
    "no evaluation": dict(eval={"every": "off"}, data={"dev": []}),
    "evaluation after every step": dict(eval={"every": "1 steps"}),
    "evaluation in other batches": dict(eval={"every": "4 steps", "batch_tokens": 300}),
    "every step logged": dict(train={"log_every": 1}),
    "nothing logged": dict(train={"log_every": 1000}),
    "profiled": dict(train={"profile": True}),
    "no checkpoint": dict(checkpoint={"every": "off"}),
    "a checkpoint every 3 steps": dict(checkpoint={"every": "3 steps", "keep": 1}),
    "one thread": dict(train={"threads": 1}),
    "three threads": dict(train={"threads": 3}),
    "one loader thread": dict(data={"threads": 1}),
    "two loader threads": dict(data={"threads": 2}),
    "no token cache": dict(data={"cache": "off"}),
    "nothing kept for backward": dict(train={"recompute": "full"}),
    "steps computed twice": dict(train={"check_every": 4}),
    "no spikes": dict(train={"spike_threshold": 0}),
    "much of it at once": dict(train={"threads": 1, "log_every": 1, "profile": True, "recompute": "selective"}, data={"threads": 2, "cache": "off"},
                               eval={"every": "2 steps"}, checkpoint={"every": "5 steps"}),
}


def merged(base, more):
    return {section: {**base.get(section, {}), **more.get(section, {})} for section in {**base, **more}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    tasks = [("classify", make_model, make_config), ("lm", make_decoder, make_lm_config)]
    tried, held, started = 0, 0, time.time()
    with tempfile.TemporaryDirectory(prefix="hone-torture-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        for task, make, configure in tasks[: 2 if options.all else 1]:
            model = make(os.path.join(folder, task))
            for precision in ("fp32", "bf16") if options.all else ("fp32",):
                base = dict(train={"max_steps": 14, "precision": precision, "seed": options.seed, "threads": 2})

                def train(name, more):
                    run = os.path.join(folder, f"{task}-{precision}-{name}".replace(" ", "-"))
                    hone("train", configure(run + ".json", model, run, **merged(base, more)))
                    return digests(run)

                expected = train("plain", {})
                variants = dict(VARIANTS)
                variants["a token cache that was there"] = dict(data={"cache": os.path.join(folder, f"{task}-{precision}-plain/cache")})
                for name, more in variants.items():
                    tried += 1
                    same = train(name, more) == expected
                    held += same
                    if not same:
                        print(f"FAILED {task}, {precision}: {name}: weights or moments differ")
    print(f"evaluation, logging, saving, threads and caches change nothing: tried {tried}, held {held}; seed {options.seed}, "
          f"{time.time() - started:.0f} s")
    sys.exit(held != tried)


main()
