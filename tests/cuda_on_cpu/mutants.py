"""Breaks the kernels on purpose, one fault at a time, and says which test noticed. Usage: mutants.py [WORD] (only faults whose
line holds it). Exit code 1 when a fault lived. Each fault is a build of one kernel with AddressSanitizer; nothing is written
into the source tree."""
import os, re, shutil, subprocess, sys, tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(ROOT, "tests", "cuda_on_cpu")
CXX, CC = os.environ.get("CXX", "g++"), os.environ.get("CC", "gcc")
SANITIZE = ["-fsanitize=address", "-O1", "-g"]

# (kernel, file, what stands there, what is put there, which occurrence, kind)
LN, AT = "layernorm", "attention"
FAULTS = [
    (LN, "cuda/reduce.cuh", "        __syncthreads();\n", "", 0, "barrier missing after the warps' sums are written"),
    (LN, "cuda/reduce.cuh", "        __syncthreads();\n", "", 1, "barrier missing before the sums are used again"),
    (LN, "layernorm.cu", "    __syncthreads();\n", "", 0, "barrier missing after the accumulators are cleared"),
    (LN, "layernorm.cu", "    __syncthreads();\n", "", 1, "barrier missing before the groups are added"),
    (LN, "layernorm.cu", "    __syncthreads();\n", "", 2, "barrier missing before the runs are added"),
    (LN, "layernorm.cu", "if (row >= a.rows)", "if (row > a.rows)", 0, "one row too many, forward"),
    (LN, "layernorm.cu", "row < a.rows;", "row <= a.rows;", 0, "one row too many, backward"),
    (LN, "layernorm.cu", "c < a.columns; c += GROUP * N", "c <= a.columns; c += GROUP * N", 0, "one vector too many"),
    (LN, "layernorm.cu", "c < a.columns; c += GROUP * N", "c < a.columns - 1; c += GROUP * N", 1, "the last column left out of the variance"),
    (LN, "layernorm.cu", "a.y.row(row)", "(a.y.data + row * a.columns)", 0, "wrong stride, y"),
    (LN, "layernorm.cu", "a.dh_in.row(row)", "(a.dh_in.data + row * a.columns)", 0, "wrong stride, dh_in"),
    (LN, "layernorm.cu", "b < blocks && c < columns; b += 8", "b < blocks && c < columns; b += 7", 0, "runs overlap"),
    (LN, "layernorm.cu", "i < GROUPS; i++", "i < GROUPS - 1; i++", 0, "the last group's sums left out"),
    (LN, "layernorm.cu", "memory + group * padded(a.columns)", "memory + group * (padded(a.columns) - 8)", 0, "rows overlap in shared memory"),
    (LN, "layernorm.cu", "2 * group * width, ", "group * width, ", 0, "accumulators overlap"),
    (LN, "layernorm.cu", "out[c] += sum;", "out[c] = sum;", 0, "overwrites instead of adding"),
    (LN, "layernorm.cu", "- mean_g - ", "- ", 0, "a term of dh left out"),
    (LN, "cuda/random.cuh", "(uint64_t)site.position[row] * (uint64_t)columns", "(uint64_t)row * (uint64_t)columns", 0, "dropout keyed by the row"),
    (LN, "cuda/random.cuh", "first % 4 : (uint64_t)e]", "0 : (uint64_t)e]", 0, "dropout's word at odd widths"),
    (LN, "cuda/launch.cuh", "shared > 48 * 1024 &&", "shared > 4800 * 1024 &&", 0, "large shared memory not asked for"),
    (AT, "cuda/attention.cuh", "        __syncthreads();\n", "", 0, "barrier missing before tiles are read"),
    (AT, "cuda/attention.cuh", "        __syncthreads(); /*", "        /*", 0, "barrier missing before a stage is filled again"),
    (AT, "cuda/attention.cuh", "ptx_copy_wait<STAGES - 1>", "ptx_copy_wait<STAGES>", 0, "waits for one group too few"),
    (AT, "cuda/attention.cuh", "        ptx_copy_commit();\n", "", 0, "a group is not closed"),
    (AT, "cuda/attention.cuh", "min(position + 1, s.k_count)", "min(position, s.k_count)", 0, "causal mask off by one"),
    (AT, "cuda/attention.cuh", "return position < 0 ? 0 : min(position + 1, s.k_count)", "return position < 0 ? 0 : position + 1", 0, "keys of the next sequence"),
    (AT, "attention_backward.cu", "if (i >= s.q_count) return info;", "if (i > s.q_count) return info;", 0, "one query too many"),
    (AT, "cuda/attention.cuh", "    if (lane + 32 < rows)", "    if (lane + 64 < rows)", 0, "half of a block's queries not asked"),
    (AT, "cuda/attention.cuh", "round_up(valid, WARP_ROWS)", "round_up(valid, 8)", 0, "a tile not loaded as far as it is used"),
    (AT, "attention.cu", "kv_head = head / a.group", "kv_head = head % ((int)gridDim.y / a.group)", 0, "wrong K/V head, forward"),
    (AT, "attention_backward.cu", "kv_head = head / a.group", "kv_head = head % ((int)gridDim.y / a.group)", 0, "wrong K/V head, dq"),
    (AT, "attention.cu", "        state.sum[r] *= factor;\n", "", 0, "the sum not scaled to the new maximum"),
    (AT, "attention.cu", "state.out[i / 2][2 * r + i % 2] *= factor;", ";", 0, "the output not scaled to the new maximum"),
    (AT, "attention.cu", "a.lse[head * a.query_rows", "a.lse[0 * a.query_rows", 0, "lse of the wrong head"),
    (AT, "attention.cu", "pairs + turn % S::STAGES * PAIR, *values", "pairs, *values", 0, "the wrong stage, forward"),
    (AT, "attention_backward.cu", "pairs + turn % S::STAGES * PAIR, *values", "pairs, *values", 0, "the wrong stage, dq"),
    (AT, "attention_backward.cu", "info[turn % S::STAGES] + 8", "info[0] + 8", 0, "the wrong stage, query info"),
    (AT, "attention.cu", "if (columns <= 0)", "if (key >= limit[0])", 0, "lanes leave a collective"),
    (AT, "attention_backward.cu", "(slope * factor - query.delta)", "(slope * factor)", 0, "delta left out"),
    (AT, "attention_backward.cu", "dk, factor, valid", "dk, one, valid", 0, "dk not scaled"),
    (AT, "attention_backward.cu", "queries + part, columns", "queries, columns", 0, "both halves of dk the same"),
    (AT, "attention_backward.cu", "max(0, key - (s.k_count - s.q_count))", "(max(0, key - (s.k_count - s.q_count)) + columns)", 0, "the walk starts a tile late"),
    (AT, "attention_backward.cu", "(at.rows + at.warp_first) * PITCH", "(at.rows + at.warp_first) * D + 0 * PITCH", 0, "wrong stride in shared memory"),
    (AT, "attention_backward.cu", "if (row >= a.query_rows)", "if (row > a.query_rows)", 0, "one row too many, delta"),
    (AT, "cuda/tile.cuh", "inside = r < valid &&", "inside = r <= valid &&", 0, "one row too many, load"),
    (AT, "cuda/tile.cuh", "c < width;", "c <= width;", 0, "columns of the next head, load"),
    (AT, "cuda/tile.cuh", "if (row >= valid)", "if (row > valid)", 0, "one row too many, store"),
    (AT, "cuda/tile.cuh", "if (column < width)", "if (column <= width)", 0, "columns of the next head, store"),
    (AT, "cuda/tile.cuh", "n / 2 * 16 < columns", "n * 8 < columns", 0, "unmasked pieces summed"),
    (AT, "cuda/tile.cuh", "right, b + 8 * n * PITCH<bf16, D> + d", "right, b + 8 * n * D + d", 0, "wrong stride of ldmatrix"),
    (AT, "cuda/tile.cuh", "lane / 4 * 4 + k / 2", "lane / 4 * 4 + k % 4", 0, "wrong owner of a probability"),
    (AT, "cuda/random.cuh", "lower >> 2 * odd", "lower >> 0 * odd", 0, "dropout's bits of the wrong keys"),
    (AT, "cuda/random.cuh", "bits >>= g % 4;", "bits >>= 0;", 0, "dropout's bits of the wrong keys, turned"),
    (AT, "cuda/random.cuh", "site.site + head, example", "site.site, example", 0, "all heads drop alike"),
]


