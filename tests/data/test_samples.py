"""Checks the samples in data/samples/: counts, balance, labels, duplicates, and that no premise of dev is known from train."""
import collections
import json
import os
import re
import sys

FOLDER = os.path.join(os.environ.get("HONE_SOURCE", "."), "data", "samples")
LABELS = {"entailment", "neutral", "contradiction"}
NEGATION = re.compile(r"\b(no|not|never|nobody|none|nothing|neither|cannot|without)\b|n't", re.IGNORECASE)
problems = []


def check(holds, message):
    if not holds:
        problems.append(message)


def check_texts(where, row, keys):
    for key in keys:
        text = row[key]
        check(isinstance(text, str) and text == text.strip() and "  " not in text and "\n" not in text,
              f"{where}: {key} is not one trimmed line: {text!r}")


def read_pairs(name):
    rows = []
    with open(os.path.join(FOLDER, name), encoding="utf8") as lines:
        for number, line in enumerate(lines, 1):
            row = json.loads(line)
            where = f"{name}:{number}"
            check(list(row) == ["premise", "hypothesis", "label"], f"{where}: keys are {list(row)}")
            check(row["label"] in LABELS, f"{where}: label {row['label']!r}")
            check_texts(where, row, ("premise", "hypothesis"))
            check(row["premise"] and row["hypothesis"], f"{where}: empty text")
            rows.append(row)
    return rows


def fold(text):
    return re.sub(r"\W+", " ", text.lower()).strip()


def check_pairs(name, rows, least):
    check(len(rows) >= least, f"{name}: {len(rows)} pairs, expected at least {least}")
    counts = collections.Counter(row["label"] for row in rows)
    for label in LABELS:
        share = counts[label] / len(rows)
        check(abs(share - 1 / 3) <= 0.03, f"{name}: {label} is {share:.1%} of the pairs, expected a third")
    pairs = collections.Counter((fold(row["premise"]), fold(row["hypothesis"])) for row in rows)
    for pair, count in pairs.items():
        check(count == 1, f"{name}: {count} times the pair {pair}")
        check(pair[0] != pair[1], f"{name}: the hypothesis is the premise: {pair[0]!r}")
    for label in LABELS:  # a negation word alone must not tell the label
        negated = sum(bool(NEGATION.search(row["hypothesis"])) for row in rows if row["label"] == label)
        check(negated <= 0.3 * counts[label], f"{name}: {negated} of {counts[label]} hypotheses of {label} hold a negation")


def check_instructions(name):
    with open(os.path.join(FOLDER, name), encoding="utf8") as file:
        rows = json.load(file)
    check(len(rows) >= 160, f"{name}: {len(rows)} rows, expected at least 160")
    seen = set()
    for number, row in enumerate(rows):
        where = f"{name}[{number}]"
        check(list(row) == ["instruction", "input", "output"], f"{where}: keys are {list(row)}")
        check_texts(where, row, ("instruction", "input", "output"))
        check(row["instruction"] and row["output"], f"{where}: empty instruction or output")
        question = (fold(row["instruction"]), fold(row["input"]))
        check(question not in seen, f"{where}: asked before: {question}")
        seen.add(question)
    share = sum(bool(row["input"]) for row in rows) / len(rows)
    check(abs(share - 0.3) <= 0.03, f"{name}: {share:.1%} of the rows have an input, expected 30 %")
    return len(rows)


def main():
    train, dev = read_pairs("nli_train.jsonl"), read_pairs("nli_dev.jsonl")
    check_pairs("nli_train.jsonl", train, 620)
    check_pairs("nli_dev.jsonl", dev, 210)
    known = {fold(row["premise"]) for row in train}
    for premise in {fold(row["premise"]) for row in dev} & known:
        check(False, f"nli_dev.jsonl: the premise {premise!r} is in nli_train.jsonl too")
    instructions = check_instructions("instructions.json")
    print("\n".join(problems) if problems else f"{len(train)} + {len(dev)} pairs, {instructions} instructions: all hold")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
