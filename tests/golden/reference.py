"""What the makers of golden files have in common: sizes of the batches, settings of AdamW, and what a model is to give for them."""
import os

import torch
from safetensors.torch import save_file

BATCHES, STEPS = 3, 20
LENGTHS = [[7, 1, 12, 20], [3, 3, 16], [22, 5, 9, 2, 14]]
LR, BETAS, EPSILON, DECAY = 2e-3, (0.9, 0.999), 1e-8, 0.01


def write_expected(folder, out, model, batches, run, name_of=lambda name: name):
    """Adds logits of every batch, loss and gradients of the first, and the losses of AdamW's steps to `out`, and saves it. run(batch)
    gives logits and loss; gradients are of what trains, under name_of its name."""
    for b, batch in enumerate(batches):
        out[f"{b}.logits"] = run(batch)[0].detach().float()
    _, loss = run(batches[0])
    loss.backward()
    out["0.loss"] = loss.detach().float().reshape(1)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    for name, p in trained:
        out["gradient." + name_of(name)] = p.grad.float()
    optimizer = torch.optim.AdamW([{"params": [p for _, p in trained if p.dim() == 2], "weight_decay": DECAY},
                                   {"params": [p for _, p in trained if p.dim() != 2], "weight_decay": 0}],
                                  lr=LR, betas=BETAS, eps=EPSILON)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        _, loss = run(batches[step % BATCHES])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    out["losses"] = torch.tensor(losses).float()
    save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(folder, "expected.safetensors"))
    sizes = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
    print(os.path.basename(folder), losses[0], losses[-1], sizes)
