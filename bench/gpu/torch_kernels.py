"""PyTorch's side of bench_gpu: what it has for the same operations at the same shapes, by CUDA's events. Prints one JSON object.

    python3 bench/gpu/torch_kernels.py [--seconds 200] [--rehearse]

Attention is varlen_attn (FlashAttention over cu_seqlens) and, where all lengths are equal, scaled_dot_product_attention: the faster
counts. Norms and losses run as they stand and through torch.compile, and the faster counts. --rehearse: tiny shapes on the CPU."""
import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

MODELS = [  # name, sequences, shortest, longest, width, heads, kv_heads, head_size, inner, vocabulary, causal: as in main.c
    ("BERT-base, 1024 pairs", 1024, 10, 60, 768, 12, 12, 64, 3072, 30522, False),
    ("MiniLM, 1024 pairs", 1024, 10, 60, 384, 12, 12, 32, 1536, 30522, False),
    ("BERT-base, 32 pairs", 32, 20, 60, 768, 12, 12, 64, 3072, 30522, False),
    ("GPT-2 124M, 16 x 1024", 16, 1024, 1024, 768, 12, 12, 64, 3072, 50257, True),
    ("Llama 1B, 4 x 2048", 4, 2048, 2048, 2048, 32, 8, 64, 8192, 128256, True),
    ("head size 128, 4 x 4096", 4, 4096, 4096, 4096, 32, 8, 128, 0, 0, True),
]
TINY = ("rehearsal", 3, 5, 9, 64, 4, 2, 16, 96, 97, True)


class Bench:
    def __init__(self, device, deadline):
        self.device, self.deadline, self.rows, self.left_out = device, deadline, {}, []

    def compiled(self, function):
        return function if self.device == "cpu" else torch.compile(function)

    def tensor(self, *shape, dtype=torch.bfloat16, grad=False):
        values = torch.rand(*shape, device=self.device, dtype=torch.float32) * 2 - 1
        return values.to(dtype).requires_grad_(grad)

    def seconds(self, run):
        """Median of nine rounds, each long enough for an event's grain."""
        if self.device == "cpu":
            begun = time.perf_counter()
            run()
            return time.perf_counter() - begun
        for _ in range(3):
            run()
        torch.cuda.synchronize()

        def timed(runs):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(runs):
                run()
            end.record()
            end.synchronize()
            return start.elapsed_time(end) * 1e-3 / runs

        runs = min(1000, int(5e-3 / max(timed(3), 1e-7)) + 1)
        return statistics.median(timed(runs) for _ in range(9))

    def row(self, operation, shape, how, make):
        """make() gives the function to time; of several ways for one operation and shape the fastest stays."""
        if time.time() > self.deadline:
            self.left_out.append(f"{operation}, {shape}, {how}")
            return
        try:
            seconds = self.seconds(make())
        except Exception as error:  # a way that this PyTorch or GPU does not offer
            self.left_out.append(f"{operation}, {shape}, {how}: {str(error).splitlines()[0][:120]}")
            return
        known = self.rows.get((operation, shape))
        if known is None or seconds * 1e6 < known["microseconds"]:
            self.rows[operation, shape] = {"operation": operation, "shape": shape, "microseconds": seconds * 1e6, "how": how}


def backward_of(forward, inputs, gradient):
    """A function that runs the backward alone, of a graph made once."""
    output = forward()

    def run():
        torch.autograd.grad(output, inputs, gradient, retain_graph=True)

    return run


def lengths_of(model):
    _, sequences, shortest, longest = model[:4]
    return [shortest + s * 7919 % (longest - shortest + 1) for s in range(sequences)]


