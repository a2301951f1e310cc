"""A run and its disk: one process at a time in a run folder; a disk that fills up, turns read-only or loses a folder costs no training while
it lasts and nothing but a new start of the same command afterwards. Needs the right to mount a tmpfs; what does, is skipped without."""
import os, shutil, signal, subprocess, time

from tiny import HONE, digests, hone, main, make_config, make_model, metrics

MAX_WAIT = 120


def setup(folder, run="run", **sections):
    model = os.path.join(folder, "model")
    if not os.path.exists(model):
        make_model(model)
    run = os.path.join(folder, run)
    sections = {"train": {"epochs": 1, "max_steps": 60, "log_every": 1}, "eval": {"every": "20 steps"}, **sections}
    return make_config(os.path.join(folder, os.path.basename(run) + ".json"), model, run, **sections), run


def start(config, *overrides):
    return subprocess.Popen([HONE, "train", config, *overrides], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(process, condition):
    """Stops the process as soon as the condition holds."""
    end = time.time() + MAX_WAIT
    while not condition():
        assert process.poll() is None and time.time() < end, "the run was over before " + condition.__name__
        time.sleep(0.0005)
    process.send_signal(signal.SIGSTOP)


def first_checkpoint(run):
    def the_first_checkpoint():
        return os.path.exists(os.path.join(run, "checkpoints/step-10/manifest.json"))
    return the_first_checkpoint


def go_on(process, check):
    process.send_signal(signal.SIGCONT)
    said = process.communicate(timeout=MAX_WAIT)[1]
    assert process.returncode == check, f"exit code {process.returncode}, expected {check}: {said}"
    return said


class Disk:
    """A tmpfs of some MiB."""
    def __init__(self, path, mib):
        self.path, self.filler = path, os.path.join(path, "filler")
        os.makedirs(path)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", path], check=True)

    def fill(self):
        with open(self.filler, "wb", buffering=0) as f:
            for size in (1 << 20, 1 << 12):
                try:
                    while f.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass

    def empty(self):
        os.remove(self.filler)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path])


def one_process_at_a_time(folder):
    config, run = setup(folder)
    first = start(config)
    wait_for(first, first_checkpoint(run))
    second = hone("train", config, check=1)
    assert f"another run is at work in this folder (process {first.pid} on " in second.stderr, second.stderr
    first.kill()
    first.communicate()
    lock = open(os.path.join(run, ".lock")).read()
    assert str(first.pid) in lock, lock
    hone("train", config)  # the file that the killed one left is no lock
    config, other = setup(folder, run="other")
    os.makedirs(other)
    with open(os.path.join(other, ".lock"), "w") as f:
        f.write(f"process {os.getpid()} on {os.uname().nodename}\n")  # nor is one that was copied here, though its process lives
    hone("train", config)
    assert digests(run) == digests(other)


def saves_change_nothing(folder):
    config, run = setup(folder)
    hone("train", config)
    for name, overrides in {"every": ["checkpoint.every=1 steps"], "never": ["checkpoint.every=off"]}.items():
        config, again = setup(folder, run=name)
        hone("train", config, *overrides)
        assert digests(again) == digests(run) and metrics(again) == metrics(run), name


def a_checkpoint_folder_that_vanishes(folder):
    config, run = setup(folder)
    process = start(config)
    wait_for(process, first_checkpoint(run))
    checkpoints, gone = os.path.join(run, "checkpoints"), os.path.join(run, "gone")
    os.rename(checkpoints, gone)
    with open(checkpoints, "w"):
        pass
    said = go_on(process, 1)
    assert "checkpoints" in said and "Not a directory" in said or "cannot make this folder" in said, said
    assert [e["step"] for e in metrics(run) if e["event"] == "step"][-1] == 60, "training did not go on"
    assert any(e["event"] == "warning" for e in metrics(run)), metrics(run)
    os.remove(checkpoints)
    os.rename(gone, checkpoints)
    hone("train", config)
    config, plain = setup(folder, run="plain")
    hone("train", config)
    assert digests(run) == digests(plain) and metrics(run) == metrics(plain)


def a_disk_that_is_full_before_the_start(folder):
    with Disk(os.path.join(folder, "disk"), 32) as disk:
        config, run = setup(folder, run="disk/run")
        hone("train", config, "train.max_steps=1", "checkpoint.every=off")
        shutil.rmtree(os.path.join(run, "checkpoints"))
        disk.fill()
        done = hone("train", config, "train.max_steps=1", "checkpoint.every=off", check=1)
        assert "the disk is too full for a checkpoint" in done.stderr or "No space left" in done.stderr, done.stderr
        assert " step 1" not in done.stderr, done.stderr


