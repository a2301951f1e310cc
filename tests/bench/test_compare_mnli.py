"""Runs the comparison with the Trainer on doubles whose figures are known."""
import tempfile

from doubles import compare, near, report, write_doubles, write_program
import compare_mnli


def check_table(folder):
    result = compare(folder, "compare_mnli.py", "--modes", "fp32,bf16,tuned", *compare_mnli.SAMPLE)
    assert result.returncode == 0, result.stderr
    found = report(folder, "mnli")
    table = found["table"]
    assert found["rows"] == 960 and len(found["rounds"]) == 2
    near(table["hone fp32"]["pairs_per_second"], 64)
    near(table["hone bf16"]["tokens_per_second"], 2560)
    near(table["Trainer tuned"]["times_fp32"], 4)
    near(table["Trainer tuned"]["times_bf16"], 8)
    near(table["hone fp32"]["of_ceiling"], 1280 * 6 * 2 * (4 * 64 + 2 * 8 * 32) / 100e9)
    assert "Trainer tuned" in result.stdout and "8.00" in result.stdout and "pairs/s" in result.stdout, result.stdout
    first = [run["runs"]["hone fp32"]["first_step_seconds"] for run in found["rounds"]]
    assert first[0] is not None, "the first step of hone was never seen"


def check_failure(folder):
    write_program(folder, "hone", "#!/bin/sh\necho 'hone: out of luck'\nexit 3\n")
    result = compare(folder, "compare_mnli.py", "--modes", "fp32", *compare_mnli.SAMPLE)
    assert result.returncode == 1 and "ended with 3" in result.stderr and "out of luck" in result.stderr, result.stderr
    result = compare(folder, "compare_mnli.py", "--modes", "fp64", *compare_mnli.SAMPLE)
    assert result.returncode == 2 and "unknown mode fp64" in result.stderr, result.stderr


def main():
    with tempfile.TemporaryDirectory() as folder:
        write_doubles(folder, {"hidden_size": 8, "intermediate_size": 32, "num_hidden_layers": 2})
        check_table(folder)
        check_failure(folder)
    print("the table of the doubles is right")


if __name__ == "__main__":
    main()
