"""The last layers of a regressor."""

import torch
from torch import Tensor, nn


class Rescale(nn.Module):
    """Scales standardised predictions to the unit of the target: `y = x · std + mean`, per output.

    The network before it then learns numbers of mean 0 and deviation 1, as its initial weights assume, whatever the
    unit of the target. The constants are buffers, so that a checkpoint holds them.

    Args:
        mean, std: of each predicted number over the training split; where std is 0, 1 takes its place.

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


class Clamp(nn.Module):
    """Cuts predictions to the range that the target had in training; while a network is trained it does nothing.

    Args:
        low, high: of each predicted number.

    Shape:
        (B, outputs) float to the same.
    """

    def __init__(self, low: tuple[float, ...], high: tuple[float, ...]) -> None:
        super().__init__()
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.tensor(low), persistent=False)
        self.register_buffer("high", torch.tensor(high), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else x.clamp(self.low, self.high)
