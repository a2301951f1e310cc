"""Hostile and damaged data, and hone's own config (hostile.py)."""
import gzip

from hostile import *

HEAD = b"premise,hypothesis,label\n"


def zst(*blocks, window=0x38):
    """A zstd frame of raw or repeated blocks: bytes, or (byte, count)."""
    out = b"\x28\xb5\x2f\xfd\0" + bytes([window])
    for i, block in enumerate(blocks):
        repeat = isinstance(block, tuple)
        size, body = (block[1], block[0]) if repeat else (len(block), block)
        out += struct.pack("<I", (i == len(blocks) - 1) | repeat << 1 | size << 3)[:3] + body
    return out


GIGABYTE_GZ = gzip.compress(ROW + b"\n") + gzip.compress(b"x" * (1 << 20)) * 1024
GIGABYTE_ZST = zst(ROW + b"\n", *[(b"x", 1 << 17)] * 8192)

for name, file, content, *parts in [
    ("line of 1 GB in .gz", "d.jsonl.gz", GIGABYTE_GZ, "d.jsonl.gz:2", "16777216"),
    ("line of 1 GB in .zst", "d.jsonl.zst", GIGABYTE_ZST, "d.jsonl.zst:2", "16777216"),
    ("zst with a window of 2^41", "d.jsonl.zst", zst(ROW, window=0xf8), "d.jsonl.zst", "memory"),
    ("zst that ends early", "d.jsonl.zst", zst(ROW + b"\n", b"x")[:-2], "d.jsonl.zst", "ends early"),
    ("zst that is none", "d.jsonl.zst", ROW, "d.jsonl.zst", "zstd"),
    ("gz that ends early", "d.jsonl.gz", gzip.compress(ROW * 99)[:-12], "d.jsonl.gz", "ends early"),
    ("gz with a wrong checksum", "d.jsonl.gz", gzip.compress(ROW)[:-8] + b"12345678", "d.jsonl.gz", "damaged"),
    ("gz that is none", "d.jsonl.gz", ROW, "d.jsonl.gz", "gzip"),
    ("NUL in a line", "d.jsonl", ROW + b"\n" + ROW.replace(b"man", b"m\0n"), "d.jsonl:2", "NUL"),
    ("escaped NUL in a line", "d.jsonl", ROW + b"\n" + ROW.replace(b"man", b"m\\u0000n"), "d.jsonl:2", "NUL"),
    ("not UTF-8", "d.jsonl", ROW + b"\n" + ROW.replace(b"man", b"m\xffn"), "d.jsonl:2", "UTF-8"),
    ("lone surrogate", "d.jsonl", ROW + b"\n" + ROW.replace(b"man", b"\\udc00"), "d.jsonl:2"),
    ("UTF-16", "d.jsonl", b"\xff\xfe" + ROW.decode().encode("utf-16-le"), "d.jsonl", "UTF-16"),
    ("label not in the list", "d.jsonl", ROW.replace(b"neutral", b"maybe"), "d.jsonl:1", '"label"', "maybe"),
    ("label 3 of 0 to 2", "d.jsonl", ROW.replace(b'"neutral"', b"3"), "d.jsonl:1", '"label"', "3"),
    ("label 1.5", "d.jsonl", ROW.replace(b'"neutral"', b"1.5"), "d.jsonl:1", '"label"', "1.5"),
    ("field missing", "d.jsonl", b'{"premise": "a", "label": 1}', "d.jsonl:1", "hypothesis"),
    ("field is null", "d.jsonl", ROW.replace(b'"a dog"', b"null"), "d.jsonl:1", "hypothesis", "null"),
    ("field twice", "d.jsonl", ROW[:-1] + b', "label": 1}', "d.jsonl:1"),
    ("half a line", "d.jsonl", ROW + b"\n" + ROW[:30], "d.jsonl:2"),
    ("a line is an array", "d.jsonl", ROW + b"\n[1]\n", "d.jsonl:2"),
    ("a line of depth 10^6", "d.jsonl", ROW + b"\n" + b"[" * 10 ** 6, "d.jsonl:2", "nested"),
    ("array cut short", "d.json", b"[" + ROW + b",", "d.json:1"),
    ("text behind the array", "d.json", b"[" + ROW + b"]\n" + ROW, "d.json:2"),
    ("empty file", "d.jsonl", b"", "d.jsonl"),
    ("only blank lines", "d.jsonl", b"\n\n\n", "d.jsonl"),
    ("header only", "d.csv", HEAD, "d.csv"),
    ("ragged columns", "d.csv", HEAD + b"a,b,1\na,b\n", "d.csv:3", "3 columns", "got 2"),
    ("quote left open", "d.csv", HEAD + b'a,"b,1\n' + b"a,b,1\n" * 3, "d.csv:2"),
    ("text behind a quote", "d.csv", HEAD + b'"a"b,c,1\n', "d.csv:2"),
    ("column missing", "d.csv", b"premise,label\na,1\n", "d.csv", "hypothesis"),
    ("column twice", "d.csv", b"premise,premise,hypothesis,label\na,b,c,1\n", "d.csv:1", "premise"),
    ("10^6 columns", "d.csv", b"x," * 10 ** 6 + b"y\n", "d.csv"),
    ("ending unknown", "d.xlsx", b"PK\3\4", "d.xlsx"),
]:
    case("data: " + name, *parts)(lambda w, file=file, content=content: w.data(file, content))

