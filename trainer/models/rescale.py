"""The last layer of a regressor."""

import torch
from torch import Tensor, nn


class Rescale(nn.Module):
    """From standardised predictions to the target's own units: `y = x · std + mean`, per output.

    The network before it learns numbers around 0 of size 1 whatever the unit of the target, as its initial
    weights assume; the constants are buffers, so a checkpoint carries them.

    Shape:
        (B, outputs) float to the same.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor([s or 1.0 for s in std]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.std + self.mean
