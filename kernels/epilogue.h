/* What becomes of a linear layer's product while it lies in cache: bias, activation or its slope, narrowing, addition. */
#ifndef HONE_KERNELS_EPILOGUE_H
#define HONE_KERNELS_EPILOGUE_H

#include "kernels/activation_vec.h"
#include "kernels/ops.h"
#include "kernels/vec.h"

typedef struct hnp_epilogue {
    const hn_tensor *y, *z, *bias; /* forward: y = act(z = c + bias); z and bias may be NULL */
    const hn_tensor *slope_of;     /* backward: y = c * act'(slope_of) */
    hn_activation activation;
    bool add; /* y += c */
} hnp_epilogue;

/* The lanes from column i on, `left` of them in the row. */
HN_BODY void hnp_finish_lanes(const hnp_epilogue *e, const float *c, int64_t r, int64_t i, int64_t left,
                              hn_activation activation, bool backward)
{
    void *y = hnp_row(e->y, r);
    vf v = vf_get(c, HN_F32, i, left);
    if (backward) {
        v *= hnp_slope(vf_get(hnp_row(e->slope_of, r), e->slope_of->dtype, i, left), activation);
    } else {
        if (e->bias) v += vf_get(e->bias->data, e->bias->dtype, i, left);
        if (e->z) vf_put(hnp_row(e->z, r), e->z->dtype, i, left, v);
        v = hnp_activate(v, activation);
        if (e->add) v += vf_get(y, e->y->dtype, i, left);
    }
    vf_put(y, e->y->dtype, i, left, v);
}

HN_BODY void hnp_finish_row(const hnp_epilogue *e, const float *c, int64_t r, hn_activation activation, bool backward)
{
    int64_t columns = e->y->shape[1], i = 0;
    for (; i + HN_LANES <= columns; i += HN_LANES) hnp_finish_lanes(e, c, r, i, HN_LANES, activation, backward);
    if (i < columns) hnp_finish_lanes(e, c, r, i, columns - i, activation, backward);
}

HN_BODY void hnp_finish_rows(const hnp_epilogue *e, const float *c, int64_t stride, int64_t first, int64_t rows,
                             hn_activation activation)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *row = c + r * stride;
        if (e->slope_of) hnp_finish_row(e, row, first + r, activation, true);
        else hnp_finish_row(e, row, first + r, activation, false);
    }
}

/* y's rows [first, first + rows) from c [rows, columns of y], rows of c `stride` floats apart. */
static inline void hnp_finish(const hnp_epilogue *e, const float *c, int64_t stride, int64_t first, int64_t rows)
{
    switch (e->activation) {
    case HN_ACT_NONE: hnp_finish_rows(e, c, stride, first, rows, HN_ACT_NONE); break;
    case HN_ACT_GELU: hnp_finish_rows(e, c, stride, first, rows, HN_ACT_GELU); break;
    case HN_ACT_GELU_TANH: hnp_finish_rows(e, c, stride, first, rows, HN_ACT_GELU_TANH); break;
    case HN_ACT_TANH: hnp_finish_rows(e, c, stride, first, rows, HN_ACT_TANH); break;
    case HN_ACT_RELU: hnp_finish_rows(e, c, stride, first, rows, HN_ACT_RELU); break;
    case HN_ACT_SILU: hnp_finish_rows(e, c, stride, first, rows, HN_ACT_SILU); break;
    }
}

#endif
