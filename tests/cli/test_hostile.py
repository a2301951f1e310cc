"""Hostile and damaged files, given to hone the way a user meets them. Every case must end in time, with bounded memory, with
exit code 1 or 2 and a message that names the file and the place in it, and must leave nothing in the output folder but the
token cache. Some odd files are valid and must be read. `--table` prints what each case says (docs/hostile-input.md).

What needs digests that only hone computes (checkpoints that lie with the right digest: external links, filters, other types)
is in tests/checkpoints/test_hostile.c."""
import gzip, os, resource, sys, threading
sys.path.insert(0, os.path.dirname(__file__))
from tiny import *

SANITIZED = b"__asan_init" in open(HONE, "rb").read()
SECONDS = 30 if SANITIZED else 5  # of processor: far above what any case takes, far below what a loop without end takes
MEMORY = (3 << 30) if SANITIZED else (768 << 20)  # at the peak; the sanitizer's own books included
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "passive",  # an allocation that fails is hone's to report
               "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":allocator_may_return_null=1"}
CASES = []


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


# --- model.safetensors ---------------------------------------------------------------------------------------------------

ST = "model/model.safetensors"


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


for name, content, *parts in [
    ("empty", b"", "header length", "has 0"),
    ("7 bytes", b"1234567", "header length", "has 7"),
    ("header length 0", pack(b"", b"{}", 0), "header length"),
    ("header length 2^63", pack(b"{}", b"", 1 << 63), "header length", "9223372036854775808"),
    ("header longer than the file", pack(b"{}", b"", 3), "header length", "got 3"),
    ("header is not UTF-8", pack(b'{"a\xff": {}}'), "header:1:", "UTF-8"),
    ("header is not JSON", pack(b"{what}"), "header:1:"),
    ("header is an array", pack(b"[]"), "header", "0x5b"),
    ("bytes after the JSON", pack(b"{} x"), "header:1:", "more text"),
    ("NUL inside the header", pack(b'{"a": 1}\0\0'), "header:1:"),
    ("NUL in a name", pack(b'{"a\\u0000b": 1}'), "header:1:", "NUL"),
    ("leading blanks", pack(b"  {}"), "header", "0x20"),
    ("a tensor twice", pack('{"a": %s, "a": %s}' % (2 * (json.dumps(tensor()),)), b"1234"), "same key twice"),
    ("data_offsets twice", pack('{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1], "data_offsets": [0, 1]}}', b"1"),
     "same key twice"),
    ("negative offset", pack({"a": tensor(begin=-4, end=0)}, b"1234"), '"a"', "data_offsets", "-4"),
    ("end before begin", pack({"a": tensor(begin=4, end=0)}, b"1234"), '"a"', "data_offsets", "[4, 0]"),
    ("overlap", pack({"a": tensor(), "b": tensor(begin=2, end=6)}, b"123456"), '"b"', "overlaps"),
    ("two names, the same bytes", pack({"a": tensor(), "b": tensor()}, b"1234"), '"b"', "overlaps"),
    ("hole", pack({"a": tensor(), "b": tensor(begin=8, end=12)}, b"123456789012"), '"b"', "hole"),
    ("trailing bytes", pack({"a": tensor()}, b"123456"), "trailing bytes"),
    ("2 bytes short", pack({"a": tensor()}, b"12"), '"a"', "data_offsets"),
    ("shape [2, 2^64-2]", pack({"a": tensor((2, (1 << 64) - 2))}, b"1234"), "header:1:", "64 bits"),
    ("shape [2, 2^63-1]", pack({"a": tensor((2, (1 << 63) - 1))}, b"1234"), '"a"', "shape"),
    ("shape [0, 2^62, 2^62]", pack({"a": tensor((0, 1 << 62, 1 << 62), 0, 0)}), '"a"', "shape"),
    ("size is not shape x type", pack({"a": tensor((2,))}, b"1234"), '"a"', "need 8 bytes"),
    ("unknown type", pack({"a": tensor(dtype="F31")}, b"1234"), '"a"', "F31"),
    ("dimension 2.0", pack({"a": tensor((1.0,))}, b"1234"), '"a"', "shape[0]"),
    ("dimension is a string", pack({"a": tensor(("1",))}, b"1234"), '"a"', "shape[0]"),
    ("dimension -1", pack({"a": tensor((-1,))}, b"1234"), '"a"', "shape[0]"),
    ("rank 10^6", pack({"a": tensor([1] * 10 ** 6)}, b"1234"), '"a"', "1000000"),
    ("10^6 tensors", pack("{" + ",".join(f'"{i}":0' for i in range(10 ** 6)) + "}"), "header:1:", "too many values"),
    ("name of 10 MB", pack({"n" * 10 ** 7: tensor()}, b"1234"), "1024 bytes"),
    ("name ../../x", pack({"../../x": tensor()}, b"1234"), "../../x", "is a path"),
    ("name drives a terminal", pack({"\x1b[2J\x07": tensor()}, b"1234"), "control character"),
    ("metadata is no string", pack({"__metadata__": {"n": 1}, "a": tensor()}, b"1234"), "__metadata__.n"),
    ("depth 2049", pack('{"a":' + "[" * 2049 + "]" * 2049 + "}"), "header:1:", "nested too deeply"),
    ("a pickle", b"\x80\x02cos\nsystem\nq\0X\x04\0\0\0trueq\1\x85q\2Rq\3.", "safetensors file?"),
    ("a .pt zip", b"PK\x03\x04" + b"\0" * 60, "header", "safetensors"),
    ("a GGUF", b"GGUF\3\0\0\0" + b"\0" * 60, "safetensors file?"),
    ("no tensor", pack("{}"), "missing"),
]:
    def make(w, content=content):
        w.put(ST, content)
    case("safetensors: " + name, "model.safetensors", *parts)(make)


