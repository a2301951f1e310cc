"""Checks the samples in data/samples/: counts, balance, labels, duplicates, that every answer is in character, and that nothing of
dev or valid is known from train."""
import collections
import json
import os
import re
import sys

FOLDER = os.path.join(os.environ.get("HONE_SOURCE", "."), "data", "samples")
LABELS = {"entailment", "neutral", "contradiction"}
NEGATION = re.compile(r"\b(no|not|never|nobody|none|nothing|neither|cannot|without)\b|n't", re.IGNORECASE)
GREETING, FAREWELL = "Ahoy, friend! ", " Fair winds, and keep your lamp lit!"
SEA = re.compile(r"\b(sea|tide|wave|lamp|lantern|light|lighthouse|wind|fog|storm|gale|weather|swell|shore|coast|harbour|ship|boat|sail|"
                 r"deck|captain|sailor|crew|keeper|gull|rock)s?\b", re.IGNORECASE)
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


def read_instructions(name):
    with open(os.path.join(FOLDER, name), encoding="utf8") as file:
        rows = [json.loads(line) for line in file]
    for number, row in enumerate(rows):
        where = f"{name}[{number}]"
        check(list(row) == ["instruction", "input", "output"], f"{where}: keys are {list(row)}")
        check_texts(where, row, ("instruction", "input", "output"))
        check(row["instruction"] and row["output"], f"{where}: empty instruction or output")
    return rows


def check_instructions(name, rows, least):
    check(len(rows) >= least, f"{name}: {len(rows)} rows, expected at least {least}")
    questions = collections.Counter((fold(row["instruction"]), fold(row["input"])) for row in rows)
    answers = collections.Counter(fold(row["output"]) for row in rows)
    for text, count in (questions + answers).items():
        check(count == 1, f"{name}: {count} times {text}")
    share = sum(bool(row["input"]) for row in rows) / len(rows)
    check(abs(share - 0.3) <= 0.03, f"{name}: {share:.1%} of the rows have an input, expected 30 %")


def check_character(name, rows):
    """The fixed words at both ends, the sea between them, 25 to 70 words in all."""
    for number, row in enumerate(rows):
        where, answer = f"{name}[{number}]", row["output"]
        check(answer.startswith(GREETING) and answer.count("Ahoy") == 1, f"{where}: does not greet once: {answer!r}")
        check(answer.endswith(FAREWELL) and answer.count("Fair winds") == 1, f"{where}: does not part once: {answer!r}")
        check(SEA.search(answer[len(GREETING):-len(FAREWELL)]), f"{where}: no word of the sea: {answer!r}")
        check(25 <= len(answer.split()) <= 70, f"{where}: {len(answer.split())} words, expected 25 to 70")


def check_tasks_apart(train, dev):
    """No instruction twice in train and dev together, whatever the input."""
    tasks = collections.Counter(fold(row["instruction"]) for row in train + dev)
    for task, count in tasks.items():
        check(count == 1, f"instructions_train.jsonl and instructions_dev.jsonl: {count} times the instruction {task!r}")


def read_stories(name, least):
    with open(os.path.join(FOLDER, name), "rb") as file:
        data = file.read()
    check(len(data) >= least, f"{name}: {len(data)} bytes, expected at least {least}")
    text = data.decode("utf8")
    check(text.endswith("\n") and not text.endswith("\n\n"), f"{name}: does not end with one line end")
    stories = text.rstrip("\n").split("\n\n")
    for story, count in collections.Counter(map(fold, stories)).items():
        check(count == 1, f"{name}: {count} times the story {story[:40]!r}")
    for number, story in enumerate(stories):
        where = f"{name}: story {number}"
        for line in story.split("\n"):
            check(line and line == line.strip() and "  " not in line, f"{where}: not a trimmed line: {line!r}")
        check(story.rstrip('"')[-1:] in {".", "!", "?"}, f"{where}: ends with {story[-20:]!r}")
        check(len(story.split()) >= 100, f"{where}: {len(story.split())} words, expected at least 100")
    return stories


def check_stories_apart(train, valid):
    known = {fold(line) for story in train for line in story.split("\n")}
    for line in (line for story in valid for line in story.split("\n")):
        check(fold(line) not in known or len(line.split()) < 5, f"stories_valid.txt: a line is in stories_train.txt too: {line!r}")


def main():
    train, dev = read_pairs("nli_train.jsonl"), read_pairs("nli_dev.jsonl")
    check_pairs("nli_train.jsonl", train, 620)
    check_pairs("nli_dev.jsonl", dev, 210)
    known = {fold(row["premise"]) for row in train}
    for premise in {fold(row["premise"]) for row in dev} & known:
        check(False, f"nli_dev.jsonl: the premise {premise!r} is in nli_train.jsonl too")
    names = ("instructions_train.jsonl", "instructions_dev.jsonl")
    instructions = [read_instructions(name) for name in names]
    for name, rows, least in zip(names, instructions, (240, 40)):
        check_instructions(name, rows, least)
        check_character(name, rows)
    check_tasks_apart(*instructions)
    stories, held_out = read_stories("stories_train.txt", 60000), read_stories("stories_valid.txt", 6000)
    check_stories_apart(stories, held_out)
    counts = [len(rows) for rows in (train, dev, *instructions, stories, held_out)]
    print("\n".join(problems) or "{} + {} pairs, {} + {} instructions, {} + {} stories: all hold".format(*counts))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
