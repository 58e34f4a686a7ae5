"""Scores of numbers, from the moments that every evaluation keeps, or from sums of their own.

`moments` are float64 (4, outputs): see `RegressionEvaluation`. Errors are averaged over all numbers; the other scores
are computed for each output and averaged.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.tasks.metrics import Number

SMALLEST_TARGET = 1.17e-06  # as in torchmetrics: a smaller target counts as this large, where errors are shares of it


def rmse(moments: Tensor) -> Number:
    """Return the root of the mean squared error, over all numbers."""
    rows, squares, _, _ = moments
    mean: Tensor = squares.sum() / rows.sum()
    return mean.sqrt()


def r2(moments: Tensor) -> Number:
    """Return 1 − squared error / variation of the target, averaged over the outputs; NaN where one does not vary."""
    rows, squares, first, second = moments
    variation = second - first.square() / rows
    return torch.where(variation > 0, 1 - squares / variation, torch.nan).mean()


def mae_sums(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of absolute errors and how many there are."""
    return _with_count((outputs - targets).abs(), weights)


def mape_sums(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of absolute errors as shares of the target, and how many there are."""
    return _with_count((outputs - targets).abs() / targets.abs().clamp(min=SMALLEST_TARGET), weights)


def joint_sums(outputs: Tensor, targets: Tensor, weights: Tensor, *, centre: Sequence[float]) -> Tensor:
    """Return the count and the sums of x, y, x², y², xy for each output, x and y being output and target.

    Args:
        centre: what is taken from both: near the mean, so that it does not eat the digits of the variance.
    """
    shift = torch.tensor(centre, dtype=torch.float64, device=outputs.device)
    x, y = outputs.double() - shift, targets.double() - shift
    rows = torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y])
    return (rows * weights.double()[:, None]).sum(1).flatten()


def pearson(sums: Tensor) -> Number:
    """Return the correlation of outputs and targets from `joint_sums`; NaN where one does not vary."""
    _, x_variation, y_variation, joint = _variations(sums)
    spread = (x_variation * y_variation).clamp(min=0).sqrt()
    return torch.where(spread > 0, joint / spread, torch.nan).clamp(-1, 1).mean()


def explained_variance(sums: Tensor) -> Number:
    """Return 1 − variance of the errors / variance of the targets from `joint_sums`; NaN where these do not vary."""
    _, x_variation, y_variation, joint = _variations(sums)
    errors = x_variation + y_variation - 2 * joint
    return torch.where(y_variation > 0, 1 - errors / y_variation, torch.nan).mean()


def _variations(sums: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the count, and the sums of squares and products about the means, for each output."""
    count, x, y, xx, yy, xy = sums.view(6, -1)
    return count, xx - x * x / count, yy - y * y / count, xy - x * y / count


def _with_count(errors: Tensor, weights: Tensor) -> Tensor:
    total = (errors * weights[:, None]).double().sum()
    return torch.stack([total, weights.double().sum() * errors.size(1)])
