"""Scores of classes, from the confusion matrix or from sums of their own.

`matrix` is float64 (classes, classes), rows are true classes. A class that is neither present nor predicted does not
count in a mean over the classes; a share of nothing is 0. So it is in torchmetrics and scikit-learn.
"""

import torch
from torch import Tensor

from trainer.tasks.metrics import Number


def accuracy(matrix: Tensor) -> Number:
    """Return the share of samples whose class is the one predicted."""
    return matrix.diagonal().sum().item() / matrix.sum().item()


def macro_f1(matrix: Tensor) -> Number:
    """Return the mean over the classes of F1 = 2 hits / (present + predicted)."""
    return _f1(matrix)[_counting(matrix)].mean()


def weighted_f1(matrix: Tensor) -> Number:
    """Return F1 averaged over the classes by how often they are present."""
    present = matrix.sum(1)
    counting = _counting(matrix)
    return (_f1(matrix)[counting] * present[counting]).sum() / present.sum()


def precision(matrix: Tensor) -> Number:
    """Return the mean over the classes of hits / predicted."""
    return _shares(matrix.diagonal(), matrix.sum(0))[_counting(matrix)].mean()


def recall(matrix: Tensor) -> Number:
    """Return the mean over the classes of hits / present."""
    return _shares(matrix.diagonal(), matrix.sum(1))[_counting(matrix)].mean()


def mcc(matrix: Tensor) -> Number:
    """Return Matthews' correlation coefficient for several classes (Gorodkin 2004); 0 where a side does not vary."""
    present, predicted, samples = matrix.sum(1), matrix.sum(0), matrix.sum()
    covariance = matrix.diagonal().sum() * samples - present @ predicted
    spread = (samples**2 - present @ present) * (samples**2 - predicted @ predicted)
    return covariance / spread.sqrt() if spread > 0 else 0.0


def cohen_kappa(matrix: Tensor, weights: str = "none") -> Number:
    """Return 1 − weighted disagreement / that of chance (Cohen 1960, 1968); NaN where chance cannot disagree.

    Args:
        weights: "none": every wrong class counts alike; "linear", "quadratic": by its distance in the order of classes.
    """
    places = torch.arange(len(matrix), dtype=matrix.dtype)
    distance = (places[:, None] - places).abs()
    cost = {"none": (distance > 0).to(matrix.dtype), "linear": distance, "quadratic": distance**2}[weights]
    chance = torch.outer(matrix.sum(1), matrix.sum(0)) / matrix.sum()
    kappa: Tensor = 1 - (cost * matrix).sum() / (cost * chance).sum()
    return kappa


def top_k_sums(outputs: Tensor, targets: Tensor, weights: Tensor, *, k: int) -> Tensor:
    """Return how many samples have their class among the k largest outputs, and how many there are."""
    found = outputs.topk(min(k, outputs.size(1)), dim=1).indices.eq(targets[:, None]).any(1)
    return torch.stack([(found * weights).sum(), weights.sum()]).double()


def calibration_sums(outputs: Tensor, targets: Tensor, weights: Tensor, *, bins: int) -> Tensor:
    """Return for each bin of the confidence its sum, the hits, and the samples: 3 · bins numbers."""
    confidence, predicted = outputs.softmax(1).max(1)
    edges = torch.linspace(0, 1, bins + 1, device=outputs.device)
    place = (torch.bucketize(confidence, edges, right=True) - 1).clamp(max=bins - 1)
    sums = torch.zeros(3, bins, dtype=torch.float64, device=outputs.device)
    values = torch.stack([confidence, (predicted == targets).float(), torch.ones_like(confidence)])
    return sums.index_add_(1, place, (values * weights).double()).flatten()


def calibration_error(sums: Tensor) -> Number:
    """Return the mean distance of confidence and accuracy, by the samples of each bin (Guo et al. 2017, equation 3)."""
    confidence, hits, samples = sums.view(3, -1).unbind()
    return (confidence - hits).abs().sum() / samples.sum()


def _counting(matrix: Tensor) -> Tensor:
    return matrix.sum(0) + matrix.sum(1) > 0


def _f1(matrix: Tensor) -> Tensor:
    """Return F1 of each class; NaN for one that does not count."""
    return 2 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1))


def _shares(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole, 0.0)
