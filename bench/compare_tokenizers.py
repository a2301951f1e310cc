"""hone's tokenizers beside Hugging Face's `tokenizers`: every tokenizer of ../shared on every text there, and on generated ones
of every script; one core each, by CPU time, ids and decoded texts compared one by one.

    make bench-tokenizer ARGS="[--build DIR] [--megabytes X] [--rounds N] [--markdown] [--texts a,b] [--only a,b] [FOLDER ...]"

FOLDER: more Hugging Face folders with a tokenizer.json. Exit code 1 when an id or a decoded text differs.
"""
import argparse, array, contextlib, csv, glob, gzip, io, json, os, random, shutil, struct, subprocess, sys, tarfile, tempfile, time, types, unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
shared = os.path.join(os.environ.get("HONE_SOURCE", root), "../shared/data")


# Texts

def text_of(name):
    return gzip.open(os.path.join(shared, name), "rt", encoding="utf8").read()


def rows_of(name):
    text = text_of(name)
    return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]


def strings_of(value):
    if isinstance(value, dict):
        value = value.values()
    return [value] if isinstance(value, str) else [s for v in value for s in strings_of(v)] if not isinstance(value, (int, float)) else []


def rows(*names):
    """A text a row: its strings with an empty line between."""
    return ["\n\n".join(strings_of(row)) for name in names for row in rows_of(name)]


def pieces(name, size=2000):
    """A book in pieces, as training on plain text cuts it."""
    text = text_of(name)
    return [text[i:i + size] for i in range(0, len(text), size)]


def mmlu():
    with tarfile.open(os.path.join(shared, "eval/mmlu_dev_val.tar.gz")) as archive:
        files = [archive.extractfile(m).read().decode() for m in archive if m.name.endswith(".csv")]
    return ["\n".join(row) for text in files for row in csv.reader(io.StringIO(text))]


