"""Hostile and damaged model.safetensors (hostile.py)."""
from hostile import *

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


@case("safetensors: 10^7 tensors", "header length", "60000001")
def _(w):
    w.put(ST, pack(b"{" + b'"a":0,' * 10 ** 7))


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


run_all()
