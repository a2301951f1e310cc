"""Hostile and damaged config.json and index of shards (hostile.py)."""
from hostile import *

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


run_all()
