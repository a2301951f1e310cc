"""Every verb on a tiny model: what it prints, where, and with which exit code."""
import json, os, sys
sys.path.insert(0, os.path.dirname(__file__))
from tiny import *


def trained(folder):
    model = make_model(os.path.join(folder, "model"))
    run = os.path.join(folder, "run")
    config = make_config(os.path.join(folder, "c.json"), model, run, train={"max_steps": 20})
    hone("train", config)
    return config, model, run


def help_everywhere(folder):
    text = hone("--help").stdout
    for verb in ("train", "eval", "predict", "generate", "chat", "tokenize", "data", "plan", "import", "export", "verify", "keys"):
        assert f"hone {verb}" in text
        assert hone(verb, "--help").stdout.startswith(f"hone {verb} ")
    assert "frobnicate" in hone("frobnicate", check=2).stderr
    assert "--frob" in hone("train", "--frob", check=2).stderr
    assert hone("--version").stdout.startswith("hone ")
    hone(check=2)


def evaluation_and_prediction_agree(folder):
    config, model, run = trained(folder)
    result = json.loads(hone("eval", run, "--json").stdout)
    rows = [json.loads(l) for l in open(DEV, encoding="utf8")]
    assert result["examples"] == len(rows)
    lines = hone("predict", run, f"data.predict={DEV}").stdout.splitlines()
    predictions = [json.loads(l) for l in lines]
    assert len(predictions) == len(rows)
    for p in predictions:
        assert abs(sum(p["probabilities"].values()) - 1) < 1e-4
        assert p["label"] == max(p["probabilities"], key=p["probabilities"].get)
    right = sum(p["label"] == r["label"] for p, r in zip(predictions, rows)) / len(rows)
    assert abs(right - result["accuracy"]) < 1e-9, (right, result["accuracy"])
    logged = [e for e in metrics(run) if e["event"] == "eval" and e.get("best")][-1]
    assert abs(logged["accuracy"] - result["accuracy"]) < 1e-9
    table = hone("eval", run).stdout
    assert "accuracy" in table and "contradiction" in table
    both = hone("eval", run, "--json", f"data.dev=a={DEV},b={DEV}").stdout.splitlines()
    assert [json.loads(l)["set"] for l in both] == ["a", "b"]


def prediction_reads_standard_input(folder):
    config, model, run = trained(folder)
    done = hone("predict", run, "data.predict=-", input='{"premise": "a b", "hypothesis": "c"}\n')
    assert json.loads(done.stdout)["label"] in LABELS
    assert hone("predict", run, "data.predict=-", input="").stdout == ""
    assert "hypothesis" in hone("predict", run, "data.predict=-", input='{"premise": "a"}\n', check=1).stderr
    assert "classifier" in hone("predict", model, "data.predict=-", input="", check=1).stderr


def tokenize_there_and_back(folder):
    model = make_model(os.path.join(folder, "model"))
    ids = json.loads(hone("tokenize", model, input="the car\n").stdout)
    assert ids[0] == 2 and ids[-1] == 3, ids
    pair = json.loads(hone("tokenize", model, "--pair", input="the car\tthe bus\n").stdout)
    assert pair[:len(ids)] == ids and pair.count(3) == 2, pair
    assert hone("tokenize", model, "--decode", input=json.dumps(ids) + "\n").stdout == "the car\n"
    assert json.loads(hone("tokenize", model, "--json", input='"the car"\n').stdout) == ids
    assert "tab" in hone("tokenize", model, "--pair", input="the car\n", check=1).stderr
    assert "standard input:1" in hone("tokenize", model, "--decode", input="[1, \"x\"]\n", check=1).stderr


def plan_is_what_train_allocates(folder):
    model = make_model(os.path.join(folder, "model"))
    config = make_config(os.path.join(folder, "c.json"), model, os.path.join(folder, "run"))
    text = hone("plan", config).stdout
    for word in ("parameters", "gradients", "optimizer", "activations", "workspace", "all arenas", "steps"):
        assert word in text, text
    frozen = hone("plan", config, "freeze.below=head").stdout
    size = lambda t, name: float([l for l in t.splitlines() if l.startswith(name)][0].split()[1])
    assert size(frozen, "activations") <= size(text, "activations")
    assert size(frozen, "gradients") <= size(text, "gradients")


