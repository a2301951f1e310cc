"""Makes the golden files of the decoder tests: tiny models with random weights of our own, run by transformers in fp64.

    python tests/golden/make_decoders.py        (torch, transformers, safetensors; writes tests/golden/<model>/)

    config.json, model.safetensors   the model, as transformers saves it
    expected.safetensors             batches, and what the reference computes, by name:
        <b>.token, .cu_seqlens, .target   batch b, sequences end to end; the next token of each, -100: not trained on
        <b>.logits                        of every token, initial weights, evaluation mode
        0.loss, gradient.<name>           mean loss of batch 0 over its targets and its gradient, dropout off
        losses                            of 20 steps of AdamW over the batches in turn, dropout off
"""
import os

import torch
from safetensors.torch import save_file
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig,
                          MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)
from reference import LENGTHS, write_expected

HERE = os.path.dirname(os.path.abspath(__file__))
VOCABULARY, POSITIONS = 50, 24

COMMON = dict(vocab_size=VOCABULARY, attn_implementation="eager", bos_token_id=1, eos_token_id=2)
SIZES = dict(**COMMON, hidden_size=32, num_hidden_layers=2, intermediate_size=40, max_position_embeddings=POSITIONS)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
MODELS = {
    "gpt2": (GPT2LMHeadModel, GPT2Config(**COMMON, n_positions=POSITIONS, n_embd=32, n_layer=2, n_head=4, n_inner=48)),
    # stretched frequencies, heads wider than the model is by their number, a head of its own
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                                            rms_norm_eps=1e-5, rope_parameters=LLAMA3)),
    "mistral": (MistralForCausalLM, MistralConfig(**SIZES, num_attention_heads=4, num_key_value_heads=1,
                                                  sliding_window=None)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SIZES, num_attention_heads=4, num_key_value_heads=4,
                                            tie_word_embeddings=True,
                                            rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**{**SIZES, "hidden_size": 24}, num_attention_heads=2,
                                            num_key_value_heads=1, head_dim=48, tie_word_embeddings=True)),
}


def make_model(cls, config):
    model = cls(config).double().eval()
    for name, p in model.named_parameters():
        spread = 0.14 if p.dim() == 2 else 0.1
        p.data.normal_(0, spread)
        if p.dim() == 1 and name.endswith("weight"):  # a norm's
            p.data += 1
        p.data = p.data.float().double()  # what the file holds
    return model


def make_batch(lengths):
    """Targets are the next tokens, but those of the first third of a sequence (a prompt)."""
    sequences = [torch.randint(5, VOCABULARY, (n,)) for n in lengths]
    targets = []
    for s in sequences:
        target = torch.full_like(s, -100)
        target[len(s) // 3:-1] = s[len(s) // 3 + 1:]
        targets.append(target)
    return sequences, targets


def run(model, batch):
    """Logits of all tokens end to end, and the mean loss over the targets."""
    sequences, targets = batch
    logits = []
    for s in sequences:
        logits.append(model(input_ids=s[None]).logits[0])
    logits = torch.cat(logits)
    return logits, torch.nn.functional.cross_entropy(logits, torch.cat(targets), ignore_index=-100)


def write(name):
    cls, config = MODELS[name]
    torch.manual_seed(11 + list(MODELS).index(name))
    model = make_model(cls, config)
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    tied = config.tie_word_embeddings
    save_file({k: v.float().contiguous() for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")},
              os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    config.architectures = [cls.__name__]
    config.to_json_file(os.path.join(folder, "config.json"))
    batches = [make_batch(lengths) for lengths in LENGTHS]
    out = {}
    for b, batch in enumerate(batches):
        out[f"{b}.token"] = torch.cat(batch[0]).int()
        out[f"{b}.target"] = torch.cat(batch[1]).int()
        out[f"{b}.cu_seqlens"] = torch.tensor([0] + [len(s) for s in batch[0]]).cumsum(0).int()
    write_expected(folder, out, model, batches, lambda batch: run(model, batch))


if __name__ == "__main__":
    for model_name in MODELS:
        write(model_name)
