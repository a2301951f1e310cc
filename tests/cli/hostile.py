"""Hostile and damaged files, given to hone the way a user meets them. Every case must end in time, with bounded memory, with
exit code 1 or 2 and a message that names the file and the place in it, and must leave nothing in the output folder but the
token cache. Some odd files are valid and must be read. The cases stand in test_hostile_*.py, by what is hurt; each of these, with
`--table`, prints what its cases say (docs/hostile-input.md), with a word runs those whose names hold it, and with `--watch` runs them
under strace: no file may make hone start a program, use the network, or open what was not named.

What needs digests that only hone computes (checkpoints that lie with the right digest: external links, filters, other types)
is in tests/checkpoints/test_hostile.c."""
import os, resource, sys, threading
from tiny import *

SANITIZED = b"__asan_init" in open(HONE, "rb").read()
SECONDS = 30 if SANITIZED else 5  # of processor: far above what any case takes, far below what a loop without end takes
MEMORY = (3 << 30) if SANITIZED else (768 << 20)  # at the peak; the sanitizer's own books included
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "passive",  # an allocation that fails is hone's to report
               "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":allocator_may_return_null=1"}
WATCH = ["strace", "-f", "-qq", "-e", "trace=execve,execveat,open,openat,openat2,creat,socket,connect"]
SYSTEM = ("/proc/", "/sys/", "/dev/null", "/dev/shm", "/dev/urandom", "/etc/ld.so", "/lib", "/usr/lib", "/usr/local/lib", "/usr/share/locale",
          "/etc/localtime")
CASES = []
ST = "model/model.safetensors"
ROW = b'{"premise": "a man", "hypothesis": "a dog", "label": "neutral"}'


def case(name, *parts, code=(1, 2)):
    """Registers a case: its function hurts the files of a fresh folder `w` and gives the arguments; each of `parts` must
    stand in what hone says on stderr. A function that gives None stands for training on the folder's model."""
    def register(make):
        CASES.append((name, make, parts, code))
        return make
    return register


class Folder:
    """A sound model, run configuration and data to be hurt."""
    def __init__(self, base, path):
        self.path, self.base = path, base
        self.run = os.path.join(path, "run")
        for name in ("model", "small.jsonl", "c.json"):
            from_, to = os.path.join(base, name), os.path.join(path, name)
            shutil.copytree(from_, to) if os.path.isdir(from_) else shutil.copy2(from_, to)

    def at(self, *names):
        return os.path.join(self.path, *names)

    def put(self, name, content):
        """Writes a file of the work folder."""
        with open(self.at(name), "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
        return self.at(name)

    def train(self, *overrides):
        return ["train", "c.json", *overrides]

    def data(self, name, content):
        """Training on one data file."""
        self.put(name, content)
        return self.train("data.train=" + name)

    def edit(self, name, **keys):
        """Sets keys of a JSON file; ... removes one."""
        value = json.load(open(self.at(name)))
        value.update(keys)
        with open(self.at(name), "w") as f:
            json.dump({k: v for k, v in value.items() if v is not ...}, f)

    def replace(self, name, old, new):
        """Replaces text in a JSON file, for what json.dump does not write."""
        text = open(self.at(name)).read()
        assert old in text, (name, old)
        self.put(name, text.replace(old, new, 1))

    def trained(self):
        """Puts a finished run of 20 steps in place of `run`."""
        shutil.copytree(os.path.join(self.base, "run"), self.run)


def may_watch():
    return shutil.which("strace") and not subprocess.run([*WATCH, "-o", "/dev/null", "true"], capture_output=True).returncode


def touched(log, folder):
    """What a process that strace wrote down did beside its work in `folder`: programs, sockets, other files."""
    calls = [l.split(None, 1)[1] for l in open(log, errors="replace") if "(" in l]
    problems = [c for c in calls if c.startswith(("socket", "connect"))]
    problems += [c for c in calls if c.startswith("execve")][1:]
    for call in calls:
        named = re.search(r'^(?:open|creat)\w*\(.*?"([^"]*)"', call)
        path = os.path.normpath(os.path.join(folder, named[1])) if named else folder
        if not path.startswith((folder, *SYSTEM)) and path not in ("/", os.path.dirname(folder)):
            problems.append(call)
    return [p.strip() for p in problems]


def watch_case(make, base, folder):
    """What the case touches beside its folder; how it ends is run_case's to judge."""
    w = Folder(base, folder)
    args, stdin = make(w) or w.train(), None
    if isinstance(args, tuple):
        args, stdin = args
    log = w.at("strace")
    subprocess.run([*WATCH, "-o", log, HONE, *map(str, args)], cwd=folder, input=stdin or b"", capture_output=True, timeout=300,
                   env={**ENVIRONMENT, "ASAN_OPTIONS": "detect_leaks=0"})
    return touched(log, folder)


def run_case(name, make, parts, code, base, folder):
    w = Folder(base, folder)
    args, stdin = make(w) or w.train(), None
    if isinstance(args, tuple):
        args, stdin = args
    before = set(os.listdir(w.run)) if os.path.isdir(w.run) else set()
    out, err = open(w.at("out"), "w+b"), open(w.at("err"), "w+b")
    source = open(w.put("in", stdin or b""), "rb")
    began = time.monotonic()
    limit = None if SANITIZED else lambda: resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    process = subprocess.Popen([HONE, *map(str, args)], cwd=folder, stdin=source, stdout=out, stderr=err,
                               preexec_fn=limit, env=ENVIRONMENT)
    killer = threading.Timer(60, process.kill)
    killer.start()
    _, status, usage = os.wait4(process.pid, 0)
    killer.cancel()
    seconds, peak = time.monotonic() - began, usage.ru_maxrss << 10
    process.returncode = os.waitstatus_to_exitcode(status)
    err.seek(0)
    said = err.read().decode("utf8", "replace")
    message = next((l for l in said.splitlines() if l.startswith("hone: ")), said.strip()[:300])[6:]
    problems = []
    if process.returncode not in (code if isinstance(code, tuple) else (code,)):
        problems.append(f"exit code {process.returncode}")
    if "ERROR: " in said and "Sanitizer" in said or "runtime error:" in said:
        problems.append("sanitizer report")
    if code == (1, 2) and usage.ru_utime + usage.ru_stime > SECONDS:  # the machine may be busy; hone may not
        problems.append(f"{seconds:.1f} s ({usage.ru_utime + usage.ru_stime:.1f} s of processor)")
    if peak > MEMORY:
        problems.append(f"{peak >> 20} MiB")
    problems += [f"does not say {p!r}" for p in parts if p not in said]
    if any(ord(c) < 32 and c != "\n" for c in said):
        problems.append("control characters reach the terminal")
    if max(map(len, said.splitlines()), default=0) > 4096:
        problems.append("a message of more than 4096 characters")
    if code == (1, 2):
        left = set(os.listdir(w.run)) - before if os.path.isdir(w.run) else set()
        if left - {"cache"}:
            problems.append(f"left {sorted(left)}")
    return problems, message.replace(folder + "/", ""), said, seconds, peak


def pack(header, data=b"", length=None):
    if not isinstance(header, bytes):
        header = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(shape=(1,), begin=0, end=4, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def weights(w):
    """Header and bytes of the sound file."""
    raw = open(w.at(ST), "rb").read()
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8:8 + length]), raw[8 + length:]