def data_shows_what_the_model_will_see(folder):
    model = make_model(os.path.join(folder, "model"))
    config = make_config(os.path.join(folder, "c.json"), model, os.path.join(folder, "run"))
    text = hone("data", config).stdout
    for word in ("train:", "examples", "label entailment", "duplicates", "[CLS]", "[SEP]", "->"):
        assert word in text, text


def export_and_verify(folder):
    config, model, run = trained(folder)
    out = os.path.join(folder, "out")
    done = hone("export", run, out)
    assert "step 20" in done.stdout, done.stdout
    a = json.loads(hone("eval", out, f"data.dev={DEV}", "data.fields.text=premise", "data.fields.pair=hypothesis",
                        "data.max_tokens=64", "--json").stdout)
    assert a["examples"] > 0
    assert hone("verify", run).returncode == 0
    hone("verify", newest(run))
    victim = os.path.join(newest(run), "rank-0.h5")
    with open(victim, "r+b") as f:
        f.seek(os.path.getsize(victim) // 2)
        byte = f.read(1)
        f.seek(-1, 1)
        f.write(bytes([byte[0] ^ 1]))
    assert hone("verify", run, check=1).stderr
    assert "rank-0.h5" in hone("verify", newest(run), check=1).stderr


def make_gguf(path, architecture="llama"):
    """The smallest Llama: one layer of width 4, tokens a to d, every weight 0.5."""
    text = lambda value: struct.pack("<Q", len(value)) + value.encode()
    whole = lambda key, value: text(key) + struct.pack("<II", 4, value)
    keys = [text("general.architecture") + struct.pack("<I", 8) + text(architecture)]
    for name, value in (("block_count", 1), ("embedding_length", 4), ("feed_forward_length", 6), ("context_length", 8),
                        ("attention.head_count", 2), ("vocab_size", 4)):
        keys.append(whole(f"{architecture}.{name}", value))
    keys.append(text(f"{architecture}.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5))
    for name, value in (("model", "gpt2"), ("pre", "smollm")):
        keys.append(text(f"tokenizer.ggml.{name}") + struct.pack("<I", 8) + text(value))
    keys.append(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 4) + b"".join(map(text, "abcd")))
    keys.append(text("tokenizer.ggml.merges") + struct.pack("<IIQ", 9, 8, 0))
    layer = {"attn_norm": [4], "attn_q": [4, 4], "attn_k": [4, 4], "attn_v": [4, 4], "attn_output": [4, 4], "ffn_norm": [4],
             "ffn_gate": [4, 6], "ffn_up": [4, 6], "ffn_down": [6, 4]}
    shapes = {"token_embd": [4, 4], "output_norm": [4], **{f"blk.0.{name}": shape for name, shape in layer.items()}}
    table, data = b"", b""
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        table += text(name + ".weight") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += struct.pack("<f", 0.5) * count
        data += bytes(-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(keys)) + b"".join(keys) + table
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32) + data)
    return path


def import_of_a_gguf(folder):
    path, out = make_gguf(os.path.join(folder, "small.gguf")), os.path.join(folder, "out")
    assert hone("import", path, out).stdout == f"{out}: llama, 11 tensors, 164 parameters as f32\n"
    assert sorted(os.listdir(out)) == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert hone("import", "--type", "bf16", path, out).stdout.endswith("as bf16\n")
    assert json.load(open(os.path.join(out, "config.json")))["torch_dtype"] == "bfloat16"
    assert "expected f32, bf16 or f16, got q4" in hone("import", path, out, "--type", "q4", check=2).stderr
    assert "takes no config keys" in hone("import", path, out, "a.b=1", check=2).stderr
    other = make_gguf(os.path.join(folder, "other.gguf"), "mamba")
    assert "general.architecture: expected one of llama" in hone("import", other, os.path.join(folder, "no"), check=1).stderr
    assert not os.path.exists(os.path.join(folder, "no"))


