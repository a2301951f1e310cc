"""Writes tests/golden/tokenizer/: small tokenizers of our own making and what Hugging Face's `tokenizers` says of tricky texts.

    python3 tests/golden/make_tokenizer.py          (needs the tokenizers package)
"""
import base64, json, os, random, struct, sys
from tokenizers import Tokenizer, __version__, models, pre_tokenizers, trainers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer")
random.seed(11)

WORDS = """the a an of and to in is was for on that with as it at by from they we you he she his her not but or are were be
have had has this which one all there can more when who would about if no out so what up some into do any time play read
write walk talk jump look run work house river stone bread water light green small large quick brown fox dog cat lazy over
under between again never always often city train road garden window table teacher child music paper letter number seven
un re dis pre over happy kind fair love hope care use help cafe naive resume uber strasse istanbul i s t m d ll ve""".split()
ENDINGS = "s es ed ing er est ly ness ful less able ment ion tion al ity ish ist ism ous y en th 's ll t m d re ve un".split()
SIGNS = list("""!"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~""") + list("«»“”‘’–—…¿¡·、。！？「」،؟।€§")
LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789") + list("αβγδεσςωжийклмня中文字山水日本語かなカナกขคابتשלם한국어가나다ᄀᄂ가ᅡ᷀ßıœæøđłﬁ²½Ⅷ€😀👩🏽")
CASED = list("ABCDEFGHIJKLMNOPQRSTUVWXYZÀÉÎÕÜéèêàüöäñçÅåŁİΣЖЙй") + ["The", "A", "In", "We", "London", "Paris", "É", "##É", "##L", "##N"]


def vocabulary(cased):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + SIGNS + LETTERS + ["##" + c for c in LETTERS]
    tokens += WORDS + ["##" + e for e in ENDINGS]
    tokens += (CASED + ["##" + c for c in CASED if len(c) == 1]) if cased else []
    return {t: i for i, t in enumerate(dict.fromkeys(tokens))}


