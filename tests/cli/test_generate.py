"""hone generate on a tiny Llama: what it prints and where, prompts from files, and arguments that make no sense."""
import gzip, json, os, random, subprocess, sys
sys.path.insert(0, os.path.dirname(__file__))
from tiny import *


def make_llama(folder, layers=2, width=32, heads=4, inner=48, positions=128, **extra):
    """A Llama with random weights and the byte-level tokenizer of the golden files."""
    os.makedirs(folder, exist_ok=True)
    tokenizer = json.load(open(os.path.join(SOURCE, "tests/golden/tokenizer/bytes.json"), encoding="utf8"))
    words = 1 + max([*tokenizer["model"]["vocab"].values(), *(t["id"] for t in tokenizer["added_tokens"])])
    shapes = {"model.embed_tokens.weight": [words, width], "model.norm.weight": [width], "lm_head.weight": [words, width]}
    for l in range(layers):
        p = f"model.layers.{l}."
        for name in "qkvo":
            shapes[f"{p}self_attn.{name}_proj.weight"] = [width, width]
        shapes[p + "mlp.gate_proj.weight"] = shapes[p + "mlp.up_proj.weight"] = [inner, width]
        shapes[p + "mlp.down_proj.weight"] = [width, inner]
        shapes[p + "input_layernorm.weight"] = shapes[p + "post_attention_layernorm.weight"] = [width]
    rng, header, data = random.Random(5), {}, bytearray()
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        begin = len(data)
        data += struct.pack(f"<{count}f", *([1.0] * count if len(shape) == 1 else [rng.gauss(0, 0.3) for _ in range(count)]))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)
    shutil.copy(os.path.join(SOURCE, "tests/golden/tokenizer/bytes.json"), os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump({"bos_token": "<s>", "eos_token": "</s>"}, f)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width, "num_hidden_layers": layers,
              "num_attention_heads": heads, "num_key_value_heads": heads, "intermediate_size": inner, "vocab_size": words,
              "max_position_embeddings": positions, "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0,
              "tie_word_embeddings": False, "bos_token_id": 0}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(dict(config, **extra), f)
    return folder


def one_prompt_streams(folder):
    model = make_llama(os.path.join(folder, "model"))
    plain = hone("generate", model, "--prompt", "the car", "--max-tokens", "20")
    told = json.loads(hone("generate", model, "--prompt", "the car", "--max-tokens=20", "--json").stdout)
    assert plain.stdout == told["text"] and told["tokens"] == 20 and told["finish"] == "length", (plain.stdout, told)
    assert "tokens/s" in plain.stderr
    assert told["prompt_tokens"] == len(json.loads(hone("tokenize", model, input="the car\n").stdout))
    assert hone("generate", model, "--max-tokens", "5").stdout # from the beginning of a text


def prompts_come_out_in_order(folder):
    model = make_llama(os.path.join(folder, "model"))
    prompts = ["the car", "a", "two men are playing chess in the park", "x y z", "he said"]
    single = [hone("generate", model, "--prompt", p, "--max-tokens", "12").stdout for p in prompts]
    listed = hone("generate", model, *sum([["--prompt", p] for p in prompts], []), "--max-tokens", "12", "--json", "--batch", "2")
    assert [json.loads(l)["text"] for l in listed.stdout.splitlines()] == single
    assert [json.loads(l)["prompt"] for l in listed.stdout.splitlines()] == list(range(5))
    lines, rows = os.path.join(folder, "p.txt"), os.path.join(folder, "p.jsonl")
    with open(lines, "w") as f:
        f.write("\r\n".join(prompts))
    with open(rows, "w") as f:
        f.write("\n".join([json.dumps(prompts[0]), "", *(json.dumps({"prompt": p, "id": 1}) for p in prompts[1:])]) + "\n")
    with gzip.open(rows + ".gz", "wb") as f:
        f.write(open(rows, "rb").read())
    for path in (lines, rows, rows + ".gz"):
        done = hone("generate", model, "--file", path, "--max-tokens", "12", "--json")
        assert [json.loads(l)["text"] for l in done.stdout.splitlines()] == single, path
    done = hone("generate", model, "--file", "-", "--max-tokens", "12", input="\n".join(prompts))
    assert done.stdout == "".join(text + "\n" for text in single)


def drawn_text_is_keyed_by_the_seed(folder):
    model = make_llama(os.path.join(folder, "model"))
    words = ["generate", model, "--prompt", "the car", "--max-tokens", "16", "--temperature", "1.2", "--top-p", "0.95"]
    a, b, c = hone(*words, "--seed", "1").stdout, hone(*words, "--seed", "1", "train.threads=1").stdout, hone(*words, "--seed", "2").stdout
    assert a == b != c, (a, b, c)
    text = hone("generate", model, "--prompt", "the car", "--max-tokens", "40").stdout
    stop = text[10:13]
    assert hone("generate", model, "--prompt", "the car", "--max-tokens", "40", "--stop", stop).stdout == text[:text.index(stop)]
    assert hone("generate", model, "--prompt", "the car", "--max-tokens", "40", "train.precision=bf16").stdout


