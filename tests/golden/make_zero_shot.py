"""Makes tests/golden/zero_shot/: a tiny encoder of our own that tells three classes, and what transformers' pipeline says with it.

    python tests/golden/make_zero_shot.py       (torch, transformers, tokenizers, safetensors)

    config.json, model.safetensors, tokenizer.json   random weights; [CLS] text [SEP] hypothesis [SEP] of at most 24 tokens
    expected.json                                     cases: {hypothesis, labels, multi_label, texts, scores [texts][labels], cut: pairs}
"""
import json, os

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, pipeline

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "zero_shot")
WORDS = """this example text is about s ##s a an the of to it in . , ? sport politics science ball ##ball foot team won game vote law tax
new star moon water small large red blue dog ran over under and not""".split()
NAMES = ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]
LONG = "the team won the game , and the dog ran over the ball . is it a new law about water in a small star ?"
TEXTS = ["The team won the game.", "A new tax law, a vote", "", "unknown words: 42", LONG, "moon"]
CASES = [("This example is {}.", ["sport", "politics", "science"], False),
         ("This example is {}.", ["sport", "politics", "science"], True),
         ("Is {} not in the text?", ["a small dog", "football"], False),
         ("{}", ["politics"], True),
         ("is this text about {} or about the law of the new moon and water ?", ["sport", "science"], False)]  # longer than what is left


def main():
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + WORDS)}
    bare = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    bare.normalizer, bare.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    bare.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
                                        mask_token="[MASK]", model_max_length=24,
                                        model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=24, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=24, type_vocab_size=2, num_labels=3, id2label=dict(enumerate(NAMES)),
                        label2id={name: i for i, name in enumerate(NAMES)}, attn_implementation="eager")
    torch.manual_seed(41)
    model = BertForSequenceClassification(config).eval()
    for name, p in model.named_parameters():
        p.data.normal_(0, 0.4 if p.dim() == 2 else 0.1)
        if p.dim() == 1 and name.endswith("weight"):  # a norm's
            p.data += 1
    os.makedirs(FOLDER, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, os.path.join(FOLDER, "model.safetensors"), metadata={"format": "pt"})
    config.architectures = ["BertForSequenceClassification"]
    config.to_json_file(os.path.join(FOLDER, "config.json"))
    bare.save(os.path.join(FOLDER, "tokenizer.json"))
    pipe = pipeline("zero-shot-classification", model=model.double(), tokenizer=tokenizer, device="cpu")
    cases = []
    for hypothesis, labels, multi_label in CASES:
        scores = []
        for text in TEXTS:
            # the pipeline refuses "": a blank is no token either
            said = pipe(text or " ", labels, hypothesis_template=hypothesis, multi_label=multi_label)
            by_label = dict(zip(said["labels"], said["scores"]))
            scores.append([round(by_label[label], 9) for label in labels])
        print(hypothesis, labels, multi_label, scores)
        cases.append({"hypothesis": hypothesis, "labels": labels, "multi_label": multi_label, "texts": TEXTS, "scores": scores,
                      "cut": sum(len(tokenizer(t, hypothesis.format(label))["input_ids"]) > 24 for t in TEXTS for label in labels)})
    with open(os.path.join(FOLDER, "expected.json"), "w") as out:
        json.dump(cases, out, indent=1)


main()