def make_bert_gguf(path, folder):
    """The tiny BERT of a folder as a GGUF file (F32)."""
    text = lambda value: struct.pack("<Q", len(value.encode())) + value.encode()
    raw = open(os.path.join(folder, "model.safetensors"), "rb").read()
    size, = struct.unpack("<Q", raw[:8])
    config, words = json.load(open(os.path.join(folder, "config.json"))), vocabulary()
    names = {"embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
             "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm"}
    layer = {"attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
             "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
             "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}
    for l in range(LAYERS):
        names.update({f"encoder.layer.{l}.{ours}": f"blk.{l}.{theirs}" for ours, theirs in layer.items()})
    keys = [text("general.architecture") + struct.pack("<I", 8) + text("bert")]
    whole = {"bert.block_count": LAYERS, "bert.embedding_length": HIDDEN, "bert.feed_forward_length": MLP,
             "bert.context_length": POSITIONS, "bert.attention.head_count": HEADS, "tokenizer.ggml.padding_token_id": 0,
             "tokenizer.ggml.unknown_token_id": 1, "tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.seperator_token_id": 3}
    keys += [text(key) + struct.pack("<II", 4, value) for key, value in whole.items()]
    keys.append(text("bert.attention.layer_norm_epsilon") + struct.pack("<If", 6, config["layer_norm_eps"]))
    keys.append(text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("bert"))
    shown = [w if w.startswith("[") and len(w) > 1 else w[2:] if w.startswith("##") else "\u2581" + w for w in words]
    keys.append(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, len(shown)) + b"".join(map(text, shown)))
    types = [3 if w.startswith("[") and len(w) > 1 else 1 for w in words]
    keys.append(text("tokenizer.ggml.token_type") + struct.pack(f"<IIQ{len(types)}i", 9, 5, len(types), *types))
    table, data, count = b"", b"", 0
    for name, entry in json.loads(raw[8:8 + size]).items():
        if name.startswith("pooler"):
            continue
        stem, kind = name.rsplit(".", 1)
        shape, (begin, end) = entry["shape"][::-1], entry["data_offsets"]
        data += bytes(-len(data) % 32)
        table += text(f"{names[stem]}.{kind}") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += raw[8 + size + begin:8 + size + end]
        count += 1
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(keys)) + b"".join(keys) + table
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32) + data)
    return path


def a_gguf_trains_into_folders(folder):
    """model.path names a GGUF file; what comes out are folders with the tokenizer made from it, and a killed run goes on."""
    model = make_model(os.path.join(folder, "model"))
    path, run = make_bert_gguf(os.path.join(folder, "tiny.gguf"), model), os.path.join(folder, "run")
    config = make_config(os.path.join(folder, "c.json"), path, run)
    line = "the car is red\n"
    assert hone("tokenize", path, input=line).stdout == hone("tokenize", model, input=line).stdout
    assert "parameters" in hone("plan", config).stdout
    hone("train", config, "train.max_steps=10")
    for name in ("best", "final"):
        out = os.path.join(run, name)
        assert sorted(os.listdir(out)) == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"], name
        assert hone("tokenize", out, input=line).stdout == hone("tokenize", model, input=line).stdout
    assert json.loads(hone("eval", run, "--json").stdout)["examples"] > 0
    hone("export", run, os.path.join(folder, "out"))
    with open(path, "r+b") as f: # another model under the same name is not gone on with
        f.seek(-4, 2)
        f.write(struct.pack("<f", 0.25))
    done = hone("train", config, "train.max_steps=20", "resume.force=true", check=1)
    assert "weights in model.path" in done.stderr, done.stderr


def a_head_that_is_no_softmax_is_refused(folder):
    config, model, run = trained(folder)
    path = os.path.join(run, "best/config.json")
    root = json.load(open(path))
    for problem in ("multi_label_classification", "regression"):
        json.dump(dict(root, problem_type=problem), open(path, "w"))
        for words in (["eval", run], ["predict", run, f"data.predict={DEV}"]):
            done = hone(*words, check=1)
            assert "problem_type" in done.stderr and problem in done.stderr, done.stderr


def keys_are_documented(folder):
    text = hone("keys").stdout
    for key in ("train.batch_tokens", "optim.lr", "data.fields.text", "freeze.cache", "eval.patience"):
        assert key in text, key
    assert "optim.lr" not in hone("keys", "patience").stdout
    assert "nonsense" in hone("keys", "nonsense", check=2).stderr
    page = open(os.path.join(SOURCE, "configs/KEYS.md"), encoding="utf8").read()
    assert page == hone("keys", "--markdown").stdout, "configs/KEYS.md: make it again with `hone keys --markdown`"


