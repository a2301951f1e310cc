"""Promises: every flipped byte is found; a damaged checkpoint is passed over for the one before it.

Flips: one bit of a random byte of a checkpoint of a megabyte, weights, HDF5's own structures and manifest; `hone verify` must end
with exit code 1 and name the file. Falling back: of n checkpoints the newest k are damaged, each in one of seven ways; training
must say which it passed over, go on, and end with the bytes of an undisturbed run; with all of them damaged it begins anew.

    HONE=build/release/hone python3 tests/torture/damage.py [--trials 10000] [--seed 1] [--keep 6]

tests/checkpoints/test_checkpoint.c flips every byte of a small checkpoint."""
from promise import *


def half(path):
    os.truncate(path, os.path.getsize(path) // 2)


WAYS = {"a flipped byte": lambda h5, manifest: flip(h5, os.path.getsize(h5) // 2),
        "a flipped byte in the manifest": lambda h5, manifest: flip(manifest, os.path.getsize(manifest) // 2),
        "half a file": lambda h5, manifest: half(h5), "half a manifest": lambda h5, manifest: half(manifest),
        "no file": lambda h5, manifest: os.remove(h5), "no manifest": lambda h5, manifest: os.remove(manifest),
        "an empty file": lambda h5, manifest: os.truncate(h5, 0)}


def flips(training, chosen):
    run = os.path.join(training.folder, "run")
    source = os.path.join(run, "checkpoints", f"step-{steps(run)[-1]}")
    size = sum(os.path.getsize(p) for p in files(run, steps(run)[-1]))

    def flipped(_, rng, folder):
        copy = os.path.join(folder, os.path.basename(source))
        shutil.copytree(source, copy)
        at, name = rng.randrange(size), "rank-0.h5"
        h5 = os.path.getsize(os.path.join(copy, name))
        if at >= h5:
            at, name = at - h5, "manifest.json"
        flip(os.path.join(copy, name), at, 1 << rng.randrange(8))
        done = hone("verify", copy, check=None)
        assert done.returncode == 1 and name in done.stderr, f"byte {at} of {name}: exit code {done.returncode}: {done.stderr[-300:]}"

    return attempt("every flipped byte is found, at random in a larger checkpoint", range(chosen.trials or 10000), flipped, chosen,
                   lambda: f"{size} bytes")


def falls_back(training, chosen):
    newest_first = steps(os.path.join(training.folder, "run"))[::-1]
    cases = [(k, way) for k in range(len(newest_first) + 1) for way in (WAYS if k else ["nothing"])]

    def fallen(case, rng, folder):
        k, way = case
        config, run = training.unfinished(folder)
        for step in newest_first[:k]:
            WAYS[way](*files(run, step))
        done = hone("train", config)
        for step in newest_first[:k]:
            assert f"step-{step}" in done.stderr, f"does not say that step-{step} was passed over: {done.stderr[-500:]}"
        assert digests(run) == training.expected, "weights or moments differ"

    return attempt("falls back to the newest good checkpoint and says so", cases if not chosen.trials or chosen.trials > 100
                   else spread(cases, 15), fallen, chosen, lambda: f"{len(newest_first)} checkpoints")


def main():
    parser = options(__doc__, 60)
    parser.add_argument("--keep", type=int, default=6)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hone-torture-", dir=SHM) as base:
        training = Training(base, checkpoint={"every": "1 steps", "keep": chosen.keep})
        return flips(training, chosen) + falls_back(training, chosen)


sys.exit(main() != 0)
