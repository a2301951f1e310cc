"""A tiny Llama folder with random weights and a tokenizer of bytes. Standard library only."""
import json, os, random, struct

from tiny import DEV, TRAIN

VOCABULARY, HIDDEN, LAYERS, HEADS, KEYS, MLP, POSITIONS = 258, 32, 2, 4, 2, 48, 128
END = 257


def byte_characters():
    """The character that byte-level tokenizers write for each byte."""
    kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    characters, extra = {}, 0
    for byte in range(256):
        if byte in kept:
            characters[byte] = chr(byte)
        else:
            characters[byte] = chr(256 + extra)
            extra += 1
    return characters


def tokenizer():
    vocabulary = {c: byte for byte, c in byte_characters().items()}
    vocabulary["\u0120t"] = 256
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": END, "content": "<|end|>", "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True}],
            "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": vocabulary, "merges": ["\u0120 t"]}}


def save_tensors(path, shapes, seed=7):
    """model.safetensors: norms 1, biases 0, matrices normal(0, 0.05)."""
    rng, header, data = random.Random(seed), {}, bytearray()
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        if len(shape) == 1:
            values = [0.0 if name.endswith("bias") else 1.0] * count
        else:
            values = [rng.gauss(0, 0.05) for _ in range(count)]
        begin = len(data)
        data += struct.pack(f"<{count}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)


def make_decoder(folder, tied=True, **changes):
    """A Llama of 2 layers with grouped heads; a tied one has no lm_head.weight."""
    os.makedirs(folder, exist_ok=True)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
              "num_attention_heads": HEADS, "num_key_value_heads": KEYS, "intermediate_size": MLP, "hidden_act": "silu",
              "max_position_embeddings": POSITIONS, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "initializer_range": 0.02, "tie_word_embeddings": tied, "eos_token_id": END, **changes}
    head_size = HIDDEN // HEADS
    shapes = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN], "model.norm.weight": [HIDDEN]}
    if not tied:
        shapes["lm_head.weight"] = [VOCABULARY, HIDDEN]
    for l in range(LAYERS):
        p = f"model.layers.{l}."
        shapes.update({p + "self_attn.q_proj.weight": [HIDDEN, HIDDEN], p + "self_attn.k_proj.weight": [KEYS * head_size, HIDDEN],
                       p + "self_attn.v_proj.weight": [KEYS * head_size, HIDDEN], p + "self_attn.o_proj.weight": [HIDDEN, HIDDEN],
                       p + "mlp.gate_proj.weight": [MLP, HIDDEN], p + "mlp.up_proj.weight": [MLP, HIDDEN],
                       p + "mlp.down_proj.weight": [HIDDEN, MLP], p + "input_layernorm.weight": [HIDDEN],
                       p + "post_attention_layernorm.weight": [HIDDEN]})
    save_tensors(os.path.join(folder, "model.safetensors"), shapes)
    for name, value in (("config.json", config), ("tokenizer.json", tokenizer()),
                        ("generation_config.json", {"eos_token_id": END}),
                        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>",
                                                   "chat_template": "{{ messages[0]['content'] }}"})):
        with open(os.path.join(folder, name), "w", encoding="utf8") as f:
            json.dump(value, f)
    return folder


def make_text(path, source=TRAIN, rows=200):
    """Plain text out of a sample file's premises."""
    with open(path, "w", encoding="utf8") as f:
        for line in open(source, encoding="utf8").read().splitlines()[:rows]:
            f.write(json.loads(line)["premise"] + "\n")
    return path


def make_lm_config(path, model, run, **sections):
    folder = os.path.dirname(path)
    config = {"model": {"path": model}, "task": {"kind": "lm"},
              "data": {"train": [make_text(os.path.join(folder, "train.txt"))],
                       "dev": [make_text(os.path.join(folder, "dev.txt"), DEV, 40)], "max_tokens": 48},
              "train": {"epochs": 1, "batch_examples": 8, "batch_tokens": 1024, "seed": 3, "log_every": 5, "threads": 2},
              "optim": {"lr": 3e-3}, "eval": {"every": "10 steps"},
              "checkpoint": {"every": "10 steps", "keep": 2}, "output": {"dir": run}}
    for section, keys in sections.items():
        config.setdefault(section, {}).update(keys)
    with open(path, "w") as f:
        json.dump(config, f)
    return path


def make_sft_config(path, model, run, **sections):
    """Instruction rows of the samples, cut to what the model holds."""
    samples = os.path.dirname(TRAIN)
    rows = {"train": [os.path.join(samples, "instructions_train.jsonl")], "dev": [os.path.join(samples, "instructions_dev.jsonl")]}
    data = {"turns": {"user": "Q: {content}\n", "prompt": "A: "}, "max_tokens": 128, "on_bad_row": "skip"} | rows
    return make_lm_config(path, model, run, **{"task": {"kind": "sft"}, "data": data} | sections)
