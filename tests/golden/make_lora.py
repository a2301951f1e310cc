"""Makes the golden files of the LoRA tests: adapters of our own random values on tiny models of tests/golden, run by PEFT in fp64.

    python tests/golden/make_lora.py        (torch, transformers, peft, safetensors; writes tests/golden/lora_<family>/)

    adapter_config.json, adapter_model.safetensors   the adapter, as PEFT saves it; its base is tests/golden/<family>
    expected.safetensors                             batches, and what PEFT computes, by name as in make_encoders.py and
                                                     make_decoders.py; gradients are of what trains alone
"""
import json
import os
import sys

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification, GPT2LMHeadModel,
                          LlamaForCausalLM)

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import make_decoders  # noqa: E402
import make_encoders  # noqa: E402
from reference import LENGTHS, write_expected  # noqa: E402

ADAPTERS = {
    # every linear layer but the classifier, which trains whole; rank-stabilised
    "bert": (BertForSequenceClassification, dict(r=3, lora_alpha=5, use_rslora=True, target_modules="all-linear",
                                                 task_type="SEQ_CLS", modules_to_save=["classifier"])),
    # the classifier of every token trains whole, as PEFT has it for this task
    "bert_tags": (BertForTokenClassification, dict(r=2, lora_alpha=6, target_modules=["query", "value", "intermediate.dense"],
                                                   task_type="TOKEN_CLS", modules_to_save=["classifier"])),
    # the head's hidden layer and norm train whole; the table of tokens, which is its output, does not
    "bert_masked": (BertForMaskedLM, dict(r=3, lora_alpha=4, target_modules=["query", "key", "value", "attention.output.dense"],
                                          modules_to_save=["cls.predictions.transform"])),
    # a part of what is stored as one: q and v, up without gate
    "llama": (LlamaForCausalLM, dict(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
                                     task_type="CAUSAL_LM")),
    "gpt2": (GPT2LMHeadModel, dict(r=2, lora_alpha=4, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True,
                                   task_type="CAUSAL_LM")),
}


SEEDED = ["bert", "llama", "gpt2", "bert_tags", "bert_masked"]


def plain(name):
    """The name that PEFT's file gives it; of what trains whole, the checkpoint's."""
    if ".modules_to_save.default" in name:
        return name.replace(".modules_to_save.default", "").replace("base_model.model.", "")
    return name.replace(".default", "")


def write(family):
    cls, settings = ADAPTERS[family]
    torch.manual_seed(31 + SEEDED.index(family))
    base = cls.from_pretrained(os.path.join(HERE, family), attn_implementation="eager").double()
    model = get_peft_model(base, LoraConfig(lora_dropout=0.0, init_lora_weights=True, **settings))
    model = model.double().eval()
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data.normal_(0, 0.2)
        if p.requires_grad:
            p.data = p.data.float().double()
    folder = os.path.join(HERE, "lora_" + family)
    os.makedirs(folder, exist_ok=True)
    model.save_pretrained(folder)
    for extra in ("README.md",):
        if os.path.exists(os.path.join(folder, extra)):
            os.remove(os.path.join(folder, extra))
    file = os.path.join(folder, "adapter_model.safetensors")
    save_file({k: v.float().contiguous() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    with open(os.path.join(folder, "adapter_config.json")) as f:
        config = json.load(f)
    config["base_model_name_or_path"] = "tests/golden/" + family
    config["target_modules"] = sorted(config["target_modules"])
    with open(os.path.join(folder, "adapter_config.json"), "w") as f:
        json.dump(config, f, indent=2, sort_keys=True)
    labels = {"bert": 3, "bert_tags": -3, "bert_masked": 0}.get(family)  # as in make_encoders.py; None: a decoder
    encoder = labels is not None
    out, batches = {}, []
    for b, lengths in enumerate(LENGTHS):
        if encoder:
            batch = make_encoders.make_batch(lengths, labels)
            out[f"{b}.type"] = torch.cat(batch["types"]).int()
            out[f"{b}.label" if labels > 0 else f"{b}.target"] = batch["target"].int()
            sequences = batch["sequences"]
        else:
            batch = make_decoders.make_batch(lengths)
            out[f"{b}.target"] = torch.cat(batch[1]).int()
            sequences = batch[0]
        out[f"{b}.token"] = torch.cat(sequences).int()
        out[f"{b}.cu_seqlens"] = torch.tensor([0] + [len(s) for s in sequences]).cumsum(0).int()
        batches.append(batch)

    def run(batch):
        return make_encoders.run(model, batch, labels) if encoder else make_decoders.run(model, batch)

    write_expected(folder, out, model, batches, run, plain)


if __name__ == "__main__":
    for name in ADAPTERS:
        write(name)
