"""Faults that test_rmsnorm must notice beside those of test_layernorm, whose passes it shares; ../mutants.py has the columns."""
NORM = "cuda/norm.cuh"
FAULTS = [
    (NORM, "if constexpr (S::CENTRED) mean =", "mean =", 0, "a mean where there is none"),
    (NORM, "S::CENTRED ? means[S::KINDS - 1] : 0.0f", "means[S::KINDS - 1]", 0, "the other norm's term of dh"),
    (NORM, "row * (uint32_t)groups) * columns, columns}", "row * (uint32_t)groups) * columns, columns + 1}", 0, "one column of the next group"),
    (NORM, "return {number, row, (int)", "return {row, row, (int)", 0, "statistics of the row, not of the group"),
    (NORM, "return m.row(row) + first;", "return m.row(row);", 0, "the first group for all"),
    (NORM, "*rows = {h->shape[0] * groups", "*rows = {h->shape[0]", 0, "groups left out"),
    (NORM, "step = S::GROUP; turn == 0", "step = 32; turn == 0", 0, "a warp's groups not added"),
    (NORM, "bool fit = rows.columns % n == 0;", "bool fit = true;", 0, "vectors across groups"),
    ("rmsnorm.cu", "norm_rows_of(ctx, name, &a.rows, h, groups)", "norm_rows_of(ctx, name, &a.rows, h, 1)", 0, "backward over whole rows"),
]
