"""Promise: what was saved is there after a power cut. A training on an ext4 of its own (a loop device) loses its disk by the
shutdown ioctl: whatever the kernel had not brought to the disk is gone, without its journal (flag 2) or with it (flag 1), which
leaves names whose bytes are missing. Half the trials cut at a random time, half when hone has ended with "done". After the disk is
mounted again what had been saved must verify, and the training must go on to the bytes of an undisturbed run.

    HONE=build/release/hone python3 tests/torture/power_cut.py [--trials 400] [--seed 1]

Needs the right to mount, and ext4. A save counts as promised when the next one has begun."""
import fcntl, struct
from promise import *

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
FLAGS = {1: "journal written", 2: "journal lost"}


def cut(path, flag):
    disk = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(disk, SHUTDOWN, struct.pack("I", flag))
    finally:
        os.close(disk)


def make_image(base):
    """An empty file system; ends the program where it cannot be mounted or cut."""
    image, path = os.path.join(base, "image"), os.path.join(base, "disk")
    if not make_ext4(image, 24 << 20) or not mount(path, "-o", "loop", image):
        skip("an ext4 on a loop device cannot be made or mounted here")
    try:
        cut(path, 2)
    except OSError as problem:
        skip(f"the shutdown ioctl is refused here: {problem}")
    finally:
        unmount(path)
    make_ext4(image, 24 << 20)
    return image


def main():
    chosen = options(__doc__, 12).parse_args()
    with tempfile.TemporaryDirectory(prefix="hone-torture-", dir=SHM) as base:
        image = make_image(base)
        training = Training(base, checkpoint={"every": "1 steps", "keep": 3})
        counts = {"before the first save": 0, "at the end": 0}

        def lost(case, rng, folder):
            flag, when = case
            disk, copy = os.path.join(folder, "disk"), os.path.join(folder, "image")
            subprocess.run(["cp", "--sparse=always", image, copy], check=True)
            assert mount(disk, "-o", "loop", copy), "cannot mount"
            try:
                config, run = training.fresh(folder, "disk/run")
                shutil.move(config, os.path.join(folder, "config.json"))
                config = os.path.join(folder, "config.json")
                process = subprocess.Popen([HONE, "train", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    code = process.wait(timeout=rng.uniform(0.05, 1.2 * training.seconds) if when == "during" else None)
                    assert code == 0, f"exit code {code}"
                except subprocess.TimeoutExpired:
                    pass
                known = steps(run)
                promised = max(known, default=-1) if process.poll() == 0 else max(known[:-1], default=-1)
                cut(disk, flag)
                process.kill()
                process.wait()
                unmount(disk)
                assert mount(disk, "-o", "loop", copy), "cannot mount after the cut"
                stands(run, promised)
                counts["before the first save"] += promised < 0
                counts["at the end"] += promised == 6
                training.goes_on(config, run)
            finally:
                unmount(disk)

        cases = [(flag, when) for when in ("during", "after") for flag in FLAGS] * ((chosen.trials or 400) // 4)
        return attempt("power cut during and after saves, ext4", cases, lost, chosen,
                       lambda: ", ".join(f"{n} {name}" for name, n in counts.items()))


sys.exit(main() != 0)