EMOJI = ["\U0001f600", "\U0001f469\U0001f3fd\u200d\U0001f680", "\U0001f1f0\U0001f1f7\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "1\ufe0f\u20e3", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
         "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "\U0001f9d1\U0001f3ff\u200d\u2764\ufe0f\u200d\U0001f9d1\U0001f3fb", "\u263a\ufe0e", "\U0001fae8"]
BLANKS = [chr(c) for c in list(range(9, 14)) + list(range(0x1c, 0x21)) + [0x85, 0xa0, 0x1680, 0x180e] + list(range(0x2000, 0x2010)) + [0x2028, 0x2029, 0x202f, 0x205f, 0x2060, 0x3000, 0xfeff]]
SPECIAL = ["<s>", "</s>", "<unk>", "<pad>", "<mask>", "<|endoftext|>", "<|padding|>", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "<extra_id_0>", "<0x41>", "<0xC3>", ">>TITLE<<", "<|im_start|>", "<|im_end|>"]


def points():
    """Assigned code points by their category, and whole planes' ends, noncharacters and private ones among them."""
    kinds = {}
    for c in range(0x110000):
        kind = unicodedata.category(chr(c))
        if kind not in ("Cs", "Cn") or (kind == "Cn" and c % 97 == 0):
            kinds.setdefault(kind, []).append(chr(c))
    return kinds


def scripts():
    """Each run of 64 code points once in words; words of one block beside ASCII; marks stacked on letters; mixtures of categories."""
    random.seed(11)
    kinds, texts = points(), []
    every = sorted(c for kind in kinds.values() for c in kind)
    texts += ["".join(every[i:i + 64]) for i in range(0, len(every), 64) if every[i] < "\u3400" or i % 1024 == 0]
    for i in range(0, len(every), 40):
        if every[i] < "\U00020000" or i % 2000 == 0:
            block = every[i:i + 160]
            texts.append(" ".join("".join(random.choice(block) for _ in range(random.randint(1, 9))) + random.choice(["", "", ".", "'s", "1", ", a"]) for _ in range(12)))
    marks, names = kinds["Mn"] + kinds["Mc"] + kinds["Me"], sorted(kinds)
    for _ in range(1500):
        texts.append(" ".join("".join(random.choice(kinds[random.choice(("Ll", "Lu", "Lo"))]) + "".join(random.choice(marks) for _ in range(random.randint(0, 4))) for _ in range(5)) for _ in range(4)))
        texts.append("".join(random.choice(kinds[random.choice(names)]) for _ in range(40)))
    return texts


def odd():
    """Emoji sequences, odd blanks, special tokens within texts, long runs, and bytes that are not UTF-8 (read as Python's 'replace' does)."""
    random.seed(12)
    texts = ["", " ", "a" * 20000, " " * 5000, "\n" * 3000, "\u0301" * 2000, "\U0001f600" * 500, "\u4e2d" * 3000, "1" * 3000, "\u2581" * 500, "'s" * 500, "\x00" * 200, "\r\n" * 500,
             "<s>" * 200, "ab" * 9000, "e\u0301" * 2000, "\ud55c" * 2000, "\u1112\u1161\u11ab" * 500, "-" * 4000, "=" * 77 + "\n", "\t" * 999, "A" * 101 + " " + "b" * 100]
    words = ["the", "Hello", "don't", "I'LL", "3.14", "\u00e9t\u00e9", "x_1", "C++", "https://a.b/c?d=e", "\ufb01n", "\u0130", "\u1e9e"]
    for _ in range(2500):
        texts.append("".join(random.choice(random.choice((words, words, EMOJI, BLANKS, SPECIAL, list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"), list("  \n")))) for _ in range(random.randint(1, 40))))
    broken = [bytes(random.choice((0x41, 0x20, 0x80, 0xbf, 0xc0, 0xc3, 0xa9, 0xe2, 0x96, 0x81, 0xed, 0xa0, 0xf0, 0x9f, 0x98, 0xf4, 0x90, 0xff)) for _ in range(random.randint(1, 30))) for _ in range(800)]
    return [t.encode() for t in texts] + broken


SETS = {
    "books": lambda: pieces("text/books_12mb.txt.gz"),
    "books_valid": lambda: pieces("text/books_valid.txt.gz", 60000),
    "shakespeare": lambda: pieces("text/tinyshakespeare.txt.gz"),
    "alpaca": lambda: rows("sft/alpaca_data.json.gz"),
    "dolly": lambda: rows("sft/dolly_3k.json.gz"),
    "mnli": lambda: rows("nli/mnli_train.jsonl.gz", "nli/lingnli_train.jsonl.gz"),
    "klue": lambda: rows("nli/klue_nli_train.jsonl.gz"),
    "mmlu": mmlu,
    "gsm8k": lambda: rows("eval/gsm8k_train.jsonl.gz"),
    "preference": lambda: rows("preference/dpo_en_demo.json.gz", "preference/rasbt_preference.json.gz"),
    "scripts": scripts,
    "odd": odd,
}


def texts_of(name, limit):
    """As bytes, evenly from the whole set, `limit` bytes of them."""
    texts = [t if isinstance(t, bytes) else t.encode() for t in SETS[name]()]
    step = max(1, int(sum(map(len, texts)) // limit)) if name not in ("odd", "scripts") else 1
    return texts[::step]


# Tokenizers

def cl100k(folder):
    """As transformers converts a .tiktoken file; the tiktoken package would do no more here than read it."""
    from base64 import b64decode
    from transformers.convert_slow_tokenizer import TikTokenConverter
    def load(path):
        return {b64decode(token): int(rank) for token, rank in (line.split() for line in gzip.open(path))}
    sys.modules["tiktoken"] = types.ModuleType("tiktoken")
    sys.modules["tiktoken.load"] = types.ModuleType("tiktoken.load")
    sys.modules["tiktoken.load"].load_tiktoken_bpe = load
    path = os.path.join(folder, "tokenizer.json")
    special = {"<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260, "<|endofprompt|>": 100276}
    TikTokenConverter(os.path.join(shared, "tokenizers/cl100k_base.tiktoken.gz"), extra_special_tokens=special).converted().save(path)
    return path


def unpack(folder, *files):
    os.makedirs(folder)
    for file in files:
        target = os.path.join(folder, os.path.basename(file)[:-3])
        with gzip.open(file) as source, open(target, "wb") as out:
            shutil.copyfileobj(source, out)


def bert_of(vocabulary, lower):
    """The reference for a folder with a vocab.txt alone."""
    from tokenizers.implementations import BertWordPieceTokenizer
    return BertWordPieceTokenizer(vocabulary, lowercase=lower)._tokenizer


def tokenizers(temporary, more, chosen):
    """(name, folder for hone, the reference's tokenizer), as they are asked for."""
    from tokenizers import Tokenizer
    for source in sorted(glob.glob(os.path.join(shared, "tokenizers/*/"))):
        name = os.path.basename(os.path.dirname(source))
        described = os.path.join(source, "tokenizer.json.gz")
        folder = os.path.join(temporary, name)
        if os.path.exists(described) and name in chosen:
            unpack(folder, described)
            yield name, folder, Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        if os.path.exists(source + "merges.txt.gz") and name + " (two files)" in chosen:
            unpack(folder + "-two", source + "vocab.json.gz", source + "merges.txt.gz")
            yield name + " (two files)", folder + "-two", Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        if os.path.exists(source + "vocab.txt.gz") and name + " (vocab.txt)" in chosen:
            lower = not name.endswith("-cased")
            unpack(folder + "-vocab", source + "vocab.txt.gz")
            with open(os.path.join(folder + "-vocab", "tokenizer_config.json"), "w") as out:
                json.dump({"do_lower_case": lower}, out)
            yield name + " (vocab.txt)", folder + "-vocab", bert_of(os.path.join(folder + "-vocab", "vocab.txt"), lower)
    if "cl100k" in chosen:
        folder = os.path.join(temporary, "cl100k")
        os.makedirs(folder)
        yield "cl100k", folder, Tokenizer.from_file(cl100k(folder))
    for folder in more:
        yield os.path.basename(folder.rstrip("/")), folder, Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))


def names_of():
    names = ["cl100k"]
    for source in glob.glob(os.path.join(shared, "tokenizers/*/")):
        name = os.path.basename(os.path.dirname(source))
        names += [name] + [name + kind for kind, file in ((" (two files)", "merges.txt.gz"), (" (vocab.txt)", "vocab.txt.gz")) if os.path.exists(source + file)]
    return names


# Comparing

def reference_run(tokenizer, texts, rounds):
    """Ids, decoded texts and the CPU seconds of the fastest way to encode."""
    tokenizer.no_padding(), tokenizer.no_truncation()
    strings, best = [t.decode("utf8", "replace") for t in texts], 1e30
    for encode in [tokenizer.encode_batch] + [tokenizer.encode_batch_fast] * rounds:
        start = time.process_time()
        encodings = encode(strings)
        best = min(best, time.process_time() - start)
    ids = [e.ids for e in encodings]
    start = time.process_time()
    decoded = tokenizer.decode_batch(ids)
    return ids, decoded, best, time.process_time() - start


def hone_run(build, folder, texts, rounds):
    with tempfile.NamedTemporaryFile() as file:
        done = subprocess.run([os.path.join(build, "bench/bench_tokenizer"), folder, file.name, str(rounds)],
                              input=b"".join(struct.pack("=I", len(t)) + t for t in texts), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            raise RuntimeError(f"{folder}: {done.stderr.decode().strip()}")
        data = file.read()
    ids, decoded, at = [], [], 0
    for _ in texts:
        count = struct.unpack_from("=I", data, at)[0]
        ids.append(array.array("i", data[at + 4:at + 4 + 4 * count]).tolist())
        at += 4 + 4 * count
        count = struct.unpack_from("=I", data, at)[0]
        decoded.append(data[at + 4:at + 4 + count].decode())
        at += 4 + count
    return ids, decoded, json.loads(done.stdout)


def differing(name, what, got, wanted, texts):
    wrong = [i for i in range(len(texts)) if got[i] != wanted[i]]
    for i in wrong[:2]:
        at = next((k for k, (a, b) in enumerate(zip(got[i], wanted[i])) if a != b), min(len(got[i]), len(wanted[i])))
        at = max(0, at - 10)
        print(f"  {name}: {what} of {ascii(texts[i][:200])}, from {at} on\n    hone      {ascii(got[i][at:at + 40])}\n    reference {ascii(wanted[i][at:at + 40])}", file=sys.stderr)
    return len(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(root, "build/release"))
    parser.add_argument("--megabytes", type=float, default=1, help="of each text; generated ones are taken whole")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--texts", type=lambda v: v.split(","), default=list(SETS))
    parser.add_argument("--only", type=lambda v: v.split(","), default=None)
    parser.add_argument("folders", nargs="*")
    options = parser.parse_args()
    if not os.path.isdir(os.path.join(shared, "tokenizers")):
        sys.exit(f"{shared}/tokenizers: not there; name folders with a tokenizer.json, and texts are missing too")
    with contextlib.suppress(AttributeError):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # hone's process inherits it
    sets = {name: texts_of(name, options.megabytes * 1e6) for name in options.texts}
    line = "| {:24} | {:11} | {:>9} | {:>8} | {:>8} | {:>6} | {:>6} | {:>6} | {:>6} |" if options.markdown else "{:24} {:11} {:>9} {:>8} {:>8} {:>6} {:>6} {:>6} {:>6}"
    print(line.format("tokenizer", "text", "ids", "HF M/s", "hone M/s", "ratio", "decode", "ids", "text"))
    if options.markdown:
        print("|---|---|---|---|---|---|---|---|---|")
    lowest, failed = (1e30, ""), 0
    with tempfile.TemporaryDirectory() as temporary:
        for name, folder, reference in tokenizers(temporary, options.folders, options.only or names_of()):
            for kind, texts in sets.items():
                ids, decoded, seconds, decoding = reference_run(reference, texts, options.rounds)
                got, shown, result = hone_run(options.build, folder, texts, options.rounds)
                count = sum(map(len, ids))
                wrong, bad = differing(name, "ids", got, ids, texts), differing(name, "text", shown, decoded, texts)
                ratio = seconds / max(result["encode_s"], 1e-9)
                lowest, failed = min(lowest, (ratio, f"{name} on {kind}")), failed + wrong + bad
                print(line.format(name, kind, count, f"{count / seconds / 1e6:.2f}", f"{count / result['encode_s'] / 1e6:.2f}", f"{ratio:.1f}", f"{decoding / max(result['decode_s'], 1e-9):.1f}",
                                  "equal" if not wrong else str(wrong), "equal" if not bad else str(bad)), flush=True)
    print(f"lowest ratio {lowest[0]:.1f} ({lowest[1]}); {failed} texts differ")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
