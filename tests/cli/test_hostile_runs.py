"""Damaged run folders and checkpoints (hostile.py), and what hone touches beside them."""
from hostile import *

def step(w, name, number=20):
    return os.path.join("run", "checkpoints", f"step-{number}", name)


def flip(w, name, at):
    raw = bytearray(open(w.at(name), "rb").read())
    raw[at if at >= 0 else len(raw) // 2] ^= 1
    w.put(name, bytes(raw))


for name, hurt, *parts in [
    ("a flipped byte in the weights", lambda w: flip(w, step(w, "rank-0.h5"), -1), "rank-0.h5", "damaged"),
    ("a flipped byte in HDF5's header", lambda w: flip(w, step(w, "rank-0.h5"), 9), "rank-0.h5", "damaged"),
    ("weights cut short", lambda w: os.truncate(w.at(step(w, "rank-0.h5")), 5000), "rank-0.h5", "damaged"),
    ("weights missing", lambda w: os.remove(w.at(step(w, "rank-0.h5"))), "rank-0.h5", "No such file"),
    ("a flipped byte in the manifest", lambda w: flip(w, step(w, "manifest.json"), -1), "manifest.json"),
    ("manifest empty", lambda w: w.put(step(w, "manifest.json"), b"") and None, "manifest.json"),
    ("manifest edited by hand", lambda w: w.replace(step(w, "manifest.json"), '"step": 20', '"step": 21'),
     "manifest.json", "digest"),
    ("another checkpoint's manifest", lambda w: shutil.copy(w.at(step(w, "manifest.json", 10)), w.at(step(w, "manifest.json"))),
     "manifest.json", "step"),
    ("another checkpoint's weights", lambda w: shutil.copy(w.at(step(w, "rank-0.h5", 10)), w.at(step(w, "rank-0.h5"))),
     "rank-0.h5", "damaged"),
]:
    def make(w, hurt=hurt):
        w.trained()
        hurt(w)
        return ["verify", "run"]
    case("checkpoint: " + name, "step-20", *parts)(make)


@case("checkpoint: weights are a FIFO", "rank-0.h5", "expected a file")
def _(w):
    w.trained()
    os.remove(w.at(step(w, "rank-0.h5")))
    os.mkfifo(w.at(step(w, "rank-0.h5")))
    return ["verify", "run"]


@case("checkpoint: weights are a link", "rank-0.h5")
def _(w):
    w.trained()
    os.rename(w.at(step(w, "rank-0.h5")), w.at("else.h5"))
    os.symlink("../../../else.h5", w.at(step(w, "rank-0.h5")))
    return ["verify", "run"]


@case("checkpoint: none there", "checkpoint", "run")
def _(w):
    os.makedirs(w.at("run/checkpoints"))
    return ["verify", "run"]


@case("verify: of a text file", "hello.txt")
def _(w):
    w.put("hello.txt", "hello")
    return ["verify", "hello.txt"]


@case("accepted: the newest checkpoint is damaged, the one before is taken", "step-20", "damaged", code=0)
def _(w):
    w.trained()
    shutil.rmtree(w.at("run/final"))
    flip(w, step(w, "rank-0.h5"), -1)
    return w.train()


@case("run: other weights under the same name", "weights in model.path", "digest")
def _(w):
    w.trained()
    header, data = weights(w)
    w.put(ST, pack(header, data[:100] + b"\0" + data[101:]))
    return w.train()


@case("run: its config.json is garbage", "run/config.json")
def _(w):
    w.trained()
    w.put("run/config.json", "{")
    return ["eval", "run"]


@case("run: best/ holds another model", "run/best")
def _(w):
    w.trained()
    w.put("run/best/model.safetensors", pack({"a": tensor()}, b"1234"))
    return ["eval", "run"]


@case("run: best/ names two labels for three outputs", "run/best/config.json", "id2label")
def _(w):
    w.trained()
    w.edit("run/best/config.json", id2label={"0": "a", "1": "b"})
    return ["eval", "run"]


@case("run: neither best/ nor final/", "run", "best/")
def _(w):
    w.trained()
    shutil.rmtree(w.at("run/best"))
    shutil.rmtree(w.at("run/final"))
    return ["eval", "run"]


@case("predict: a line that is no row", "standard input:2")
def _(w):
    w.trained()
    return ["predict", "run", "data.predict=-"], ROW + b"\nhello\n"


@case("tokenize --json: a lone surrogate", "standard input:1")
def _(w):
    return ["tokenize", "model", "--json"], b'"\\ud800"\n'


@case("tokenize --decode: id 2^31", "standard input:1")
def _(w):
    return ["tokenize", "model", "--decode"], b"[2147483648]\n"


def nothing_else_is_touched(base):
    """Watched by strace: a model is loaded, and trained on, without starting a program, without the network, and without
    opening files but the system's libraries and those of the folders that were named."""
    if not may_watch():
        print("skipped: strace does not run here")
        return 0
    log, problems = os.path.join(base, "strace"), []
    shutil.copytree(os.path.join(base, "model"), os.path.join(base, "hostile"))
    for name in ("vocab.txt", "config.json", "model.safetensors"):
        os.remove(os.path.join(base, "hostile", name))
        os.symlink("/etc/passwd", os.path.join(base, "hostile", name))
    verbs = [[0, "train", "c.json", "output.dir=watched"], [0, "eval", "watched", "--json"], [0, "verify", "watched"],
             [0, "predict", "watched", "data.predict=small.jsonl"], [0, "plan", "c.json"], [0, "data", "c.json"],
             [0, "export", "watched", "exported"], [0, "tokenize", "model"],
             [1, "train", "c.json", "model.path=hostile"], [1, "tokenize", "hostile"]]
    for code, *args in verbs:
        done = subprocess.run([*WATCH, "-o", log, HONE, *args], cwd=base, capture_output=True, stdin=subprocess.DEVNULL,
                              env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        if done.returncode != code:
            problems.append(f"{args}: exit code {done.returncode}")
        problems += touched(log, base)
    for problem in problems:
        print("FAILED strace:", problem)
    print(f"files run no code (every verb on sound and hostile folders): tried {len(verbs)}, held {len(verbs) - min(len(problems), len(verbs))}")
    return len(problems)


run_all(trained=True, more=nothing_else_is_touched)
