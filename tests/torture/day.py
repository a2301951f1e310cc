"""Promise: a day in the life. An instruction training with a disk of its own (ext4 on a loop device) under a supervisor that kills it by
SIGKILL again and again, fills the disk twice by a ballast file and frees it later, and flips a byte in a random checkpoint five
times. All that it does for the training is to start the same command again. Weights, moments, metrics, best/ and final/ must have
the bytes of the run that nobody disturbed; no checkpoint with a flipped byte is gone on from, and one that is passed over is named.

The disk is full the first time for about a life of the process, the second time from the last steps on until the run has failed by
it. Kills and fills are drawn from --every (seconds) and the run's own steps; the bytes are flipped between an end and the next start.

    HONE=build/release/hone python3 tests/torture/day.py [--minutes 3 --every 20 60] [--seed 1] [--data FILE.json.gz]
                                       [--model FOLDER --folder DIR] [--set key=value ...]

--minutes: of the undisturbed run, by a first look at how fast its steps are. --data: rows like Alpaca's (without the file: the
samples). --model: a decoder (without: a small one of random weights). --folder: where a disk of twice the run folder has room.

Where the disk refused best/, and the checkpoint of its step too, those weights are lost, if no later evaluation was better; then that must be said, with exit code 1,
and all but best/ and final/ must be right."""
import collections, errno, glob, gzip, hashlib, json, math, re, signal
from promise import *
import tiny_decoder
from tiny import newest

FLIPS, EVALUATIONS = 5, 4
LOST_BEST = "were the best and could not be written then"


class Disk:
    """A file system of its own, and the ballast that fills it."""
    def __init__(self, folder, size):
        self.path, self.ballast = os.path.join(folder, "disk"), None
        image = os.path.join(folder, "image")
        if not make_ext4(image, size) or not mount(self.path, "-o", "loop", image):
            skip("an ext4 on a loop device cannot be made or mounted here")

    def fill(self):
        """Takes what is free, and later what the run has given back."""
        if self.ballast is None:
            self.ballast, self.taken = os.open(os.path.join(self.path, "ballast"), os.O_RDWR | os.O_CREAT), 0
        for piece in (1 << 24, 1 << 20, 1 << 16, 1 << 12):
            try:
                while True:
                    os.posix_fallocate(self.ballast, self.taken, piece)
                    self.taken += piece
            except OSError as problem:
                assert problem.errno == errno.ENOSPC, problem

    def free(self):
        os.close(self.ballast)
        os.remove(os.path.join(self.path, "ballast"))
        self.ballast = None

    def close(self):
        if self.ballast is not None:
            self.free()
        unmount(self.path)


def start(command, log):
    with open(log, "wb") as f:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=f)


