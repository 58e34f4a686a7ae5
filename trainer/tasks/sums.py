"""Sums of scores on the device."""

import torch
from torch import Tensor

TINY = 1e-12  # stands for the weight of a batch whose classes all weigh nothing: its loss is then 0, not 0/0


def sum_vector(*values: Tensor | float) -> Tensor:
    """Return a float64 vector on the device of the first value, without a wait for any."""
    vector = torch.empty(len(values), dtype=torch.float64, device=values[0].device)  # type: ignore[union-attr]
    for i, value in enumerate(values):
        vector[i] = value
    return vector
