"""`hone train` of a language model on plain text, end to end, with a tiny Llama."""
import json, math, os, struct

from tiny import digests, hone, main, metrics
from tiny_decoder import END, LAYERS, make_decoder, make_lm_config, make_text


def setup(folder, run="run", model=None, **sections):
    model = model or make_decoder(os.path.join(folder, "model"))
    path = os.path.join(folder, run)
    return make_lm_config(os.path.join(folder, run + ".json"), model, path, **sections), path


def tensors(folder):
    """Names and values of a model.safetensors."""
    data = open(os.path.join(folder, "model.safetensors"), "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header, rest = json.loads(data[8:8 + size]), data[8 + size:]
    return {name: rest[e["data_offsets"][0]:e["data_offsets"][1]] for name, e in header.items() if name != "__metadata__"}


def trains(folder):
    config, run = setup(folder)
    hone("train", config)
    events = metrics(run)
    steps, evals = [e for e in events if e["event"] == "step"], [e for e in events if e["event"] == "eval"]
    assert abs(steps[0]["loss"] - math.log(258)) < 0.5, steps[0]
    assert evals[-1]["loss"] < evals[0]["loss"] < math.log(258), evals
    for e in evals:
        assert abs(e["perplexity"] - math.exp(e["loss"])) < 1e-4 * e["perplexity"] and 0 <= e["accuracy"] <= 1, e
        assert e["targets"] > 100 and "examples" not in e and "confusion" not in e, e
    for place in ("best", "final"):
        path = os.path.join(run, place)
        saved = json.load(open(os.path.join(path, "config.json")))
        assert saved["architectures"] == ["LlamaForCausalLM"] and "id2label" not in saved and "problem_type" not in saved, saved
        assert "lm_head.weight" not in tensors(path), "a tied head is written twice"
        for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            kept = open(os.path.join(path, name)).read()
            assert kept == open(os.path.join(folder, "model", name)).read(), name
    said = json.loads(hone("eval", run, "data.dev=" + os.path.join(folder, "dev.txt"), "--json").stdout)
    assert said["targets"] == evals[-1]["targets"] and abs(said["loss"] - min(e["loss"] for e in evals)) < 1e-6, (said, evals)
    text = hone("eval", run, "data.dev=" + os.path.join(folder, "dev.txt")).stdout
    assert "perplexity" in text and "accuracy" in text and "targets" in text, text
    exported = os.path.join(folder, "exported")
    hone("export", run, exported)
    assert tensors(exported).keys() == tensors(os.path.join(run, "final")).keys()
    hone("verify", run)
    hone("plan", config)
    hone("data", config)


def untied_heads_are_written(folder):
    model = make_decoder(os.path.join(folder, "model"), tied=False)
    config, run = setup(folder, model=model, train={"max_steps": 4})
    hone("train", config)
    after, before = tensors(os.path.join(run, "final")), tensors(model)
    assert after.keys() == before.keys() and after["lm_head.weight"] != before["lm_head.weight"]


def refused_by_name(folder):
    config, run = setup(folder)
    for change, words in ((["task.kind=classify", "task.labels=a,b"], "is a decoder"),
                          (["eval.metric=macro_f1"], "does not fit a task of tokens; expected one of loss, perplexity, accuracy"),
                          (["data.max_tokens=500"], "has 128 positions"),
                          (["data.train=" + os.path.join(folder, "model/config.json")], "field \"text\"")):
        said = hone("train", config, *change, check=None)
        assert said.returncode in (1, 2) and words in said.stderr, (change, said.stderr)
    predicted = hone("predict", os.path.join(folder, "model"), "data.predict=" + os.path.join(folder, "dev.txt"), check=1)
    assert "predicts tokens" in predicted.stderr, predicted.stderr


main(trains, untied_heads_are_written, refused_by_name)
