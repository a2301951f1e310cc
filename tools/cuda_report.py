"""What the compiler made of the GPU's kernels, and what they move, without a GPU: markdown for docs/verified.md.

    tools/build.sh release && python3 tools/cuda_report.py [--jobs 2] [FILE.cu...]

Compiles every kernels/*.cu for sm_80 and sm_90a with -Xptxas -v: registers, spills, static shared memory a kernel. Threads, grids and
dynamic shared memory are what the launchers asked for at two shapes (tests/cuda_on_cpu/launches.c, run on the emulator with nothing
executed), not assumptions. Occupancy is computed from those and the limits of the chips below: what may be resident, not what was
measured. Bytes: what an operation must touch (bench/gpu/cases.c) beside what its kernels load and store, by the formulas in MOVED below.

Exit code 1: a kernel that is not in MAY_SPILL spills. 77: there is no nvcc."""
import argparse
import collections
import concurrent.futures
import glob
import math
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ARCHITECTURES = ("sm_80", "sm_90a")
# of a multiprocessor: threads, blocks, registers (allocated 256 a warp), shared memory and what of it a block costs besides
LIMITS = {"sm_80": {"warps": 64, "blocks": 32, "registers": 65536, "shared": 164 << 10, "reserved": 1024},
          "sm_90a": {"warps": 64, "blocks": 32, "registers": 65536, "shared": 228 << 10, "reserved": 1024}}
MAY_SPILL = ()  # kernels that never stand in the way of a step
# The shapes of tests/cuda_on_cpu/launches.c: lengths of the sequences, and the model's sizes.
SHAPES = {"BERT-base, 32 x 40": {"lengths": [20 + i * 7919 % 41 for i in range(32)], "heads": 12, "kv": 12, "D": 64, "C": 768, "V": 30522, "causal": False},
          "Llama 1B, 1 x 2048": {"lengths": [2048], "heads": 32, "kv": 8, "D": 64, "C": 2048, "V": 128256, "causal": True}}


def seen(m, length, first, rows):
    """Keys that queries [first, first + rows) of a sequence look at, as its tiles are loaded."""
    return min(length, first + rows) if m["causal"] else length


def attention_forward(m):
    """q and o once; K and V for every tile of 64 queries of every query head."""
    tiles = sum(2 * seen(m, length, first, 64) for length in m["lengths"] for first in range(0, length, 64))
    return 2 * m["D"] * m["heads"] * (2 * sum(m["lengths"]) + tiles)


def attention_backward(m):
    """Up to 64 tokens all of it once. Beyond: delta reads do and o; a tile of queries reads q, do, writes dq and goes over K and V; a
    tile of keys reads k, v, writes dk, dv and goes over q and do of all heads that share it."""
    rows = sum(m["lengths"])
    if max(m["lengths"]) <= 64:
        return 2 * m["D"] * rows * (3 * m["heads"] + 4 * m["kv"])
    queries = sum(2 * seen(m, length, first, 64) for length in m["lengths"] for first in range(0, length, 64))
    keys = sum(2 * (length - first if m["causal"] else length) for length in m["lengths"] for first in range(0, length, 64))
    return 2 * m["D"] * (m["heads"] * (2 * rows + 3 * rows + queries + keys) + 4 * m["kv"] * rows)


