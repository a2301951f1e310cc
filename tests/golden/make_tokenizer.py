"""Writes tests/golden/tokenizer/: small tokenizers of our own making and what Hugging Face's `tokenizers` says of tricky texts.

    python3 tests/golden/make_tokenizer.py          (needs the tokenizers package)
"""
import json, os, random, sys
from tokenizers import Tokenizer, __version__

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
TOKENIZERS = {
    "uncased": description(False),
    "cased": description(True),
    "accents": description(False, normalizer=dict(strip_accents=False, handle_chinese_chars=False)),
    "stripped": description(True, normalizer=dict(strip_accents=True, clean_text=False)),
    "added": description(False, extra=EXTRA, post=dict(type="BertProcessing", sep=["[SEP]", 3], cls=["[CLS]", 2])),
    "bare": description(True, extra=EXTRA[:5], bare=True),
}

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
         "the\tgarden\nwindow\r\ntable", "a.b.c. ... !!", "1234567890 12 345", "Walking, talking; reading: writing", "RE-READ un-happy", "x" * 250 + " the " + "y" * 3]
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
