"""train.elastic on 1, 2, 4 and 8 processes: the same weights, the same log, the same bits; and on any number of them without it."""
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
from ranks import *
from tiny_decoder import make_decoder, make_lm_config

STEPS = 12


def encoder(folder, run, **sections):
    return prepare(folder, run, make_model, make_config, {"max_steps": STEPS}, {"eval": {"every": "6 steps"}} | sections)


def decoder(folder, run, **sections):
    return prepare(folder, run, make_decoder, make_lm_config, {"max_steps": STEPS}, sections)


def alike(folder, make, name, counts, **sections):
    """The runs of these counts, all of which must be the first one's."""
    first = None
    for ranks in counts:
        config, run = make(folder, f"{name}-{ranks}", **sections)
        train(ranks, config)
        now = (weights(run), metrics(run))
        first = first or now
        assert now[1] == first[1], (name, ranks, [pair for pair in zip(first[1], now[1]) if pair[0] != pair[1]][:1])
        assert now[0] == first[0], f"{name}: other weights on {ranks} processes"
    assert len(first[1]) > STEPS, first[1]


def eight_processes_are_one(folder):
    alike(folder, encoder, "encoder", (1, 2, 4, 8))


def in_bf16_too(folder):
    alike(folder, encoder, "bf16", (1, 2, 4), train={"precision": "bf16"}, optim={"moments": "bf16"})


def decoders_with_adapters(folder):
    alike(folder, decoder, "lm", (1, 2, 4))
    alike(folder, decoder, "lora", (1, 4), lora={"r": 4, "dropout": 0.1}, train={"precision": "bf16"})


def layers_that_thaw(folder):
    alike(folder, encoder, "thaw", (1, 2, 4), freeze={"unfreeze": "3 steps"}, train={"check_every": 2})
    alike(folder, encoder, "below", (1, 2), freeze={"below": "layer.2", "cache": True}, train={"slice_tokens": 100})


def any_number_without_it(folder):
    """Batches in parts of other bounds have other sums, but the same again every time."""
    config, alone = encoder(folder, "alone", train={"elastic": False})
    train(1, config)
    for ranks in (2, 3):
        config, run = encoder(folder, f"plain-{ranks}", train={"elastic": False})
        train(ranks, config)
        again, other = encoder(folder, f"again-{ranks}", train={"elastic": False})
        train(ranks, again)
        assert weights(run) == weights(other) and metrics(run) == metrics(other), ranks
        worst = max(abs(a - b) for a, b in zip(numbers(alone), numbers(run), strict=True))
        assert 0 < worst < 1e-4, (ranks, worst)
        for a, b in zip(metrics(alone), metrics(run), strict=True):
            assert a["event"] == b["event"] and abs(a.get("loss", 0) - b.get("loss", 0)) < 1e-5, (ranks, a, b)


main(eight_processes_are_one, in_bf16_too, decoders_with_adapters, layers_that_thaw, any_number_without_it)
