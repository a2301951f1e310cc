"""Checks every #include "room/x.h" against the table of who may include whom (docs/architecture: rooms)."""
import os, re, sys

BELOW = {
    "core": [],
    "kernels": ["core"],
    "models": ["core", "kernels"],
    "data": ["core"],
    "formats": ["core"],
    "checkpoints": ["core"],
    "infer": ["core", "kernels", "models", "data", "formats", "checkpoints"],
    "track": ["core"],
    "eval": ["core", "kernels", "models", "data", "infer", "track"],
    "train": ["core", "kernels", "models", "data", "formats", "checkpoints", "infer", "track", "eval"],
    "cli": ["core", "kernels", "models", "data", "formats", "checkpoints", "infer", "track", "eval", "train"],
}

def violations(root):
    found, seen = [], 0
    for room, below in BELOW.items():
        for folder, _, files in os.walk(os.path.join(root, room)):
            for name in files:
                if not name.endswith((".c", ".h", ".cu", ".cuh")):
                    continue
                seen += 1
                path = os.path.join(folder, name)
                for number, line in enumerate(open(path, encoding="utf8"), 1):
                    match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                    if not match:
                        continue
                    target = match.group(1).split("/")[0]
                    if "/" not in match.group(1) or target not in BELOW:
                        found.append(f'{path}:{number}: include "{match.group(1)}" must name its room')
                    elif target != room and target not in below:
                        found.append(f"{path}:{number}: {room}/ may not include {target}/")
    return found, seen

if __name__ == "__main__":
    found, seen = violations(os.environ.get("HONE_SOURCE", "."))
    print("\n".join(found) if found else f"{seen} files, every include points down")
    sys.exit(bool(found) or seen == 0)
