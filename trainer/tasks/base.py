"""What a task is: a loss that adds up over micro-batches, and scores, each with the way that is better."""

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor

MAX, MIN = "max", "min"
PREFIX, AVERAGED_PREFIX = "val/", "val_ema/"  # of the scores of a validation: of the weights, of their average


class Evaluation(Protocol):
    """The sums of one pass over the validation data."""

    def update(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> None:
        """Add a batch; no synchronisation with the device.

        Args:
            outputs: float32 (B, outputs), whatever the precision of the run.
            targets: see `Task.loss_sum`; no mixed ones.
            weights: float32 (B,), 0 for rows that only fill up the batch and must not count; None: all rows count.
        """
        ...

    def scores(self) -> dict[str, float]:
        """Return the scores of all that was added, without prefix: `loss`, `accuracy`, ..."""
        ...

    def confusion(self) -> Tensor | None:
        """Return int64 (classes, classes) on the CPU, rows are true classes; None where there are no classes."""
        ...


class Task(Protocol):
    """What is learned. The loss of a batch is `loss_sum(...) / weight(...)`, so that micro-batches add up exactly.

    `weights`, float32 (B,), says how much each sample counts in the loss; None: as 1. Accuracy and errors count alike.

    Attributes:
        kind: "classification" or "regression".
        monitor: the score that decides what is best, such as "val/accuracy".
        mode: whether a larger value of it is better ("max"), or a smaller one ("min").
        score_names: what `Evaluation.scores` gives, without prefix.
    """

    kind: str
    monitor: str
    mode: str
    score_names: tuple[str, ...]

    def to(self, device: torch.device) -> None:
        """Move what the loss needs, such as class weights, to the device; a task that needs nothing does nothing."""
        return

    @abstractmethod
    def weight(self, targets: Tensor, weights: Tensor | None = None) -> Tensor | float:
        """Return the total weight of a batch's targets: their number, unless samples or classes are weighted."""
        ...

    @abstractmethod
    def loss_sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the weighted sum of the losses, a scalar to differentiate.

        Args:
            outputs: float (B, outputs).
            targets: class indices, int64 (B,), or shares of classes, (B, classes), where samples are mixed; numbers,
                float (B, outputs).
            weights: see above.
        """
        ...

    @abstractmethod
    def train_sums(self, outputs: Tensor, targets: Tensor, loss_sum: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return a float64 vector of sums over some training samples whose losses sum to `loss_sum`; vectors add up."""
        ...

    @abstractmethod
    def train_scores(self, sums: list[float]) -> dict[str, float]:
        """Return the scores of added-up `train_sums`, without prefix."""
        ...

    @abstractmethod
    def evaluation(self, device: torch.device) -> Evaluation:
        """Return empty sums for one validation."""
        ...

    def direction(self, score: str) -> str:
        """Return "max" where a larger value of a score is better, "min" where a smaller one is.

        A task that does not say otherwise: `mode` of the score that it monitors, "min" of the loss, "max" of any other.

        Args:
            score: its name, with or without the prefix `val/`.
        """
        name = score.removeprefix(PREFIX)
        if name == self.monitor.removeprefix(PREFIX):
            return self.mode
        return MIN if name == "loss" else MAX


def score_direction(task: Task, score: str) -> str:
    """Return `task.direction(score)`; of a task that has no such method, what `Task` says."""
    own = getattr(task, "direction", None)
    return Task.direction(task, score) if own is None else str(own(score))
