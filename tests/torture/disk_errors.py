"""Promise: a disk that refuses costs no checkpoint. Every call by which a training changes its run folder (strace.py) fails in
turn with EIO, ENOSPC or EDQUOT, once or from there on; hone must say what failed and where, or be able to do without it. What was
saved before must stand, and once the disk is well again the same command must end with the bytes of an undisturbed run.

    HONE=build/release/hone python3 tests/torture/disk_errors.py [--trials 0] [--seed 1]

tests/checkpoints/test_faults.c tears writes and fails calls by hone's own table; disk_full.py fills real disks."""
import strace
from promise import *

ERRORS = {"EIO": "Input/output error", "ENOSPC": "No space left on device", "EDQUOT": "Disk quota exceeded"}


def main():
    chosen = options(__doc__, 18).parse_args()
    strace.needed()
    with tempfile.TemporaryDirectory(prefix="hone-torture-", dir=SHM) as base:
        training = Training(base)
        ways = [(name, more) for name in ERRORS for more in ("", "+")]
        found = strace.points(training, os.path.join(base, "model"))
        cases = [(point, *ways[n % len(ways)]) for n, point in enumerate(found)]
        if not chosen.trials:
            cases = [(point, *way) for point in found for way in ways[:2]] + cases
        stopped = []

        def failed(case, rng, folder):
            point, name, more = case
            config, run = training.fresh(folder)
            struck, done = strace.strike(point, "error=" + name, config, run, more)
            assert struck, "did not fail there"
            assert done.returncode in (0, 1), f"exit code {done.returncode}: {done.stderr[-500:]}"
            if done.returncode:
                stopped.append(case)
                assert ERRORS[name] in done.stderr and run in done.stderr, f"does not say what failed: {done.stderr[-500:]}"
            elif "step-" in point[1]:
                assert ERRORS[name] in done.stderr or point[0].startswith("unlink"), f"says nothing: {done.stderr[-500:]}"
            stands(run, point[3])
            training.goes_on(config, run, done.stderr)

        return attempt("EIO, ENOSPC, EDQUOT at every call: said, and the checkpoint before stands", spread(cases, chosen.trials),
                       failed, chosen, lambda: f"{len(stopped)} ended the training")


sys.exit(main() != 0)
