"""Promise: no bytes crash a reader. Each libFuzzer target (tests/fuzz, built by clang with its sanitizers) runs from its seeds and
with its dictionary for `--seconds` of processor. What it found stands as a file in build/torture/.

    python3 tests/torture/fuzz.py [--seconds 600] [--target safetensors] [--seed 1] [--build build/fuzz]

Tried counts executions."""
import glob, re
from promise import *

ROOT = os.path.abspath(os.environ.get("HONE_SOURCE", os.getcwd()))


def main():
    parser = options(__doc__, 0)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--target", action="append")
    parser.add_argument("--build", default="build/fuzz")
    chosen = parser.parse_args()
    targets = chosen.target or sorted(os.path.basename(p)[5:-2] for p in glob.glob(os.path.join(ROOT, "tests/fuzz/fuzz_*.c")))
    found = os.path.join(ROOT, "build/torture")
    os.makedirs(found, exist_ok=True)

    def fuzz(target):
        program = os.path.join(ROOT, chosen.build, "tests/fuzz_" + target)
        if not os.path.exists(program):
            skip(f"{program} is not built (tools/build.sh fuzz)")
        corpus = os.path.join(ROOT, chosen.build, "corpus", target)
        os.makedirs(corpus, exist_ok=True)
        words = os.path.join(ROOT, "tests/fuzz", target + ".dict")
        began = time.time()
        done = subprocess.run([program, f"-max_total_time={chosen.seconds}", f"-seed={chosen.seed}", "-rss_limit_mb=2048", "-timeout=5",
                               "-print_final_stats=1", f"-artifact_prefix={found}/{target}-", *([f"-dict={words}"] if os.path.exists(words) else []),
                               corpus, os.path.join(ROOT, "tests/fuzz", target)], capture_output=True, text=True, errors="replace", cwd=ROOT)
        ran = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        ran = int(ran[1]) if ran else 0
        cover = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stderr)
        if done.returncode:
            print(f"FAILED {target}: exit code {done.returncode}\n{done.stderr[-3000:]}")
        print(f"fuzzing {target}: tried {ran}, held {ran - (done.returncode != 0)}; {'%s edges, %s features, %s inputs' % cover[-1] if cover else 'nothing covered'}, "
              f"seed {chosen.seed}, {time.time() - began:.0f} s", flush=True)
        return done.returncode != 0 or not ran

    with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
        return sum(pool.map(fuzz, targets))


sys.exit(main() != 0)
