"""A tiny BERT folder with random weights, and helpers to run hone on it. Standard library only."""
import json, os, random, re, shutil, signal, struct, subprocess, sys, tempfile, time

HONE = os.path.abspath(os.environ.get("HONE", "build/release/hone"))
SOURCE = os.path.abspath(os.environ.get("HONE_SOURCE", os.getcwd()))
TRAIN = os.path.join(SOURCE, "data/samples/nli_train.jsonl")
DEV = os.path.join(SOURCE, "data/samples/nli_dev.jsonl")
LABELS = ["entailment", "neutral", "contradiction"]

HIDDEN, LAYERS, HEADS, MLP, POSITIONS = 32, 3, 4, 64, 128


def vocabulary():
    """Special tokens, every character of the samples as a piece, and the words that occur twice or more."""
    counts, chars = {}, set()
    for path in (TRAIN, DEV):
        for line in open(path, encoding="utf8"):
            row = json.loads(line)
            for word in re.findall(r"\w+|[^\w\s]", (row["premise"] + " " + row["hypothesis"]).lower()):
                counts[word] = counts.get(word, 0) + 1
                chars.update(word)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += sorted(chars) + ["##" + c for c in sorted(chars)]
    words += sorted(w for w, n in counts.items() if n > 1 and len(w) > 1)
    return words


def make_model(folder):
    """A BERT encoder of 3 layers without a head; weights normal(0, 0.05) from a fixed seed."""
    os.makedirs(folder, exist_ok=True)
    words = vocabulary()
    config = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
              "num_attention_heads": HEADS, "intermediate_size": MLP, "max_position_embeddings": POSITIONS,
              "type_vocab_size": 2, "vocab_size": len(words), "hidden_act": "gelu", "layer_norm_eps": 1e-12,
              "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
              "pad_token_id": 0}
    shapes = {"embeddings.word_embeddings.weight": [len(words), HIDDEN],
              "embeddings.position_embeddings.weight": [POSITIONS, HIDDEN],
              "embeddings.token_type_embeddings.weight": [2, HIDDEN],
              "embeddings.LayerNorm.weight": [HIDDEN], "embeddings.LayerNorm.bias": [HIDDEN],
              "pooler.dense.weight": [HIDDEN, HIDDEN], "pooler.dense.bias": [HIDDEN]}
    for l in range(LAYERS):
        p = f"encoder.layer.{l}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes[p + name + ".weight"], shapes[p + name + ".bias"] = [HIDDEN, HIDDEN], [HIDDEN]
        shapes[p + "intermediate.dense.weight"], shapes[p + "intermediate.dense.bias"] = [MLP, HIDDEN], [MLP]
        shapes[p + "output.dense.weight"], shapes[p + "output.dense.bias"] = [HIDDEN, MLP], [HIDDEN]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[p + name + ".weight"], shapes[p + name + ".bias"] = [HIDDEN], [HIDDEN]
    rng, header, data = random.Random(7), {}, bytearray()
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        if name.endswith("LayerNorm.weight"):
            values = [1.0] * count
        elif name.endswith("bias"):
            values = [0.0] * count
        else:
            drawn = [rng.gauss(0, 0.05) for _ in range(min(count, 1 << 16))]
            values = (drawn * (count // len(drawn) + 1))[:count]
        begin = len(data)
        data += struct.pack(f"<{count}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf8") as f:
        f.write("\n".join(words) + "\n")
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump({"do_lower_case": True, "tokenizer_class": "BertTokenizer"}, f)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    return folder


def make_config(path, model, run, **sections):
    config = {"model": {"path": model}, "task": {"kind": "classify", "labels": LABELS},
              "data": {"train": [TRAIN], "dev": [DEV], "max_tokens": 64,
                       "fields": {"text": "premise", "pair": "hypothesis", "label": "label"}},
              "train": {"epochs": 1, "batch_examples": 16, "batch_tokens": 1024, "seed": 3, "log_every": 5, "threads": 2},
              "optim": {"lr": 1e-3}, "eval": {"every": "20 steps", "metric": "accuracy"},
              "checkpoint": {"every": "10 steps", "keep": 2}, "output": {"dir": run}}
    for section, keys in sections.items():
        config.setdefault(section, {}).update(keys)
    with open(path, "w") as f:
        json.dump(config, f)
    return path


def hone(*args, check=0, **kwargs):
    """Runs hone; the exit code must be `check` (None: any)."""
    done = subprocess.run([HONE, *map(str, args)], capture_output=True, text=True, **kwargs)
    if check is not None and done.returncode != check:
        raise AssertionError(f"hone {' '.join(map(str, args))}: exit code {done.returncode}, expected {check}\n"
                             f"{done.stdout}\n{done.stderr}")
    return done


def metrics(run):
    """Events of a run without times and rates."""
    events = []
    for line in open(os.path.join(run, "metrics.jsonl")):
        event = json.loads(line)
        for key in ("time", "time_left", "pairs_per_second", "tokens_per_second", "held"):
            event.pop(key, None)
        events.append(event)
    return events


def killed_run(config, rng, most, shortest=0.01, longest=1.0):
    """Starts a training until it ends by itself; at most `most` kills, each after `shortest` to `longest` seconds. Returns how
    many there were."""
    kills = 0
    while True:
        process = subprocess.Popen([HONE, "train", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            code = process.wait(timeout=rng.uniform(shortest, longest) if kills < most else None)
            assert code == 0, f"exit code {code} after {kills} kills"
            return kills
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1


def newest(run):
    steps = [int(n[5:]) for n in os.listdir(os.path.join(run, "checkpoints")) if n.startswith("step-")]
    return os.path.join(run, "checkpoints", f"step-{max(steps)}")


def digests(run):
    """Digest of every tensor (weights and moments) of the newest checkpoint."""
    def walk(value):
        if isinstance(value, dict):
            if "name" in value and "digest" in value and "shape" in value:
                yield value["name"], value["digest"]
            for v in value.values():
                yield from walk(v)
        elif isinstance(value, list):
            for v in value:
                yield from walk(v)
    found = dict(walk(json.load(open(os.path.join(newest(run), "manifest.json")))))
    assert found, "the manifest names no tensors"
    return found


def main(*cases):
    """Runs each case in a folder of its own; prints what failed."""
    failed = 0
    for case in cases:
        folder = tempfile.mkdtemp(prefix="hone-test-")
        try:
            case(folder)
            print(f"ok {case.__name__}")
        except AssertionError as problem:
            failed += 1
            print(f"FAILED {case.__name__}: {problem}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed or not cases else 0)