def a_disk_that_fills_up(folder):
    config, plain = setup(folder, run="plain")
    hone("train", config)
    with Disk(os.path.join(folder, "disk"), 32) as disk:
        config, run = setup(folder, run="disk/run")
        process = start(config)
        wait_for(process, first_checkpoint(run))
        disk.fill()
        said = go_on(process, 1)
        assert "the disk is too full for a checkpoint" in said, said
        wait, found = said.count("the log's lines wait in memory until the disk takes them again"), said.count("the log is written again")
        assert wait and found <= wait <= found + 1, said  # a best/ that was given up may make room for some lines
        assert "final" in said.splitlines()[-1], said
        hone("verify", os.path.join(run, "checkpoints/step-10"))
        disk.empty()
        hone("train", config)
        assert digests(run) == digests(plain) and metrics(run) == metrics(plain)


def a_disk_that_is_full_for_a_while(folder):
    """Nobody starts the run again: what the log lacks meanwhile must come by itself. Nothing is evaluated before the end."""
    sections = {"train": {"epochs": 3, "max_steps": 160, "log_every": 1}, "eval": {"every": "off"}}
    config, plain = setup(folder, run="plain", **sections)
    hone("train", config)
    with Disk(os.path.join(folder, "disk"), 32) as disk:
        config, run = setup(folder, run="disk/run", **sections)
        process = start(config)
        wait_for(process, first_checkpoint(run))
        disk.fill()
        process.send_signal(signal.SIGCONT)
        for line in process.stderr:
            if "the log's lines wait in memory" in line:
                break
        disk.empty()
        said = process.communicate(timeout=MAX_WAIT)[1]
        assert process.returncode == 0 and "the log is written again, with all lines that waited" in said, said
        assert digests(run) == digests(plain)
        assert [event for event in metrics(run) if event["event"] != "warning"] == metrics(plain)


def a_best_that_was_refused_comes_later_or_is_said(folder):
    """The first evaluation has the highest loss, and finds the disk full. Whether there is room again for the checkpoint of that step is
    chance here (tests/train/test_best.c has both)."""
    def best_of(run):
        return open(os.path.join(run, "best/model.safetensors"), "rb").read()

    keys = {"every": "20 steps", "metric": "loss", "direction": "max"}
    config, plain = setup(folder, run="plain", eval=keys)
    hone("train", config)
    with Disk(os.path.join(folder, "disk"), 32) as disk:
        config, run = setup(folder, run="disk/run", eval=keys)
        process = start(config)
        wait_for(process, first_checkpoint(run))
        disk.fill()
        process.send_signal(signal.SIGCONT)
        for line in process.stderr:
            if "best" in line and "No space left" in line:
                break
        disk.empty()
        said = process.communicate(timeout=MAX_WAIT)[1]
        assert os.path.exists(os.path.join(run, "final/model.safetensors")) and os.path.exists(os.path.join(run, "checkpoints/step-60"))
        if process.returncode:
            expected = "best: the weights of step 20 were the best and could not be written then"
            assert process.returncode == 1 and expected in said.splitlines()[-1], said
            assert expected in hone("train", config, check=1).stderr
        else:
            assert "best/ holds the weights of step 20 now, from its checkpoint" in said, said
            assert best_of(run) == best_of(plain), "other weights than those of step 20"


def a_disk_that_turns_read_only(folder):
    config, run = setup(folder)
    checkpoints = os.path.join(run, "checkpoints")
    os.makedirs(checkpoints)
    subprocess.run(["mount", "--bind", checkpoints, checkpoints], check=True)
    try:
        process = start(config)
        wait_for(process, first_checkpoint(run))
        while subprocess.run(["mount", "-o", "remount,ro,bind", checkpoints], stderr=subprocess.DEVNULL).returncode:
            process.send_signal(signal.SIGCONT)  # a save was under way
            time.sleep(0.01)
            process.send_signal(signal.SIGSTOP)
        said = go_on(process, 1)
        assert "Read-only file system" in said.splitlines()[-1], said
        assert os.path.exists(os.path.join(run, "final/model.safetensors"))
        subprocess.run(["mount", "-o", "remount,rw,bind", checkpoints], check=True)
        hone("train", config)
        config, plain = setup(folder, run="plain")
        hone("train", config)
        assert digests(run) == digests(plain) and metrics(run) == metrics(plain)
    finally:
        subprocess.run(["umount", "-l", checkpoints])


def may_mount(folder="/tmp/hone-may-mount"):
    os.makedirs(folder, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], stderr=subprocess.DEVNULL).returncode == 0
    if done:
        subprocess.run(["umount", folder])
    os.rmdir(folder)
    return done


cases = [one_process_at_a_time, saves_change_nothing, a_checkpoint_folder_that_vanishes]
if may_mount():
    cases += [a_disk_that_is_full_before_the_start, a_disk_that_fills_up, a_disk_that_is_full_for_a_while, a_best_that_was_refused_comes_later_or_is_said,
              a_disk_that_turns_read_only]
else:
    print("skipped in part: mounting a tmpfs is not permitted here")
main(*cases)
