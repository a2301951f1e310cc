"""Prints what tests/data/test_alpaca.c expects: the digest of the ids that TRL's SFTTrainer makes of the first 200 rows of Alpaca
as prompt and completion, with the tokenizers of ../shared/data/tokenizers.

    python tests/golden/make_alpaca_digests.py        (needs transformers, xxhash)

TRL 1.16 puts the end token's text behind the completion, tokenizes the prompt, and prompt and completion together, and masks what
both begin with (sft_trainer.py, tokenize_fn). Here the end token is put behind as an id: the tokenizer of Llama 2 in that folder
takes "</s>" behind a word for three pieces. A row is its number of tokens, of masked ones, and the ids, as 32-bit integers.
"""
import array
import gzip
import json
import os
import tempfile

import xxhash
from transformers import PreTrainedTokenizerFast

SHARED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../shared/data")
TASK = "Below is an instruction that describes a task"
ANSWER = "Write a response that appropriately completes the request."


def prompt(row):
    if row["input"]:
        return (f"{TASK}, paired with an input that provides further context. {ANSWER}\n\n### Instruction:\n{row['instruction']}"
                f"\n\n### Input:\n{row['input']}\n\n### Response:\n")
    return f"{TASK}. {ANSWER}\n\n### Instruction:\n{row['instruction']}\n\n### Response:\n"


rows = json.load(gzip.open(os.path.join(SHARED, "sft/alpaca_data.json.gz"), "rt"))[:200]
for name, bos, eos in [("gpt2", None, "<|endoftext|>"), ("llama2", "<s>", "</s>")]:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(gzip.open(os.path.join(SHARED, f"tokenizers/{name}/tokenizer.json.gz")).read())
        file.flush()
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=file.name, bos_token=bos, eos_token=eos)
    numbers, tokens = array.array("i"), 0
    for row in rows:
        first = tokenizer(prompt(row))["input_ids"]
        both = tokenizer(prompt(row) + row["output"])["input_ids"] + [tokenizer.eos_token_id]
        same = next((i for i, (a, b) in enumerate(zip(first, both)) if a != b), min(len(first), len(both)))
        numbers.extend([len(both), same, *both])
        tokens += len(both)
        if same < len(first):
            print(f"{name}: tokens join over the answer's beginning: {row['output'][:20]!r}")
    print(name, len(rows), tokens, xxhash.xxh3_128_hexdigest(numbers.tobytes()))