def linear_cross_entropy(m):
    """Logits fp32 written and read, slopes bf16 written and read twice; w a piece of 512 rows and twice a chunk of 2,048, dw fp32 read and
    written a chunk; x, dx (fp32 first) by the row."""
    rows, weight = sum(m["lengths"]), 2 * m["V"] * m["C"]
    return rows * m["V"] * (8 + 6) + -(-rows // 512) * weight + -(-rows // 2048) * (weight + 4 * weight) + rows * m["C"] * (2 + 2 * 3 + 8 + 2)


# operation -> bytes that its kernels load and store by their own design, caches not counted, and why, where they are not the ideal ones;
# a number is times the ideal. Products are cuBLASLt's, which does not say.
MOVED = {
    "attention_forward": (attention_forward, "K and V for every tile of 64 queries, out of the cache"),
    "attention_backward": (attention_backward, "up to 64 tokens once; beyond, delta and two kernels that share nothing"),
    "cross_entropy": (lambda m: 1.5, "logits twice in rows that the cache does not hold"),
    "linear_cross_entropy": (linear_cross_entropy, "chunks of logits and slopes; w and dw a chunk"),
    "embedding_backward": (lambda m: 1.13, "partial sums: an eighth of dy; 8 bytes of pair a row"),
}
# Passes over rows of logits (kernels/choose_tokens.cu), at least; all but the first out of the cache.
PASSES = {"choose_tokens, drawn": 2, "choose_tokens, top_k": 5, "choose_tokens, top_p": 5, "choose_tokens, top_k and top_p": 8}


def nvcc():
    for path in (os.environ.get("CUDACXX"), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"):
        if path and os.path.exists(path):
            return path
    print("cuda_report: there is no nvcc", file=sys.stderr)
    sys.exit(77)


def demangled(names):
    """mangled -> what a reader calls it, without namespaces and arguments"""
    plain = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: short(text) for name, text in zip(names, plain)}


def short(name):
    name = re.sub(r"\(anonymous namespace\)::|_GLOBAL__N__\w+::|^void ", "", name)
    name = re.sub(r"\((int|bool|unsigned int)\)", "", name)
    depth = 0
    for at, letter in enumerate(name):  # up to the arguments' parenthesis
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:at]
    return name


def compiled(compiler, source, architecture):
    """[(mangled name, registers, spilled bytes, static shared memory)]"""
    command = [compiler, "-std=c++17", "-I", ROOT, "-DHN_ISA=cuda", f"-arch={architecture}", "-Xptxas", "-v", "-Werror", "all-warnings",
               "-c", source, "-o", os.devnull]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{source}, {architecture}:\n{run.stderr}")
    found, name, spilled = [], None, 0
    for line in run.stderr.splitlines():
        entry = re.search(r"Compiling entry function '(\w+)'", line)
        spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line)
        used = re.search(r"Used (\d+) registers", line)
        if entry:
            name, spilled = entry.group(1), 0
        elif spills:
            spilled = int(spills.group(1)) + int(spills.group(2))
        elif used and name:
            shared = re.search(r"(\d+) bytes smem", line)
            found.append((name, int(used.group(1)), spilled, int(shared.group(1)) if shared else 0))
            name = None
    return found


def compile_all(compiler, sources, jobs):
    """(file's stem, kernel) -> {architecture: (registers, spilled, shared)}"""
    kernels = collections.defaultdict(dict)
    tasks = [(source, architecture) for source in sources for architecture in ARCHITECTURES]
    tasks.sort(key=lambda task: -os.path.getsize(task[0]))
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for (source, architecture), rows in zip(tasks, pool.map(lambda task: compiled(compiler, *task), tasks)):
            names = demangled([row[0] for row in rows])
            for name, *figures in rows:
                kernels[os.path.basename(source)[:-3], names[name]][architecture] = tuple(figures)
    return kernels


def launches(build):
    """[(operation, shape, ideal bytes, [(kernel, blocks, threads, shared)])] in the order of the cases"""
    program = os.path.join(build, "tests", "cuda_on_cpu", "cuda_launches")
    if not os.path.exists(program):
        sys.exit(f"cuda_report: {program} is not built: tools/build.sh release")
    table = {}
    for line in subprocess.run(["nm", "-C", program], capture_output=True, text=True, check=True).stdout.splitlines():
        address, kind, name = line.split(" ", 2) if line[0] != " " else ("0", "U", "")
        if kind in "tTwW":
            table[int(address, 16)] = short(name)
    out = subprocess.run([program], capture_output=True, text=True)
    if out.returncode:
        sys.exit(f"{program}:\n{out.stdout[-500:]}{out.stderr[-2000:]}")
    cases, pending = [], []
    launch = r"launch (\S+) grid (\d+) (\d+) (\d+) threads (\d+) shared (\d+)"
    row = r'"operation": "(.*?)", "shape": "(.*?)".*"bytes": (\d+)'
    for event in re.finditer(f"{launch}|{row}", out.stdout):
        address, x, y, z, threads, shared, operation, shape, ideal = event.groups()
        if address:
            pending.append((table.get(int(address, 16), address), int(x) * int(y) * int(z), int(threads), int(shared)))
        else:
            cases.append((operation, shape, float(ideal), pending))
            pending = []
    return cases