def make_base(base, trained):
    """What every case begins with: a model, 40 rows of data, and perhaps a finished run with two checkpoints."""
    make_model(os.path.join(base, "model"))
    rows = os.path.join(base, "small.jsonl")
    with open(rows, "w", encoding="utf8") as f:
        f.writelines(open(TRAIN, encoding="utf8").readlines()[:40])
    make_config(os.path.join(base, "c.json"), "model", "run", train={"max_steps": 20, "batch_examples": 8, "epochs": 4},
                data={"train": ["small.jsonl"], "dev": ["small.jsonl"]})
    if trained:
        hone("train", "c.json", cwd=base)


def every_case(base, only, table, watch):
    failed = tried = 0
    if table:
        print("| case | hone says |\n|---|---|")
    for name, make, parts, code in CASES:
        if only and only not in name:
            continue
        tried += 1
        folder = tempfile.mkdtemp(prefix="hone-hostile-")
        try:
            if watch:
                problems = watch_case(make, base, folder)
                failed += bool(problems)
                print(f"FAILED {name}: {'; '.join(problems)}" if problems else f"ok {name}")
                continue
            problems, message, said, seconds, peak = run_case(name, make, parts, code, base, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if problems:
            failed += 1
            print(f"FAILED {name}: {'; '.join(problems)}\n    {said.strip()[:1500]}")
        elif table:
            print(f"| {name} | {message} |")
        else:
            print(f"ok {name} ({seconds:.2f} s, {peak >> 20} MiB)")
    if not table:
        print(f"{'files run no code' if watch else 'hostile files'} ({os.path.basename(sys.argv[0])[13:-3]}): tried {tried}, held {tried - failed}")
    return failed


def run_all(trained=False, more=None):
    """Every case that was registered. `trained`: some begin with a finished run; `more`: a check of the base folder that is
    no case and gives the number of its failures."""
    table, watch = "--table" in sys.argv, "--watch" in sys.argv
    words = [a for a in sys.argv[1:] if not a.startswith("--")]
    if watch and not may_watch():
        print("SKIP: strace does not run here")
        sys.exit(77)
    base = tempfile.mkdtemp(prefix="hone-hostile-")
    try:
        make_base(base, trained)
        failed = every_case(base, words[0] if words else None, table, watch)
        if more and not table and not words:
            failed += more(base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    sys.exit(1 if failed else 0)
