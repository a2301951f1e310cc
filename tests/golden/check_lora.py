"""Compares adapters and merged models of hone with PEFT and transformers: outputs of the same texts must agree.

    HONE=build/release/hone python tests/golden/check_lora.py MODEL...      (torch, transformers, peft)

MODEL is a folder of a decoder or of an encoder. Each is trained for a few steps with adapters (rank-stabilised the second time).
Of an encoder, whose head trains whole: probabilities by `hone predict` of the run, by PEFT and by transformers on the merged
export. Of a decoder:

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
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

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
    """A document in blocks, as hone cuts it (docs/data.md)."""
    ids = tokenizer(open(path, encoding="utf8").read())["input_ids"]
    ids += [end] if end is not None and ids[-1] != end else []
    cuts = list(range(0, len(ids), TOKENS)) + [len(ids)]
    if cuts[-1] - cuts[-2] == 1:
        cuts[-2] -= 1
    return [torch.tensor(ids[a:b]) for a, b in zip(cuts, cuts[1:])]


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


def check_encoder(base, rslora, folder):
    rows = [json.loads(line) for line in open(SAMPLE, encoding="utf8")][:160]
    run, train, texts = (os.path.join(folder, name) for name in ("run", "train.jsonl", "texts.jsonl"))
    for file, some in ((train, rows), (texts, rows[:24])):
        open(file, "w", encoding="utf8").writelines(json.dumps(r) + "\n" for r in some)
    config = {"model": {"path": base}, "task": {"labels": ["entailment", "neutral", "contradiction"]},
              "data": {"train": [train], "max_tokens": 64, "fields": {"text": "premise", "pair": "hypothesis", "label": "label"}},
              "train": {"max_steps": 8, "batch_examples": 16}, "optim": {"lr": 2e-3, "warmup": 0},
              "lora": {"r": 8, "rslora": rslora}, "eval": {"every": "off"}, "output": {"dir": run}}
    path = os.path.join(folder, "config.json")
    json.dump(config, open(path, "w"))
    hone("train", path)
    adapter, merged = os.path.join(run, "final"), os.path.join(folder, "merged")
    hone("export", run, merged, "--merge")
    said = torch.tensor([list(json.loads(line)["probabilities"].values())
                         for line in hone("predict", run, "data.predict=" + texts).splitlines()], dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    apart = []
    for model in (PeftModel.from_pretrained(plain, adapter), AutoModelForSequenceClassification.from_pretrained(merged)):
        with torch.no_grad():
            got = torch.cat([model.eval()(**tokenizer(r["premise"], r["hypothesis"], return_tensors="pt")).logits for r in rows[:24]])
        apart.append((got.double().softmax(-1) - said).abs().max().item())
    spread = (said - said.mean(0)).abs().max().item()
    print(f"{os.path.basename(os.path.normpath(base))} rslora={rslora}: probabilities (which differ by {spread:.2f} among texts) apart from "
          f"PEFT's {apart[0]:.1e}, from transformers' on the merged model {apart[1]:.1e}")
    return spread > 1e-3 and max(apart) < 1e-4


def main():
    held = True
    for base in sys.argv[1:]:
        for rslora in (False, True):
            with tempfile.TemporaryDirectory(prefix="hone-lora-") as folder:
                encoder = json.load(open(os.path.join(base, "config.json")))["model_type"] in ("bert", "roberta", "distilbert")
                held &= (check_encoder if encoder else check)(os.path.abspath(base), rslora, folder)
    sys.exit(not held)


main()
