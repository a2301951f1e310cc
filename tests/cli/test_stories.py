"""A real trained model: greedy text is what its authors publish, byte for byte (../shared/data; skipped without it)."""
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
from tiny import *

MODELS = os.path.join(SOURCE, "../shared/data/models")


def greedy_text_is_the_published_one(folder):
    with open(os.path.join(MODELS, "stories260K/expected_greedy_200.txt"), "rb") as f:
        expected = f.read().decode("utf8")
    for threads in (1, 2):
        done = hone("generate", os.path.join(MODELS, "stories260K-hf"), "--max-tokens", "200", f"train.threads={threads}")
        assert done.stdout == expected, done.stdout


if not os.path.isdir(MODELS):
    print("SKIP: ../shared/data/models is not there")
    sys.exit(77)
main(greedy_text_is_the_published_one)
