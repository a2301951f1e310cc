"""hone's multiple choice beside transformers' on the same questions of MMLU, choice by choice.

    python3 bench/compare_choices.py MODEL MMLU_FOLDER [--every 6] [--shots 5] [--hone build/release/hone] [--tie 1e-3]

MMLU_FOLDER holds dev/ and val/ as published. The reference puts its prompts together by itself (Python's csv, MMLU's own format) and runs
fp32, the examples of a subject once. Exit code 1 when a choice differs that is no tie (two best scores closer than --tie).
"""
import argparse, copy, csv, glob, json, os, subprocess, sys, time

os.environ["HF_HUB_OFFLINE"] = "1"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def rows_of(path):
    return list(csv.reader(open(path, newline="", encoding="utf8")))


def asked(row):
    return row[0].strip() + "".join(f"\n{LETTERS[i]}. {option}" for i, option in enumerate(row[1:-1])) + "\nAnswer:"


def reference(model_folder, folder, every, shots):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    torch.set_grad_enabled(False)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    number, prefix, cache, subject = -1, None, None, None
    for path in sorted(glob.glob(os.path.join(folder, "val", "*_val.csv"))):
        name = os.path.basename(path)[:-len("_val.csv")]
        for line, row in enumerate(rows_of(path)):
            number += 1
            if number % every:
                continue
            if subject != name:
                subject = name
                text = f"The following are multiple choice questions (with answers) about {name.replace('_', ' ')}.\n\n"
                for shot in rows_of(os.path.join(folder, "dev", f"{name}_dev.csv"))[:shots]:
                    text += asked(shot) + " " + shot[-1] + "\n\n"
                prefix = tokenizer(text)["input_ids"][:-2]  # what a question's own text may change stays with the question
                cache = model(torch.tensor([prefix]), use_cache=True).past_key_values
            ids = tokenizer(text + asked(row))["input_ids"]
            assert ids[:len(prefix)] == prefix
            own = copy.deepcopy(cache)
            logits = model(torch.tensor([ids[len(prefix):]]), past_key_values=own, use_cache=True).logits[0, -1]
            scores = torch.log_softmax(logits.double(), -1)
            whole = [tokenizer(text + asked(row) + " " + LETTERS[i])["input_ids"] for i in range(len(row) - 2)]
            assert all(w[:-1] == ids for w in whole)
            yield name, row[-1], [scores[w[-1]].item() for w in whole]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--every", type=int, default=6)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--hone", default="build/release/hone")
    parser.add_argument("--tie", type=float, default=1e-3)
    options = parser.parse_args()
    command = [options.hone, "eval", options.model, "--each", f"choices.files={options.folder}/val", f"choices.examples={options.folder}/dev",
               f"choices.every={options.every}", f"choices.shots={options.shots}"]
    start = os.times()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    ours, end = [json.loads(line) for line in done.stdout.splitlines()], os.times()
    hone_seconds = end.children_user + end.children_system - start.children_user - start.children_system
    begin = time.process_time()
    same = right = right_too = count = ties = 0
    largest, wrong = 0.0, []
    for got, (subject, answer, scores) in zip(ours, reference(options.model, options.folder, options.every, options.shots), strict=True):
        assert (got["subject"], got["answer"]) == (subject, answer), (got, subject, answer)
        best = LETTERS[max(range(len(scores)), key=scores.__getitem__)]
        two = sorted(scores)[-2:]
        tie = two[1] - two[0] < options.tie
        largest = max(largest, max(abs(a - b) for a, b in zip(got["scores"], scores)))
        count, same, ties = count + 1, same + (got["chosen"] == best), ties + tie
        right, right_too = right + (got["chosen"] == answer), right_too + (best == answer)
        if got["chosen"] != best and not tie:
            wrong.append((got, scores))
    print(f"{count} questions, {options.shots} examples each: hone {right} right ({right / count:.4f}), transformers {right_too} ({right_too / count:.4f}); "
          f"{same} choices equal, {ties} ties; largest difference of a log-probability {largest:.2e}; "
          f"CPU seconds {hone_seconds:.0f} and {time.process_time() - begin:.0f}")
    for got, scores in wrong:
        print("differs:", got, scores)
    sys.exit(bool(wrong))


main()
