"""Ids of real sentence pairs, English and Korean, beside Hugging Face's tokenizers. Skipped without that package or without
../shared (relative to the source root)."""
import gzip, json, os, shutil, subprocess, sys, tempfile

root = os.environ.get("HONE_SOURCE", ".")
shared = os.path.join(root, "../shared/data")
hone = os.environ.get("HONE", "build/debug/hone")


def skip(why):
    print("SKIP:", why)
    sys.exit(77)


try:
    from tokenizers import Tokenizer
except ImportError:
    skip("no tokenizers package")
packed = os.path.join(shared, "tokenizers/bert-base-uncased/tokenizer.json.gz")
if not os.path.exists(packed):
    skip("no ../shared")

texts = []
for name in ("mnli_dev", "klue_nli_dev", "lingnli_train"):
    with gzip.open(os.path.join(shared, f"nli/{name}.jsonl.gz"), "rt", encoding="utf8") as rows:
        for number, line in enumerate(rows):
            if number == 2000:
                break
            row = json.loads(line)
            texts.append(tuple(row[key].replace("\t", " ").replace("\n", " ") for key in ("premise", "hypothesis")))
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "tokenizer.json")
    with gzip.open(packed) as source, open(path, "wb") as out:
        shutil.copyfileobj(source, out)
    reference = Tokenizer.from_file(path)
    reference.no_padding(), reference.no_truncation()
    lines = "".join(f"{a}\t{b}\n" for a, b in texts).encode()
    got = subprocess.run([hone, "tokenize", folder, "--pair"], input=lines, stdout=subprocess.PIPE, check=True).stdout
got = [json.loads(line) for line in got.decode().splitlines()]
wanted = [e.ids for e in reference.encode_batch(texts)]
different = [i for i in range(len(texts)) if i >= len(got) or got[i] != wanted[i]]
for i in different[:5]:
    print(texts[i], got[i], wanted[i], sep="\n")
print(f"{len(texts)} pairs, {len(different)} differ")
sys.exit(bool(different) or len(got) != len(wanted))
