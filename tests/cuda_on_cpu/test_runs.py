"""What runs do beside plain training, on the emulated GPU as on the CPU: text, answers by LoRA, a frozen trunk read back from its cache,
groups that thaw with activations made again, predictions."""
import json, os, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import tiny
from tiny import DEV, TRAIN, main, make_config, make_model, metrics
from tiny_decoder import make_decoder, make_sft_config

PROGRAMS = (("cpu", tiny.HONE), ("cuda", os.path.abspath(os.environ["HONE_EMULATED"])))


def on_both(*args):
    """Standard output on the CPU and on the GPU."""
    out = []
    for device, program in PROGRAMS:
        done = subprocess.run([program, *map(str, args), f"train.device={device}"], capture_output=True, text=True)
        assert done.returncode == 0, f"{device}: {args}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        out.append(done.stdout)
    return out


def first_rows(path, source, count):
    with open(source, encoding="utf8") as file:
        lines = file.read().splitlines(True)[:count]
    with open(path, "w", encoding="utf8") as file:
        file.writelines(lines)
    return path


def trains_alike(folder, config, *keys):
    """Losses of the same events, one by one; returns the kinds of events."""
    runs = []
    for device, program in PROGRAMS:
        run = os.path.join(folder, "run-" + device)
        done = subprocess.run([program, "train", config, f"train.device={device}", f"output.dir={run}", *keys], capture_output=True, text=True)
        assert done.returncode == 0, f"{device}: exit code {done.returncode}\n{done.stderr}"
        runs.append([(e["event"], e.get("loss")) for e in metrics(run)])
    assert [e for e, _ in runs[0]] == [e for e, _ in runs[1]], runs
    losses = [(a, b) for (_, a), (_, b) in zip(*runs) if a is not None]
    assert len(losses) >= 3 and all(abs(a - b) <= 1e-5 * a for a, b in losses), losses
    return [e for e, _ in runs[0]]


def text_is_the_cpus(folder):
    model = make_decoder(os.path.join(folder, "model"))
    for precision in ("fp32", "bf16"):
        cpu, gpu = on_both("generate", model, "--prompt", "Hello there", "--max-tokens", 8, f"train.precision={precision}")
        assert cpu == gpu and len(cpu) > 1, (cpu, gpu)


def drawn_text_is_the_cpus(folder):
    """By every rule, prompts side by side and more of them than places."""
    model = make_decoder(os.path.join(folder, "model"))
    words = ["generate", model, "--prompt", "Hello there", "--prompt", "x", "--prompt", "a b c d", "--batch", 2, "--max-tokens", 6, "--json"]
    texts = set()
    for rules in (["--temperature", 1.3], ["--temperature", 0.9, "--top-k", 9, "--repetition-penalty", 1.4], ["--repetition-penalty", 2],
                  ["--temperature", 1.5, "--top-p", 0.8, "--min-p", 0.02, "--repetition-penalty", 0.7, "--seed", 4]):
        cpu, gpu = on_both(*words, *rules)
        assert cpu == gpu and len(cpu.splitlines()) == 3, (rules, cpu, gpu)
        texts.add(cpu)
    assert len(texts) == 4, texts


def answers_by_lora(folder):
    model = make_decoder(os.path.join(folder, "model"))
    config = make_sft_config(os.path.join(folder, "sft.json"), model, os.path.join(folder, "run"), lora={"r": 4},
                             train={"max_steps": 3, "log_every": 1, "batch_examples": 4, "seed": 3},
                             eval={"every": "3 steps", "samples": 2, "sample_tokens": 4})
    dev = first_rows(os.path.join(folder, "dev.jsonl"), os.path.join(os.path.dirname(TRAIN), "instructions_dev.jsonl"), 6)
    assert trains_alike(folder, config, "data.dev=" + dev).count("sample") == 2


def frozen_trunks(folder):
    model, rows = make_model(os.path.join(folder, "model")), first_rows(os.path.join(folder, "train.jsonl"), TRAIN, 48)
    dev = first_rows(os.path.join(folder, "dev.jsonl"), DEV, 24)
    cached = make_config(os.path.join(folder, "cached.json"), model, os.path.join(folder, "run"), data={"train": [rows], "dev": [dev]},
                         train={"epochs": 2, "log_every": 1}, freeze={"below": "layer.2", "cache": True}, eval={"every": "1 epoch"})
    trains_alike(folder, cached)
    cpu, gpu = on_both("predict", os.path.join(folder, "run-cpu"), "data.predict=" + dev)
    for a, b in zip(cpu.splitlines(), gpu.splitlines()):
        a, b = json.loads(a), json.loads(b)
        assert a["label"] == b["label"] and all(abs(p - b["probabilities"][k]) < 1e-5 for k, p in a["probabilities"].items()), (a, b)
    assert len(gpu.splitlines()) == 24, gpu


def thawing_with_little_memory(folder):
    config = make_config(os.path.join(folder, "thaw.json"), make_model(os.path.join(folder, "model")), os.path.join(folder, "run"),
                         data={"dev": [first_rows(os.path.join(folder, "dev.jsonl"), DEV, 24)]},
                         train={"max_steps": 6, "log_every": 1, "batch_examples": 8, "recompute": "full"},
                         freeze={"below": "head", "unfreeze": "2 steps"}, optim={"lr": 1e-3, "moments": "bf16"}, eval={"every": "off"})
    assert trains_alike(folder, config).count("unfreeze") == 2


if __name__ == "__main__":
    main(text_is_the_cpus, drawn_text_is_the_cpus, answers_by_lora, frozen_trunks, thawing_with_little_memory)
