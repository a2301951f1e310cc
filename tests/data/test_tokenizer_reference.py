"""Ids and decoded texts beside Hugging Face's tokenizers: every tokenizer in ../shared (relative to the source root), and
the same vocabularies behind other stages, on texts of many kinds. Skipped without that package or without ../shared.

    python3 tests/data/test_tokenizer_reference.py [ROWS [NAME ...]]        (ROWS texts of each source instead of a few)
"""
import glob, gzip, json, os, random, shutil, subprocess, sys, tempfile, unicodedata

root = os.environ.get("HONE_SOURCE", ".")
shared = os.path.join(root, "../shared/data")
hone = os.environ.get("HONE", "build/debug/hone")
ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 40


def skip(why):
    print("SKIP:", why)
    sys.exit(77)


try:
    from tokenizers import Tokenizer
except ImportError:
    skip("no tokenizers package")
if not os.path.isdir(os.path.join(shared, "tokenizers")):
    skip("no ../shared")

PIECES = (["a", "the", "Tokenizer", "don't", "'S", "'LL", "'\u017f", "we'll", "I'M", "x" * 40, "1", "1234567", "3.14", "\u00b2", "\u0663\u0664", "\u2167", "\u00bd"] +
          [" ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", " \n ", "\u00a0", "\u2003", "\u3000", "\u2028", "\u0085", "\u180e", "\u200b", "\u200d", "\u200e", "\ufeff", "\u00ad"] +
          list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "!!", "->", "\u201cq\u201d", "\u2014", "\u00bf", "\u3001", "\u3002", "\u2581", "\u2581\u2581", "\u0120", "\u010a"] +
          ["\x00", "\x01", "\x07", "\x0b", "\x1f", "\x7f", "\x9f", "\ue000", "\ufffd", "\uffff", "\U0010ffff", "\u0378", "\U000e0041"] +
          ["\U0001f600", "\U0001f469\U0001f3fd\u200d\U0001f680", "\U0001f1f0\U0001f1f7", "\u2764\ufe0f", "1\ufe0f\u20e3", "\U0001f468\u200d\U0001f469\u200d\U0001f467"] +
          ["\u4e2d\u6587", "\u65e5\u672c\u8a9e\u304b\u306a", "\uff76\uff9e", "\uff21\uff42\uff11", "\ud55c\uad6d\uc5b4", "\u1112\u1161\u11ab", "\u0627\u0644\u0633\u0644\u0627\u0645", "\u0600\u0661", "\u05e9\u05dc\u05d5\u05dd",
           "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0e01\u0e33", "\u0e17\u0e35\u0e48", "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u0439", "\u0438\u0306", "\u0130", "\u00df", "\ufb01", "\u2460", "\u212b"] +
          ["e\u0301", "\u00e9", "a\u0323\u0301", "a\u0301\u0323", "\u0301", "q\u0307\u0323", "\u00aa\u0301", "\u0344", "\u1e9b\u0323", "\u0958", "\ufdfa", "\U0001d15e", "\U0002f800", "\u2126"] +
          ["<s>", "</s>", "<unk>", "<pad>", "<mask>", "<|endoftext|>", "<|padding|>", "[CLS]", "[SEP]", "[MASK]", "<extra_id_0>", "<0x41>", "<0xC3>", ">>TITLE<<", "<|im_start|>", "<S>", "<s", "s>"])


def hostile(count, newest=True):
    """`newest`: also code points that only the newest Unicode knows; PCRE2, and so a pattern of the file's own, does not."""
    random.seed(7)
    texts = ["", " ", "  ", "\n", "\u2581", "a" * 3000, "\u0301" * 500, "ab" * 700, " " * 300, "\n" * 100, "\U0001f600" * 50, "\u4e2d" * 200, "e\u0301" * 200, "<s>" * 20, "x " * 200,
             "1" * 200, "\u2581" * 50, "\u00e9" * 100, "'s" * 50, "\x00" * 20]
    texts += PIECES + [" " + p for p in PIECES] + [p + "a" for p in PIECES] + ["a" + p for p in PIECES]
    for _ in range(count):
        texts.append("".join(random.choice(PIECES) + random.choice(["", "", " ", " ", "\n"]) for _ in range(random.randint(1, 30))))
    points = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    for _ in range(count):
        texts.append("".join(chr(random.choice(points) if random.random() < 0.3 else random.randrange(0x3000) if random.random() < 0.5 else random.randrange(0x20, 0x7F))
                             for _ in range(random.randint(1, 60))))
    return [t for t in texts if newest or not any(unicodedata.category(c) == "Cn" for c in t)]


def lines_of(name):
    return gzip.open(os.path.join(shared, name), "rt", encoding="utf8")