class Supervisor:
    """Starts the command until it has ended well."""
    def __init__(self, command, run, disk, steps, lives, rng):
        self.command, self.run, self.disk, self.lives, self.rng = command, run, disk, lives, rng
        self.flips_at = sorted(rng.uniform(0.05, 0.8) * steps for _ in range(FLIPS))
        self.fills_at = [rng.uniform(0.2, 0.6) * steps, 0.95 * steps]
        self.step = self.furthest = 0
        self.free_at, self.was_full, self.damaged, self.counts = 0, False, {}, collections.Counter()

    def life(self):
        return self.rng.uniform(*self.lives)

    def last_full(self):
        return self.disk.ballast is not None and not self.fills_at

    def weather(self, log):
        """Reads how far the run is; fills the disk when that is due, and frees it."""
        with open(log, "rb") as f:
            f.seek(max(0, os.path.getsize(log) - 4096))
            told = re.findall(rb"(?:\| |going on from )step (\d+)", f.read())
        self.step = int(told[-1]) if told else self.step
        self.furthest = max(self.furthest, self.step)
        if self.disk.ballast is None and self.fills_at and self.furthest >= self.fills_at[0]:
            self.fills_at.pop(0)
            self.counts["fills"] += 1
            self.free_at = time.time() + self.life() if self.fills_at else math.inf
            self.disk.fill()
        elif self.disk.ballast is not None and time.time() > self.free_at:
            self.disk.free()
        elif self.disk.ballast is not None:
            self.disk.fill()
        self.was_full |= self.disk.ballast is not None

    def attend(self, process, log, latest):
        """Waits for the end of the process, or kills it when its life is over, but not on its way to its end on a full disk."""
        end = time.time() + self.life()
        try:
            while process.poll() is None and time.time() < (latest if self.last_full() else end):
                self.weather(log)
                time.sleep(min(0.2, self.lives[0] / 30))
        finally:
            process.kill()
        return process.wait()

    def still_damaged(self):
        """Steps whose files are those that a byte was flipped in."""
        return {step for path, (step, time) in self.damaged.items() if os.path.exists(path) and os.stat(path).st_mtime_ns == time}

    def judge_start(self, said, damaged, reached):
        """It went on from no damaged checkpoint, and named those that are newer."""
        if "freezing: " not in said:
            return  # it did not come that far
        found = re.search(r"going on from step (\d+)", said)
        step = int(found[1]) if found else 0
        assert step not in damaged, f"went on from step {step}, where a byte was flipped"
        for newer in damaged:
            assert newer < step or f"step-{newer}: " in said, f"does not say that step-{newer} was passed over: {said[-2000:]}"
        self.counts["passed over"] += sum(newer > step for newer in damaged)
        self.counts["steps lost"] += max(0, reached - step)

    def judge_end(self, code, said):
        """An end that is neither a kill nor the run's is a full disk's, and says so."""
        assert code == 1, f"exit code {code}: {said[-2000:]}"
        told = self.disk.path in said and ("No space left" in said or "too full" in said)
        assert self.was_full and told, f"failed, and the disk {'was' if self.was_full else 'was not'} full: {said[-2000:]}"
        self.counts["ended by a full disk"] += 1

    def flip(self, due):
        """As many bytes as are due, each in a file of a random checkpoint."""
        while due > 0 and steps(self.run):
            step = self.rng.choice(steps(self.run))
            path = self.rng.choice(files(self.run, step))
            flip(path, self.rng.randrange(os.path.getsize(path)), 1 << self.rng.randrange(8))
            self.damaged[path] = (step, os.stat(path).st_mtime_ns)
            self.flips_at.pop(0)
            self.counts["flips"] += 1
            due -= 1

    def live(self, folder, limit):
        """Whether best/ is right; in no more seconds than `limit`."""
        began = time.time()
        while time.time() - began < limit:
            log, damaged, reached = os.path.join(folder, "said"), self.still_damaged(), self.step
            self.was_full = self.disk.ballast is not None
            code = self.attend(start(self.command, log), log, began + limit)
            said = open(log, encoding="utf8", errors="replace").read()
            self.judge_start(said, damaged, reached)
            if code == 0 or LOST_BEST in said:
                return code == 0
            self.counts["starts again"] += 1
            if code == -signal.SIGKILL:
                self.counts["kills"] += 1
            else:
                self.judge_end(code, said)
            self.flip(len(self.flips_at) if self.last_full() else sum(at <= self.furthest for at in self.flips_at))
            if code == 1 and self.last_full():
                self.disk.free()
            elif code == 1:
                time.sleep(self.lives[0] / 10)
                self.weather(log)
        raise AssertionError(f"no end after {limit:.0f} s and {self.counts['starts again']} starts, at step {self.step}")


def outcome(run):
    """Weights and moments, metrics, best/ and final/."""
    folders = [os.path.join(run, name, "**") for name in ("best", "final")]
    found = sorted(p for f in folders for p in glob.glob(f, recursive=True) if os.path.isfile(p))
    published = {os.path.relpath(p, run): hashlib.sha256(open(p, "rb").read()).hexdigest() for p in found}
    return digests(run), told(run), published