def what_ends_a_text_is_read_from_the_files(folder):
    model = make_llama(os.path.join(folder, "model"))
    words = ["generate", model, "--prompt", "the car", "--max-tokens", "16", "--json"]
    def ids(): # of the answer, as one token a text is not to be had
        return json.loads(hone(*words).stdout)
    free = ids()
    assert free["tokens"] == 16
    path = os.path.join(model, "generation_config.json")
    for value, part in ((list(range(5, 420)), "eos_token_id"), ("x", "eos_token_id"), ([1.5], "eos_token_id")):
        with open(path, "w") as f:
            json.dump({"eos_token_id": value}, f)
        assert part in hone(*words, check=1).stderr
    for value in ([10 ** 6, -1], None, []):
        with open(path, "w") as f:
            json.dump({"eos_token_id": value}, f)
        assert ids() == free, value
    stopped = 0
    for first in range(0, 420, 60):
        with open(path, "w") as f:
            json.dump({"eos_token_id": list(range(first, first + 60))}, f)
        got = ids()
        stopped += got["finish"] == "stop"
        assert got["finish"] == "length" or (got["tokens"] < 16 and free["text"].startswith(got["text"])), got
    assert stopped
    with open(path, "w") as f:
        f.write("[")
    assert "generation_config.json" in hone(*words, check=1).stderr


def wrong_arguments_are_named(folder):
    model = make_llama(os.path.join(folder, "model"))
    cases = [(["--max-tokens", "0"], "--max-tokens: expected a whole number from 1"), (["--max-tokens", "1.5"], "whole number"),
             (["--max-tokens", "nan"], "nan"), (["--max-tokens"], "expected a value behind it"),
             (["--max-tokens", "1", "--max-tokens", "2"], "once, got it twice"), (["--temperature", "-1"], "--temperature"),
             (["--temperature", "inf"], "inf"), (["--temperature", "0x10"], "0x10"), (["--temperature", ""], "--temperature"),
             (["--top-p", "0", "--temperature", "1"], "above 0"), (["--top-p", "1.1", "--temperature", "1"], "--top-p"),
             (["--top-k", "5"], "--temperature above 0"), (["--seed", "1"], "--temperature above 0"),
             (["--seed", "-1", "--temperature", "1"], "--seed"), (["--seed", "99999999999999999999", "--temperature", "1"], "--seed"),
             (["--repetition-penalty", "0"], "--repetition-penalty"), (["--stop", ""], "--stop"), (["--batch", "17"], "--batch"),
             (["--batch", "0"], "--batch"), (["--context", "1"], "--context"), (["--frob"], "--frob"), (["extra"], "extra"),
             (["--system", "x"], "--chat"), (["--template", "chatml"], "--chat"), (["--file", "a", "--prompt", "b"], "got both"),
             (["train.precision=f8"], "train.precision"), (["--stop", "a"] * 17, "at most 16")]
    for words, part in cases:
        done = hone("generate", model, *words, check=2)
        assert part in done.stderr and not done.stdout, (words, done.stderr)
    for name, content, part in (("no.jsonl", None, "no.jsonl"), ("empty.txt", "", "got none"), ("bad.jsonl", "{", "bad.jsonl:1"),
                                ("other.jsonl", '"a"\n{"text": "b"}\n', "other.jsonl:2"), ("number.jsonl", "3\n", "number.jsonl:1")):
        path = os.path.join(folder, name)
        if content is not None:
            with open(path, "w") as f:
                f.write(content)
        done = hone("generate", model, "--file", path, check=None)
        assert done.returncode in (1, 2) and part in done.stderr, (name, done.stderr)
    done = hone("generate", model, "--prompt", "word " * 200, check=1)
    assert "as many as the context holds" in done.stderr, done.stderr
    bert = make_model(os.path.join(folder, "bert"))
    assert "an encoder, which writes no text" in hone("generate", bert, "--prompt", "a", check=1).stderr
    assert "chat template" in hone("generate", model, "--chat", "--prompt", "a", check=None).stderr
    with open("/dev/full", "w") as full:
        done = subprocess.run([HONE, "generate", model, "--prompt", "a"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "standard output" in done.stderr, done.stderr


def chat_puts_the_prompt_through_the_template(folder):
    model = make_llama(os.path.join(folder, "model"))
    a = json.loads(hone("generate", model, "--chat", "--template", "plain", "--prompt", "the car", "--max-tokens", "9", "--json").stdout)
    b = json.loads(hone("generate", model, "--chat", "--template", "alpaca", "--prompt", "the car", "--max-tokens", "9", "--json").stdout)
    assert a["prompt_tokens"] < b["prompt_tokens"] and a["tokens"] == 9


if __name__ == "__main__":
    main(one_prompt_streams, prompts_come_out_in_order, drawn_text_is_keyed_by_the_seed, what_ends_a_text_is_read_from_the_files,
         wrong_arguments_are_named, chat_puts_the_prompt_through_the_template)