def wrong_configs_never_start(folder):
    model = make_model(os.path.join(folder, "model"))
    config = make_config(os.path.join(folder, "c.json"), model, os.path.join(folder, "run"))
    done = hone("train", config, "optim.lrr=1", "train.batch_tokens=-5", "optim.schedule=liner", "train.epochs=many", check=2)
    for part in ("optim.lrr", "optim.lr", "train.batch_tokens", "-5", "liner", "linear", "train.epochs", "many"):
        assert part in done.stderr, (part, done.stderr)
    assert not os.path.exists(os.path.join(folder, "run"))
    cases = [(["task.labels=a,b,c"], 1, "entailment"), (["freeze.below=layer.9"], 2, "layer.9"),
             (["eval.metric=pearson"], 2, "pearson"), (["data.train=/nowhere.jsonl"], 1, "/nowhere.jsonl"),
             (["model.path=/nowhere"], 1, "/nowhere"), (["data.fields.text=text"], 1, "premise"),
             (["freeze.groups=embeddings,layer.0,layer.1,layer.2,head"], 2, "every group"),
             (["train.batch_tokens=10"], 2, "train.batch_tokens"),
             (["freeze.cache=true", "freeze.unfreeze=1 epoch"], 2, "freeze.cache"),
             (["freeze.cache=true"], 2, "freeze.cache"), ([f"output.dir={model}"], 2, "output.dir")]
    for overrides, code, part in cases:
        done = hone("train", config, *overrides, check=None)
        assert done.returncode in (1, 2), (overrides, done.returncode, done.stderr)
        assert part in done.stderr, (overrides, done.stderr)
    assert not os.path.exists(os.path.join(model, "checkpoints")) and not os.path.exists(os.path.join(model, "cache"))


def lost_output_is_a_failure(folder):
    config, model, run = trained(folder)
    for words in (["eval", run, "--json"], ["predict", run, f"data.predict={DEV}"], ["keys"], ["plan", config]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([HONE, *words], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1 and "standard output" in done.stderr, (words, done.returncode, done.stderr)


def broken_weights_give_no_broken_json(folder):
    config, model, run = trained(folder)
    path = os.path.join(run, "final/model.safetensors")
    shutil.rmtree(os.path.join(run, "best"))
    with open(path, "r+b") as f:
        size, = struct.unpack("<Q", f.read(8))
        begin, end = json.loads(f.read(size))["bert.embeddings.LayerNorm.weight"]["data_offsets"]
        f.seek(8 + size + begin)
        f.write(struct.pack("<f", 3e38) * ((end - begin) // 4))
    assert json.loads(hone("eval", run, "--json").stdout)["loss"] is None
    assert "finite" in hone("predict", run, f"data.predict={DEV}", check=1).stderr


def regression_trains_and_predicts_numbers(folder):
    model = make_model(os.path.join(folder, "model"))
    rows = os.path.join(folder, "r.jsonl")
    with open(rows, "w") as f:
        for line in open(TRAIN, encoding="utf8"):
            row = json.loads(line)
            f.write(json.dumps({"text": row["premise"], "label": len(row["premise"]) / 100}) + "\n")
    run = os.path.join(folder, "run")
    config = make_config(os.path.join(folder, "c.json"), model, run, task={"kind": "regress", "labels": []},
                         data={"train": [rows], "dev": [rows], "fields": {"text": "text"}}, eval={"metric": "pearson"},
                         train={"epochs": 2})
    hone("train", config)
    result = json.loads(hone("eval", run, "--json").stdout)
    assert result["pearson"] > 0.3, result
    value = json.loads(hone("predict", run, "data.predict=-", input='{"text": "a b"}\n').stdout)
    assert isinstance(value["value"], float)


main(help_everywhere, evaluation_and_prediction_agree, prediction_reads_standard_input, tokenize_there_and_back,
     plan_is_what_train_allocates, data_shows_what_the_model_will_see, export_and_verify, import_of_a_gguf,
     a_gguf_trains_into_folders,
     a_head_that_is_no_softmax_is_refused,
     keys_are_documented,
     wrong_configs_never_start, lost_output_is_a_failure, broken_weights_give_no_broken_json, regression_trains_and_predicts_numbers)
