"""One table of what bench-gpu.sh left in a folder: kernels.json, torch_kernels.json, hone_steps.json, torch_steps.json, those that are there.

    python3 bench/gpu/report.py FOLDER        prints the tables, and writes results.md and results.json into it"""
import json
import os
import sys


def read(folder, name):
    try:
        with open(os.path.join(folder, name)) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def kernel_rows(kernels, torch):
    """Every operation with its peer's time, where the peer has it."""
    peers = {(row["operation"], row["shape"]): row for row in torch["operations"]} if torch else {}
    rows = []
    for row in kernels["operations"]:
        peer = peers.get((row["operation"], row["shape"]))
        merged = dict(row, peer_microseconds=peer and peer["microseconds"], peer=peer and peer["how"])
        merged["times_as_fast"] = peer["microseconds"] / row["microseconds"] if peer and row["microseconds"] > 0 else None
        rows.append(merged)
    return rows


def step_rows(hone, torch):
    """Every way to train a setup, with hone's ratio to it."""
    rows = (hone["steps"] if hone else []) + (torch["steps"] if torch else [])
    rate = {row["setup"]: row["tokens_per_second"] for row in rows if row["how"] == "hone bf16" and "failed" not in row}
    order = list(dict.fromkeys(row["setup"] for row in rows))
    for row in rows:
        if row["setup"] in rate and "failed" not in row and row["how"] != "hone bf16":
            row["hone_times_as_fast"] = rate[row["setup"]] / row["tokens_per_second"]
    return sorted(rows, key=lambda row: order.index(row["setup"]))


def number(value, form):
    return format(value, form) if value is not None else ""


def markdown(kernels, operations, steps):
    lines = []
    if kernels:
        if kernels["rehearsal"]:
            lines += ["A rehearsal: none of these times means anything.", ""]
        lines += [f"{kernels['products']}. Ceilings of this run: copy {kernels['copy_bytes_per_second'] / 1e9:,.0f} GB/s, "
                  f"bf16 product {kernels['bf16_flop_per_second'] / 1e12:,.0f} TFLOP/s.", "",
                  "| operation | shape | us | GB/s | TFLOP/s | of ceiling | PyTorch us | times as fast | PyTorch's way |", "|---|---|---|---|---|---|---|---|---|"]
        for row in operations:
            seconds = row["microseconds"] * 1e-6
            lines.append(f"| {row['operation']} | {row['shape']} | {row['microseconds']:,.1f} | {row['bytes'] / seconds / 1e9:,.0f} | "
                         f"{row['flop'] / seconds / 1e12:,.1f} | {row['of_ceiling']:.0%} | {number(row['peer_microseconds'], ',.1f')} | "
                         f"{number(row['times_as_fast'], '.2f')} | {row['peer'] or ''} |")
        lines.append("")
    if steps:
        lines += ["| training step | how | tokens/s | examples/s | hone's times as fast | last loss |", "|---|---|---|---|---|---|"]
        for row in steps:
            if "failed" in row:
                lines.append(f"| {row['setup']} | {row['how']} | not measured: {row['failed']} | | | |")
            else:
                lines.append(f"| {row['setup']} | {row['how']} | {row['tokens_per_second']:,.0f} | {row['examples_per_second']:,.1f} | "
                             f"{number(row.get('hone_times_as_fast'), '.2f')} | {row['loss']:.4f} |")
    return "\n".join(lines) + "\n"


def main():
    folder = sys.argv[1]
    kernels, torch = read(folder, "kernels.json"), read(folder, "torch_kernels.json")
    operations = kernel_rows(kernels, torch) if kernels else []
    steps = step_rows(read(folder, "hone_steps.json"), read(folder, "torch_steps.json"))
    text = markdown(kernels, operations, steps)
    with open(os.path.join(folder, "results.md"), "w") as file:
        file.write(text)
    with open(os.path.join(folder, "results.json"), "w") as file:
        json.dump({"machine": kernels and {key: value for key, value in kernels.items() if key != "operations"}, "torch": torch and torch["torch"],
                   "left_out": torch["left_out"] if torch else [], "operations": operations, "steps": steps}, file, indent=1)
    print(text, end="")


if __name__ == "__main__":
    main()
