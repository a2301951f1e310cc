"""Promise: a full disk costs no checkpoint. Trainings on small disks of every size, from too small for anything to large enough:
each ends with a message or is done, never otherwise; what it saved verifies; given room, the same command ends with the bytes of
an undisturbed run. The disks are tmpfs mounts, so that writes are cut short in the kernel's own way.

    HONE=build/release/hone python3 tests/torture/disk_full.py [--trials 0] [--seed 1]

Needs the right to mount. tests/checkpoints/test_disk_full.c does the same to saves alone, and with names running out."""
from promise import *


def mount_tmpfs(path, size):
    return mount(path, "-t", "tmpfs", "-o", "size=" + size, "tmpfs")


def main():
    chosen = options(__doc__, 12).parse_args()
    with tempfile.TemporaryDirectory(prefix="hone-torture-", dir=SHM) as base:
        if not mount_tmpfs(os.path.join(base, "disk"), "64k"):
            skip("mounting a tmpfs is not permitted here")
        unmount(os.path.join(base, "disk"))
        training = Training(base)
        need = sum(os.path.getsize(os.path.join(f, n)) for f, _, names in os.walk(os.path.join(base, "run")) for n in names) >> 10
        sizes = list(range(16, 2 * need, 4))
        ended = {0: 0, 1: 0}

        def full(size, rng, folder):
            disk = os.path.join(folder, "disk")
            assert mount_tmpfs(disk, f"{size}k"), "cannot mount"
            try:
                config, run = training.fresh(folder, "disk/run")
                shutil.move(config, os.path.join(folder, "config.json"))
                config = os.path.join(folder, "config.json")
                done = hone("train", config, check=None)
                assert done.returncode in ended, f"exit code {done.returncode}: {done.stderr[-500:]}"
                ended[done.returncode] += 1
                if done.returncode:
                    assert disk in done.stderr and ("No space left" in done.stderr or "too full" in done.stderr), done.stderr[-500:]
                stands(run, -1)
                subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
                training.goes_on(config, run, done.stderr)
            finally:
                unmount(disk)

        failures = attempt("disks of every size: said, and what was saved stands", spread(sizes, chosen.trials), full, chosen,
                           lambda: f"16 to {sizes[-1]} KiB, {ended[1]} were too small")
        return failures


sys.exit(main() != 0)
