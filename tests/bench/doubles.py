"""Doubles of hone, of a peer and of the ceiling, whose figures are known, and runs of a comparison of bench/ with them."""
import json
import os
import subprocess
import sys

ROOT = os.path.abspath(os.environ.get("HONE_SOURCE", "."))
sys.path.insert(0, os.path.join(ROOT, "bench"))
sys.dont_write_bytecode = True

# Steps of 0.5 s for fp32 and 0.25 s for bf16, each of a whole batch with 20 tokens a row; the first two are ten times slower. The last
# line is torn.
HONE = """#!/bin/sh
exec "{python}" - "$@" <<'END'
import json, os, sys
config = json.load(open(sys.argv[2]))
assert sys.argv[1] == "train" and config["eval"]["every"] == "off" and os.path.exists(config["data"]["train"][0])
os.makedirs(config["output"]["dir"])
seconds = 0.5 if config["train"]["precision"] == "fp32" else 0.25
rows = config["train"]["batch_examples"]
with open(config["output"]["dir"] + "/metrics.jsonl", "w") as out:
    out.write(json.dumps({{"event": "start", "step": 0}}) + "\\n")
    time = 0
    for step in range(1, 11):
        one = seconds * (10 if step <= 2 else 1)
        time += one
        pairs = {{"pairs_per_second": rows / one}} if config["task"]["kind"] == "classify" else {{}}
        out.write(json.dumps({{"event": "step", "step": step, "time": time, "loss": 1.0, "tokens_per_second": 20 * rows / one}}
                             | pairs) + "\\n")
    out.write('{{"event": "step", "st')
END
"""
PEER = """#!/bin/sh
echo "some line of a log"
echo '{{"pairs_per_second": 16, "tokens_per_second": 320, "first_step_at": 9e9, "loss": 1.1, "target_share": 0.25}}'
"""
CEILING = """#!/bin/sh
echo '{{"threads": 2, "fp32_gflops": 100.0, "bf16_gflops": null, "copy_gb_per_second": 10.0}}'
"""


def near(got, expected):
    assert abs(got - expected) <= 1e-6 * abs(expected), f"got {got}, expected {expected}"


def write_program(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf8") as file:
        file.write(text.format(python=sys.executable))
    os.chmod(path, 0o755)
    return path


def write_doubles(folder, config):
    """The programs, and a model's config.json."""
    with open(os.path.join(folder, "config.json"), "w", encoding="utf8") as file:
        json.dump(config, file)
    for name, text in (("hone", HONE), ("python", PEER), ("ceiling", CEILING)):
        write_program(folder, name, text)


def compare(folder, script, *arguments):
    return subprocess.run(
        [sys.executable, os.path.join(ROOT, "bench", script), "--results", folder, "--model", folder, "--rounds", "2",
         "--hone", os.path.join(folder, "hone"), "--python", os.path.join(folder, "python"),
         "--ceiling", os.path.join(folder, "ceiling"), "--skip", "2", *arguments],
        capture_output=True, text=True, check=False)


def report(folder, kind):
    """The one report there is, whose name begins with `kind`."""
    files = [name for name in os.listdir(folder) if name.startswith(kind + "-")]
    assert len(files) == 1 and files[0].endswith(".json"), files
    with open(os.path.join(folder, files[0]), encoding="utf8") as file:
        return json.load(file)
