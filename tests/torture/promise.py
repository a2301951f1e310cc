"""What the programs of this folder share. Each of them tries one promise many times and ends with the line

    PROMISE: tried N, held M; what there is to know, seed S, T s

that tools/torture.py gathers. A trial that fails is said with its number and counts; nothing is tried again. Every trial draws
from its own seed (--seed and its number), so that `--only NUMBER` repeats it alone. Exit code 0: all held, 1: not, 77: cannot
be tried here."""
import argparse, concurrent.futures, hashlib, os, random, shutil, subprocess, sys, tempfile, time, traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import tiny
from tiny import DEV, HONE, TRAIN, digests, hone, make_config, metrics

SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # thousands of fsyncs: in memory where that is possible


def options(description, trials, jobs=None):
    """A parser with what every program takes; `trials` is the short form's count. A kill by the clock needs `jobs` of 1."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=trials, help="0: every case there is")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one trial")
    parser.add_argument("--jobs", type=int, default=jobs or os.cpu_count())
    return parser


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(77)


def attempt(promise, cases, trial, chosen, more=lambda: ""):
    """trial(case, rng, folder) for each case, in a folder of its own; what it raises is a promise broken. Prints the line; the
    number of failures. `more` gives what is to be said behind the counts."""
    started, numbers = time.time(), [chosen.only] if chosen.only is not None else range(len(cases))

    def one(number):
        folder = tempfile.mkdtemp(prefix="hone-torture-", dir=SHM)
        try:
            trial(cases[number], random.Random(f"{chosen.seed}/{number}"), folder)
            return None
        except AssertionError as problem:
            return str(problem) or traceback.format_exc()
        except Exception:
            return traceback.format_exc()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    failures = 0
    with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
        for number, problem in zip(numbers, pool.map(one, numbers)):
            if problem:
                failures += 1
                print(f"FAILED trial {number}, {cases[number]}: {problem}", flush=True)
    said = more()
    print(f"{promise}: tried {len(numbers)}, held {len(numbers) - failures}; {said + ', ' if said else ''}seed {chosen.seed}, "
          f"{time.time() - started:.0f} s", flush=True)
    return failures


def mount(path, *arguments):
    """Makes the folder and mounts there what the arguments of mount(8) say; whether that was permitted."""
    os.makedirs(path, exist_ok=True)
    return subprocess.run(["mount", *arguments, path], capture_output=True).returncode == 0


def unmount(path):
    """Waits for whoever still holds a file of it: another trial's thread that forks does, for a moment."""
    for wait in (0, 0.1, 0.3, 1, 3, 10):
        time.sleep(wait)
        done = subprocess.run(["umount", path], capture_output=True, text=True)
        if done.returncode == 0:
            return
    raise AssertionError(done.stderr)


def make_ext4(image, size):
    """An ext4 of `size` bytes in a file (with holes); whether that can be made here."""
    with open(image, "wb") as f:
        f.truncate(size)
    return bool(shutil.which("mkfs.ext4")) and subprocess.run(["mkfs.ext4", "-q", "-F", image], capture_output=True).returncode == 0


def flip(path, at, bits=1):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ bits]))


def spread(items, count):
    """`count` of the items (0: all), evenly."""
    return items if not count or count >= len(items) else [items[i * len(items) // count] for i in range(count)]


class Training:
    """A training of six steps that does everything a run does: saves at 2, 4 and the end, an evaluation with best/, final/. What
    it must come to whatever is done to it."""
    def __init__(self, folder, **sections):
        tiny.LAYERS, self.folder, self.sections = 1, folder, sections
        self.model = tiny.make_model(os.path.join(folder, "model"))
        self.rows = os.path.join(folder, "few.jsonl")
        with open(self.rows, "w", encoding="utf8") as f:
            f.writelines(open(TRAIN, encoding="utf8").readlines()[:24])
        self.seconds = -time.time()
        config, run = self.fresh(folder)
        hone("train", config)
        self.seconds += time.time()
        self.expected, self.events, self.published = digests(run), told(run), published(run)
        assert len(self.published) >= 2, f"best/ or final/ is missing: {list(self.published)}"

    def fresh(self, folder, name="run"):
        """Config and run folder of a training that has not begun."""
        run = os.path.join(folder, name)
        sections = {"data": {"train": [self.rows], "dev": [self.rows]}, "checkpoint": {"every": "2 steps", "keep": 1},
                    "train": {"batch_examples": 4, "threads": 1}, "eval": {"every": "3 steps"}}
        for section, keys in self.sections.items():
            sections[section] = {**sections.get(section, {}), **keys}
        return make_config(run + ".json", self.model, run, **sections), run

    def unfinished(self, folder):
        """A copy of the undisturbed run as it was before final/ was made, with all its checkpoints."""
        config, run = self.fresh(folder)
        shutil.copytree(os.path.join(self.folder, "run"), run)
        shutil.rmtree(os.path.join(run, "final"))
        written = os.path.join(run, "config.json")
        text = open(written).read().replace(os.path.join(self.folder, "run"), run)
        with open(written, "w") as f:
            f.write(text)
        return config, run

    def goes_on(self, config, run, said=""):
        """Started again and left alone it ends, with the bytes of the undisturbed run, those of best/ and final/ among them. Lines of the
        log may be missing where hone had `said` that they wait, and ended before the disk took them."""
        done = hone("train", config, check=None)
        assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-500:]}"
        assert digests(run) == self.expected, "weights or moments differ"
        assert published(run) == self.published, "best/ or final/ differ"
        events = told(run)
        waited = said.count("the log's lines wait in memory") > said.count("the log is written again, with all lines")
        expected = [event for event in self.events if event in events] if waited else self.events
        assert events == expected, "metrics differ"


def published(run):
    """The weights of best/ and final/."""
    files = [os.path.join(run, folder, name) for folder in ("best", "final") if os.path.isdir(os.path.join(run, folder))
             for name in sorted(os.listdir(os.path.join(run, folder))) if name.endswith(".safetensors")]
    return {os.path.relpath(path, run): hashlib.sha256(open(path, "rb").read()).hexdigest() for path in files}


def told(run):
    """The metrics of a run without what it says about its disk."""
    return [event for event in metrics(run) if event["event"] != "warning"]


def steps(run):
    """Steps of the checkpoints that have a manifest, ascending."""
    folder = os.path.join(run, "checkpoints")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(int(n[5:]) for n in names if n.startswith("step-") and os.path.exists(os.path.join(folder, n, "manifest.json")))


def files(run, step):
    """The two files of a checkpoint."""
    folder = os.path.join(run, "checkpoints", f"step-{step}")
    return os.path.join(folder, "rank-0.h5"), os.path.join(folder, "manifest.json")


def stands(run, promised):
    """Every checkpoint that has a manifest verifies, and one is not older than the step that was promised."""
    found = steps(run)
    for step in found:
        hone("verify", os.path.join(run, "checkpoints", f"step-{step}"))
    assert promised <= (found[-1] if found else -1), f"step {promised} was saved, found {found}"
