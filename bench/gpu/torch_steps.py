"""The peer of hone_steps.py: the same models by transformers and PyTorch, fp32 weights under bf16 autocast, SDPA, fused AdamW, clipping,
as a careful user of the Trainer would have it; with and without torch.compile. Pairs are padded to the longest of a batch whose
lengths are alike, and only real tokens are counted. Each setup runs in a process of its own. Prints one JSON object.

    python3 bench/gpu/torch_steps.py [--seconds 450] [--rehearse]        --one NAME eager|compile is what it starts"""
import argparse
import json
import os
import subprocess
import sys
import time

from shapes import is_pairs, lengths, setups

os.environ["HF_HUB_OFFLINE"] = "1"


def batches_of(setup, count, torch, device):
    """Lengths sorted within the whole, so that padding is little; every batch is made before the clock starts."""
    all_lengths = lengths(setup, count)
    if is_pairs(setup):
        all_lengths.sort()
    made = []
    for i in range(count):
        own = all_lengths[i * setup["sequences"]:(i + 1) * setup["sequences"]]
        longest = max(own)
        ids = torch.randint(5, setup["config"]["vocab_size"], (len(own), longest), device=device)
        if not is_pairs(setup):
            made.append((sum(own), {"input_ids": ids, "labels": ids}))
            continue
        mask = (torch.arange(longest)[None] < torch.tensor(own)[:, None]).long().to(device)
        made.append((sum(own), {"input_ids": ids, "attention_mask": mask, "labels": torch.randint(3, (len(own),), device=device)}))
    return made


def one(name, setup, compiled, steps, device):
    import torch
    import transformers
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    config = dict(setup["config"])
    configuration = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    if is_pairs(setup):
        configuration.num_labels = 3
    kind = transformers.AutoModelForSequenceClassification if is_pairs(setup) else transformers.AutoModelForCausalLM
    model = kind.from_config(configuration, attn_implementation="sdpa").to(device).train()
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=device == "cuda")
    run = torch.compile(model, dynamic=is_pairs(setup)) if compiled else model
    batches = batches_of(setup, steps, torch, device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def step(batch):
        with torch.autocast(device, torch.bfloat16):
            loss = run(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()
        return loss

    # all shapes once before the clock: compiled code, plans, memory
    warm = batches if compiled and is_pairs(setup) else batches[:5]
    for _, batch in warm:
        step(batch)
    wait()
    begun = time.perf_counter()
    for _, batch in batches:
        loss = step(batch)
    wait()
    seconds = time.perf_counter() - begun
    tokens = sum(count for count, _ in batches)
    peak = torch.cuda.max_memory_allocated() >> 20 if device == "cuda" else None
    return {"setup": name, "how": "PyTorch bf16" + (", compile" if compiled else ""), "tokens_per_second": tokens / seconds,
            "examples_per_second": steps * setup["sequences"] / seconds, "loss": float(loss.detach()), "peak_mib": peak}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=450)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--one", nargs=2)
    parser.add_argument("--rehearse", action="store_true")
    arguments = parser.parse_args()
    device = "cpu" if arguments.rehearse else "cuda"
    known = setups(arguments.rehearse)
    if arguments.one:
        name, how = arguments.one
        print(json.dumps(one(name, known[name], how == "compile", arguments.steps, device)))
        return
    deadline, rows = time.time() + arguments.seconds, []
    for how in ("eager", "compile"):
        for name in known:
            left = deadline - time.time()
            row = {"setup": name, "how": "PyTorch bf16" + (", compile" if how == "compile" else "")}
            command = [sys.executable, os.path.abspath(__file__), "--one", name, how, "--steps", str(arguments.steps)]
            try:
                if left < 5:
                    raise ValueError("no time was left")
                run = subprocess.run(command + ["--rehearse"] * arguments.rehearse, capture_output=True, text=True, timeout=left)
                if run.returncode:
                    raise ValueError((run.stderr.strip().splitlines() or [f"ended with {run.returncode}"])[-1])
                row = json.loads(run.stdout.strip().splitlines()[-1])
            except (ValueError, subprocess.TimeoutExpired) as error:
                row["failed"] = str(error)[:300]
            rows.append(row)
    print(json.dumps({"rehearsal": arguments.rehearse, "steps": rows}, indent=1))


if __name__ == "__main__":
    main()
