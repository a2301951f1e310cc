"""Faults that test_dropout must notice; ../mutants.py has the columns."""
FAULTS = [
    ("dropout.cu", "drop_row_of(site, r, columns)", "drop_row_of(site, r, columns + 1)", 0, "elements numbered by another width"),
    ("dropout.cu", "drop_row_of(site, r, columns)", "drop_row_of(site, 0, columns)", 0, "the keys of the first row"),
    ("dropout.cu", "drop_apply(v.v, site, k.drawn, c)", "drop_apply(v.v, site, k.drawn, 0)", 0, "every vector the same mask"),
    ("dropout.cu", "store(y.row(k.r) + c, v.v)", "store(y.data + k.r * columns + c, v.v)", 0, "wrong stride, y"),
    ("cuda/random.cuh", "if (!site.step) return {0, 0, 0};", "", 0, "no dropout is not seen"),
    ("cuda/random.cuh", ">= site.threshold ? v[i + e]", "> site.threshold >> 1 ? v[i + e]", 0, "another threshold"),
    ("cuda/random.cuh", "v[i + e] * site.scale", "v[i + e]", 0, "kept elements not scaled"),
    ("cuda/random.cuh", "(uint64_t)site.position[row] * (uint64_t)columns", "(uint64_t)(site.position[row] & 7) * (uint64_t)columns", 0, "positions cut short"),
    ("cuda/random.cuh", "round < 10", "round < 9", 0, "a round of Philox too few"),
]