def texts_of(rows):
    out = hostile(6 * rows)
    for name in ("mnli_dev", "klue_nli_dev", "lingnli_train", "mnli_train", "klue_nli_train"):
        for number, line in enumerate(lines_of(f"nli/{name}.jsonl.gz")):
            if number == rows:
                break
            row = json.loads(line)
            out.append(row["premise"] + "\n" + row["hypothesis"])
    for name in ("alpaca_data", "dolly_3k"):
        for row in json.load(lines_of(f"sft/{name}.json.gz"))[:2 * rows]:
            out.append("\n\n".join(v for v in row.values() if isinstance(v, str)))
    for name in ("books_valid", "tinyshakespeare", "books_12mb"):
        book = lines_of(f"text/{name}.txt.gz").read()
        step = 1500 if rows < 1000 else 20000
        out += [book[i:i + step] for i in range(0, min(len(book), rows * step // 2), step)]
    return out


def from_tiktoken(path):
    """cl100k as a tokenizer.json, the way transformers converts it: a merge is any split of a token into two others."""
    from base64 import b64decode
    from tokenizers.pre_tokenizers import ByteLevel
    ranks = {}
    for line in gzip.open(path):
        token, rank = line.split()
        ranks[b64decode(token)] = int(rank)
    kept = [b for b in range(256) if chr(b).isprintable() and b not in (0x20, 0xAD) and (b < 0x7F or b > 0xA0)]
    chars = {b: chr(b) for b in kept}
    chars.update({b: chr(0x100 + i) for i, b in enumerate(b for b in range(256) if b not in kept)})
    assert set(chars.values()) == set(ByteLevel.alphabet())
    show = lambda token: "".join(chars[b] for b in token)
    merges = []
    for token, rank in ranks.items():
        splits = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        merges += [(rank, *(show(p) for p in split)) for split in sorted(splits, key=lambda s: (ranks[s[0]], ranks[s[1]]))]
    merges.sort(key=lambda m: m[0])
    return dict(type="BPE", vocab={show(t): r for t, r in ranks.items()}, merges=[list(m[1:]) for m in merges], ignore_merges=True)


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def level(pattern, **more):
    split = dict(type="Split", pattern={"Regex": pattern}, behavior="Isolated", invert=False)
    byte = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)
    return dict(dict(pre_tokenizer=dict(type="Sequence", pretokenizers=[split, byte])), **more)


def variants(read):
    """The shipped vocabularies behind stages that no shipped file has."""
    gpt2, llama, t5 = read("gpt2"), read("llama2"), read("t5")
    bos = dict(type="TemplateProcessing", single=[{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
               pair=[{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
               special_tokens={"<|endoftext|>": dict(id="<|endoftext|>", ids=[50256], tokens=["<|endoftext|>"])})
    yield "gpt2, split", dict(gpt2, **level(GPT2))
    yield "llama3 pattern", dict(gpt2, **level(LLAMA3, post_processor=dict(type="Sequence", processors=[dict(type="ByteLevel", trim_offsets=True, add_prefix_space=True, use_regex=True), bos])),
                                 model=dict(gpt2["model"], ignore_merges=True))
    yield "qwen2 pattern", dict(gpt2, **level(LLAMA3.replace("{1,3}", ""), normalizer=dict(type="NFC")))
    yield "gpt-4o pattern", dict(gpt2, **level(GPT4O))
    digits = dict(type="Sequence", pretokenizers=[dict(type="Digits", individual_digits=True), dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True)])
    yield "smollm split", dict(gpt2, pre_tokenizer=digits)
    for behavior in ("Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous", "Isolated"):
        for invert in (False, True):
            split = dict(type="Split", pattern={"Regex": r"\s|[\w']+"}, behavior=behavior, invert=invert)
            byte = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)
            yield f"{behavior} {invert}", dict(gpt2, pre_tokenizer=dict(type="Sequence", pretokenizers=[split, byte]))
    yield "string split", dict(gpt2, pre_tokenizer=dict(type="Sequence", pretokenizers=[dict(split, pattern={"String": "a"}), dict(type="Punctuation", behavior="MergedWithPrevious"), byte]))
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield form, dict(gpt2, normalizer=dict(type="Sequence", normalizers=[dict(type=form)]))
    strip = [dict(type="Strip", strip_left=True, strip_right=True), dict(type="NFKD"), dict(type="StripAccents"), dict(type="Lowercase"),
             dict(type="Replace", pattern={"Regex": r"\s{2,}"}, content=" "), dict(type="Replace", pattern={"String": "th"}, content="\u00fe")]
    yield "normalizers", dict(gpt2, normalizer=dict(type="Sequence", normalizers=strip))
    for scheme in ("first", "always", "never"):
        for split in (True, False):
            space = dict(type="Metaspace", replacement="\u2581", prepend_scheme=scheme, split=split)
            yield f"metaspace {scheme} {split}", dict(llama, normalizer=None, pre_tokenizer=space, decoder=space)
    yield "no fallback", dict(llama, model=dict(llama["model"], byte_fallback=False))
    yield "no fusing", dict(llama, model=dict(llama["model"], byte_fallback=False, fuse_unk=False))
    yield "ignoring merges", dict(llama, model=dict(llama["model"], ignore_merges=True))
    space = dict(type="Metaspace", replacement="\u2581", prepend_scheme="first", split=True)
    yield "xlm-r", dict(t5, normalizer=dict(type="Sequence", normalizers=[t5["normalizer"], dict(type="Replace", pattern={"Regex": " {2,}"}, content=" ")]), pre_tokenizer=space)
    yield "t5, whole", dict(t5, pre_tokenizer=dict(type="Whitespace"))
    packed = os.path.join(shared, "tokenizers/cl100k_base.tiktoken.gz")
    if os.path.exists(packed):
        yield "cl100k", dict(gpt2, **level(LLAMA3), added_tokens=[], post_processor=None, model=from_tiktoken(packed))


def run(folder, texts, *options):
    lines = "".join(json.dumps(t) + "\n" for t in texts).encode()
    done = subprocess.run([hone, "tokenize", folder, "--json", *options], input=lines, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        print(done.stderr.decode())
    return [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]


def compare(name, folder, reference, texts):
    reference.no_padding(), reference.no_truncation()
    wanted = [e.ids for e in reference.encode_batch(texts)]
    got = run(folder, texts)
    got += [None] * (len(texts) - len(got))
    wrong = [i for i in range(len(texts)) if got[i] != wanted[i]]
    shown = reference.decode_batch(wanted)
    decoded = run(folder, wanted, "--decode")
    decoded += [None] * (len(texts) - len(decoded))
    bad = [i for i in range(len(texts)) if decoded[i] != shown[i]]
    for i in wrong[:3]:
        print("  text", ascii(texts[i][:300]), "\n   got", str(got[i])[:300], "\n  want", str(wanted[i])[:300])
    for i in bad[:3]:
        print("  ids", wanted[i][:40], "\n   got", ascii(decoded[i])[:300], "\n  want", ascii(shown[i])[:300])
    print(f"{name}: {len(texts)} texts, {sum(map(len, wanted))} ids; {len(wrong)} texts differ, decoded {len(bad)}", flush=True)
    return len(wrong) + len(bad)


def compare_pairs(name, folder, reference):
    pairs = []
    for row in map(json.loads, lines_of("nli/mnli_dev.jsonl.gz")):
        pairs.append(tuple(" ".join(row[key].split()) for key in ("premise", "hypothesis")))
    pairs = pairs[:10 * ROWS]
    lines = "".join(f"{a}\t{b}\n" for a, b in pairs).encode()
    got = subprocess.run([hone, "tokenize", folder, "--pair"], input=lines, stdout=subprocess.PIPE).stdout.decode().splitlines()
    wrong = [e.ids for e in reference.encode_batch(pairs)] != [json.loads(line) for line in got]
    print(f"{name}: {len(pairs)} pairs{', not the same ids' if wrong else ''}", flush=True)
    return wrong


def main():
    texts, failed, chosen = texts_of(ROWS), 0, sys.argv[2:]
    few = hostile(4 * ROWS, newest=False)
    with tempfile.TemporaryDirectory() as temporary:
        unpacked = {}
        for path in sorted(glob.glob(os.path.join(shared, "tokenizers/*/*.gz"))) + glob.glob(os.path.join(shared, "models/*/tokenizer.json")):
            name, file = os.path.basename(os.path.dirname(path)), os.path.basename(path)
            if file.startswith("tokenizer.json"):
                os.makedirs(os.path.join(temporary, name), exist_ok=True)
                unpacked[name] = os.path.join(temporary, name)
                with (gzip.open(path) if path.endswith(".gz") else open(path, "rb")) as source, open(os.path.join(temporary, name, "tokenizer.json"), "wb") as out:
                    shutil.copyfileobj(source, out)
        for name, folder in unpacked.items():
            if not chosen or name in chosen:
                reference = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
                failed += compare(name, folder, reference, texts) + compare_pairs(name, folder, reference)
        folder = os.path.join(temporary, "vocab.json and merges.txt")
        os.makedirs(folder)
        for file in ("vocab.json", "merges.txt"):
            with gzip.open(os.path.join(shared, f"tokenizers/gpt2/{file}.gz")) as source, open(os.path.join(folder, file), "wb") as out:
                shutil.copyfileobj(source, out)
        if not chosen:
            failed += compare("gpt2, two files", folder, Tokenizer.from_file(os.path.join(unpacked["gpt2"], "tokenizer.json")), few)
        read = lambda name: json.load(open(os.path.join(temporary, name, "tokenizer.json"), encoding="utf8"))
        folder = os.path.join(temporary, "variant")
        os.makedirs(folder)
        for name, description in variants(read):
            if chosen and name not in chosen:
                continue
            path = os.path.join(folder, "tokenizer.json")
            with open(path, "w", encoding="utf8") as out:
                json.dump(description, out)
            failed += compare(name, folder, Tokenizer.from_file(path), few)
    sys.exit(bool(failed))


main()
