"""What several networks side by side say together."""

import math

from torch import Tensor


def average(outputs: Tensor, classes: bool) -> Tensor:
    """Return the average (B, outputs) of outputs (B, members, outputs): of probabilities, as their logarithms."""
    if not classes:
        return outputs.mean(1)
    return outputs.log_softmax(-1).logsumexp(1) - math.log(outputs.shape[1])
