"""hone's zero-shot classification beside transformers' ZeroShotClassificationPipeline: every score of every text.

    python3 bench/compare_zero_shot.py MODEL FILE.jsonl --labels a,b,c [--hypothesis "This example is {}."] [--multi-label]
                                       [--text text] [--max-tokens 512] [--rows 100] [--hone build/release/hone]

MODEL is the folder of an encoder trained on inference. Exit code 1 when a score differs by more than 1e-5, or a choice whose best two
scores are further apart than that.
"""
import argparse, json, os, subprocess, sys, tempfile, time

os.environ["HF_HUB_OFFLINE"] = "1"
CLOSE = 1e-5


def reference(options, texts, labels):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
    model = AutoModelForSequenceClassification.from_pretrained(options.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model, model_max_length=options.max_tokens)
    pipe = pipeline("zero-shot-classification", model=model, tokenizer=tokenizer, device="cpu")
    begin = time.time()
    said = [pipe(text, labels, hypothesis_template=options.hypothesis, multi_label=options.multi_label) for text in texts]
    return [dict(zip(one["labels"], one["scores"])) for one in said], time.time() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("file")
    parser.add_argument("--labels", required=True)
    parser.add_argument("--hypothesis", default="This example is {}.")
    parser.add_argument("--multi-label", action="store_true")
    parser.add_argument("--text", default="text")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--hone", default="build/release/hone")
    options = parser.parse_args()
    labels = options.labels.split(",")
    texts = [json.loads(line)[options.text] for line in open(options.file, encoding="utf8")][:options.rows]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "texts.jsonl")
        with open(path, "w", encoding="utf8") as out:
            out.writelines(json.dumps({"text": text}) + "\n" for text in texts)
        begin = time.time()
        done = subprocess.run([options.hone, "eval", options.model, f"zero_shot.files={path}", "zero_shot.labels=" + json.dumps(labels),
                               f"zero_shot.hypothesis={options.hypothesis}", f"zero_shot.multi_label={str(options.multi_label).lower()}",
                               f"data.max_tokens={options.max_tokens}"], stdout=subprocess.PIPE, check=True)
        seconds = time.time() - begin
    ours = [json.loads(line) for line in done.stdout.splitlines()]
    theirs, their_seconds = reference(options, texts, labels)
    largest, wrong = 0.0, []
    for got, scores in zip(ours, theirs, strict=True):
        apart = max(abs(got["scores"][label] - scores[label]) for label in labels)
        best = sorted(scores, key=scores.get)
        tie = len(best) > 1 and scores[best[-1]] - scores[best[-2]] <= CLOSE
        largest = max(largest, apart)
        if not apart <= CLOSE or (got["chosen"] != best[-1] and not tie):
            wrong.append((got, scores))
    print(f"{len(texts)} texts, {len(labels)} labels: largest difference of a score {largest:.2e}, {len(wrong)} texts differ; "
          f"seconds: hone {seconds:.1f} with its start, transformers {their_seconds:.1f} without")
    for got, scores in wrong[:5]:
        print("differs:", got, scores)
    sys.exit(bool(wrong))


main()
