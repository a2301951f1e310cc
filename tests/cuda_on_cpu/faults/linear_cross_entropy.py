"""Faults that test_linear_cross_entropy must notice beside those of test_loss, whose passes it shares; ../mutants.py has the columns."""
SOURCE = "linear_cross_entropy.cu"
FAULTS = [
    (SOURCE, "    __syncthreads();\n    int before = 0", "    int before = 0", 0, "barrier missing before the warps' targets are added"),
    (SOURCE, "if (i < warp) before", "if (i <= warp) before", 0, "a warp's own targets counted before it"),
    (SOURCE, "if (lane >= step) sum += before;", "if (lane > step) sum += before;", 0, "a lane's targets lost"),
    (SOURCE, "at < room; at += LISTERS) list[at] = -1;", "at < room - 1; at += LISTERS) list[at] = -1;", 0, "the last place of the list not cleared"),
    (SOURCE, "last = first + run < rows ? first + run : rows;", "last = first + run;", 0, "labels beyond the last row"),
    (SOURCE, "if (is_target(label[r], classes)) return;", "return;", 0, "rows without a target keep what was there"),
    (SOURCE, "if (row >= 0) load_any(", "if (row > 0) load_any(", 0, "the first row not gathered"),
    (SOURCE, "scatter ? row : i, c, v", "i, c, v", 0, "dx not scattered"),
    (SOURCE, "entropy_clear<GROUP, 4>(a.slopes, i, (int)a.slopes.stride, lane);", "", 0, "slopes of rows without a target not cleared"),
    (SOURCE, "a.row_loss[target]", "a.row_loss[i]", 0, "losses not scattered"),
    (SOURCE, "if (present(j.dbias)) column_sums", "if (present(j.dbias) && rows > 200) column_sums", 0, "dbias of small pieces left out"),
    (SOURCE, "(const int32_t *)(j.own + j.at.list) + first,", "(const int32_t *)(j.own + j.at.list),", 0, "the first piece's rows for all"),
    (SOURCE, "(entropy_result *)(j.own + j.at.results) + first,", "(entropy_result *)(j.own + j.at.results),", 0, "pieces overwrite one another's results"),
    (SOURCE, "const int32_t *list = (const int32_t *)(j.own + j.at.list) + first;", "const int32_t *list = (const int32_t *)(j.own + j.at.list);", 0, "the first chunk's rows for all"),
    (SOURCE, "d = hn_tensor_rows(&slopes, r, some)", "d = hn_tensor_rows(&slopes, 0, some)", 0, "pieces overwrite one another's slopes"),
    (SOURCE, "multiply(j, j.dw, &slopes, true, &panel, false, true)", "multiply(j, j.dw, &slopes, true, &panel, false, false)", 0, "dw overwritten"),
    (SOURCE, "l.logits = take((size_t)(l.piece * l.words) * sizeof(float));", "l.logits = take((size_t)(l.piece * l.words) * element);", 0, "logits laid out in the products' type"),
    (SOURCE, "lay_out(out->rows ? least(out->rows, x->shape[0]) :", "lay_out(out->rows ? out->rows - 1 :", 0, "a target too few for the products"),
    (SOURCE, "lay_out(out->rows ? least(out->rows, x->shape[0]) : x->shape[0]", "lay_out(x->shape[0]", 0, "products over rows without a target"),
    (SOURCE, "columns % 4 == 0 && rows_aligned(to)", "columns % 4 == 0", 0, "vectors of rows that are not aligned"),
]
