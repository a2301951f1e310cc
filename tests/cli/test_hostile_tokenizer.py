"""Hostile and damaged files of a tokenizer, and texts for it (hostile.py)."""
from hostile import *

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
    ("merge not in the vocabulary", {"model": {"type": "BPE", "vocab": {"[UNK]": 0, "p": 1, "q": 2}, "merges": ["p q"]}}, "model.merges[0]", "not in the vocabulary"),
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



@case("tokenizer.json: regex that reads to the end at every place", "takes too many steps")
def _(w):
    split = {"type": "Split", "pattern": {"Regex": "(?=a*[bc])a"}, "behavior": "Isolated"}
    return tokenizer_json(w, normalizer=None, pre_tokenizer=split)[0], b"a" * 10 ** 6 + b"\n"


@case("tokenizer.json: three steps make 64 million of one", "more than 64 times as much")
def _(w):
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 400}
    return tokenizer_json(w, normalizer={"type": "Sequence", "normalizers": 3 * [step]})[0], b"a\n"


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


run_all()
