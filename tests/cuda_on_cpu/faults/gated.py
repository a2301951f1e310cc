"""Faults that test_gated must notice; ../mutants.py has the columns."""
FAULTS = [
    ("gated.cu", "v.up[i] *= v.gate[i]", "v.up[i] += v.gate[i]", 0, "a sum for a product"),
    ("gated.cu", "load(v.up, up.row(k.r) + c)", "load(v.up, up.row(k.r))", 0, "wrong column, forward"),
    ("gated.cu", "load(v.up, up.row(k.r) + c)", "load(v.up, gate.row(k.r) + c)", 1, "gate for up, backward"),
    ("gated.cu", "v.d[i] * v.up[i] * g.slope", "v.d[i] * v.up[i] * g.value", 0, "the value for the slope"),
    ("gated.cu", "v.up[i] = v.d[i] * g.value", "v.up[i] = v.gate[i] * g.value", 0, "an overwritten operand"),
    ("gated.cu", "store(y.row(k.r) + c", "store(y.data + k.r * 2 * N + c", 0, "wrong stride of y"),
    ("gated.cu", "{dgate, dup, dy, gate, up}", "{dgate}", 0, "vectors at places that are not aligned, backward"),
    ("gated.cu", "{y, gate, up}", "{y}", 0, "vectors at places that are not aligned, forward"),
    ("cuda/rowwise.cuh", "pass.fetch(second, key, c + step);\n            pass.finish(key, c, first);", "pass.finish(key, c, first);\n            pass.fetch(second, key, c);", 0, "the second vector read after the first was written"),
    ("cuda/activation.cuh", "{z * w, ", "{w, ", 0, "the weight for the value"),
    ("cuda/activation.cuh", "w * (1.0f - w)", "w * w", 0, "slope of SiLU"),
    ("cuda/activation.cuh", "(1.0f - t * t)", "(1.0f - t)", 0, "slope of tanh in GELU"),
]