def occupancy(architecture, registers, threads, shared):
    """Resident warps of a multiprocessor over the most there can be."""
    limit, warps = LIMITS[architecture], math.ceil(threads / 32)
    by_registers = limit["registers"] // (math.ceil(registers * 32 / 256) * 256 * warps) if registers else limit["blocks"]
    by_shared = limit["shared"] // (math.ceil(shared / 128) * 128 + limit["reserved"])
    blocks = min(limit["blocks"], limit["warps"] // warps, by_registers, by_shared)
    return blocks, blocks * warps / limit["warps"]


def of_operation(kernels, operation, kernel):
    """The compiled kernel that an operation launched: of several of one name that of the file named like the operation."""
    same = [key for key in kernels if key[1] == kernel]
    own = [key for key in same if operation.startswith(key[0])] or same
    return max(own, key=lambda key: len(key[0])) if own else None


def span(values):
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def print_kernels(kernels):
    groups = collections.defaultdict(list)
    for (stem, kernel), figures in kernels.items():
        groups[stem, kernel.split("<")[0]].append(figures)
    print("| file | kernel | variants | registers sm_80 | sm_90a | spilled bytes | static shared |\n|---|---|---|---|---|---|---|")
    for (stem, kernel), rows in sorted(groups.items()):
        registers = [span([row[a][0] for row in rows if a in row]) for a in ARCHITECTURES]
        spilled = sum(row[a][1] for row in rows for a in row)
        print(f"| {stem} | {kernel} | {len(rows)} | {registers[0]} | {registers[1]} | {spilled} | {span([f[2] for row in rows for f in row.values()])} |")


def print_launches(kernels, cases):
    print("\n| operation | shape | kernel | blocks | threads | shared, static + dynamic | resident blocks, warps sm_80 | sm_90a |\n|---|---|---|---|---|---|---|---|")
    for operation, shape, _, launched in cases:
        for kernel, count in collections.Counter(launched).items():
            name, blocks, threads, shared = kernel
            key = of_operation(kernels, operation, name)
            columns = []
            for architecture in ARCHITECTURES:
                figures = kernels[key].get(architecture) if key else None
                if figures:
                    resident, share = occupancy(architecture, figures[0], threads, shared + figures[2])
                    columns.append(f"{resident}, {share:.0%}")
                else:
                    columns.append("?")
            static = next(iter(kernels[key].values()))[2] if key else 0
            times = f" ({count} times)" if count > 1 else ""
            print(f"| {operation} | {shape} | {name}{times} | {blocks:,} | {threads} | {static} + {shared:,} | {columns[0]} | {columns[1]} |")


def print_bytes(cases):
    print("\n| operation | shape | must move, MB | loaded and stored / that | |\n|---|---|---|---|---|")
    for operation, shape, ideal, _ in cases:
        name, known = operation.split(",")[0], SHAPES.get(shape)
        if name.startswith("linear_") and name not in MOVED:
            times, why = "", "cuBLASLt's"
        elif operation in PASSES:
            times, why = f"{PASSES[operation]:.2f}", "a row again, out of the cache"
        elif name in MOVED and known:
            moved = MOVED[name][0](known)
            times, why = f"{moved / ideal if moved > 100 else moved:.2f}", MOVED[name][1]
        else:
            times, why = "1.00", "each once"
        print(f"| {operation} | {shape} | {ideal / 1e6:,.2f} | {times} | {why} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), help="where cuda_launches is built")
    parser.add_argument("sources", nargs="*", default=sorted(glob.glob(os.path.join(ROOT, "kernels", "*.cu"))))
    arguments = parser.parse_args()
    compiler = nvcc()
    cases = launches(arguments.build)
    kernels = compile_all(compiler, arguments.sources, arguments.jobs)
    print_kernels(kernels)
    print_launches(kernels, cases)
    print_bytes(cases)
    spilling = sorted({f"{stem}: {kernel}" for (stem, kernel), figures in kernels.items() for f in figures.values()
                       if f[1] and kernel.split("<")[0] not in MAY_SPILL})
    for kernel in spilling:
        print(f"cuda_report: {kernel} spills", file=sys.stderr)
    sys.exit(bool(spilling))


if __name__ == "__main__":
    main()
