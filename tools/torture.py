"""The torture campaign: every program that tries a promise of docs/reliability.md, with its full counts, and what came of it.

    make torture [ARGS="--row 3 --row 7"] [ARGS="--short"] [ARGS="--write"]

A program says `PROMISE: tried N, held M; ..., seed S, T s` (tests/torture/promise.py, test_promise of tests/test.h). The table of all
of them goes to build/torture/results.md and, with --write, into docs/reliability.md; what a program printed stands beside it. Exit
code 1 when anything was not held, or did not end as it should; nothing is tried twice."""
import argparse, glob, os, platform, re, subprocess, sys, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, "build/torture")
PAGE = os.path.join(ROOT, "docs/reliability.md")
BEGIN, END = "<!-- results: tools/torture.py --write -->\n", "<!-- end of results -->\n"
LINE = re.compile(r"^(?!FAILED|SKIP)(.+): tried (\d+), held (\d+)(?:; (.*))?$", re.M)


def script(name, *full, short=()):
    return (["python3", f"tests/torture/{name}.py", *full], ["python3", f"tests/torture/{name}.py", *short])


def program(name):
    """A C test in the build with sanitizers: the same in both forms."""
    return ([f"build/debug/tests/{name}"],) * 2


def injection(name, *full):
    return [f"build/debug/tests/torture_{name}", *full], [f"build/debug/tests/torture_{name}"]


def hostile(*more):
    return [((["python3", os.path.relpath(p, ROOT), *more]),) * 2 for p in sorted(glob.glob(os.path.join(ROOT, "tests/cli/test_hostile_*.py")))]


def kills(*more):
    return script("kill_resume", "--trials", "40", *more, short=more)


# Row of the scorecard, and its programs: (command of the campaign, command of the short form).
ROWS = {
    1: [kills(), kills("--precision", "bf16"), kills("--task", "lm"), kills("--task", "sft"), kills("--task", "sft", "--lora", "--precision", "bf16")],
    2: [program("checkpoints_test_faults"), script("kill_points", "--trials", "0")],
    3: [script("power_cut", "--trials", "400")],
    4: [program("checkpoints_test_disk_full"), script("disk_errors", "--trials", "0"), script("disk_full", "--trials", "0")],
    5: [program(name) for name in ("core_test_config", "data_test_tokenizer", "formats_test_safetensors", "formats_test_folder", "train_test_job")],
    6: [script("recover", "--trials", "100")],
    7: [program("checkpoints_test_checkpoint"), script("damage", "--trials", "10000")],  # and row 8
    9: [program("data_test_order"), script("sample_order", "--trials", "0", "--far", "1000000")],
    10: [script("same_bits", "--all")],
    11: [injection("accumulate")],
    12: [injection("inject_numbers", "3")],
    16: [*hostile(), script("fuzz", "--seconds", "600", "--target", "safetensors", "--target", "gguf", "--target", "tokenizer",
                            "--target", "config", "--target", "checkpoint", "--target", "cache", short=("--target", "checkpoint"))],
    17: hostile("--watch"),
    18: [injection("flip_memory", "1000", "1"), injection("flip_memory", "1000", "2")],
    "day": [script("day", "--minutes", "3", "--every", "20", "60", "--data", "../shared/data/sft/alpaca_data.json.gz")],
}


def enough(tried, more):
    """How many must hold: all, but of a promise that says "at least N %"."""
    share = re.search(r"at least (\d+) %", more)
    return tried * int(share[1]) // 100 if share else tried


def run(row, command):
    """Results of one program: (row, promise, tried, held, the rest, command, seconds)."""
    words, began = " ".join(command), time.time()
    print(f"== {row}: {words}", flush=True)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          env={"OMP_WAIT_POLICY": "passive", "HONE": os.path.join(ROOT, "build/release/hone"), "HONE_SOURCE": ROOT,
                               "HONE_BUILD": os.path.join(ROOT, "build/release"), "ASAN_OPTIONS": "detect_stack_use_after_return=0",
                               "LSAN_OPTIONS": f"suppressions={ROOT}/tests/lsan.supp:print_suppressions=0", **os.environ})
    seconds, said = time.time() - began, done.stdout
    with open(os.path.join(OUT, "log"), "a") as f:
        f.write(f"== {row}: {words}\n{said}")
    found = [(row, promise, int(tried), int(held), more or "", words, seconds) for promise, tried, held, more in LINE.findall(said)]
    failures = [line for line in said.splitlines() if line.startswith("FAILED")]
    if done.returncode == 77:
        reason = re.search(r"SKIP: (.*)", said)
        found = [(row, words, 0, 0, "skipped: " + (reason[1] if reason else "no reason given"), words, seconds)]
    elif done.returncode and not any(held < tried for _, _, tried, held, *_ in found):
        found.append((row, words, 1, 0, f"exit code {done.returncode}", words, seconds))
        failures = failures or said.splitlines()[-5:]
    elif not found:
        found = [(row, words, 1, 0, "says no result", words, seconds)]
    for one in found:
        print(f"   {one[1]}: tried {one[2]}, held {one[3]}; {one[4]}")
    return found, failures


def table(results, failures, seconds, short):
    """The page's part: one line a promise, then every failure."""
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    processor = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    lines = [f"{'Short form' if short else 'Campaign'} of {time.strftime('%Y-%m-%d')}, commit {commit}, {os.cpu_count()} cores of "
             f"{processor[1] if processor else platform.machine()}, Linux {platform.release()}, {seconds / 60:.0f} minutes.", "",
             "| row | promise | tried | held | |\n|---|---|---|---|---|"]
    for row, promise, tried, held, more, words, _ in results:
        lines.append(f"| {row} | {promise} | {tried} | {held if held >= enough(tried, more) else f'**{held}**'} | {more} |")
    lines += ["", "Commands, and the seconds each took:", "", *dict.fromkeys(f"    {r[5]}  # {r[6]:.0f}" for r in results), ""]
    lines += ["Failures:", "", *("    " + f[:300] for f in failures)] if failures else ["No failure."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=[str(row) for row in ROWS], action="append", help="only this row of the scorecard")
    parser.add_argument("--short", action="store_true", help="small counts")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    chosen = parser.parse_args()
    os.makedirs(OUT, exist_ok=True)
    open(os.path.join(OUT, "log"), "w").close()
    results, failures, began = [], [], time.time()
    for row, programs in ROWS.items():
        for full, short in programs if not chosen.row or str(row) in chosen.row else []:
            found, wrong = run(row, short if chosen.short else full)
            results += found
            failures += wrong
    text = table(results, failures, time.time() - began, chosen.short)
    with open(os.path.join(OUT, "results.md"), "w") as f:
        f.write(text)
    if chosen.write:
        page = open(PAGE).read()
        with open(PAGE, "w") as f:
            f.write(page[:page.index(BEGIN) + len(BEGIN)] + text + page[page.index(END):])
    broken = [r for r in results if r[3] < enough(r[2], r[4])]
    skipped = [r for r in results if r[4].startswith("skipped")]
    print(f"{len(results)} promises tried, {len(broken)} not held, {len(skipped)} skipped; build/torture/results.md")
    sys.exit(bool(broken or failures))


main()
