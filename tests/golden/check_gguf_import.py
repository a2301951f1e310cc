"""Compares `hone import` with transformers, family by family, on small random models that are written as GGUF here in the
way of llama.cpp's converter. Run by hand: HONE=build/release/hone python tests/golden/check_gguf_import.py TOKENIZERS
(pip install torch transformers gguf tokenizers; TOKENIZERS is a folder with llama2/, gpt2/ and bert-base-uncased/
tokenizer.json.gz). Prints one line a family; any difference is an assertion."""
import gzip, json, os, subprocess, sys, tempfile

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type, GGUFWriter
from gguf.quants import dequantize, quantize
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

HONE, TOKENIZERS = os.environ["HONE"], sys.argv[1]
TEXTS = [
    "Hello world! It's 12345 apples,  and   three tabs\t\t\n\nNew line.", "naïve café — déjà vu", "你好，世界。日本語 한국어",
    "emoji 😀👍🏽 and \u200b zero width", "", " leading", "trailing ", "x = [i**2 for i in range(10)]\n    return x",
    "</s> <s> [SEP] <|endoftext|>", "THE QUICK BROWN FOX don't won't we'll", "العربية हिन्दी ไทย", "a" * 200,
]
DECODER = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
GPT2 = {
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm", "lm_head": "output",
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
BERT = {
    "embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
}


def named(name, table):
    stem, kind = name.rsplit(".", 1)
    for prefix in ("model.layers.", "transformer.h.", "encoder.layer."):
        if stem.startswith(prefix):
            layer, rest = stem[len(prefix) :].split(".", 1)
            return f"blk.{layer}.{table[rest]}.{kind}"
    return f"{table[stem]}.{kind}"


def tokenizer_json(name):
    return json.loads(gzip.open(os.path.join(TOKENIZERS, name, "tokenizer.json.gz")).read())


def sentencepiece_scores(data):
    """Field 1 of the model is a piece: field 1 its text, field 2 its score."""
    def varint(data, at):
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                return value, at
    scores, at = [], 0
    while at < len(data):
        key, at = varint(data, at)
        size, at = varint(data, at)
        if key == 10:
            length, text_at = varint(data, at + 1)
            score_at = text_at + length
            scores.append(float(np.frombuffer(data[score_at + 1 : score_at + 5], np.float32)[0]))
        at += size
    return scores


def write_tokenizer(writer, kind):
    if kind == "llama":
        source = tokenizer_json("llama2")
        tokens = sorted(source["model"]["vocab"], key=source["model"]["vocab"].get)
        scores = sentencepiece_scores(gzip.open(os.path.join(TOKENIZERS, "llama2", "tokenizer.model.gz")).read())
        types = [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens), writer.add_token_scores(scores), writer.add_token_types(types)
        writer.add_bos_token_id(1), writer.add_eos_token_id(2), writer.add_unk_token_id(0)
    elif kind == "bert":
        source = tokenizer_json("bert-base-uncased")
        tokens = sorted(source["model"]["vocab"], key=source["model"]["vocab"].get)
        special = {t["content"] for t in source["added_tokens"]}
        types = [3 if t in special else 1 for t in tokens]
        tokens = [t if t in special else t[2:] if t.startswith("##") else "\u2581" + t for t in tokens]
        writer.add_tokenizer_model("bert"), writer.add_tokenizer_pre("default"), writer.add_token_type_count(2)
        writer.add_token_list(tokens), writer.add_token_types(types)
        writer.add_unk_token_id(100), writer.add_sep_token_id(102), writer.add_pad_token_id(0)
        writer.add_bos_token_id(101), writer.add_mask_token_id(103)  # CLS stands as BOS
    else:
        source = tokenizer_json("gpt2")
        tokens = sorted(source["model"]["vocab"], key=source["model"]["vocab"].get)
        merges = [m if isinstance(m, str) else " ".join(m) for m in source["model"]["merges"]]
        writer.add_tokenizer_model("gpt2"), writer.add_tokenizer_pre(kind)
        writer.add_token_list(tokens), writer.add_token_types([1] * (len(tokens) - 1) + [3])
        writer.add_token_merges(merges)
        writer.add_bos_token_id(50256), writer.add_eos_token_id(50256)
    return source


def write_gguf(path, model, architecture, table, kind, quant=None):
    config = model.config
    writer = GGUFWriter(path, architecture)
    writer.add_name("small")
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", heads)
    if architecture in ("gpt2", "bert"):
        writer.add_layer_norm_eps(1e-5 if architecture == "gpt2" else 1e-12)
        writer.add_feed_forward_length(4 * config.hidden_size)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_head_count_kv(kv_heads)
        writer.add_rope_freq_base(5000.0)
        writer.add_vocab_size(config.vocab_size)
    if architecture == "llama":
        writer.add_rope_dimension_count(config.hidden_size // heads)
    if architecture == "qwen3":
        writer.add_key_length(config.head_dim), writer.add_value_length(config.head_dim)
    if architecture == "bert":
        writer.add_causal_attention(False)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(heads)
    source = write_tokenizer(writer, kind)
    expected = {}
    for name, value in model.state_dict().items():
        if "pooler" in name or "position_ids" in name or (name == "lm_head.weight" and config.tie_word_embeddings):
            continue
        value = value.float().numpy()
        gguf = named(name, table)
        turned = architecture == "gpt2" and value.ndim == 2 and "blk." in gguf
        if turned:
            value = value.T
        rotated = architecture == "llama" and gguf.endswith(("attn_q.weight", "attn_k.weight"))
        if rotated:
            n = heads if "attn_q" in gguf else kv_heads
            value = value.reshape(n, 2, value.shape[0] // n // 2, -1).swapaxes(1, 2).reshape(value.shape)
        value = np.ascontiguousarray(value)
        if quant and value.ndim == 2 and "blk." in gguf:
            data = quantize(value, quant)
            value = dequantize(data, quant)
            writer.add_tensor(gguf, data, raw_dtype=quant)
        else:
            writer.add_tensor(gguf, value)
        if rotated:
            value = value.reshape(n, value.shape[0] // n // 2, 2, -1).swapaxes(1, 2).reshape(value.shape)
        expected[name] = value.T if turned else value
    if architecture == "gpt2":  # as the converter does
        writer.add_tensor("output.weight", model.state_dict()["transformer.wte.weight"].numpy())
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()
    return expected, source


def check_tensors(model, expected, what):
    state = model.state_dict()
    for name, value in expected.items():
        assert np.array_equal(state[name].numpy(), value), f"{what}: {name}"


def check(label, cls, config, architecture, table, kind, quant=None):
    torch.manual_seed(1)
    model = cls(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        path, out = os.path.join(folder, "small.gguf"), os.path.join(folder, "out")
        expected, source = write_gguf(path, model, architecture, table, kind, quant)
        subprocess.run([HONE, "import", path, out], check=True, stdout=subprocess.DEVNULL)
        auto = AutoModel if architecture == "bert" else AutoModelForCausalLM
        ours = auto.from_pretrained(out).eval()
        check_tensors(ours, expected, label)
        note = "tensors equal"
        ids = torch.tensor([[5, 9, 300, 2, 77]])
        if not quant and architecture != "bert":
            with torch.no_grad():
                difference = (ours(ids).logits - model(ids).logits).abs().max().item()
            assert difference < 1e-5, difference
            note += f", logits within {difference:.1e}"
        if architecture != "bert":
            theirs = auto.from_pretrained(folder, gguf_file="small.gguf").eval()
            check_tensors(theirs, {n: v for n, v in expected.items()}, label + " (transformers)")
            note += ", equal to transformers' load of the GGUF"
        hub = Tokenizer.from_str(json.dumps({**source, "padding": None, "truncation": None}))
        tokenizer = Tokenizer.from_file(os.path.join(out, "tokenizer.json"))
        if kind in ("llama", "gpt-2", "bert"):
            for text in TEXTS:
                if kind == "llama" and "<s>" in text:
                    continue  # the Hub's old file normalizes its added tokens
                a, b = tokenizer.encode(text).ids, hub.encode(text).ids
                assert a == b, f"{label}: {text!r}: {a} {b}"
                assert tokenizer.decode(a, skip_special_tokens=False) == hub.decode(b, skip_special_tokens=False), text
            note += f", ids and text of {len(TEXTS)} texts those of the Hub's tokenizer.json"
        if kind == "llama":
            built = AutoTokenizer.from_pretrained(folder, gguf_file="small.gguf")
            same = sum(built(t, add_special_tokens=False).input_ids == tokenizer.encode(t, add_special_tokens=False).ids for t in TEXTS)
            note += f"; {same} of {len(TEXTS)} as transformers builds it from the GGUF"
        loaded = AutoTokenizer.from_pretrained(out)
        assert loaded(TEXTS[0]).input_ids == tokenizer.encode(TEXTS[0]).ids, label
        print(f"{label}: {note}", flush=True)


SMALL = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 5000.0})
check("llama", LlamaForCausalLM, LlamaConfig(vocab_size=32000, tie_word_embeddings=False, **SMALL), "llama", DECODER, "llama")
check("llama Q8_0", LlamaForCausalLM, LlamaConfig(vocab_size=32000, tie_word_embeddings=True, **SMALL), "llama", DECODER, "llama", Type.Q8_0)
check("qwen2", Qwen2ForCausalLM, Qwen2Config(vocab_size=50257, tie_word_embeddings=True, **SMALL), "qwen2", DECODER, "qwen2")
check("qwen3", Qwen3ForCausalLM, Qwen3Config(vocab_size=50257, tie_word_embeddings=False, head_dim=32, **SMALL), "qwen3", DECODER, "qwen2")
check("gpt2", GPT2LMHeadModel, GPT2Config(vocab_size=50257, n_embd=64, n_layer=2, n_head=4, n_positions=64), "gpt2", GPT2, "gpt-2")
check("gpt2 Q4_0", GPT2LMHeadModel, GPT2Config(vocab_size=50257, n_embd=64, n_layer=2, n_head=4, n_positions=64), "gpt2", GPT2, "gpt-2", Type.Q4_0)
check("bert", BertModel, BertConfig(vocab_size=30522, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
                                    max_position_embeddings=64), "bert", BERT, "bert")
