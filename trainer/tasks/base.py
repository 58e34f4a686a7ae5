"""What a task is: a loss that adds up over micro-batches, and scores."""

from typing import Protocol

import torch
from torch import Tensor


class Evaluation(Protocol):
    """The sums of one pass over the validation data."""

    def update(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> None:
        """Add a batch; no synchronisation with the device."""
        ...

    def scores(self) -> dict[str, float]:
        """The scores of all that was added, without prefix: `loss`, `accuracy`, ..."""
        ...

    def confusion(self) -> Tensor | None:
        """int64 (classes, classes) on the CPU, rows are true classes; None where there are no classes."""
        ...


class Task(Protocol):
    """What is learned. The loss of a batch is `loss_sum(...) / weight(...)`, so that micro-batches add up exactly.

    `weights`, float32 (B,), says how much each sample counts in the loss; None: as 1. Accuracy and errors count alike.
    """

    kind: str  # "classification" | "regression"
    monitor: str  # the score that decides what is best, such as "val/accuracy"
    mode: str  # "max" | "min"
    score_names: tuple[str, ...]  # what `Evaluation.scores` gives

    def to(self, device: torch.device) -> None:
        """Move what the loss needs (class weights) to the device."""
        ...

    def weight(self, targets: Tensor, weights: Tensor | None = None) -> Tensor | float:
        """The total weight of a batch's targets: their number, unless samples or classes are weighted."""
        ...

    def loss_sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The weighted sum of the losses, a scalar to differentiate."""
        ...

    def train_sums(self, outputs: Tensor, targets: Tensor, loss_sum: Tensor, weights: Tensor | None = None) -> Tensor:
        """float64 vector of sums over some training samples, whose losses sum to `loss_sum`; vectors add up."""
        ...

    def train_scores(self, sums: list[float]) -> dict[str, float]:
        """Return the scores of added-up `train_sums`, without prefix."""
        ...

    def evaluation(self, device: torch.device) -> Evaluation:
        """Empty sums for one validation."""
        ...
