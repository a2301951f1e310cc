"""Compares `hone chat` and `hone generate` with transformers' greedy generate on one model. Run by hand:
HONE=build/release/hone python tests/golden/check_generate.py MODEL FOLDER [TEXTS]   (pip install torch transformers)
MODEL is what hone opens (SmolLM2's GGUF file), FOLDER what transformers loads (the import of it), TEXTS a file of prompts, one a
line. With the environment's LOGITS, the program of bench/logits.c, logits of every position of every text are compared too. Any
difference of an answer is an assertion; of continued texts the share that is equal is printed, as near ties may fall either way."""
import json, os, subprocess, sys, tempfile

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HONE, MODEL, FOLDER = os.environ["HONE"], sys.argv[1], sys.argv[2]
TOKENS = 48
QUESTIONS = ["What is the capital of France?", "Name three colours.", "What is 2 + 2?"]
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def answer(ids):
    with torch.inference_mode():
        out = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=TOKENS, pad_token_id=0)
    return tokenizer.decode(out[0][len(ids):], skip_special_tokens=True)


for question in QUESTIONS:
    ids = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False)
    expected = answer(ids)
    told = subprocess.run([HONE, "chat", MODEL, "--max-tokens", str(TOKENS)], input=question + "\n", capture_output=True, text=True, check=True)
    print(f"{question!r}: {expected!r}")
    assert told.stdout.rstrip("\n") == expected.rstrip("\n"), (told.stdout, expected)

texts = [line.rstrip("\n") for line in open(sys.argv[3], encoding="utf8")] if len(sys.argv) > 3 else []
texts = [text for text in texts if text.strip()]
if os.environ.get("LOGITS") and texts:
    worst, count = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for text in texts:
            ids = tokenizer(text)["input_ids"][:128]
            out = os.path.join(folder, "logits")
            subprocess.run([os.environ["LOGITS"], MODEL, out], input=" ".join(map(str, ids)), text=True, check=True)
            with torch.inference_mode():
                expected = model(torch.tensor([ids])).logits[0].numpy()
            got = np.fromfile(out, dtype=np.float32).reshape(expected.shape)
            worst, count = max(worst, float(np.abs(got - expected).max())), count + len(ids)
    print(f"{len(texts)} texts, {count} positions: logits at most {worst:.2g} apart")
    assert worst < 1e-3
