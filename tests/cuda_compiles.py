"""nvcc takes every kernels/*.cu without a warning: what the emulator's C++ compiler does not see. To PTX only, which is where nvcc's own
checks end; machine code for each chip is made by the cuda preset and looked at by tools/cuda_report.py. 77: there is no nvcc."""
import concurrent.futures
import glob
import os
import shutil
import subprocess
import sys

ROOT = os.environ.get("HONE_SOURCE", ".")


def compiled(compiler, source):
    command = [compiler, "-std=c++17", "-I", ROOT, "-DHN_ISA=cuda", "-arch=compute_80", "-ptx", "-Werror", "all-warnings",
               "-Xcompiler", "-Wall,-Wextra,-Wshadow,-Werror", source, "-o", os.devnull]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return "" if run.returncode == 0 else f"{source}:\n{run.stdout}"


def main():
    places = (os.environ.get("CUDACXX"), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc")
    compiler = next((path for path in places if path and os.path.exists(path)), None)
    if not compiler:
        print("SKIP: there is no nvcc")
        return 77
    sources = sorted(glob.glob(os.path.join(ROOT, "kernels", "*.cu")), key=os.path.getsize, reverse=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        wrong = list(filter(None, pool.map(lambda source: compiled(compiler, source), sources)))
    print("\n".join(wrong) if wrong else f"{len(sources)} files, not a warning")
    return 1 if wrong or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
