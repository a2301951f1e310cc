"""Promise: kill anywhere, same weights. Each trial trains a tiny model, is killed by SIGKILL at random moments, once at least, is started again until
it ends, and must have the same bytes in weights and moments and the same metrics (times and rates aside) as an undisturbed run.

    HONE=build/release/hone python3 tests/torture/kill_resume.py [--trials 40] [--kills 6] [--seed 1] [--precision bf16]
                                       [--task lm|sft] [--lora]"""
from promise import *
from tiny import killed_run, make_model
from tiny_decoder import make_decoder, make_lm_config, make_sft_config

TASKS = {"classify": (make_model, make_config), "lm": (make_decoder, make_lm_config),
         "sft": (make_decoder, make_sft_config)}


def main():
    parser = options(__doc__, 3)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--task", choices=TASKS, default="classify")
    parser.add_argument("--lora", action="store_true", help="adapters on a frozen base")
    chosen = parser.parse_args()
    make_source, make = TASKS[chosen.task]
    sections = dict(train={"epochs": 2, "precision": chosen.precision}, checkpoint={"every": "7 steps"},
                    freeze={"unfreeze": "20 steps", "lr_decay": 0.9}, eval={"every": "15 steps"})
    if chosen.lora:
        sections["lora"] = {"r": 4, "dropout": 0.1}
    with tempfile.TemporaryDirectory(prefix="hone-torture-") as base:
        model = make_source(os.path.join(base, "model"))
        plain = os.path.join(base, "plain")
        began = time.time()
        hone("train", make(plain + ".json", model, plain, **sections))
        shortest = [time.time() - began]
        expected, events, kills = digests(plain), metrics(plain), []

        def killed(_, rng, folder):
            run, struck = os.path.join(folder, "run"), 0
            while not struck:  # one that ended before its kill came says how long one takes now, and is no trial
                shutil.rmtree(run, ignore_errors=True)
                began = time.time()
                struck = killed_run(make(run + ".json", model, run, **sections), rng, chosen.kills, longest=0.8 * shortest[0])
                if not struck:
                    shortest[0] = min(shortest[0], time.time() - began)
                assert digests(run) == expected, "weights or moments differ"
                assert metrics(run) == events, "metrics differ"
            kills.append(struck)

        return attempt(f"kill anywhere, same weights ({chosen.task}{', LoRA' if chosen.lora else ''}, {chosen.precision})",
                       range(chosen.trials or 40), killed, chosen, lambda: f"{sum(kills)} kills")


sys.exit(main() != 0)
