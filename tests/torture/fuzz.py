"""Promise: no bytes crash a reader. Each libFuzzer target (tests/fuzz, built by clang with its sanitizers) runs from its seeds and
with its dictionary for `--seconds` of its processor's time, however busy the machine. Beside crashes, leaks and undefined behaviour a
target ends with an input that takes more than 30 seconds (by the clock, a hundred times what any should on an idle machine), an
allocation of more than 128 MiB or 2 GiB in all, and with what tests/fuzz/fuzz.h demands. Such an input stands in build/torture/ and is minimised by

    build/fuzz/tests/fuzz_TARGET -minimize_crash=1 -max_total_time=60 build/torture/TARGET-crash-...

    python3 tests/torture/fuzz.py [--seconds 600] [--target safetensors] [--seed 1] [--build build/fuzz] [--corpus FOLDER]

Inputs that reach something new are kept in a temporary folder, or below `--corpus`. Tried counts executions."""
import glob, re, signal
from promise import *

ROOT = os.path.abspath(os.environ.get("HONE_SOURCE", os.getcwd()))
LIMITS = ["-timeout=30", "-rss_limit_mb=2048", "-malloc_limit_mb=128", "-report_slow_units=1", "-print_final_stats=1"]
ENVIRONMENT = {"UBSAN_OPTIONS": "print_stacktrace=1", "ASAN_OPTIONS": "detect_stack_use_after_return=0", "OMP_WAIT_POLICY": "passive",
               "LSAN_OPTIONS": f"suppressions={ROOT}/tests/lsan.supp:print_suppressions=0", **os.environ}


def processor_seconds(pid):
    """User and system time of a process, from behind its name in /proc."""
    try:
        fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


def spend(command, seconds, folder):
    """Runs a target until it has used so much processor, then asks it to end. (exit code, what it said, seconds used)"""
    with open(os.path.join(folder, "said"), "w+b") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, env={**ENVIRONMENT, "TMPDIR": folder})
        used = 0.0
        while process.poll() is None:
            used = max(used, processor_seconds(process.pid))
            if used >= seconds:
                process.send_signal(signal.SIGUSR1)
            time.sleep(0.5 if seconds > 20 else 0.1)
        said.seek(0)
        return process.returncode, said.read().decode(errors="replace"), used


def number(name, text):
    found = re.search(rf"stat::{name}:\s+(\d+)", text)
    return int(found[1]) if found else 0


def main():
    parser = options(__doc__, 0)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--target", action="append")
    parser.add_argument("--build", default="build/fuzz")
    parser.add_argument("--corpus")
    chosen = parser.parse_args()
    targets = chosen.target or sorted(os.path.basename(p)[5:-2] for p in glob.glob(os.path.join(ROOT, "tests/fuzz/fuzz_*.c")))
    found = os.path.join(ROOT, "build/torture")
    os.makedirs(found, exist_ok=True)

    def fuzz(target):
        program, seeds = os.path.join(ROOT, chosen.build, "tests/fuzz_" + target), os.path.join(ROOT, "tests/fuzz", target)
        if not os.path.exists(program):
            skip(f"{program} is not built (tools/build.sh fuzz)")
        folder = tempfile.mkdtemp(prefix="hone-fuzz-", dir=SHM)
        corpus = os.path.join(chosen.corpus or folder, target)
        os.makedirs(corpus, exist_ok=True)
        words = [f"-dict={seeds}.dict"] if os.path.exists(seeds + ".dict") else []
        try:
            code, said, used = spend([program, f"-seed={chosen.seed}", *LIMITS, *words, f"-artifact_prefix={found}/{target}-", corpus, seeds],
                                     chosen.seconds, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        ran, cover = number("number_of_executed_units", said), re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", said)
        if code:
            print(f"FAILED {target}: exit code {code}\n{said[-3000:]}")
        print(f"fuzzing {target}: tried {ran}, held {ran - (code != 0)}; {'%s edges, %s features, %s inputs' % cover[-1] if cover else 'nothing covered'} "
              f"from {len(os.listdir(seeds))} seeds, slowest {number('slowest_unit_time_sec', said)} s, {number('peak_rss_mb', said)} MiB, "
              f"seed {chosen.seed}, {used:.0f} s of processor", flush=True)
        return code != 0 or not ran

    with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
        return sum(pool.map(fuzz, targets))


sys.exit(main() != 0)
