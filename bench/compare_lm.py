"""Language models trained by hone and by a plain transformers loop: the same weights, blocks, order and rates; losses side by side.

    python bench/compare_lm.py [--steps 200] [--hone build/release/hone] [--shared ../shared]
                                [--bytes 600000] [--threads 0]

(needs torch, transformers, safetensors.) Two runs on the first --bytes of tinyshakespeare, evaluated on the 60,000 behind them:
stories260K, which goes on from its weights, and configs/tiny-llama from scratch, whose first weights are hone's (a run of one
step at rate 0). The loop tokenizes by itself and cuts blocks by the rule of docs/data.md; every step's loss is compared. How far apart
two runs of the loop itself come is shown beside it: a second one starts from weights that are moved by one part in 10^7, about what
rounds off in fp32."""
import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BLOCK, BATCH = 128, 8


def hone(binary, *args):
    done = subprocess.run([binary, *args], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"hone {' '.join(args)}: {done.stderr}")
    return done.stdout


def train(options, model, run, files, lr, steps, *more):
    """Runs hone; the losses of every step, and the dev loss of the last."""
    config = {"model": {"path": model}, "task": {"kind": "lm"},
              "data": {"train": [files[0]], "dev": [files[1]], "max_tokens": BLOCK, "shuffle": False, "window": 0},
              "train": {"epochs": 100, "max_steps": steps, "batch_examples": BATCH, "batch_tokens": BATCH * BLOCK, "log_every": 1,
                        "threads": options.threads},
              "optim": {"lr": lr, "schedule": "constant", "warmup": 0, "weight_decay": 0.1, "clip": 1.0},
              "eval": {"every": "off", "restore_best": False}, "output": {"dir": run}}
    with open(run + ".json", "w") as f:
        json.dump(config, f)
    started = time.time()
    hone(options.hone, "train", run + ".json", *more)
    events = [json.loads(line) for line in open(os.path.join(run, "metrics.jsonl"))]
    return ([e["loss"] for e in events if e["event"] == "step"], [e["loss"] for e in events if e["event"] == "eval"][-1],
            time.time() - started)


def cut(ids, end):
    """Blocks of a document's ids."""
    ids = ids if end is None or ids[-1:] == [end] else ids + [end]
    blocks = []
    while ids:
        length = BLOCK - (len(ids) == BLOCK + 1)
        blocks.append(ids[:length])
        ids = ids[length:]
    return blocks


def loss_of(model, blocks):
    """Sum over the targets of some blocks, and their number. Blocks of one length go through the model together."""
    import torch
    total, count = 0, 0
    for length in sorted({len(b) for b in blocks}):
        ids = torch.tensor([b for b in blocks if len(b) == length])
        logits = model(input_ids=ids).logits[:, :-1].float()
        total = total + torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1), reduction="sum")
        count += ids[:, 1:].numel()
    return total, count


def reference(weights, tokenizer_folder, files, lr, steps, nudge=0.0):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1 + nudge * torch.empty_like(p).uniform_(-1, 1, generator=torch.Generator().manual_seed(p.numel())))
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    train, dev = (cut(tokenizer(open(f, encoding="utf8", newline="").read())["input_ids"], model.config.eos_token_id) for f in files)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                                  lr=lr, betas=(0.9, 0.999), eps=1e-8)
    model.train()
    losses, at, started = [], 0, time.time()
    for step in range(steps):
        batch, at = train[at:at + BATCH], at + BATCH
        if at >= len(train):
            at = 0
        total, count = loss_of(model, batch)
        loss = total / count
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        parts = [loss_of(model, dev[i:i + 16]) for i in range(0, len(dev), 16)]
    return losses, (sum(t for t, _ in parts) / sum(n for _, n in parts)).item(), time.time() - started


def largest(some, others):
    return max(abs(a - b) / b for a, b in zip(some, others))


def compare(name, ours, *source):
    theirs, moved = reference(*source), reference(*source, nudge=1e-7)
    print(f"\n{name}: {len(ours[0])} steps of {BATCH} x {BLOCK} tokens; hone {ours[2]:.1f} s, reference {theirs[2]:.1f} s")
    print(f"  {'step':>12} {'hone':>10} {'reference':>10} {'difference':>11}")
    for step in sorted({1, 10, 50, 100, 150, len(ours[0])}):
        if step <= len(ours[0]):
            a, b = ours[0][step - 1], theirs[0][step - 1]
            print(f"  {step:>12} {a:>10.5f} {b:>10.5f} {(a - b) / b:>11.1e}")
    print(f"  {'held out':>12} {ours[1]:>10.5f} {theirs[1]:>10.5f} {(ours[1] - theirs[1]) / theirs[1]:>11.1e}")
    print(f"  largest difference of any step: {largest(ours[0], theirs[0]):.1e}; of the reference from moved weights: "
          f"{largest(moved[0], theirs[0]):.1e}, held out {moved[1]:.5f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--hone", default="build/release/hone")
    parser.add_argument("--shared", default=os.path.join(os.path.dirname(ROOT), "shared"))
    parser.add_argument("--bytes", type=int, default=600000)
    parser.add_argument("--threads", type=int, default=0, help="of hone; the reference takes OMP_NUM_THREADS")
    options = parser.parse_args()
    text = gzip.open(os.path.join(options.shared, "data/text/tinyshakespeare.txt.gz")).read()
    with tempfile.TemporaryDirectory(prefix="hone-compare-") as folder:
        files = [os.path.join(folder, name) for name in ("train.txt", "dev.txt")]
        for path, part in zip(files, (text[:options.bytes], text[options.bytes:options.bytes + 60000])):
            with open(path, "wb") as f:
                f.write(part)
        stories = os.path.join(options.shared, "data/models/stories260K-hf")
        run = os.path.join(folder, "stories")
        compare("stories260K, continued", train(options, stories, run, files, 1e-3, options.steps),
                stories, stories, files, 1e-3, options.steps)
        tiny, first = os.path.join(ROOT, "configs/tiny-llama"), os.path.join(folder, "first")
        train(options, tiny, first, files, 0, 1, "model.init=scratch")
        weights, run = os.path.join(first, "final"), os.path.join(folder, "scratch")
        compare("tiny-llama, from scratch", train(options, tiny, run, files, 2e-3, options.steps, "model.init=scratch"),
                weights, tiny, files, 2e-3, options.steps)


if __name__ == "__main__":
    main()