def attention(b, model):
    name, n, shortest, longest, _, heads, kv_heads, size, _, _, causal = model
    lengths = lengths_of(model)
    rows, cu = sum(lengths), torch.tensor([0] + lengths, device=b.device).cumsum(0).to(torch.int32)
    q, k, v = (b.tensor(rows, h, size, grad=True) for h in (heads, kv_heads, kv_heads))
    gradient = b.tensor(rows, heads, size)

    def varlen(repeat=1):
        from torch.nn.attention.varlen import varlen_attn
        wide = [t.repeat_interleave(repeat, 1) if repeat > 1 else t for t in (k, v)]
        return varlen_attn(q, wide[0], wide[1], cu, cu, longest, longest, window_size=(-1, 0) if causal else (-1, -1))

    def dense():
        parts = [t.view(n, longest, -1, size).transpose(1, 2) for t in (q, k, v)]
        return F.scaled_dot_product_attention(*parts, is_causal=causal, enable_gqa=heads != kv_heads).transpose(1, 2)

    ways = [("varlen_attn", varlen)]
    if heads != kv_heads:
        ways.append(("varlen_attn, K and V repeated", lambda: varlen(heads // kv_heads)))
    ways += ([("scaled_dot_product_attention", dense)] if shortest == longest else [])
    for how, forward in ways:
        b.row("attention_forward", name, how, lambda: lambda: forward())
        b.row("attention_backward", name, how, lambda: backward_of(forward, (q, k, v), gradient.view(forward().shape)))


def norms(b, model):
    name, width, rms = model[0], model[4], model[5] != model[6]
    rows, operation = sum(lengths_of(model)), "rmsnorm" if rms else "layernorm"
    x, residual = b.tensor(rows, width, grad=True), b.tensor(rows, width, grad=True)
    gamma, beta = b.tensor(width, grad=True), b.tensor(width, grad=True)
    gradients = b.tensor(rows, width), b.tensor(rows, width)

    def plain():
        h = x + residual
        return h, F.rms_norm(h, (width,), gamma, 1e-5) if rms else F.layer_norm(h, (width,), gamma, beta, 1e-5)

    inputs = (x, gamma) if rms else (x, gamma, beta)
    for how, forward in (("eager", plain), ("torch.compile", b.compiled(plain))):
        b.row(f"{operation}_forward", name, how, lambda: lambda: forward())
        b.row(f"{operation}_backward", name, how, lambda: backward_of(forward, inputs, gradients))


def products(b, model):
    name, width, heads, kv_heads, size, inner, causal = (model[i] for i in (0, 4, 5, 6, 7, 8, 10))
    gated, rows = heads != kv_heads, sum(lengths_of(model))
    gelu = {"approximate": "tanh" if causal else "none"}
    layers = [("qkv", width, (heads + 2 * kv_heads) * size, False), ("attention out", heads * size, width, False),
              ("mlp up", width, inner * (2 if gated else 1), not gated), ("mlp down", inner, width, False)]
    for layer, columns, out, activated in layers:
        x, w, bias = b.tensor(rows, columns), b.tensor(out, columns), b.tensor(out)
        dy = b.tensor(rows, out)
        shape = f"{name}, {layer}"
        b.row("linear_forward", shape, "F.linear", lambda: lambda: F.gelu(F.linear(x, w, bias), **gelu) if activated else F.linear(x, w, bias))
        b.row("linear_backward_input", shape, "matmul", lambda: lambda: dy @ w)
        b.row("linear_backward_weight", shape, "matmul and sum", lambda: lambda: (dy.T @ x, dy.sum(0)))


def losses(b, model):
    name, width, vocabulary = model[0], model[4], model[9]
    rows = sum(lengths_of(model))
    few = min(rows, 4096)
    label = torch.randint(vocabulary, (rows,), device=b.device)
    logits = b.tensor(few, vocabulary, grad=True)
    x, w = b.tensor(rows, width, grad=True), b.tensor(vocabulary, width, grad=True)

    def entropy():
        return F.cross_entropy(logits.float(), label[:few], reduction="sum")

    def product():
        return F.cross_entropy(F.linear(x, w).float(), label, reduction="sum")

    for how, change in (("eager", lambda f: f), ("torch.compile", b.compiled)):
        both = change(entropy), change(product)
        b.row("cross_entropy", f"{few} x {vocabulary}", how, lambda: lambda: torch.autograd.grad(both[0](), logits))
        b.row("linear_cross_entropy", name, how, lambda: lambda: torch.autograd.grad(both[1](), (x, w)))


def embedding(b, model):
    name, longest, width, vocabulary = model[0], model[3], model[4], model[9]
    rows = sum(lengths_of(model))
    table, places = b.tensor(vocabulary, width, grad=True), b.tensor(longest, width)
    ids, position = torch.randint(vocabulary, (rows,), device=b.device), torch.arange(rows, device=b.device) % longest
    gradient = b.tensor(rows, width)
    b.row("embedding_forward", name, "two F.embedding", lambda: lambda: F.embedding(ids, table) + F.embedding(position, places))
    b.row("embedding_backward", name, "F.embedding", lambda: backward_of(lambda: F.embedding(ids, table), (table,), gradient))


def optimizer(b, parameters):
    weights = [torch.nn.Parameter(b.tensor(parameters // 8, dtype=torch.float32)) for _ in range(8)]
    for weight in weights:
        weight.grad = b.tensor(parameters // 8, dtype=torch.float32)
    adamw = torch.optim.AdamW(weights, lr=1e-4, fused=True)
    shape = f"{parameters} parameters"
    b.row("adamw", shape, "AdamW(fused=True), fp32", lambda: adamw.step)
    b.row("sum_squares", shape, "clip_grad_norm_'s norm", lambda: lambda: torch.nn.utils.get_total_norm([w.grad for w in weights]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--rehearse", action="store_true")
    arguments = parser.parse_args()
    if not arguments.rehearse and not torch.cuda.is_available():
        sys.exit("torch_kernels: this PyTorch sees no GPU")
    b = Bench("cpu" if arguments.rehearse else "cuda", time.time() + arguments.seconds)
    models = [TINY] if arguments.rehearse else MODELS
    for part in (attention, norms, losses, embedding, products):
        for model in models:
            if model[8] or part is attention:
                part(b, model)
    optimizer(b, 8000 if arguments.rehearse else 124 << 20)
    print(json.dumps({"torch": torch.__version__, "device": "cpu" if arguments.rehearse else torch.cuda.get_device_name(),
                      "operations": list(b.rows.values()), "left_out": b.left_out}, indent=1))


if __name__ == "__main__":
    main()
