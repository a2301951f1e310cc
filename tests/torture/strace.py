"""Faults by strace, for the binary as it is: the calls by which a training changes its run folder, and a kill or an error at any
one of them. A point is (call, path, which one of that call on that path, the newest step that its thread had saved before it). Counting by
path keeps the numbers the same whatever else the process writes."""
import os, re, shutil, signal, subprocess
from promise import *

CALLS = ("write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir,"
         "ftruncate,truncate,fallocate,copy_file_range,sendfile,link,symlink")


def needed():
    """Ends the program where strace may not run."""
    if not shutil.which("strace") or subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", "true"], capture_output=True).returncode:
        skip("strace does not run here")


def watched(log, arguments, *filters):
    return subprocess.run(["strace", "-f", "-y", "-qq", "-s", "0", "-o", log, *filters, HONE, *arguments], capture_output=True, text=True)


def whole(log):
    """The lines of a log, those of calls that another thread's interrupted joined again."""
    begun = {}
    for line in open(log):
        thread, _, text = line.partition(" ")
        resumed = re.match(r" *<\.\.\. \w+ resumed>(.*)", text)
        if text.endswith(" <unfinished ...>\n"):
            begun[thread] = text[:-len(" <unfinished ...>\n")]
        else:
            yield f"{thread} {begun.pop(thread)}{resumed[1]}" if resumed else line


def points(training, folder):
    """Every point of a whole training, paths relative to the run folder."""
    config, run = training.fresh(folder)
    log, seen, found, saved, pending = os.path.join(folder, "log"), {}, [], {}, None
    done = watched(log, ["train", config], "-e", "trace=" + CALLS)
    assert done.returncode == 0, done.stderr
    for line in whole(log):
        call = re.match(r"(?P<thread>\d+) +(?P<name>\w+)\((?P<given>.*)\) += (?P<result>-?\d+)", line)
        names = [os.path.relpath(p, run) for p in re.findall(re.escape(run) + r"[^\">,]*", call["given"])] if call else []
        if not names or ".tmp-spool-" in names[0]:  # of a name by chance; tests/data/test_cache.c fails its writes
            continue
        key = (call["name"], names[0])
        seen[key] = seen.get(key, 0) + 1
        if call["result"].startswith("-"):
            continue  # a folder that was there already, a file that was not: nothing changes
        found.append((*key, seen[key], saved.get(call["thread"], -1)))
        manifest = re.fullmatch(r"(checkpoints/step-(\d+))/manifest.json", names[-1])
        if call["name"].startswith("rename") and manifest:
            pending = manifest
        elif call["name"] == "fsync" and pending and names[0] == pending[1]:
            saved[call["thread"]] = int(pending[2])
    assert max(saved.values(), default=-1) > 0, "no save was seen"
    return found


def strike(point, what, config, run, more=""):
    """Trains with `what` (signal=KILL, error=EIO) at the point; whether it struck, and the process. more="+": from there on."""
    call, path, number, _ = point
    log = run + ".strace"
    done = watched(log, ["train", config], "-P", os.path.normpath(os.path.join(run, path)), "-e", "trace=" + call,
                   "-e", f"inject={call}:{what}:when={number}{more}")
    struck = done.returncode == -signal.SIGKILL or "(INJECTED)" in open(log).read()
    return struck, done
