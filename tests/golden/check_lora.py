"""Compares adapters and merged models of hone with PEFT and transformers: outputs of the same texts must agree.

    HONE=build/release/hone python tests/golden/check_lora.py MODEL...      (torch, transformers, peft)

MODEL is a folder of a decoder. Each is trained for a few steps with adapters (rank-stabilised the second time); then

    final/ opened by PEFT          against  the merged export opened by transformers       largest difference of logits
    the same, as cross-entropy     against  what `hone eval` says of the run               of the mean loss
    an adapter that PEFT made      against  what `hone eval` says of it
"""
import json
import math
import os
import subprocess
import sys
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

HONE = os.path.abspath(os.environ.get("HONE", "build/release/hone"))
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SAMPLE = os.path.join(SOURCE, "data", "samples", "nli_train.jsonl")
TOKENS = 48


def hone(*words):
    done = subprocess.run([HONE, *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"hone {' '.join(words)}: {done.stderr}")
    return done.stdout


def hone_loss(model, dev):
    return json.loads(hone("eval", model, "data.dev=" + dev, f"data.max_tokens={TOKENS}", "task.kind=lm", "--json"))["loss"]


def loss_and_logits(model, blocks):
    total, count, logits = 0.0, 0, []
    for ids in blocks:
        with torch.no_grad():
            out = model(input_ids=ids[None]).logits[0].double()
        total += torch.nn.functional.cross_entropy(out[:-1], ids[1:], reduction="sum").item()
        count += len(ids) - 1
        logits.append(out)
    return total / count, torch.cat(logits)


def blocks_of(tokenizer, path, end):
    """The documents of a text file, end to end with an end token behind each, in blocks: as hone cuts them (docs)."""
    ids = tokenizer(open(path, encoding="utf8").read(), add_special_tokens=False)["input_ids"] + ([end] if end is not None else [])
    return [torch.tensor(ids[i:i + TOKENS]) for i in range(0, len(ids), TOKENS) if len(ids[i:i + TOKENS]) > 1]


def check(base, rslora, folder):
    texts = [json.loads(line)["premise"] for line in open(SAMPLE, encoding="utf8")]
    train, dev, run = (os.path.join(folder, name) for name in ("train.txt", "dev.txt", "run"))
    open(train, "w", encoding="utf8").write("\n".join(texts[:120]))
    open(dev, "w", encoding="utf8").write("\n".join(texts[120:160]))
    lora = {"r": 8, "alpha": 16, "rslora": rslora}
    config = {"model": {"path": base}, "task": {"kind": "lm"},
              "data": {"train": [train], "dev": [dev], "max_tokens": TOKENS},
              "train": {"max_steps": 6, "batch_examples": 4, "batch_tokens": 256}, "optim": {"lr": 1e-2, "warmup": 0},
              "lora": lora, "eval": {"every": "off"}, "output": {"dir": run}}
    path = os.path.join(folder, "config.json")
    json.dump(config, open(path, "w"))
    hone("train", path)
    merged, adapter = os.path.join(folder, "merged"), os.path.join(folder, "adapter")
    hone("export", run, adapter)
    hone("export", run, merged, "--merge")
    tokenizer = AutoTokenizer.from_pretrained(merged)
    end = AutoModelForCausalLM.from_pretrained(base).config.eos_token_id
    blocks = blocks_of(tokenizer, dev, end)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    plain_loss, _ = loss_and_logits(plain, blocks)
    with_peft = PeftModel.from_pretrained(plain, adapter).eval()
    peft_loss, peft_logits = loss_and_logits(with_peft, blocks)
    merged_loss, merged_logits = loss_and_logits(AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval(), blocks)
    apart = (peft_logits - merged_logits).abs().max().item()
    said, said_merged = hone_loss(adapter, dev), hone_loss(merged, dev)
    theirs = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
                            LoraConfig(r=4, lora_alpha=8, use_rslora=rslora, target_modules="all-linear", task_type="CAUSAL_LM",
                                       fan_in_fan_out=plain.config.model_type == "gpt2"))
    torch.manual_seed(3)
    for name, p in theirs.named_parameters():
        if "lora_B" in name:
            p.data.normal_(0, 0.02)
    made = os.path.join(folder, "made")
    theirs.save_pretrained(made)
    made_loss, _ = loss_and_logits(theirs.eval(), blocks)
    said_made = hone_loss(made, dev)
    moved = abs(peft_loss - plain_loss)
    print(f"{os.path.basename(os.path.normpath(base))} rslora={rslora}: loss {plain_loss:.5f} -> PEFT {peft_loss:.6f}, transformers merged "
          f"{merged_loss:.6f}, hone {said:.6f}, merged {said_merged:.6f}; logits apart {apart:.2e}; PEFT's own adapter {made_loss:.6f}, "
          f"hone {said_made:.6f}")
    limit = 2e-5
    return (moved > 1e-3 and apart < 2e-3 and abs(merged_loss - peft_loss) < limit and abs(said - peft_loss) < limit
            and abs(said_merged - said) < limit and abs(said_made - made_loss) < limit and math.isfinite(peft_loss))


def main():
    held = True
    for base in sys.argv[1:]:
        for rslora in (False, True):
            with tempfile.TemporaryDirectory(prefix="hone-lora-") as folder:
                held &= check(os.path.abspath(base), rslora, folder)
    sys.exit(not held)


main()
