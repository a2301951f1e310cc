"""Writes expected.safetensors, the byte image that test_safetensors_save.c compares with, by the Python package
(pip install torch safetensors; made with safetensors 0.8.0). Run in this folder."""
import torch
from safetensors.torch import save_file

f32 = torch.tensor([0.0, -1.5, 3.14159274, 1e30, -1e-30, 65504.0])
save_file(
    {
        "layer.weight": f32.reshape(2, 3),
        "position_ids": torch.tensor([1, -2, 3], dtype=torch.int64),
        "bytes": torch.tensor([1, 2, 255], dtype=torch.uint8),
        '"naïve"\\': torch.tensor([7, -7], dtype=torch.int32),
        "empty": torch.zeros((0, 3)),
        "scalar": torch.tensor(-1.5),
    },
    "expected.safetensors",
    {"format": "pt"},
)
