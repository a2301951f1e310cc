"""Runs hone on several processes of this machine, as a launcher would."""
import os, random, resource, signal, subprocess, sys, tempfile, time
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "cli"))
from tiny import *


def prepare(folder, run, make, configure, keys, sections):
    """An elastic run's config and folder, with a model that is made once; `keys` of its section train."""
    model, where = os.path.join(folder, make.__name__), os.path.join(folder, run)
    if not os.path.exists(model):
        make(model)
    train = {"log_every": 1, "threads": 1, "elastic": True} | keys | sections.get("train", {})
    return configure(where + ".json", model, where, **(sections | {"train": train})), where


class Job:
    """hone train CONFIG on `ranks` processes that meet in a folder; changed: overrides of single ranks; limited: ranks
    whose files may have so many bytes."""

    def __init__(self, ranks, config, *overrides, changed=None, limited=None):
        self.meet = os.path.splitext(config)[0] + "-meet"
        os.makedirs(self.meet, exist_ok=True)
        self.processes, self.logs = [], []
        launch = str(random.getrandbits(60))
        for rank in range(ranks):
            # Sanitizers make pages that a fork would copy; four processes share two cores: threads do not spin.
            variables = os.environ | {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank), "OMP_WAIT_POLICY": "passive",
                                      "TORCHELASTIC_RUN_ID": launch}
            most = (limited or {}).get(rank)
            limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))) if most else None
            log = open(os.path.join(self.meet, f"log-{rank}"), "w+", encoding="utf8")
            self.processes.append(subprocess.Popen([HONE, "train", config, "train.rendezvous=" + self.meet, *overrides, *(changed or {}).get(rank, [])],
                                                   stdout=log, stderr=subprocess.STDOUT, env=variables, preexec_fn=limit,
                                                   restore_signals=not limit))  # Python ignores SIGXFSZ: a write fails
            self.logs.append(log)

    def said(self, rank):
        self.logs[rank].flush()
        return open(self.logs[rank].name, encoding="utf8", errors="replace").read()

    def wait(self, check=0, within=120):
        """Exit codes; each must be `check` (None: any)."""
        end, codes = time.monotonic() + within, []
        for rank, process in enumerate(self.processes):
            try:
                codes.append(process.wait(max(0.1, end - time.monotonic())))
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"rank {rank} is still there after {within} s:\n" + self.everything())
        if check is not None and any(code != check for code in codes):
            raise AssertionError(f"exit codes {codes}, expected {check}\n" + self.everything())
        return codes

    def wait_for(self, text, rank=0, within=60):
        """Until a rank has said it."""
        end = time.monotonic() + within
        while text not in self.said(rank):
            if time.monotonic() > end or self.processes[rank].poll() is not None:
                self.kill()
                raise AssertionError(f"rank {rank} did not say {text!r}:\n" + self.everything())
            time.sleep(0.02)

    def everything(self):
        return "\n".join(f"--- rank {rank}\n{self.said(rank)[-3000:]}" for rank in range(len(self.processes)))

    def kill(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()

    def close(self):
        self.kill()
        for log in self.logs:
            log.close()


def train(ranks, config, *overrides, check=0, **keys):
    """One run to its end; what rank 0 said. 1: one process, without a launcher."""
    if ranks == 1:
        done = hone("train", config, *overrides, check=check)
        return done.stdout + done.stderr
    job = Job(ranks, config, *overrides, **keys)
    try:
        job.wait(check)
        return job.said(0)
    finally:
        job.close()


def weights(run):
    """The bytes of final/."""
    folder = os.path.join(run, "final")
    name = [n for n in sorted(os.listdir(folder)) if n.endswith(".safetensors")][0]
    return open(os.path.join(folder, name), "rb").read()


def numbers(run):
    """All weights of final/ as floats."""
    data = weights(run)
    size, = struct.unpack("<Q", data[:8])
    return struct.unpack(f"<{(len(data) - 8 - size) // 4}f", data[8 + size:])