class Day:
    """The training: model, rows, how many steps, and what it comes to when nobody disturbs it."""
    def __init__(self, base, chosen):
        self.base, self.chosen, self.about = base, chosen, "sample rows"
        self.model, self.sections = chosen.model, {"task": {"kind": "sft"}, "data": {"max_tokens": 512, "on_bad_row": "skip"}}
        if self.model:
            self.sections["optim"] = {"lr": 5e-5}
        else:
            if chosen.minutes >= 1:  # steps of some 50 ms
                tiny_decoder.HIDDEN, tiny_decoder.LAYERS, tiny_decoder.MLP, tiny_decoder.POSITIONS = 128, 4, 384, 512
            self.model = tiny_decoder.make_decoder(os.path.join(base, "model"))
            self.sections["data"] |= {"turns": {"user": "Q: {content}\n", "prompt": "A: "}, "max_tokens": tiny_decoder.POSITIONS}
        samples = os.path.dirname(TRAIN)
        self.rows = [os.path.join(samples, f"instructions_{name}.jsonl") for name in ("train", "dev")]
        if chosen.data and os.path.exists(chosen.data):
            self.take_rows(chosen.data)
        elif chosen.data:
            print(f"{chosen.data} is not there: the samples' rows are taken")
        self.measure(min(15, 15 * chosen.minutes))
        run = os.path.join(base, "plain")
        config = self.fresh(run)
        began = time.time()
        hone("train", config, *chosen.set)
        self.seconds, self.expected = time.time() - began, outcome(run)
        began = time.time()
        hone("train", config, *chosen.set)  # it is finished, and says so
        self.start_up = time.time() - began
        self.need = sum(os.path.getsize(os.path.join(f, n)) for f, _, names in os.walk(run) for n in names)
        shutil.rmtree(run)

    def take_rows(self, path):
        """All but the last 16 rows to train on, those to evaluate."""
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf8") as f:
            text = f.read()
        rows = json.loads(text) if text.lstrip()[0] == "[" else [json.loads(line) for line in text.splitlines()]
        self.rows = [os.path.join(self.base, name) for name in ("train.jsonl", "dev.jsonl")]
        for out, part in zip(self.rows, (rows[:-16], rows[-16:])):
            with open(out, "w", encoding="utf8") as f:
                f.writelines(json.dumps(row) + "\n" for row in part)
        self.about = f"{len(rows)} rows of {os.path.basename(path)}"

    def configure(self, run, train, **more):
        """Config of a training that has not begun."""
        sections = {**self.sections, "train": {"log_every": 1, "threads": 0, **train}, **more}
        sections["data"] = {**self.sections["data"], "train": self.rows[:1], "dev": self.rows[1:]}
        return tiny_decoder.make_lm_config(run + ".json", self.model, run, **sections)

    def measure(self, seconds):
        """Looks how fast the steps are, and chooses how many there are to be, in how many epochs."""
        run, events = os.path.join(self.base, "look"), []
        log = os.path.join(run, "metrics.jsonl")
        config = self.configure(run, {"epochs": 1}, checkpoint={"every": "off"}, eval={"every": "off"})
        process, end = start([HONE, "train", config, *self.chosen.set], run + ".said"), time.time() + seconds
        while process.poll() is None and (time.time() < end or len(events) < 4):
            time.sleep(0.02)
            events = [json.loads(line) for line in open(log) if line.endswith("\n")] if os.path.exists(log) else []
        process.kill()
        process.wait()
        events = [event for event in events if event["event"] == "step"]
        assert len(events) > 1, "too few steps to look at: " + open(run + ".said").read()
        rate = (events[-1]["step"] - events[0]["step"]) / (events[-1]["time"] - events[0]["time"])
        self.steps = max(4 * EVALUATIONS, round(60 * self.chosen.minutes * rate))
        self.epochs = math.ceil(self.steps / events[0]["steps"])
        shutil.rmtree(run)

    def fresh(self, run):
        return self.configure(run, {"epochs": self.epochs, "max_steps": self.steps}, eval={"every": f"{self.steps // EVALUATIONS} steps"},
                              checkpoint={"every": f"{max(1, self.steps // self.chosen.saves)} steps", "keep": 3})


def main():
    parser = options(__doc__, 1, jobs=1)
    parser.add_argument("--minutes", type=float, default=0.04)
    parser.add_argument("--every", type=float, nargs=2, default=(0.3, 1.0), metavar=("SHORTEST", "LONGEST"))
    parser.add_argument("--saves", type=int, default=50, help="of the undisturbed run, about")
    parser.add_argument("--data")
    parser.add_argument("--model")
    parser.add_argument("--folder", default=SHM)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hone-torture-", dir=chosen.folder) as base:
        Disk(base, 16 << 20).close()
        day, counts = Day(base, chosen), collections.Counter()
        slow = max(1, 2 * day.start_up / chosen.every[0])  # a build with sanitizers must come farther than to its start
        lives = [slow * seconds for seconds in chosen.every]

        def lived(_, rng, folder):
            disk = Disk(base, 2 * day.need + (24 << 20))
            try:
                run, config = os.path.join(disk.path, "run"), os.path.join(base, "day.json")
                shutil.move(day.fresh(os.path.join(base, "day")), config)
                user = Supervisor([HONE, "train", config, f"output.dir={run}", *chosen.set], run, disk, day.steps, lives, rng)
                whole = user.live(folder, 60 + 20 * day.seconds)
                counts.update(user.counts)
                hone("verify", newest(run))
                for name, got, wanted in zip(("weights or moments", "metrics", "best/ or final/"), outcome(run), day.expected):
                    assert got == wanted or (name == "best/ or final/" and not whole), f"{name} differ"
                counts["best/ lost, and said so"] += not whole
            finally:
                disk.close()

        return attempt("a day in the life: killed, filled, flipped, same weights", range(chosen.trials or 1), lived, chosen,
                       lambda: f"{day.about}, {day.steps} steps, {day.seconds:.0f} s undisturbed, " +
                               ", ".join(f"{n} {name}" for name, n in counts.items()))


sys.exit(main() != 0)
