"""`hone eval` with choices.files: multiple choice with a tiny Llama, on files as MMLU publishes them."""
import json, os

from tiny import hone, main
from tiny_decoder import make_decoder

VAL = 'Who is it?,a cat,"a dog, or two",nobody,none,B\nWhy?,1,2,3,4,C\nWhat?,"""yes""",no,perhaps,never,A\n'
DEV = "Is it?,yes,no,both,none,B\nDoes it?,x,y,z,w,A\n"


def setup(folder):
    model = make_decoder(os.path.join(folder, "model"), max_position_embeddings=1024)
    for kind, text in (("val", VAL), ("dev", DEV)):
        os.makedirs(os.path.join(folder, kind))
        for subject in ("public_law", "chess"):
            with open(os.path.join(folder, kind, f"{subject}_{kind}.csv"), "w") as out:
                out.write(text)
    return model, "choices.files=" + os.path.join(folder, "val"), "choices.examples=" + os.path.join(folder, "dev")


def answers(folder):
    model, files, examples = setup(folder)
    said = json.loads(hone("eval", model, files, examples, "--json").stdout)
    assert said["questions"] == 6 and set(said["subjects"]) == {"chess", "public_law"}, said
    assert said["correct"] == sum(s["correct"] for s in said["subjects"].values())
    assert abs(said["accuracy"] - said["correct"] / 6) < 1e-8 and abs(said["mean_of_subjects"] - said["accuracy"]) < 1e-8
    done = hone("eval", model, files, examples, "--each")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 6 and [l["line"] for l in lines] == [1, 2, 3, 1, 2, 3] and "fewer than 5 examples" in done.stderr, done
    for line in lines:
        assert line["chosen"] == "ABCD"[line["scores"].index(max(line["scores"]))] and all(s < 0 for s in line["scores"])
    assert sum(l["chosen"] == l["answer"] for l in lines) == said["correct"]
    both = hone("eval", model, files, examples, "--each", "--json").stdout.splitlines()
    assert len(both) == 7 and json.loads(both[-1]) == said
    table = hone("eval", model, files, examples, "choices.shots=2").stdout
    assert "chess" in table and f"{said['accuracy']:.4f}" in table and "mean of 2 subjects" in table
    texts = json.loads(hone("eval", model, files, "choices.answers=texts", "choices.normalize=characters", "choices.every=4", "--json").stdout)
    assert texts["questions"] == 2


def refuses(folder):
    model, files, examples = setup(folder)
    assert "--each" in hone("eval", model, "--each", "data.dev=x.jsonl", check=2).stderr
    assert "nowhere.csv" in hone("eval", model, "choices.files=nowhere.csv", check=1).stderr
    with open(os.path.join(folder, "val", "chess_val.csv"), "a") as out:
        out.write("Is a comma, unquoted?,a,b,c,d,A\n")
    error = hone("eval", model, files, examples, check=1).stderr
    assert "chess_val.csv:4: expected 6 columns as in the first line, got 7" in error, error
    done = hone("eval", model, files, examples, "--json", "data.on_bad_row=skip")
    assert json.loads(done.stdout)["questions"] == 6 and "1 bad rows were passed over" in done.stderr
    os.makedirs(os.path.join(folder, "empty"))
    assert "expected files that end in" in hone("eval", model, "choices.files=" + os.path.join(folder, "empty"), check=1).stderr


main(answers, refuses)
