"""hone beside transformers' generate: greedy text from one prompt and from eight, fp32 and bf16, in one run.

Printed are tokens of the prompts read a second, new tokens a second, peak memory, hone's ratio to the peer of the same precision
(taken within a round, median of the rounds), and for one prompt the share of the memory's rate: every weight is read once a
token, so tokens/s times the weights' bytes over what a large copy moves (bench/ceiling.c, reading and writing counted)."""
import argparse
import json
import os
import re
import shutil
import sys
import time

from comparison import BENCH, ROOT, fail, machine, median, run_child

TEXT = ("The town stood where the river bent, and its people had learned to read the water as others read the sky. In spring it came "
        "up to the second step of the mill, brown and quick, and carried branches from forests that nobody there had seen. ")
RATE = re.compile(r"prompt \d+ tokens in [\d.]+ s \((\d+) tokens/s\), \d+ new tokens, ([\d.]+) tokens/s")
KEYS = ("prompt_tokens_per_second", "new_tokens_per_second", "peak_mib")


def write_prompts(path, count, words):
    text = (TEXT * (words // len(TEXT.split()) + 2)).split()
    with open(path, "w", encoding="utf8") as out:
        for i in range(count):
            out.write(json.dumps({"prompt": " ".join(text[i:i + words])}) + "\n")


def run_hone(options, precision, prompts, log):
    # the model's end tokens are no end here: both sides write as many tokens as they are asked for
    _, peak, text, _ = run_child([options.hone, "generate", options.endless, "--file", prompts, "--json", "--max-tokens", str(options.tokens),
                                  f"train.precision={precision}"], log)
    found = RATE.search(text)
    if not found:
        fail(f"hone printed no rate:\n{text[-1000:]}")
    return dict(zip(KEYS, (float(found[1]), float(found[2]), peak)))


def run_peer(options, precision, prompts, log):
    _, peak, text, _ = run_child([options.python, os.path.join(BENCH, "transformers_generate.py"), "--model", options.model, "--prompts",
                                  prompts, "--tokens", str(options.tokens), "--precision", precision], log)
    return json.loads(text.strip().splitlines()[-1]) | {"peak_mib": peak}


def make_endless(options, work):
    """The model's folder without what ends a text."""
    folder = os.path.join(work, "model")
    os.makedirs(folder)
    for name in os.listdir(options.model):
        if name.endswith((".safetensors", ".json", ".txt")) and name != "generation_config.json":
            shutil.copy(os.path.join(options.model, name), folder)
    path = os.path.join(folder, "config.json")
    with open(path, encoding="utf8") as file:
        config = json.load(file)
    config["eos_token_id"] = None
    with open(path, "w", encoding="utf8") as file:
        json.dump(config, file)
    return folder


def weight_bytes(options, precision):
    """Of the parameters that a token reads, at the precision: the file's are F32 or two bytes each."""
    with open(os.path.join(options.model, "model.safetensors"), "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    count = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for dimension in tensor["shape"]:
                size *= dimension
            count += size
    return count * (4 if precision == "fp32" else 2)


def print_table(options, rounds):
    print(f"{'':26}{'prompt tok/s':>14}{'ratio':>8}{'new tok/s':>12}{'ratio':>8}{'of memory':>11}{'peak MiB':>10}{'ratio':>8}")
    for batch in options.batches:
        for precision in options.precisions:
            for who in ("hone", "transformers"):
                name = f"{who} {precision} x{batch}"
                peer = f"transformers {precision} x{batch}"
                line = f"{name:26}"
                for key, width, form in zip(KEYS, (14, 12, 10), (".0f", ".1f", ".0f")):
                    value = median(each["runs"][name][key] for each in rounds)
                    ratio = median(each["runs"][name][key] / each["runs"][peer][key] for each in rounds)
                    line += f"{value:>{width}{form}}{ratio if who == 'hone' else 1:>8.2f}"
                    if key == KEYS[1]:
                        share = median(each["runs"][name][key] * weight_bytes(options, precision) / batch /
                                       (1e9 * each["ceiling"]["copy_gb_per_second"]) for each in rounds)
                        line += f"{share:>11.0%}"
                print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=os.path.join(ROOT, "models-cache", "smollm2"), help="Hugging Face folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, default=150, help="of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="new ones of a prompt")
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8], help="prompts side by side")
    parser.add_argument("--precisions", type=lambda text: text.split(","), default=["fp32", "bf16"])
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has transformers")
    parser.add_argument("--results", default=os.path.join(BENCH, "results"))
    parser.add_argument("--hone", default=os.path.join(ROOT, "build", "release", "hone"))
    parser.add_argument("--ceiling", default=os.path.join(ROOT, "build", "release", "bench", "ceiling"))
    options = parser.parse_args()
    work = os.path.join(options.results, f"generate-{time.strftime('%Y%m%d-%H%M%S')}")
    os.makedirs(work)
    options.endless = make_endless(options, work)
    rounds = []
    for number in range(options.rounds):
        runs, ceiling = {}, json.loads(run_child([options.ceiling], os.path.join(work, "ceiling.log"))[2])
        for batch in options.batches:
            prompts = os.path.join(work, f"prompts-{batch}.jsonl")
            write_prompts(prompts, batch, options.words)
            for precision in options.precisions:
                both = [("hone", run_hone), ("transformers", run_peer)]
                for who, run in both if number % 2 == 0 else both[::-1]:
                    name = f"{who} {precision} x{batch}"
                    print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr, flush=True)
                    runs[name] = run(options, precision, prompts, os.path.join(work, "run.log"))
        rounds.append({"ceiling": ceiling, "runs": runs})
    print_table(options, rounds)
    with open(work + ".json", "w", encoding="utf8") as file:
        json.dump({"machine": machine(), "options": vars(options), "rounds": rounds}, file, indent=2)
    shutil.rmtree(work)
    print(f"every run: {os.path.relpath(work + '.json', ROOT)}")


if __name__ == "__main__":
    main()
