"""Makes the golden files of the encoder tests: tiny models with random weights of our own, run by transformers in fp64.

    python tests/golden/make_encoders.py        (torch, transformers, safetensors; writes tests/golden/<family>/)

    config.json, model.safetensors   the model, as transformers saves it
    expected.safetensors             batches, and what the reference computes, by name:
        <b>.token, .type, .cu_seqlens, .label or .value    batch b, sequences end to end
        <b>.target                                         of models that predict hidden tokens: those, -100 elsewhere
        <b>.logits                                         of the initial weights, evaluation mode; of those models of every token
        0.loss, gradient.<name>                            mean loss of batch 0 and its gradient, dropout off
        losses                                             of 20 steps of AdamW over the batches in turn, dropout off
"""
import os

import torch
from safetensors.torch import save_file
from transformers import (BertConfig, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification,
                          DistilBertConfig, DistilBertForMaskedLM, DistilBertForSequenceClassification,
                          DistilBertForTokenClassification, RobertaConfig, RobertaForMaskedLM,
                          RobertaForSequenceClassification, RobertaForTokenClassification)
from reference import LENGTHS, write_expected

HERE = os.path.dirname(os.path.abspath(__file__))
VOCABULARY, POSITIONS = 50, 24

COMMON = dict(vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, attn_implementation="eager")
SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
MODELS = {
    "bert": (BertForSequenceClassification, 3,
             BertConfig(**COMMON, **{**SIZES, "num_hidden_layers": 3}, type_vocab_size=2, num_labels=3)),
    "roberta": (RobertaForSequenceClassification, 1,
                RobertaConfig(**COMMON, **SIZES, type_vocab_size=1, num_labels=1, layer_norm_eps=1e-5,
                              hidden_act="gelu_new", pad_token_id=1)),
    "distilbert": (DistilBertForSequenceClassification, 2,
                   DistilBertConfig(**COMMON, dim=32, n_layers=2, n_heads=4, hidden_dim=48, num_labels=2)),
    # labels 0: hidden tokens are predicted
    "bert_masked": (BertForMaskedLM, 0, BertConfig(**COMMON, **SIZES, type_vocab_size=2, hidden_act="relu")),
    "roberta_masked": (RobertaForMaskedLM, 0,
                       RobertaConfig(**COMMON, **SIZES, type_vocab_size=1, layer_norm_eps=1e-5, hidden_act="gelu_new",
                                     pad_token_id=1)),
    "distilbert_masked": (DistilBertForMaskedLM, 0, DistilBertConfig(**COMMON, dim=32, n_layers=2, n_heads=4, hidden_dim=48)),
    # labels below 0: as many tags of tokens
    "bert_tags": (BertForTokenClassification, -3, BertConfig(**COMMON, **SIZES, type_vocab_size=2, num_labels=3)),
    "roberta_tags": (RobertaForTokenClassification, -4,
                     RobertaConfig(**COMMON, **SIZES, type_vocab_size=1, num_labels=4, layer_norm_eps=1e-5, pad_token_id=1)),
    "distilbert_tags": (DistilBertForTokenClassification, -2,
                        DistilBertConfig(**COMMON, dim=32, n_layers=2, n_heads=4, hidden_dim=48, num_labels=2)),
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


def make_batch(lengths, labels):
    sequences = [torch.randint(5, VOCABULARY, (n,)) for n in lengths]
    split = [n // 2 for n in lengths]
    if labels < 0:  # every other token has a tag
        target = [torch.tensor([int(t) % -labels if i % 2 else -100 for i, t in enumerate(s)]) for s in sequences]
        return {"sequences": sequences, "types": [torch.tensor([int(i >= h) for i in range(n)]) for n, h in zip(lengths, split)],
                "target": torch.cat(target)}
    if labels == 0:  # every third token is predicted: hidden, another one, or itself
        target = [torch.tensor([int(t) if i % 3 == 1 else -100 for i, t in enumerate(s)]) for s in sequences]
        for s in sequences:
            s[1::9], s[4::9] = 3, 7
        return {"sequences": sequences, "types": [torch.tensor([int(i >= h) for i in range(n)]) for n, h in zip(lengths, split)],
                "target": torch.cat(target)}
    return {
        "sequences": sequences,
        "types": [torch.tensor([int(i >= s) for i in range(n)]) for n, s in zip(lengths, split)],
        "target": torch.randn(len(lengths), dtype=torch.float64).float().double() if labels == 1
        else torch.randint(0, labels, (len(lengths),)),
    }


def run(model, batch, labels):
    n, longest = len(batch["sequences"]), max(len(s) for s in batch["sequences"])
    pad = model.config.pad_token_id
    ids, mask = torch.full((n, longest), pad), torch.zeros((n, longest), dtype=torch.long)
    types = torch.zeros((n, longest), dtype=torch.long)
    for i, s in enumerate(batch["sequences"]):
        ids[i, :len(s)], mask[i, :len(s)], types[i, :len(s)] = s, 1, batch["types"][i]
    inputs = {"input_ids": ids, "attention_mask": mask}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = types
    logits = model(**inputs).logits
    target = batch["target"]
    if labels <= 0:
        logits = torch.cat([rows[:len(s)] for rows, s in zip(logits, batch["sequences"])])
        return logits, torch.nn.functional.cross_entropy(logits, target, ignore_index=-100)
    loss = (torch.nn.functional.mse_loss(logits[:, 0], target) if labels == 1
            else torch.nn.functional.cross_entropy(logits, target))
    return logits, loss


def write(family):
    cls, labels, config = MODELS[family]
    torch.manual_seed(1 + list(MODELS).index(family))
    model = make_model(cls, config)
    folder = os.path.join(HERE, family)
    os.makedirs(folder, exist_ok=True)
    kept = {k for k, _ in model.named_parameters()}  # tied ones once
    save_file({k: v.float().contiguous() for k, v in model.state_dict().items() if k in kept},
              os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    config.architectures = [cls.__name__]
    config.to_json_file(os.path.join(folder, "config.json"))
    longest = POSITIONS - (2 if family.startswith("roberta") else 0)
    batches = [make_batch([min(n, longest) for n in lengths], labels) for lengths in LENGTHS]
    out = {}
    for b, batch in enumerate(batches):
        lengths = [len(s) for s in batch["sequences"]]
        out[f"{b}.token"] = torch.cat(batch["sequences"]).int()
        out[f"{b}.type"] = torch.cat(batch["types"]).int()
        out[f"{b}.cu_seqlens"] = torch.tensor([0] + lengths).cumsum(0).int()
        kind = "target" if labels <= 0 else "value" if labels == 1 else "label"
        out[f"{b}.{kind}"] = batch["target"].float() if labels == 1 else batch["target"].int()
    write_expected(folder, out, model, batches, lambda batch: run(model, batch, labels))


if __name__ == "__main__":
    for family in MODELS:
        write(family)
