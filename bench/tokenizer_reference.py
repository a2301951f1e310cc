"""hone's tokenizers beside Hugging Face's on one thread, by CPU time; rows, Alpaca and a book of ../shared (relative to the
source root):

    python3 bench/tokenizer_reference.py [BUILD_FOLDER [FOLDER ...]]        (needs the tokenizers package)

FOLDER holds a tokenizer.json (all of ../shared/data/tokenizers without one).
"""
import glob, gzip, json, os, subprocess, sys, tempfile, time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
shared = os.path.join(os.environ.get("HONE_SOURCE", root), "../shared/data")
build = sys.argv[1] if len(sys.argv) > 1 else os.path.join(root, "build/release")


def lines_of(name):
    return gzip.open(os.path.join(shared, name), "rt", encoding="utf8")


def texts():
    one_line = lambda text: " ".join(text.split())
    rows = [json.loads(line) for _, line in zip(range(8000), lines_of("nli/lingnli_train.jsonl.gz"))]
    yield "NLI", [one_line(row[key]) for row in rows for key in ("premise", "hypothesis")]
    yield "Alpaca", [one_line(" ".join(row.values())) for row in json.load(lines_of("sft/alpaca_data.json.gz"))[:4000]]
    yield "book", [line.rstrip("\n") for line in lines_of("text/books_valid.txt.gz") if line.strip()]


def measure(name, path, folder, sets):
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_padding(), tokenizer.no_truncation()
    shown, wrong = [], False
    for kind, rows in sets:
        rows = [row.replace("\t", " ").replace("\r", " ") for row in rows]
        start = time.process_time()
        encodings = tokenizer.encode_batch(rows)
        theirs = time.process_time() - start
        ids = sum(len(e.ids) for e in encodings)
        done = subprocess.run([os.path.join(build, "bench/bench_tokenizer"), folder], input="".join(row + "\n" for row in rows).encode(),
                              capture_output=True, check=True)
        result = json.loads(done.stdout)
        wrong |= ids != result["ids"]
        shown.append(f"{kind} {ids / theirs / 1e6:.2f} -> {ids / result['encode_s'] / 1e6:.2f} M ids/s, {theirs / result['encode_s']:.1f}x"
                     + (f" (ids: {ids} and {result['ids']})" if ids != result["ids"] else ""))
    print(f"{name}: " + "; ".join(shown) + f"; opened in {result['open_s'] * 1e3:.0f} ms", flush=True)
    return wrong


def main():
    sets, wrong = list(texts()), False
    if sys.argv[2:]:
        for folder in sys.argv[2:]:
            wrong |= measure(os.path.basename(folder.rstrip("/")), os.path.join(folder, "tokenizer.json"), folder, sets)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "tokenizer.json")
            for packed in sorted(glob.glob(os.path.join(shared, "tokenizers/*/tokenizer.json.gz"))):
                with open(path, "wb") as out:
                    out.write(gzip.open(packed).read())
                wrong |= measure(os.path.basename(os.path.dirname(packed)), path, folder, sets)
    sys.exit(wrong)


main()
