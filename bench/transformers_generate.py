"""The peer of `make bench-generate`: transformers' generate, greedy, with its KV cache. Prints one JSON line with the names of
compare_generate.py: the time of reading the prompts is that of one new token, the rest is that of the others."""
import argparse
import json
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--prompts", required=True, help="JSONL of {\"prompt\"}")
parser.add_argument("--tokens", type=int, required=True)
parser.add_argument("--precision", choices=("fp32", "bf16"), required=True)
options = parser.parse_args()
tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
dtype = torch.float32 if options.precision == "fp32" else torch.bfloat16
model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).eval()
prompts = [json.loads(line)["prompt"] for line in open(options.prompts, encoding="utf8")]
inputs = tokenizer(prompts, return_tensors="pt", padding=True)


def timed(tokens):
    start = time.perf_counter()
    model.generate(**inputs, do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=tokenizer.pad_token_id)
    return time.perf_counter() - start


with torch.inference_mode():
    timed(2)
    first, whole = timed(1), timed(options.tokens)
count = int(inputs["attention_mask"].sum())
print(json.dumps({"prompt_tokens_per_second": count / first,
                  "new_tokens_per_second": (options.tokens - 1) * len(prompts) / (whole - first)}))