@case("safetensors: header of 200 MB", "model.safetensors", "header length", "200000000")
def _(w):
    w.put(ST, pack(b"{", b"", 200000000))
    os.truncate(w.at(ST), 300000000)


@case("safetensors: cut in the middle", "model.safetensors", "data_offsets")
def _(w):
    os.truncate(w.at(ST), os.path.getsize(w.at(ST)) // 2)


@case("safetensors: is a folder", "model.safetensors", "expected a file")
def _(w):
    os.remove(w.at(ST))
    os.mkdir(w.at(ST))


@case("safetensors: is a FIFO", "model.safetensors", "expected a file")
def _(w):
    os.remove(w.at(ST))
    os.mkfifo(w.at(ST))


@case("safetensors: is a link to /dev/zero", "model.safetensors", "outside")
def _(w):
    os.remove(w.at(ST))
    os.symlink("/dev/zero", w.at(ST))


@case("safetensors: only pytorch_model.bin", "pytorch_model.bin", "pickle")
def _(w):
    os.rename(w.at(ST), w.at("model/pytorch_model.bin"))


def with_tensor(name, **change):
    def make(w):
        header, data = weights(w)
        header[name].update(change)
        w.put(ST, pack(header, data))
    return make


case("safetensors: weights of another shape", "model.safetensors", "pooler.dense.weight", "[16, 64]")(
    with_tensor("pooler.dense.weight", shape=[16, 64]))
case("safetensors: integers for weights", "model.safetensors", "pooler.dense.weight", "i32")(
    with_tensor("pooler.dense.weight", dtype="I32"))


@case("safetensors: a weight is NaN", "model.safetensors", "pooler.dense.weight", "nan")
def _(w):
    header, data = weights(w)
    at = header["pooler.dense.weight"]["data_offsets"][0] + 40
    w.put(ST, pack(header, data[:at] + struct.pack("<f", float("nan")) + data[at + 4:]))


@case("safetensors: a weight is missing", "model.safetensors", "encoder.layer.1.output.dense.bias")
def _(w):
    header, data = weights(w)
    header["cls.other"] = header.pop("encoder.layer.1.output.dense.bias")
    w.put(ST, pack(header, data))


@case("safetensors: a tensor that no such model has", "model.safetensors", "other")
def _(w):
    header, data = weights(w)
    header["other"] = header.pop("encoder.layer.1.output.dense.bias")
    w.put(ST, pack(header, data))


@case("safetensors: head of 2^31-1 empty rows", "model.safetensors", "classifier.weight")
def _(w):
    header, data = weights(w)
    header["classifier.weight"] = tensor((2 ** 31 - 1, 0), len(data), len(data))
    w.put(ST, pack(header, data))
    return ["eval", "model", "data.dev=small.jsonl", "data.fields.text=premise"]


@case("safetensors: regression with three outputs", "config.json", "problem_type")
def _(w):
    header, data = weights(w)
    header["classifier.weight"] = tensor((3, HIDDEN), len(data), len(data) + 12 * HIDDEN)
    header["classifier.bias"] = tensor((3,), len(data) + 12 * HIDDEN, len(data) + 12 * HIDDEN + 12)
    w.put(ST, pack(header, data + bytes(12 * HIDDEN + 12)))
    w.edit("model/config.json", problem_type="regression")
    return ["eval", "model", "data.dev=small.jsonl", "data.fields.text=premise", "data.fields.label=label"]


@case("accepted: tensors without elements, and of no dimension", code=0)
def _(w):
    header, data = weights(w)
    header["cls.empty"] = tensor((0, 5), len(data), len(data))
    header["cls.scalar"] = tensor((), len(data), len(data) + 4)
    w.put(ST, pack(header, data + b"\0\0\0\0"))


# --- config.json and the index -------------------------------------------------------------------------------------------

for name, keys, *parts in [
    ("hidden_size 2^31", {"hidden_size": 2 ** 31}, "hidden_size", "2147483648"),
    ("hidden_size above the file's", {"hidden_size": 4096, "num_attention_heads": 64}, "model.safetensors", "shape"),
    ("0 heads", {"num_attention_heads": 0}, "num_attention_heads"),
    ("5 heads for 32", {"num_attention_heads": 5}, "num_attention_heads", "divisor"),
    ("10^9 layers", {"num_hidden_layers": 10 ** 9}, "num_hidden_layers", "1000000000"),
    ("1024 layers, 3 in the file", {"num_hidden_layers": 1024}, "model.safetensors", "encoder.layer."),
    ("everything at its largest", {"num_hidden_layers": 1024, "hidden_size": 65536, "num_attention_heads": 256,
                                   "intermediate_size": 1 << 20, "vocab_size": 1 << 24}, "this run takes", "free"),
    ("vocabulary below the largest id", {"vocab_size": 100}, "vocab_size", "100"),
    ("no vocabulary", {"vocab_size": ...}, "vocab_size", "nothing"),
    ("no positions", {"max_position_embeddings": 0}, "max_position_embeddings"),
    ("a size is text", {"hidden_size": "32"}, "hidden_size", "string"),
    ("a size is 32.5", {"hidden_size": 32.5}, "hidden_size", "32.5"),
    ("unknown activation", {"hidden_act": "swish\x1b[2J"}, "hidden_act"),
    ("another family", {"model_type": "t5"}, "model_type", "t5"),
    ("no family", {"model_type": ...}, "model_type", "nothing"),
    ("relative positions", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ("quantized", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ("dropout -1", {"hidden_dropout_prob": -1}, "hidden_dropout_prob"),
]:
    def make(w, keys=keys):
        w.edit("model/config.json", **keys)
    case("config.json: " + name, *([] if "model.safetensors" in parts or name.startswith("every") else ["config.json"]),
         *parts)(make)

for name, old, new, *parts in [
    ("NaN", "1e-12", "NaN", "config.json:1:"),
    ("1e999", "1e-12", "1e999", "config.json:1:", "1.8e308"),
    ("integer 2^63", '"hidden_size": 32', '"hidden_size": 9223372036854775808', "config.json:1:", "2^63"),
    ("a key twice", '"hidden_size": 32', '"hidden_size": 32, "hidden_size": 64', "config.json:1:", "same key twice"),
    ("cut short", "}", "", "config.json:1:", "too early"),
    ("depth 10^5", '"hidden_size": 32', '"x": ' + "[" * 10 ** 5 + "]" * 10 ** 5, "config.json:1:", "nested"),
]:
    def make(w, old=old, new=new):
        w.replace("model/config.json", old, new)
    case("config.json: " + name, *parts)(make)

for name, content, *parts in [
    ("empty", b"", "too early"), ("an array", b"[]", "JSON object"), ("not UTF-8", b'{"a": "\xff"}', "UTF-8"),
    ("20 MiB of [[],", b"[" + b"[]," * (20 << 20 >> 2) + b"1]", "at most"),
]:
    def make(w, content=content):
        w.put("model/config.json", content)
    case("config.json: " + name, "config.json", *parts)(make)


@case("config.json: missing", "config.json", "No such file")
def _(w):
    os.remove(w.at("model/config.json"))


@case("config.json: is a FIFO", "config.json", "expected a file")
def _(w):
    os.remove(w.at("model/config.json"))
    os.mkfifo(w.at("model/config.json"))


@case("model.path: is a file", "hello.txt", "folder")
def _(w):
    w.put("hello.txt", "hello")
    return w.train("model.path=hello.txt")


def shards(w, name="a.safetensors", where="a.safetensors"):
    """The model as one shard beside an index."""
    header, data = weights(w)
    os.rename(w.at(ST), w.at("model", where))
    w.put("model/model.safetensors.index.json", json.dumps({"weight_map": {k: name for k in header}}))


for name, shard, *parts in [
    ("absolute path", "/etc/a.safetensors", "weight_map", "/etc/a.safetensors"),
    ("path with ..", "../a.safetensors", "weight_map", "../a.safetensors"),
    ("hidden file", ".safetensors", "weight_map"),
    ("not .safetensors", "a.bin", "weight_map", "a.bin"),
    ("NUL in a name", "a\0.safetensors", "weight_map"),
    ("shard is missing", "b.safetensors", "b.safetensors", "No such file"),
    ("shard is a number", 7, "weight_map", "name of a file"),
    ("shard of a name of 5000 letters", "n" * 5000 + ".safetensors", "weight_map"),
]:
    case("index: " + name, "index.json", *parts)(lambda w, shard=shard: shards(w, shard))


@case("index: shard is a link out of the folder", "a.safetensors", "outside")
def _(w):
    shards(w)
    os.rename(w.at("model/a.safetensors"), w.at("out.safetensors"))
    os.symlink("../out.safetensors", w.at("model/a.safetensors"))


@case("index: shard is a FIFO", "a.safetensors", "expected a file")
def _(w):
    shards(w)
    os.remove(w.at("model/a.safetensors"))
    os.mkfifo(w.at("model/a.safetensors"))


@case("index: links in a ring", "a.safetensors", "symbolic links")
def _(w):
    shards(w)
    os.remove(w.at("model/a.safetensors"))
    os.symlink("a.safetensors", w.at("model/a.safetensors"))


@case("index: tensor in two shards", "index.json", "pooler.dense.bias", "b.safetensors")
def _(w):
    shards(w)
    w.put("model/b.safetensors", pack({"pooler.dense.bias": tensor()}, b"1234"))
    index = json.load(open(w.at("model/model.safetensors.index.json")))
    index["weight_map"]["x"] = "b.safetensors"
    w.put("model/model.safetensors.index.json", json.dumps(index))


@case("index: tensor that no shard holds", "index.json", "ghost", "a.safetensors")
def _(w):
    shards(w)
    w.replace("model/model.safetensors.index.json", '{"weight_map": {', '{"weight_map": {"ghost": "a.safetensors", ')


@case("index: weight_map is an array", "index.json", "weight_map")
def _(w):
    shards(w)
    w.put("model/model.safetensors.index.json", '{"weight_map": []}')


# --- tokenizer -----------------------------------------------------------------------------------------------------------

def tokenizer_json(w, **change):
    words = open(w.at("model/vocab.txt"), encoding="utf8").read().split("\n")[:-1]
    root = {"model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {t: i for i, t in enumerate(words)}},
            "normalizer": {"type": "BertNormalizer"}, "pre_tokenizer": {"type": "BertPreTokenizer"},
            "added_tokens": [{"id": 0, "content": "[PAD]", "special": True}],
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}}
    for key, value in change.items():
        if key == "model":
            root["model"].update(value)
        else:
            root[key] = value
    w.put("model/tokenizer.json", json.dumps(root))
    return ["tokenize", "model"], b"the car\n"


@case("accepted: tokenizer.json of the cases below", code=0)
def _(w):
    return tokenizer_json(w)


BOMB = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}
for name, change, *parts in [
    ("id 2^31", {"model": {"vocab": {"[UNK]": 2 ** 31}}}, "[UNK]", "2147483648"),
    ("id -1", {"model": {"vocab": {"[UNK]": -1}}}, "[UNK]", "-1"),
    ("id is text", {"model": {"vocab": {"[UNK]": "0"}}}, "[UNK]", "integer"),
    ("an id for two tokens", {"model": {"vocab": {"[UNK]": 0, "b": 0}}}, "id 0", "[UNK]"),
    ("no vocabulary", {"model": {"vocab": None}}, "model.vocab"),
    ("without its unknown token", {"model": {"unk_token": "[WHAT]"}}, "[WHAT]"),
    ("model unknown", {"model": {"type": "WordLevel"}}, "model.type", "WordLevel"),
    ("merge longer than any token", {"model": {"type": "BPE", "merges": ["a longer-than-any"]}}, "model.merges[0]", "longer-than-any"),
    ("merge that is none", {"model": {"type": "BPE", "merges": ["a"]}}, "model.merges[0]", "two tokens"),
    ("missing byte tokens", {"model": {"type": "BPE", "unk_token": None, "merges": []}, "pre_tokenizer": {"type": "ByteLevel"}},
     "byte-level", "none for"),
    ("scores of Unigram are texts", {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", "-1"]]}}, "model.vocab[0]", "score"),
    ("normalizer unknown", {"normalizer": {"type": "Nmt"}}, "normalizer", "Nmt"),
    ("charsmap that is none", {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AA=="}}, "precompiled_charsmap"),
    ("regex that does not compile", {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"}},
     "pre_tokenizer", "does not compile"),
    ("stage is a number", {"normalizer": 5}, "normalizer", "object"),
    ("empty added token", {"added_tokens": [{"id": 0, "content": ""}]}, "added_tokens[0]", "content"),
    ("added token with another id", {"added_tokens": [{"id": 9, "content": "[PAD]"}]}, "added_tokens[0]", "got 9"),
    ("added token twice", {"added_tokens": 2 * [{"id": 0, "content": "[PAD]"}]}, "added_tokens[1]", "[PAD]"),
    ("added token of 1 MB", {"added_tokens": [{"id": 0, "content": "x" * 10 ** 6}]}, "added_tokens[0]"),
    ("template names no token", {"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 10 ** 7],
                                                    "cls": ["[CLS]", 2]}}, "post_processor", "10000000"),
    ("template without the text", {"post_processor": {"type": "TemplateProcessing", "single": [], "pair": [],
                                                      "special_tokens": {}}}, "post_processor.single"),
    ("words of 2^40 characters", {"model": {"max_input_chars_per_word": 2 ** 40}}, "max_input_chars_per_word"),
]:
    case("tokenizer.json: " + name, "tokenizer.json", *parts)(lambda w, change=change: tokenizer_json(w, **change))



@case("tokenizer.json: regex with nested quantifiers", "takes too many steps")
def _(w):
    return tokenizer_json(w, normalizer=None, pre_tokenizer=BOMB)[0], b"a" * 40 + b"!\n"


for name, content, *parts in [
    ("lone surrogate", b'{"model": {"vocab": {"\\ud800": 0}}}', "tokenizer.json:1:", "ud800"),
    ("a key twice", b'{"model": {"vocab": {"a": 0, "a": 1}}}', "tokenizer.json:1:", "same key twice"),
    ("NUL in a token", b'{"model": {"vocab": {"a\\u0000": 0}}}', "tokenizer.json:1:", "NUL"),
    ("depth 10^6", b"[" * 10 ** 6, "tokenizer.json:1:", "nested"),
    ("empty", b"", "tokenizer.json:1:", "too early"),
    ("a number", b"5", "tokenizer.json", "object"),
]:
    def make(w, content=content):
        w.put("model/tokenizer.json", content)
        return ["tokenize", "model"]
    case("tokenizer.json: " + name, *parts)(make)

for name, content, *parts in [
    ("empty", b"", "vocab.txt", "[UNK]"),
    ("not UTF-8", b"[UNK]\n\xff\n", "vocab.txt", "UTF-8"),
    ("NUL", b"[UNK]\na\0b\n", "vocab.txt", "NUL"),
    ("without [SEP]", b"[UNK]\n[CLS]\n[PAD]\n", "[SEP]"),
]:
    def make(w, content=content):
        w.put("model/vocab.txt", content)
        return ["tokenize", "model"]
    case("vocab.txt: " + name, *parts)(make)


@case("vocab.txt: missing", "vocab.txt", "tokenizer.json")
def _(w):
    os.remove(w.at("model/vocab.txt"))
    return ["tokenize", "model"]


@case("vocab.txt: is a FIFO", "vocab.txt", "expected a file")
def _(w):
    os.remove(w.at("model/vocab.txt"))
    os.mkfifo(w.at("model/vocab.txt"))
    return ["tokenize", "model"]


@case("vocab.txt: is a link out of the folder", "vocab.txt", "outside")
def _(w):
    os.rename(w.at("model/vocab.txt"), w.at("words"))
    os.symlink("../words", w.at("model/vocab.txt"))
    return ["tokenize", "model"]


@case("tokenizer: a file that is only copied is a link out of the folder", "special_tokens_map.json", "outside")
def _(w):
    os.symlink("/etc/passwd", w.at("model/special_tokens_map.json"))


@case("vocab.txt: 300 MB", "vocab.txt", "at most")
def _(w):
    os.truncate(w.at("model/vocab.txt"), 300 << 20)
    return ["tokenize", "model"]


@case("tokenizer_config.json: an unknown class", "tokenizer_config.json", "tokenizer_class", "T5Tokenizer")
def _(w):
    w.edit("model/tokenizer_config.json", tokenizer_class="T5Tokenizer")
    return ["tokenize", "model"]


@case("tokenizer_config.json: added token with id 10^18", "tokenizer_config.json", "added_tokens_decoder")
def _(w):
    w.edit("model/tokenizer_config.json", added_tokens_decoder={str(10 ** 18): {"content": "x"}})
    return ["tokenize", "model"]


@case("accepted: a million equal characters", code=0)
def _(w):
    return ["tokenize", "model"], b"a" * 10 ** 6 + b"\n"


@case("accepted: a million marks to put in order", code=0)
def _(w):
    return ["tokenize", "model"], "a\u0323\u0301".encode() + "\u0323\u0301".encode() * 10 ** 6 + b"\n"


@case("accepted: every byte as text", code=0)
def _(w):
    return ["tokenize", "model"], bytes(b for b in range(256) if b != 10) + b"\n"


# --- data ----------------------------------------------------------------------------------------------------------------

ROW = b'{"premise": "a man", "hypothesis": "a dog", "label": "neutral"}'
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


# --- hone's own config ---------------------------------------------------------------------------------------------------

for name, content, *parts in [
    ("empty", b"", "c.json:1:"), ("not JSON", b"model: x\n", "c.json:1:"), ("an array", b"[]", "c.json", "object"),
    ("not UTF-8", b'{"model": {"path": "\xff"}}', "c.json", "UTF-8"),
    ("a section twice", b'{"model": {}, "model": {}}', "c.json:1:", "same key twice"),
    ("a section is text", b'{"model": "x"}', "model"),
    ("depth 10^5", b'{"model": ' + b"[" * 10 ** 5, "c.json:1:", "nested"),
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


# --- run folders and checkpoints -----------------------------------------------------------------------------------------

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


# --- the whole ------------------------------------------------------------------------------------------------------------

def make_base(base):
    """What every case begins with: a model, 40 rows of data, a finished run with two checkpoints."""
    make_model(os.path.join(base, "model"))
    rows = os.path.join(base, "small.jsonl")
    with open(rows, "w", encoding="utf8") as f:
        f.writelines(open(TRAIN, encoding="utf8").readlines()[:40])
    make_config(os.path.join(base, "c.json"), "model", "run", train={"max_steps": 20, "batch_examples": 8, "epochs": 4},
                data={"train": ["small.jsonl"], "dev": ["small.jsonl"]})
    hone("train", "c.json", cwd=base)


def every_case(base, only, table):
    failed = 0
    if table:
        print("| case | hone says |\n|---|---|")
    for name, make, parts, code in CASES:
        if only and only not in name:
            continue
        folder = tempfile.mkdtemp(prefix="hone-hostile-")
        try:
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
    return failed


def nothing_else_is_touched(base):
    """Watched by strace: a model is loaded, and trained on, without starting a program, without the network, and without
    opening files but the system's libraries and those of the folders that were named."""
    watch = ["strace", "-f", "-qq", "-e", "trace=execve,execveat,open,openat,openat2,creat,socket,connect"]
    if not shutil.which("strace") or subprocess.run([*watch, "-o", "/dev/null", "true"], capture_output=True).returncode:
        print("skipped: strace does not run here")
        return 0
    log, problems = os.path.join(base, "strace"), []
    system = ("/proc/", "/sys/", "/dev/null", "/dev/shm", "/dev/urandom", "/etc/ld.so", "/lib", "/usr/lib", "/usr/local/lib", "/usr/share/locale",
              "/etc/localtime")
    shutil.copytree(os.path.join(base, "model"), os.path.join(base, "hostile"))
    for name in ("vocab.txt", "config.json", "model.safetensors"):
        os.remove(os.path.join(base, "hostile", name))
        os.symlink("/etc/passwd", os.path.join(base, "hostile", name))
    for code, *args in ([0, "train", "c.json", "output.dir=watched"], [0, "eval", "watched", "--json"], [0, "verify", "watched"],
                        [1, "train", "c.json", "model.path=hostile"], [1, "tokenize", "hostile"]):
        done = subprocess.run([*watch, "-o", log, HONE, *args], cwd=base, capture_output=True,
                              env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        if done.returncode != code:
            problems.append(f"{args}: exit code {done.returncode}")
        calls = [l.split(None, 1)[1] for l in open(log) if "(" in l]
        problems += [c.strip() for c in calls if c.startswith(("socket", "connect"))]
        problems += [c.strip() for c in calls if c.startswith("execve")][1:]
        for call in calls:
            named = re.search(r'^(?:open|creat)\w*\(.*?"([^"]*)"', call)
            path = os.path.normpath(os.path.join(base, named[1])) if named else base
            if not path.startswith((base, *system)) and path not in ("/", os.path.dirname(base)):
                problems.append(call.strip())
    for problem in problems:
        print("FAILED strace:", problem)
    print(f"{'FAILED' if problems else 'ok'} nothing else is touched")
    return len(problems)


def run_all():
    table = "--table" in sys.argv
    words = [a for a in sys.argv[1:] if a != "--table"]
    base = tempfile.mkdtemp(prefix="hone-hostile-")
    try:
        make_base(base)
        failed = every_case(base, words[0] if words else None, table)
        if not table and not words:
            failed += nothing_else_is_touched(base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    sys.exit(1 if failed else 0)


run_all()
