"""hone's tokenizer beside Hugging Face's on one thread, on the NLI pairs in ../shared (relative to the source root):

    python3 bench/tokenizer_reference.py MODEL_FOLDER [BUILD_FOLDER]        (needs the tokenizers package)
"""
import gzip, json, os, subprocess, sys, time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
folder, build = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else os.path.join(root, "build/release")
rows = [json.loads(line) for name in ("mnli_train", "lingnli_train")
        for line in gzip.open(os.path.join(root, f"../shared/data/nli/{name}.jsonl.gz"), "rt", encoding="utf8")]
pairs = [tuple(" ".join(row[key].split()) for key in ("premise", "hypothesis")) for row in rows]
lines = "".join(f"{a}\t{b}\n" for a, b in pairs).encode()

tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
tokenizer.no_padding(), tokenizer.no_truncation()
start = time.process_time()
encodings = tokenizer.encode_batch(pairs)
theirs = time.process_time() - start
result = json.loads(subprocess.run([os.path.join(build, "bench/bench_tokenizer"), folder], input=lines, capture_output=True, check=True).stdout)
ids = sum(len(e.ids) for e in encodings)
print(f"{len(pairs)} pairs, {ids} ids (hone: {result['ids']}); Hugging Face {theirs:.2f} s, hone {result['encode_s']:.3f} s "
      f"(opened in {result['open_s'] * 1e3:.0f} ms): {theirs / result['encode_s']:.1f} times")
sys.exit(ids != result["ids"])
