/* Gated linear units: one pass over memory each way. y is not kept for the gradient of the next layer's weight unless the model
 * keeps it: forward gives it again from gate and up, which backward needs anyway. */
#include "kernels/gated.h"

#include "core/error.h"
#include "kernels/activation_vec.h"
#include "kernels/scratch.h"

typedef struct job {
    const hn_tensor *y, *dgate, *dup, *dy; /* forward: y; backward: the others */
    const hn_tensor *gate, *up;
} job;

HN_BODY void forward_lanes(const job *j, int64_t r, int64_t c, int64_t left, hn_activation activation, hn_dtype type)
{
    vf gate = vf_get(hnp_row(j->gate, r), type, c, left), up = vf_get(hnp_row(j->up, r), type, c, left);
    vf_put(hnp_row(j->y, r), type, c, left, hnp_activate(gate, activation) * up);
}

HN_BODY void backward_lanes(const job *j, int64_t r, int64_t c, int64_t left, hn_activation activation, hn_dtype type)
{
    vf gate = vf_get(hnp_row(j->gate, r), type, c, left), up = vf_get(hnp_row(j->up, r), type, c, left);
    vf d = vf_get(hnp_row(j->dy, r), type, c, left);
    vf_put(hnp_row(j->dgate, r), type, c, left, d * up * hnp_slope(gate, activation));
    vf_put(hnp_row(j->dup, r), type, c, left, d * hnp_activate(gate, activation));
}

HN_BODY void rows(const job *j, hn_activation activation, bool backward, hn_dtype type)
{
    int64_t count = j->gate->shape[0], columns = j->gate->shape[1];
#pragma omp parallel for schedule(static) if (count * columns > HNP_ALONE)
    for (int64_t r = 0; r < count; r++)
        for (int64_t c = 0; c < columns; c += HN_LANES) {
            if (backward) backward_lanes(j, r, c, columns - c, activation, type);
            else forward_lanes(j, r, c, columns - c, activation, type);
        }
}

HN_BODY void run_typed(const job *j, hn_activation activation, bool backward, hn_dtype type)
{
    switch (activation) {
    case HN_ACT_GELU: rows(j, HN_ACT_GELU, backward, type); break;
    case HN_ACT_GELU_TANH: rows(j, HN_ACT_GELU_TANH, backward, type); break;
    case HN_ACT_RELU: rows(j, HN_ACT_RELU, backward, type); break;
    case HN_ACT_SILU: rows(j, HN_ACT_SILU, backward, type); break;
    case HN_ACT_NONE: rows(j, HN_ACT_NONE, backward, type); break;
    case HN_ACT_TANH: break; /* its slope is told by the output, which nobody has: see run */
    }
}

static bool same(const hn_tensor *a, const hn_tensor *b)
{
    return a->dtype == b->dtype && a->shape[0] == b->shape[0] && a->shape[1] == b->shape[1];
}

HN_BODY void run(const job *j, hn_activation activation, bool backward)
{
    HN_ASSERT(activation != HN_ACT_TANH && same(j->up, j->gate));
    if (j->gate->dtype == HN_F32) run_typed(j, activation, backward, HN_F32);
    else run_typed(j, activation, backward, HN_BF16);
}

void HN_ISA_NAME(hnp_gated_forward)(hn_ops_context *ctx, const hn_tensor *y, const hn_tensor *gate, const hn_tensor *up,
                                    hn_activation activation)
{
    (void)ctx;
    HN_ASSERT(same(y, gate));
    job j = {.y = y, .gate = gate, .up = up};
    run(&j, activation, false);
}

void HN_ISA_NAME(hnp_gated_backward)(hn_ops_context *ctx, const hn_tensor *dgate, const hn_tensor *dup,
                                     const hn_tensor *dy, const hn_tensor *gate, const hn_tensor *up,
                                     hn_activation activation)
{
    (void)ctx;
    HN_ASSERT(same(dgate, gate) && same(dup, gate) && same(dy, gate));
    job j = {.dgate = dgate, .dup = dup, .dy = dy, .gate = gate, .up = up};
    run(&j, activation, true);
}
