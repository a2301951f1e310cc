"""The collectives over MPI: test_collectives' bodies on 4 ranks of mpirun, a rank that makes another call, one that dies, and a module that is
started by nobody. Skipped where the build found no MPI."""
import os, re, signal, subprocess, sys, time

BUILD = os.environ.get("HONE_BUILD", "build/debug")
MODULE = os.path.join(BUILD, "hone_mpi.so")
PROGRAM = os.path.join(BUILD, "tests", "ranks_test_collectives")
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]

def environment(**more):
    """Waiting ranks give their core away; no ptrace rights needed; what MPI keeps for the process's life, in plugins that are unloaded before
    its end, is no leak of ours."""
    return dict(os.environ, HONE_MPI=MODULE, OMPI_MCA_mpi_yield_when_idle="1", OMPI_MCA_btl_vader_single_copy_mechanism="none",
                OMPI_MCA_btl="self,vader", ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0", **more)

def run(command, seconds, **more):
    """Exit status and output; whatever takes too long is killed with all that it started."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(**more),
                               start_new_session=True)
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        sys.exit(f"{command}: not over after {seconds} s\n{output}")
    return process.returncode, output

def expect(holds, what, output):
    if not holds:
        sys.exit(f"{what}\n{output}")

def mpirun(what, seconds):
    return run(MPIRUN + ["-n", "4", PROGRAM, what], seconds)

def main():
    if not os.path.exists(MODULE):
        print("SKIP: this build has no hone_mpi.so (no MPI was found)")
        return 77
    code, output = mpirun("all", 150)
    expect(code == 0 and re.search(r"^mpi \d\.\d .*: all parts on 4 ranks$", output, re.M), f"all parts: exit {code}", output)
    code, output = mpirun("differs", 30)
    for rank, pattern in ((1, "rank 0 is in call 1, reduce-scatter of layer.a .* all-gather of layer.b"),
                          (2, "rank 1 is in call 1, all-gather of layer.b .* reduce-scatter of layer.a")): # those who speak first
        expect(re.search(rf"rank {rank}: .*{pattern}", output), f"rank {rank} does not name both calls", output)
    expect(code, "a call that differs: exit 0", output)
    before = time.time()
    code, output = mpirun("dies", 30)
    expect(code and time.time() - before < 20, f"a rank that dies: exit {code} after {time.time() - before:.0f} s", output)
    code, output = run([PROGRAM, "all"], 30, OMPI_COMM_WORLD_RANK="1", OMPI_COMM_WORLD_SIZE="4")
    expect(code == 1 and "MPI counts rank 0 of 1, the launcher rank 1 of 4" in output, f"without a launcher: exit {code}", output)
    return 0

if __name__ == "__main__":
    sys.exit(main())