for name, file, content in [
    ("no last newline", "d.jsonl", ROW + b"\n" + ROW),
    ("CRLF and a byte order mark", "d.jsonl", b"\xef\xbb\xbf" + ROW + b"\r\n" + ROW + b"\r\n"),
    ("CSV with CRLF, a byte order mark, no last newline", "d.csv", b"\xef\xbb\xbf" + HEAD[:-1] + b'\r\n"a,""b""",c,1\r\nd,e,2'),
    ("several gzip members", "d.jsonl.gz", gzip.compress(ROW + b"\n") * 3),
    ("zst of two frames", "d.jsonl.zst", zst(ROW + b"\n") * 2),
]:
    case("accepted: " + name, code=0)(lambda w, file=file, content=content: w.data(file, content))


@case("data: missing", "nowhere.jsonl", "No such file")
def _(w):
    return w.train("data.train=nowhere.jsonl")


@case("data: is a folder", "d.jsonl", "folder")
def _(w):
    os.mkdir(w.at("d.jsonl"))
    return w.train("data.train=d.jsonl")


@case("accepted: the token cache is damaged, and is made anew", "token cache", "made anew", code=0)
def _(w):
    hone(*w.train("data.cache=cache", "output.dir=first"), cwd=w.path)
    for name in os.listdir(w.at("cache")):
        if not name.endswith(".h5"):
            continue
        raw = bytearray(open(w.at("cache", name), "rb").read())
        raw[len(raw) // 2] ^= 1
        w.put("cache/" + name, bytes(raw))
    return w.train("data.cache=cache")


@case("accepted: a bad row passed over, and counted", "data.train: 1 rows refused", "d.jsonl:2", code=0)
def _(w):
    return [*w.data("d.jsonl", ROW + b"\n{\n" + ROW), "data.on_bad_row=skip"]


@case("accepted: data changed since the cache was made", "changed", "made anew", code=0)
def _(w):
    w.put("d.jsonl", ROW)
    hone(*w.train("data.train=d.jsonl", "data.cache=cache", "output.dir=first"), cwd=w.path)
    w.put("d.jsonl", ROW.replace(b"dog", b"cat"))
    return w.train("data.train=d.jsonl", "data.cache=cache")


# --- hone's own config -------------------------------------------------------------------------------------------------

for name, content, *parts in [
    ("empty", b"", "c.json:1:"), ("not JSON", b"model: x\n", "c.json:1:"), ("an array", b"[]", "c.json", "object"),
    ("not UTF-8", b'{"model": {"path": "\xff"}}', "c.json", "UTF-8"),
    ("a section twice", b'{"model": {}, "model": {}}', "c.json:1:", "same key twice"),
    ("a section is text", b'{"model": "x"}', "model"),
    ("depth 10^5", b'{"model": ' + b"[" * 10 ** 5, "c.json:1:", "nested"),
    ("60,000 unknown keys", json.dumps({"optim": {f"k{i}": i for i in range(60000)}}).encode(), "optim.k0: unknown key", "... and"),
    ("a binary", b"\x7fELF\2\1\1" + b"\0" * 100, "c.json:1:"),
]:
    def make(w, content=content):
        w.put("c.json", content)
    case("CONFIG: " + name, *parts, code=(1, 2))(make)

for name, sections, *parts in [
    ("unknown key", {"optim": {"lrr": 1}}, "optim.lrr", "optim.lr"),
    ("unknown section", {"optimizer": {"lr": 1}}, "optimizer"),
    ("text for a number", {"optim": {"lr": "high"}}, "optim.lr", "high"),
    ("batch of -5", {"train": {"batch_tokens": -5}}, "train.batch_tokens", "-5"),
    ("10^18 epochs", {"train": {"epochs": 1e18}}, "train.epochs"),
    ("10^9 threads", {"train": {"threads": 10 ** 9}}, "train.threads"),
    ("rate of 10^400", {"optim": {"lr": 1e400}}, "c.json:1:"),
    ("seed 2^63", {"train": {"seed": 2 ** 63}}, "c.json:1:", "2^63"),
    ("NUL in a path", {"model": {"path": "a\0b"}}, "model.path", "NUL"),
    ("label twice", {"task": {"labels": ["a", "a"]}}, "task.labels", '"a"'),
    ("two dev sets of one name", {"data": {"dev": ["x=small.jsonl", "x="]}}, "data.dev"),
]:
    def make(w, sections=sections):
        value = json.load(open(w.at("c.json")))
        for section, keys in sections.items():
            value.setdefault(section, {}).update(keys)
        w.put("c.json", json.dumps(value).replace("Infinity", "1e400"))
    case("CONFIG: " + name, *parts)(make)


run_all()
