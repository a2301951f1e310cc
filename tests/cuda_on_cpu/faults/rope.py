"""Faults that test_rope must notice; ../mutants.py has the columns."""
FAULTS = [
    ("rope.cu", "a * v.cosine[i] - b * cross", "a * v.cosine[i] + b * cross", 0, "turned the wrong way"),
    ("rope.cu", "b * v.cosine[i] + a * cross", "b * v.cosine[i] + v.a[i] * cross", 0, "a overwritten before it is used"),
    ("rope.cu", "(unsigned)half) * half", "(unsigned)half) * (half + 1)", 0, "wrong place of a head"),
    ("rope.cu", "k.cosine + half + i", "k.cosine + i", 0, "cosines for sines"),
    ("rope.cu", "backward ? -1.0f", "backward ? 1.0f", 0, "never turns back"),
    ("rope.cu", "size / 2, {x, table}", "size, {x, table}", 0, "vectors that reach over half a head"),
    ("rope.cu", "{x, table}", "{table}", 0, "vectors where rows are not aligned"),
    ("rope.cu", "x->shape[1] / 2", "x->shape[1] / 2 - 1", 0, "the last pair left out"),
    ("rope.cu", "positions)) return false;", "positions)) {}", 0, "a bad position is used"),
    ("rope.cu", "const int p = position[r]", "const int p = position[0]", 0, "the first row's position"),
    ("cuda/fault.cuh", "value < limit", "value <= limit", 0, "one position too many"),
    ("cuda/fault.cuh", "value >= 0 &&", "", 0, "negative positions"),
    ("cuda/fault.cuh", "(uint64_t)limit;", "(uint64_t)limit + 1;", 0, "the wrong limit told"),
]
