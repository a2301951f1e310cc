"""Breaks the GPU's kernels and their host code on purpose, one fault at a time, and says which test noticed.

    tools/build.sh debug && python3 tests/cuda_on_cpu/mutants.py [TEST] [WORD]
    python3 tests/cuda_on_cpu/mutants.py --check

faults/TEST.py lists what test_TEST must notice: (file below kernels/, what stands there, what is put there, which occurrence, kind). WORD
takes only the faults whose line holds it. Each fault is one or a few compilations with the flags of the debug build, which must be
up to date; nothing is written into the source tree or the build. Exit code 1 when a fault lived. --check only looks whether each fault
still fits the source, and stands in docs/broken-kernels.md, where the last whole run is; that is a case of the suite."""
import json, os, re, runpy, shlex, shutil, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("HONE_BUILD", os.path.join(ROOT, "build", "debug"))
KERNELS = os.path.join(ROOT, "kernels")
EMULATED = "hone_emulated_kernels.dir"
FASTER = {"-fsanitize=address,undefined": "-fsanitize=address,alignment"}  # half the time of a compilation


def run(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **more)


def compile_commands():
    """source below kernels/ -> (command line, object), of the emulated build"""
    with open(os.path.join(BUILD, "compile_commands.json"), encoding="utf8") as file:
        entries = json.load(file)
    found = {}
    for entry in entries:
        words = shlex.split(entry["command"])
        target = words[words.index("-o") + 1]
        if EMULATED in target:
            found[os.path.relpath(entry["file"], KERNELS)] = (words, target)
    return found


def link_command(test):
    done = run(["ninja", "-C", BUILD, "-t", "commands", "-s", f"tests/cuda_on_cpu/cuda_on_cpu_test_{test}"])
    if done.returncode:
        sys.exit(done.stdout)
    return done.stdout.strip().splitlines()[-1]


def included(name):
    """What kernels/`name` includes of kernels/, and so on."""
    with open(os.path.join(KERNELS, name), encoding="utf8") as file:
        found = set(re.findall(r'#include "kernels/(\S+)"', file.read()))
    return found.union(*map(included, found))


def sources_of(name, test, commands, named):
    """What must be compiled anew when kernels/`name` changes: itself, or for a header the test's own sources that include it: those of
    its name, and those that its faults name (of a template that two files use, the linker keeps one)."""
    if name in commands:
        return [name]
    own = [s for s in commands if (os.path.basename(s).startswith(test) or s in named) and name in included(s)]
    return own or sys.exit(f"{name}: no source of test_{test} to compile")


def mutate(text, old, new, which):
    parts = text.split(old)
    if len(parts) < which + 2:
        return None
    return old.join(parts[:which + 1]) + new + old.join(parts[which + 1:])


def build(test, sources, tree, folder, commands):
    """The test's program with `sources` taken from `tree`; None when that does not compile."""
    program, link = os.path.join(folder, "program"), link_command(test)
    for source in sources:
        words, target = commands[source]
        out = os.path.join(folder, source.replace("/", "_") + ".o")
        words = [FASTER.get(w, w) for w in words if w not in ("ccache", "-g")]
        words[words.index("-o") + 1] = out
        words[words.index("-c") + 1] = os.path.join(tree, "kernels", source)
        at = words.index(f"-I{ROOT}")
        words[at:at] = [f"-I{tree}"]
        for flag in ("-MD", "-Werror"):
            while flag in words:
                words.remove(flag)
        for flag in ("-MT", "-MF"):
            if flag in words:
                del words[words.index(flag):words.index(flag) + 2]
        done = run(words, cwd=BUILD)
        if done.returncode:
            print(done.stdout)
            return None
        link = link.replace(target, out)
    link = re.sub(r"-o \S*cuda_on_cpu_test_\w+", f"-o {program}", link)
    done = run(link, shell=True, cwd=BUILD)
    if done.returncode:
        sys.exit(done.stdout)
    return program


def noticed(program):
    """The name of the test that failed with a part of what it said, or None."""
    try:
        done = run([program], timeout=300, cwd=ROOT,
                   env={**os.environ, "OMP_WAIT_POLICY": "passive", "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0"})
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode == 0:
        return None
    failed = re.findall(r"FAILED (\w+)", done.stdout)
    sanitizer = re.search(r"ERROR: AddressSanitizer: (\S+)|runtime error: ([^\n]{0,60})", done.stdout)
    stopped = re.search(r"divergent|asynchronous copies in flight|of its warp is at|invalid argument|internal error", done.stdout)
    return ", ".join(filter(None, [" ".join(failed[:2]), sanitizer and f"sanitizer: {sanitizer.group(1) or sanitizer.group(2)}",
                                   stopped and f'"{stopped.group(0)}"'])) or " ".join(done.stdout.split())[-200:]


def check(tests):
    """Faults that no longer fit, and those that the table has no line for."""
    with open(os.path.join(ROOT, "docs", "broken-kernels.md"), encoding="utf8") as file:
        table, wrong = file.read(), 0
    for test, (name, old, new, which, kind) in ((t, f) for t in tests for f in faults_of(t)):
        with open(os.path.join(KERNELS, name), encoding="utf8") as file:
            if mutate(file.read(), old, new, which) is None:
                print(f"faults/{test}.py: {name}: no occurrence {which} of {old!r}")
                wrong += 1
        if f"| {test} | {name} | {kind} |" not in table:
            print(f"docs/broken-kernels.md: no line for {test}, {name}: {kind}")
            wrong += 1
    return 1 if wrong else 0


def faults_of(test):
    return runpy.run_path(os.path.join(HERE, "faults", test + ".py"))["FAULTS"]


def main():
    tests = sorted(f[:-3] for f in os.listdir(os.path.join(HERE, "faults")) if f.endswith(".py"))
    if sys.argv[1:] == ["--check"]:
        return check(tests)
    if len(sys.argv) > 1 and sys.argv[1]:
        tests = [sys.argv[1]]
    word, commands, lived, count = (sys.argv[2] if len(sys.argv) > 2 else ""), compile_commands(), 0, 0
    for test in tests:
        faults = faults_of(test)
        named = {fault[0] for fault in faults}
        for name, old, new, which, kind in faults:
            if word not in f"{name} {old} {kind}":
                continue
            with tempfile.TemporaryDirectory() as folder:
                tree = os.path.join(folder, "tree")
                shutil.copytree(KERNELS, os.path.join(tree, "kernels"))
                path = os.path.join(tree, "kernels", name)
                with open(path, encoding="utf8") as file:
                    text = file.read()
                text = mutate(text, old, new, which)
                if text is None:
                    sys.exit(f"{name}: no occurrence {which} of {old!r}")
                with open(path, "w", encoding="utf8") as file:
                    file.write(text)
                program = build(test, sources_of(name, test, commands, named), tree, folder, commands)
                by = noticed(program) if program else "does not compile"
            count += 1
            lived += by is None
            print(f"| {test} | {name} | {kind} | {by or 'NOT NOTICED'} |", flush=True)
    print(f"{count} faults, {lived} not noticed")
    return 1 if lived or not count else 0


if __name__ == "__main__":
    sys.exit(main())
