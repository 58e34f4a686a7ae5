"""Scores that follow from the order of all samples, computed by torchmetrics.

Its import takes seconds, for torchvision and torch's compiler come with it: this module is imported only where one of
these scores is asked for.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision
from torchmetrics.functional.regression import spearman_corrcoef

from trainer.tasks.metrics import Number


def auroc(outputs: Tensor, targets: Tensor) -> Number:
    """Return the area under the ROC curve of logits (N, classes); of more than two classes, the mean over them.

    A class that no sample has, or all have, does not count; NaN where there is no other.
    """
    return _against_the_rest(binary_auroc, outputs, targets)


def average_precision(outputs: Tensor, targets: Tensor) -> Number:
    """Return the area under the precision-recall curve of logits (N, classes); see `auroc`."""
    return _against_the_rest(binary_average_precision, outputs, targets)


def spearman(outputs: Tensor, targets: Tensor) -> Number:
    """Return the correlation of the ranks of outputs and targets, both (N, outputs), averaged over the outputs."""
    pairs = zip(outputs.unbind(1), targets.float().unbind(1), strict=True)
    return torch.stack([spearman_corrcoef(x, y) for x, y in pairs]).mean()


def _against_the_rest(curve: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor) -> Number:
    # In float64: float32 has no number between 1 and 1 - 6e-8, and what is rounded to 1 is no longer in order.
    probabilities = outputs.double().softmax(1)
    classes = [1] if outputs.size(1) == 2 else range(outputs.size(1))
    counts = targets.bincount(minlength=outputs.size(1)).tolist()
    scores = [
        curve(probabilities[:, one], (targets == one).long()) for one in classes if 0 < counts[one] < len(targets)
    ]
    return torch.stack(scores).mean() if scores else torch.nan