def flags(tree):
    return ["-I", os.path.join(HERE, "include"), "-I", tree, "-I", ROOT]


def run(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **more)


def prepare(folder):
    """Objects that no fault touches."""
    objects = {}
    c_files = [os.path.join(HERE, f"test_{k}.c") for k in (LN, AT)] + [os.path.join(HERE, "emulator.c")]
    c_files += [os.path.join(ROOT, "core", f"{n}.c") for n in ("error", "mem", "tensor")]
    for source in c_files:
        out = os.path.join(folder, os.path.basename(source) + ".o")
        sanitize = ["-O2"] if source.endswith("emulator.c") else SANITIZE
        done = run([CC, *sanitize, "-D_GNU_SOURCE", "-std=gnu11", *flags(ROOT), "-c", source, "-o", out])
        if done.returncode:
            sys.exit(done.stdout)
        objects[os.path.basename(source)] = out
    return objects


def mutate(text, old, new, which):
    parts = text.split(old)
    if len(parts) < which + 2:
        sys.exit(f"no occurrence {which} of {old!r}")
    return old.join(parts[:which + 1]) + new + old.join(parts[which + 1:])


def noticed(kernel, tree, folder, objects):
    """The name of the test that failed with a part of what it said, or None."""
    program, compiled = os.path.join(folder, "program"), []
    for name in sorted(os.listdir(os.path.join(tree, "kernels"))):
        if not name.startswith(kernel) or not name.endswith(".cu"):
            continue
        compiled.append(os.path.join(folder, name + ".o"))
        done = run([CXX, *SANITIZE, "-xc++", "-std=c++17", "-fno-strict-aliasing", *flags(tree), "-c",
                    os.path.join(tree, "kernels", name), "-o", compiled[-1]])
        if done.returncode:
            sys.exit(done.stdout)
    parts = [objects[f"test_{kernel}.c"]] + [o for n, o in objects.items() if not n.startswith("test_")]
    done = run([CXX, "-fsanitize=address", *compiled, *parts, "-lm", "-o", program])
    if done.returncode:
        sys.exit(done.stdout)
    try:
        done = run([program], timeout=300, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0"})
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode == 0:
        return None
    failed = re.findall(r"FAILED (\w+)", done.stdout)
    sanitizer = re.search(r"ERROR: AddressSanitizer: (\S+)", done.stdout)
    stopped = re.search(r"divergent|asynchronous copies in flight|of its warp is at|invalid argument", done.stdout)
    return ", ".join(filter(None, [" ".join(failed[:2]), sanitizer and f"AddressSanitizer: {sanitizer.group(1)}",
                                   stopped and f'"{stopped.group(0)}"'])) or done.stdout[-200:]


def main():
    word, lived = (sys.argv[1] if len(sys.argv) > 1 else ""), 0
    chosen = [f for f in FAULTS if word in " ".join(map(str, f))]
    with tempfile.TemporaryDirectory() as folder:
        objects = prepare(folder)
        for kernel, name, old, new, which, kind in chosen:
            tree = os.path.join(folder, "tree")
            shutil.rmtree(tree, ignore_errors=True)
            shutil.copytree(os.path.join(ROOT, "kernels"), os.path.join(tree, "kernels"))
            path = os.path.join(tree, "kernels", name)
            with open(path, encoding="utf8") as file:
                text = file.read()
            with open(path, "w", encoding="utf8") as file:
                file.write(mutate(text, old, new, which))
            by = noticed(kernel, tree, folder, objects)
            lived += by is None
            print(f"| {kernel} | {kind} | {by or 'NOT NOTICED'} |", flush=True)
    print(f"{len(chosen)} faults, {lived} not noticed")
    return 1 if lived or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