def added(vocab, extra):
    plain = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    out = [dict(plain, id=vocab[t], content=t) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    fresh = len(vocab)
    for content, flags in extra:
        out.append(dict(plain, id=vocab.get(content, fresh), content=content, special=False))
        out[-1].update(flags)
        fresh += content not in vocab
    return out


def description(cased, extra=(), normalizer=(), bare=False, post=None, prefix_cleanup=True):
    vocab = vocabulary(cased)
    settings = dict(type="BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=not cased)
    settings.update(normalizer)
    cls, sep = ({"SpecialToken": {"id": t, "type_id": 0}} for t in ("[CLS]", "[SEP]"))
    a, b = ({"Sequence": {"id": s, "type_id": i}} for i, s in enumerate("AB"))
    template = dict(type="TemplateProcessing", single=[cls, a, sep], pair=[cls, a, sep, b, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
                    special_tokens={t: dict(id=t, ids=[vocab[t]], tokens=[t]) for t in ("[CLS]", "[SEP]")})
    return dict(version="1.0", truncation=None, padding=None, added_tokens=added(vocab, extra),
                normalizer=None if bare else settings, pre_tokenizer=None if bare else dict(type="BertPreTokenizer"),
                post_processor=None if bare else post or template,
                decoder=None if bare else dict(type="WordPiece", prefix="##", cleanup=prefix_cleanup),
                model=dict(type="WordPiece", unk_token="[UNK]", continuing_subword_prefix="##", max_input_chars_per_word=100, vocab=vocab))


EXTRA = [("<plain>", {}), ("<left>", dict(lstrip=True)), ("<right>", dict(rstrip=True)), ("<both>", dict(lstrip=True, rstrip=True)),
         ("alone", dict(single_word=True)), ("<Norm>", dict(normalized=True)), ("é", dict(normalized=True)), ("字", dict(normalized=True)),
         ("<plain><plain>", {}), ("  ", dict(lstrip=True, rstrip=True))]


def sentences():
    chance = random.Random(5)
    return [" ".join(chance.choice(WORDS) + chance.choice(["", "", ",", ".", "'s", "ing"]) for _ in range(12)) for _ in range(300)]


def trained(model, trainer, split):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = split
    tokenizer.train_from_iterator(sentences(), trainer)
    return json.loads(tokenizer.to_str())["model"]


def charsmap(pairs):
    """SentencePiece's double array with a block of 256 units for each node."""
    nodes, texts = [{}], b""
    for key, value in pairs.items():
        at = 0
        for byte in key.encode():
            if byte not in nodes[at]:
                nodes[at][byte] = len(nodes)
                nodes.append({})
            at = nodes[at][byte]
        nodes[at][None] = len(texts)
        texts += value.encode() + b"\0"
    units = [0] * (256 * (len(nodes) + 1))
    place = {0: 0}
    for number, node in enumerate(nodes):
        base, index = 256 * (number + 1), place[number]
        units[index] |= (index ^ base) << 10 | (256 if None in node else 0)
        if None in node:
            units[base] = 1 << 31 | node[None]
        for byte, child in ((b, c) for b, c in node.items() if b is not None):
            place[child] = base ^ byte
            units[base ^ byte] = byte
    array = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(array)) + array + texts).decode()


def whole(model, **stages):
    out = dict(version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None, pre_tokenizer=None, post_processor=None, decoder=None)
    out.update(stages, model=model)
    return out


def token(vocab, content, **flags):
    return dict(dict(id=vocab[content], content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True), **flags)


def decoders():
    """Byte-level BPE, BPE with byte fallback, Unigram: one description each of the kinds that files of decoders have."""
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = trained(models.BPE(), trainers.BpeTrainer(vocab_size=420, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], initial_alphabet=alphabet, show_progress=False),
                  pre_tokenizers.ByteLevel(add_prefix_space=False))
    vocab = bpe["vocab"]
    specials = [token(vocab, t) for t in ("<s>", "<pad>", "</s>", "<unk>")] + [token(vocab, "<mask>", lstrip=True)]
    yield "bytes", whole(bpe, pre_tokenizer=level, decoder=level, added_tokens=specials, normalizer=dict(type="NFC"),
                         post_processor=dict(type="RobertaProcessing", sep=["</s>", 2], cls=["<s>", 0], trim_offsets=True, add_prefix_space=False))
    for name, pattern in (("llama3", LLAMA3), ("qwen2", LLAMA3.replace("{1,3}", "")), ("pattern", r"[^\r\n\p{L}\p{N}]?\p{Lu}?\p{Ll}+|\w|\s+(?!\S)|\s")):
        cut = dict(type="Split", pattern={"Regex": pattern}, behavior="Isolated", invert=False)
        yield name, whole(dict(bpe, ignore_merges=True), added_tokens=specials, decoder=level,
                          pre_tokenizer=dict(type="Sequence", pretokenizers=[cut, dict(level, use_regex=False)]),
                          post_processor=dict(type="Sequence", processors=[level, dict(type="TemplateProcessing", special_tokens={"<s>": dict(id="<s>", ids=[0], tokens=["<s>"])},
                              single=[{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                              pair=[{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}])]))
    falcon = [dict(type="Punctuation", behavior="Contiguous"), level, dict(type="Digits", individual_digits=False),
              dict(type="Split", pattern={"Regex": "[0-9][0-9][0-9]"}, behavior="Isolated", invert=False)]
    yield "digits", whole(bpe, pre_tokenizer=dict(type="Sequence", pretokenizers=falcon), decoder=level, added_tokens=[token(vocab, "<mask>", normalized=True)])

    escapes = [f"<0x{b:02X}>" for b in range(256)]
    space = pre_tokenizers.Metaspace()
    fallback = trained(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
                       trainers.BpeTrainer(vocab_size=480, special_tokens=["<unk>", "<s>", "</s>"] + escapes, show_progress=False), space)
    mark = "\u2581"
    plain = dict(type="Sequence", normalizers=[dict(type="Prepend", prepend=mark), dict(type="Replace", pattern={"String": " "}, content=mark)])
    back = dict(type="Sequence", decoders=[dict(type="Replace", pattern={"String": mark}, content=" "), dict(type="ByteFallback"), dict(type="Fuse"), dict(type="Strip", content=" ", start=1, stop=0)])
    yield "fallback", whole(fallback, normalizer=plain, decoder=back, added_tokens=[token(fallback["vocab"], t, normalized=True) for t in ("<unk>", "<s>", "</s>")])
    first = dict(type="Metaspace", replacement=mark, prepend_scheme="first", split=False)
    yield "metaspace", whole(dict(fallback, byte_fallback=False), pre_tokenizer=first, decoder=first, added_tokens=[token(fallback["vocab"], t) for t in ("<unk>", "<s>", "</s>")])

    unigram = trained(models.Unigram(), trainers.UnigramTrainer(vocab_size=160, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False), space)
    ids = {t: i for i, (t, _) in enumerate(unigram["vocab"])}
    table = charsmap({"\t": " ", "\n": " ", "\r": " ", "\ufb01": "fi", "\u00aa": "a", "\uff21": "A", "\u2460": "1", "\u00ad": ""})
    always = dict(type="Metaspace", replacement=mark, prepend_scheme="always", split=True)
    yield "unigram", whole(unigram, normalizer=dict(type="Sequence", normalizers=[dict(type="Precompiled", precompiled_charsmap=table), dict(type="Replace", pattern={"Regex": " {2,}"}, content=" ")]),
                           pre_tokenizer=dict(type="Sequence", pretokenizers=[dict(type="WhitespaceSplit"), always]), decoder=always,
                           added_tokens=[token(ids, t) for t in ("<pad>", "</s>", "<unk>")],
                           post_processor=dict(type="TemplateProcessing", special_tokens={"</s>": dict(id="</s>", ids=[1], tokens=["</s>"])},
                               single=[{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                               pair=[{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]))


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TOKENIZERS = {
    "uncased": description(False),
    "cased": description(True),
    "accents": description(False, normalizer=dict(strip_accents=False, handle_chinese_chars=False)),
    "stripped": description(True, normalizer=dict(strip_accents=True, clean_text=False)),
    "added": description(False, extra=EXTRA, post=dict(type="BertProcessing", sep=["[SEP]", 3], cls=["[CLS]", 2])),
    "bare": description(True, extra=EXTRA[:5], bare=True),
}
TOKENIZERS.update(decoders())

TEXTS = ["", " ", "\t\n\r", "the", "The QUICK brown fox, jumped over the lazy dog.", "unhappiness is not kindness", "##ing ## # #a", "a" * 99,
         "a" * 100, "a" * 101, "é" * 100, "é" * 101, "e\u0301" * 100, "e\u0301" * 51 + "a", "中" * 101, "don't we'll they've I'm he'd", "can ' t do n't .",
         "café CAFÉ cafe\u0301 CAFE\u0301", "naïve résumé über Straße STRASSE", "İstanbul ISTANBUL ıstanbul İ", "ΣΑΣ Σίσυφος ς σ", "Йй и\u0306 И\u0306",
         "中文字 a中b 中", "日本語かなカナ、。", "한국어 가나다 각 힣", "\u1100\u1161 \u1100\u1161\u11a8 가\u11a8", "กขค ที่", "ابت السلام عليكم ؟", "שלום", "हिन्दी में",
         "\x00a\x00b", "a\x01b\x02\x7f", "a\x0bb\x0cc\x1fd", "a\u0085b", "a\u00a0b\u2003c\u3000d\u2028e\u2029f", "a\u200bb\u200cc\u200dd\ufeffe", "a\u00adb", "a\ufffdb",
         "\ue000a\U000f0000b", "\u0378a\u0379", "😀 👩🏽\u200d🚀 a😀b", "ﬁ ² ½ Ⅷ ①", "“quotes” ‘single’ – — …", "¿que? ¡si!", "$5.00 + €3 = <8>", "a_b-c/d\\e",
         "http://x.y/z?a=b&c=d#e", "[CLS] a [SEP] b [MASK] [PAD] [UNK]", "[cls] [Sep] [ MASK ] [[SEP]]", "a[SEP]b[SEP][SEP]", "[SEP", "[MASK]ing", "x\u0301\u0323\u0315y", "x\u0323\u0301y",
         "a\u0334\u0345\u0301b", "\u0301", "\u0301\u0302 a", "a\u034fb\u0301\u034f\u0323", "\u0344 \u0343 \u0374", "Å Å A\u030a", "\u2126 \u212a \u212b", "\uf900 \ufa0e 豈",
         "\U0001d15e \U0001d165\U0001d16d\U0001d16e", "\u302e\u302a a\u302f", "\U00020000 \U0002b740 \U0002b820 \U0002b920 \U0002f800", "\ud7a3\uac00 \ud7a4", "\u0f71\u0f72\u0f74 \u0f73 \u0f81",
         "\u09cb \u09c7\u09be \u0dda", "ⅠⅡ ⒶⓐA", "Ǆ ǅ ǆ ẞ Ω", "Ꭰ ꭰ Ა ა", "\U00010400 \U00010428 \U00010c80 \U0001e900", "\u1e9b\u0323 \u1fbc \u1f80", "ƁƂƃ ȺȾ Ɫ",
         "<plain> a<plain>b <plain><plain> <plain><plain><plain>", " a <left> b<left>c   <left>", "a <right>   b<right>c <right> ", "a  <both>  b <both><both>  <right> <left>",
         "alone alones a alone. alone, xalone alone_ alone- ALONE", "<norm> <NORM> a<Norm>b", "É é e\u0301 aéb e", "字 a字b", "a  b   c    d", "<right>  <left>  a", "alone\u0301 alone\u200d alone中",
         "the\tgarden\nwindow\r\ntable", "a.b.c. ... !!", "1234567890 12 345", "Walking, talking; reading: writing", "RE-READ un-happy", "x" * 250 + " the " + "y" * 3,
         "a\n\nb \r\n c\n \n", "  two  spaces   \n", "I'LL we'Ve '\u017f 's", "12345 1 \u00b2\u0663", "<s>a</s> <mask>b <unk><pad>", "\u2581a \u2581\u2581 b\u2581", "<0x41> \u00aa\u0301 \ufb01\u0301 \uff21\u0301",
         "ab" * 200, "\u0301" * 40 + "\u0323", "\U0001f600\U0001f469\U0001f3fd\u200d\U0001f680 \ufffd\U0010ffff"]
PAIRS = [("the small house", "a large garden ."), ("", ""), ("", "the dog"), ("the dog", ""), ("the quick brown fox jumped", "a cat"), ("a cat", "the quick brown fox jumped"),
         ("we read", "we write"), ("[SEP]", "[CLS] é"), ("한국어", "中文字")]


def random_text():
    pieces = WORDS + SIGNS + LETTERS + CASED + [t for t, _ in EXTRA] + ["[SEP]", "\u0301", "\u0323", "\u200d", "\x07", "\u00a0"]
    return "".join(random.choice(pieces) + random.choice(["", " ", " "]) for _ in range(random.randint(1, 12)))


def main():
    os.makedirs(HERE, exist_ok=True)
    cases = []
    for name, tokenizer in TOKENIZERS.items():
        with open(os.path.join(HERE, name + ".json"), "w", encoding="utf8") as out:
            json.dump(tokenizer, out, ensure_ascii=False, indent=None, separators=(",", ":"))
            out.write("\n")
        reference = Tokenizer.from_str(json.dumps(tokenizer))
        work = [(t, None, True, 0) for t in TEXTS + [random_text() for _ in range(20)]]
        work += [(a, b, s, 0) for a, b in PAIRS for s in (True, False)]
        if name == "uncased":
            work += [(a, b, True, m) for a, b in PAIRS for m in range(3, 13)] + [(TEXTS[4], None, s, m) for m in range(2, 14) for s in (True, False)]
        for text, pair, special, limit in work:
            reference.enable_truncation(limit) if limit else reference.no_truncation()
            encoded = reference.encode(text, pair, add_special_tokens=special)
            case = dict(tokenizer=name, text=text, ids=encoded.ids, decoded=reference.decode(encoded.ids))
            if pair is not None:
                case.update(pair=pair, types=encoded.type_ids)
            if not special:
                case.update(special=False)
            if limit:
                case.update(max_tokens=limit)
            cases.append(case)
    with open(os.path.join(HERE, "cases.jsonl"), "w", encoding="utf8") as out:
        for case in cases:
            out.write(json.dumps(case, separators=(",", ":")) + "\n")
    print(f"{len(cases)} cases by tokenizers {__version__}", file=sys.stderr)


main()
