"""Runs the comparison of bench/ with doubles of hone, of the Trainer and of the ceiling, whose figures are known."""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.environ.get("HONE_SOURCE", "."))
sys.path.insert(0, os.path.join(ROOT, "bench"))
sys.dont_write_bytecode = True
import compare_mnli

# Steps of 0.5 s for fp32 and 0.25 s for bf16, 32 pairs of 20 tokens each; the first two are ten times slower. The last line is torn.
HONE = """#!/bin/sh
exec "{python}" - "$@" <<'END'
import json, os, sys
config = json.load(open(sys.argv[2]))
assert sys.argv[1] == "train" and config["eval"]["every"] == "off" and os.path.exists(config["data"]["train"][0])
os.makedirs(config["output"]["dir"])
seconds = 0.5 if config["train"]["precision"] == "fp32" else 0.25
with open(config["output"]["dir"] + "/metrics.jsonl", "w") as out:
    out.write(json.dumps({{"event": "start", "step": 0}}) + "\\n")
    time = 0
    for step in range(1, 11):
        one = seconds * (10 if step <= 2 else 1)
        time += one
        out.write(json.dumps({{"event": "step", "step": step, "time": time, "loss": 1.0, "pairs_per_second": 32 / one,
                               "tokens_per_second": 640 / one}}) + "\\n")
    out.write('{{"event": "step", "st')
END
"""
TRAINER = """#!/bin/sh
echo "some line of a log"
echo '{{"mode": "tuned", "pairs_per_second": 16, "tokens_per_second": 320, "first_step_at": 9e9, "loss": 1.1}}'
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


def compare(folder, *arguments):
    return subprocess.run(
        [sys.executable, os.path.join(ROOT, "bench", "compare_mnli.py"), "--results", folder, "--model", folder, "--rounds", "2",
         "--hone", os.path.join(folder, "hone"), "--python", os.path.join(folder, "python"),
         "--ceiling", os.path.join(folder, "ceiling"), "--skip", "2", *arguments],
        capture_output=True, text=True, check=False)


def check_table(folder):
    result = compare(folder, "--modes", "fp32,bf16,tuned", *compare_mnli.SAMPLE)
    assert result.returncode == 0, result.stderr
    files = [name for name in os.listdir(folder) if name.startswith("mnli-")]
    assert len(files) == 1 and files[0].endswith(".json"), files
    with open(os.path.join(folder, files[0]), encoding="utf8") as file:
        report = json.load(file)
    table = report["table"]
    assert report["rows"] == 960 and len(report["rounds"]) == 2
    near(table["hone fp32"]["pairs_per_second"], 64)
    near(table["hone bf16"]["tokens_per_second"], 2560)
    near(table["Trainer tuned"]["times_fp32"], 4)
    near(table["Trainer tuned"]["times_bf16"], 8)
    near(table["hone fp32"]["of_ceiling"], 1280 * 6 * 2 * (4 * 64 + 2 * 8 * 32) / 100e9)
    assert "Trainer tuned" in result.stdout and "8.00" in result.stdout, result.stdout
    first = [run["runs"]["hone fp32"]["first_step_seconds"] for run in report["rounds"]]
    assert first[0] is not None, "the first step of hone was never seen"


def check_failure(folder):
    write_program(folder, "hone", "#!/bin/sh\necho 'hone: out of luck'\nexit 3\n")
    result = compare(folder, "--modes", "fp32", *compare_mnli.SAMPLE)
    assert result.returncode == 1 and "ended with 3" in result.stderr and "out of luck" in result.stderr, result.stderr
    result = compare(folder, "--modes", "fp64", *compare_mnli.SAMPLE)
    assert result.returncode == 2 and "unknown mode fp64" in result.stderr, result.stderr


def main():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w", encoding="utf8") as file:
            json.dump({"hidden_size": 8, "intermediate_size": 32, "num_hidden_layers": 2}, file)
        for name, text in (("hone", HONE), ("python", TRAINER), ("ceiling", CEILING)):
            write_program(folder, name, text)
        check_table(folder)
        check_failure(folder)
    print("the table of the doubles is right")


if __name__ == "__main__":
    main()
