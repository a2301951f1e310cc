"""Promise: killed at any write of a save, the old checkpoint or the new one. A training is run under strace once to list every call
by which it changes its run folder, HDF5's writes among them; then it is killed at each of these calls in turn. What stands must
verify and hold at least what was saved before; started again, the run must end with the bytes of an undisturbed one.

    HONE=build/release/hone python3 tests/torture/kill_points.py [--trials 0] [--seed 1]

tests/checkpoints/test_faults.c does the same by hone's own table of calls."""
import strace
from promise import *


def main():
    chosen = options(__doc__, 16).parse_args()
    strace.needed()
    with tempfile.TemporaryDirectory(prefix="hone-torture-", dir=SHM) as base:
        training = Training(base)
        found = strace.points(training, os.path.join(base, "model"))

        def killed(point, rng, folder):
            config, run = training.fresh(folder)
            struck, done = strace.strike(point, "signal=KILL", config, run)
            assert struck and done.returncode == -9, f"was not killed there (exit code {done.returncode})"
            stands(run, point[3])
            training.goes_on(config, run)

        return attempt("killed at every write point of a run: old or new", spread(found, chosen.trials), killed, chosen,
                       lambda: f"{len(found)} points in the run")


sys.exit(main() != 0)
