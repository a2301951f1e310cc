"""Every key of every recipe in configs/ is a key that hone knows."""
import glob
import json
import os
import subprocess
import sys

ROOT, HONE = os.environ.get("HONE_SOURCE", "."), os.environ.get("HONE", "build/release/hone")
MAPS = {"data.label_map"}


def flatten(prefix, value):
    if isinstance(value, dict) and prefix not in MAPS:
        return [key for name, inner in value.items() for key in flatten(f"{prefix}.{name}" if prefix else name, inner)]
    return [prefix]


def main():
    if not os.access(HONE, os.X_OK):
        print(f"{HONE} is not built")
        return 77
    lines = subprocess.run([HONE, "keys"], capture_output=True, text=True, check=True).stdout.splitlines()
    known = {line.split(":")[0] for line in lines if line and not line[0].isspace()}
    recipes = sorted(glob.glob(os.path.join(ROOT, "configs", "*.json")))
    assert recipes, f"no recipes in {ROOT}/configs"
    unknown = []
    for path in recipes:
        with open(path, encoding="utf8") as file:
            unknown += [f"{path}: {key}" for key in flatten("", json.load(file)) if key not in known]
    print("\n".join(unknown) if unknown else f"{len(recipes)} recipes, {len(known)} keys known")
    return bool(unknown)


if __name__ == "__main__":
    sys.exit(main())
