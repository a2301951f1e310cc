"""`hone eval` with zero_shot.files: a tiny encoder sorts texts by labels it was never trained on (tests/golden/zero_shot)."""
import json, os, shutil, struct, subprocess

from tiny import HONE, SOURCE, hone, main
from tiny_decoder import make_decoder

MODEL = os.path.join(SOURCE, "tests/golden/zero_shot")
LABELS = "zero_shot.labels=sport,politics,science"
ROWS = [("The team won the game.", "sport"), ("A new tax law, a vote", "politics"), ("moon", "science"), ("under the water", "-")]


def write_rows(folder, rows=ROWS, name="rows.jsonl"):
    path = os.path.join(folder, name)
    with open(path, "w") as out:
        for text, label in rows:
            out.write(json.dumps({"text": text, **({"label": label} if label is not None else {})}) + "\n")
    return "zero_shot.files=" + path


def labelled(folder):
    files = write_rows(folder)
    done = hone("eval", MODEL, files, LABELS)
    assert "zero_shot: 3 examples, loss " in done.stdout and "predicted as" in done.stdout and "1 rows have no label" in done.stderr, done
    lines = [json.loads(line) for line in hone("eval", MODEL, files, LABELS, "--each", "--json").stdout.splitlines()]
    assert len(lines) == 5 and [l["line"] for l in lines[:4]] == [1, 2, 3, 4]
    for line, (_, label) in zip(lines, ROWS):
        scores = line["scores"]
        assert list(scores) == ["sport", "politics", "science"] and abs(sum(scores.values()) - 1) < 1e-5
        assert line["chosen"] == max(scores, key=scores.get) and line.get("answer", "-") == label
    said, right = lines[4], sum(l["chosen"] == l.get("answer") for l in lines[:4])
    assert said["examples"] == 3 and abs(said["accuracy"] - right / 3) < 1e-8 and sum(map(sum, said["confusion"])) == 3
    assert json.loads(hone("eval", MODEL, files, LABELS, "--json").stdout) == said
    mapped = hone("eval", MODEL, write_rows(folder, [(ROWS[0][0], 7), (ROWS[1][0], "politics"), (ROWS[2][0], 2)], "numbers.jsonl"),
                  LABELS, "zero_shot.label_map.7=sport", "--json")
    assert json.loads(mapped.stdout)["confusion"] == said["confusion"]


def unlabelled(folder):
    """Lines alone; scores are those of the golden file, whatever the batches, and of a table from standard input."""
    case = json.load(open(os.path.join(MODEL, "expected.json")))[1]
    said = None
    for more in ([], ["--json", "train.batch_examples=2", "eval.batch_tokens=64", "train.threads=1"]):
        done = hone("eval", MODEL, write_rows(folder, [(text, None) for text in case["texts"]]), LABELS, "zero_shot.multi_label=true", *more)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert "texts were cut to 24 tokens in 3 of 18 pairs" in done.stderr, done.stderr
        assert [l["line"] for l in lines] == list(range(1, len(case["texts"]) + 1)) and not any("answer" in l for l in lines)
        for line, scores in zip(lines, case["scores"], strict=True):
            assert all(abs(a - b) < 1e-5 for a, b in zip(line["scores"].values(), scores, strict=True)), (line, scores)
        assert said in (None, done.stdout)
        said = done.stdout
    table = subprocess.run([HONE, "eval", MODEL, "zero_shot.files=-", LABELS, "data.format=csv", "zero_shot.fields.text=body"],
                           input="id,body\n1,moon\n", capture_output=True, text=True)
    assert table.returncode == 0 and json.loads(table.stdout)["file"] == "standard input", table


def refuses(folder):
    files = write_rows(folder)
    for message, *arguments in (
            ("zero_shot.labels: expected two labels or more", files),
            ("zero_shot.labels: expected two labels or more", files, "zero_shot.labels=sport"),
            ("expected every label once, got \"a\" twice", files, "zero_shot.labels=a,b,a"),
            ("got \"\" as number 2", files, "zero_shot.labels=a,,b"),
            ("zero_shot.hypothesis: expected a sentence with one {}", files, LABELS, "zero_shot.hypothesis=This is it."),
            ("zero_shot.entailment: expected a class of the model, one of CONTRADICTION", files, LABELS, "zero_shot.entailment=yes"),
            ("zero_shot.files: expected it alone", files, LABELS, "choices.files=x.csv"),
            ("choices.files or zero_shot.files", LABELS, "--each")):
        error = hone("eval", MODEL, *arguments, check=2).stderr
        assert message in error, (message, error)
    error = hone("eval", MODEL, files, "zero_shot.labels=sport,science", check=1).stderr
    assert "rows.jsonl:2: field \"label\": expected one of sport, science, or its number 0 to 1, got \"politics\"" in error, error
    done = hone("eval", MODEL, files, "zero_shot.labels=sport,science", "data.on_bad_row=skip", "--json")
    assert "1 bad rows were passed over" in done.stderr and json.loads(done.stdout)["examples"] == 2
    assert "empty.jsonl: expected rows, got none" in hone("eval", MODEL, write_rows(folder, [], "empty.jsonl"), LABELS, check=1).stderr
    assert hone("eval", MODEL, files, "zero_shot.labels=sport", "zero_shot.multi_label=true").stdout.count("\n") == 4


def with_classes(folder, count):
    """The model with another number of classes, all of weight zero."""
    shutil.copytree(MODEL, folder)
    config = json.load(open(os.path.join(MODEL, "config.json")))
    config["id2label"] = {str(i): f"class {i}" for i in range(count)}
    json.dump(config, open(os.path.join(folder, "config.json"), "w"))
    data = open(os.path.join(MODEL, "model.safetensors"), "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8:8 + length]), data[8 + length:]
    for name, shape in (("classifier.weight", [count, config["hidden_size"]]), ("classifier.bias", [count])):
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + size]}
        body += bytes(size)
    tensors, body_out = {k: v for k, v in header.items() if k != "__metadata__"}, b""
    for entry in tensors.values():  # without holes
        begin, end = entry["data_offsets"]
        entry["data_offsets"] = [len(body_out), len(body_out) + end - begin]
        body_out += body[begin:end]
    head = json.dumps(tensors).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as out:
        out.write(struct.pack("<Q", len(head)) + head + body_out)
    return folder


def refuses_models(folder):
    files = write_rows(folder)
    decoder = make_decoder(os.path.join(folder, "decoder"))
    assert "expected a model that classifies pairs of texts" in hone("eval", decoder, files, LABELS, check=2).stderr
    assert "expected a model that classifies pairs of texts" in hone("eval", MODEL, files, LABELS, "task.kind=tag", check=2).stderr
    four = with_classes(os.path.join(folder, "four"), 4)
    assert "expected a model of two or three classes (entailment, neutral, contradiction), " + four + " has 4" in \
        hone("eval", four, files, LABELS, check=2).stderr
    generic = os.path.join(folder, "generic")
    shutil.copytree(MODEL, generic)
    path = os.path.join(generic, "config.json")
    config = json.load(open(path))
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(3)}
    json.dump(config, open(path, "w"))
    assert "task.labels" in hone("eval", generic, files, LABELS, check=2).stderr
    told = hone("eval", generic, files, LABELS, "task.labels=contradiction,neutral,entailment").stdout
    assert told == hone("eval", MODEL, files, LABELS).stdout


main(labelled, unlabelled, refuses, refuses_models)
