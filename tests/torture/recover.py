"""Promise: a fault while recovering from a fault loses nothing. A training is killed by the clock; what is left of it is started
again up to four times under another fault (killed by the clock, killed at a write, an error or a disk that is full from one write
on), each drawn by the trial's seed; then it is left alone and must end with the bytes of an undisturbed run.

    HONE=build/release/hone python3 tests/torture/recover.py [--trials 100] [--seed 1]"""
import strace
from promise import *


def by_the_clock(config, rng, longest):
    process = subprocess.Popen([HONE, "train", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        code = process.wait(timeout=rng.uniform(0.02, longest))
        assert code in (0, 1), f"exit code {code}"
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def main():
    chosen = options(__doc__, 10).parse_args()
    strace.needed()
    with tempfile.TemporaryDirectory(prefix="hone-torture-", dir=SHM) as base:
        training = Training(base)
        found = strace.points(training, os.path.join(base, "model"))
        struck = []

        def again(_, rng, folder):
            config, run = training.fresh(folder)
            struck.append(by_the_clock(config, rng, training.seconds))
            said = ""
            for _ in range(rng.randint(1, 4)):
                what = rng.choice(["clock", "signal=KILL", "signal=KILL", "error=EIO", "error=ENOSPC+"])
                if what == "clock":
                    struck.append(by_the_clock(config, rng, training.seconds))
                    continue
                hit, done = strace.strike(rng.choice(found), what.rstrip("+"), config, run, "+" if what[-1] == "+" else "")
                struck.append(hit)
                assert done.returncode in (0, 1, -9), f"exit code {done.returncode}: {done.stderr[-500:]}"
                said += done.stderr
                stands(run, -1)
            training.goes_on(config, run, said)

        return attempt("faults while recovering from faults", range(chosen.trials or 100), again, chosen,
                       lambda: f"{sum(struck)} faults struck")


sys.exit(main() != 0)
