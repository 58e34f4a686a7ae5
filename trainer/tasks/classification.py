"""One class out of several."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.tasks.base import PREFIX, Evaluation, Task
from trainer.tasks.losses import ClassLoss, class_weights_of
from trainer.tasks.members import NDIM, member_losses
from trainer.tasks.metrics import Metric, MetricSums, metric_direction
from trainer.tasks.sums import TINY, sum_vector


class ClassificationTask(Task):
    """A loss of logits (B, classes) against class indices (B,), or shares (B, classes) where samples are mixed.

    Best is what `accuracy` says where it is among the metrics, else the first of them, else the loss.

    Args:
        spec: names and counts of the classes.
        label_smoothing: share of each target spread evenly over all classes (Szegedy et al. 2016, section 7).
        class_weights: None, "balanced" (n / (classes × count), over the training split), or one number per class.
        loss: see `ClassLoss`; None: the cross-entropy, with `label_smoothing`, which no other loss takes.
        metrics: scores of a validation beside the loss.

    Raises:
        ConfigError: when the data has no classes, or the weights do not fit them.
    """

    kind = "classification"

    def __init__(
        self,
        spec: DataSpec,
        label_smoothing: float = 0.0,
        class_weights: str | list[float] | None = None,
        loss: ClassLoss | None = None,
        metrics: Sequence[Metric] = (),
    ) -> None:
        if spec.labels is None:
            raise ConfigError(
                "task=classification: the target is a number; use task=regression, or data.target_type=class "
                "where each of its values is a class."
            )
        self.classes = len(spec.labels)
        self.class_weights = _class_weights(class_weights, spec)
        self.loss: ClassLoss = loss or partial(F.cross_entropy, label_smoothing=label_smoothing)
        self.metrics = metrics
        names = [metric.name for metric in metrics]
        self.score_names = ("loss", *names)
        best = "accuracy" if "accuracy" in names else next(iter(names), "loss")
        self.monitor, self.mode = f"{PREFIX}{best}", self.direction(best)

    def to(self, device: torch.device) -> None:
        """Move the class weights to the device."""
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(device)

    def weight(self, targets: Tensor, weights: Tensor | None = None) -> Tensor | float:
        """Return the number of targets, or the sum of their weights: of the samples times those of their classes."""
        each = self._weights(targets, weights)
        return float(targets.size(0)) if each is None else each.sum().clamp(min=TINY)

    def _weights(self, targets: Tensor, weights: Tensor | None) -> Tensor | None:
        if self.class_weights is None:
            return weights
        each = class_weights_of(self.class_weights, targets)
        return each if weights is None else each * weights

    def loss_sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the sum over the batch of the weighted losses."""
        if outputs.ndim == NDIM:
            return member_losses(self.loss_sum, outputs, targets, weights)
        if weights is None:
            return self.loss(outputs, targets, weight=self.class_weights, reduction="sum")
        losses = self.loss(outputs, targets, weight=self.class_weights, reduction="none")
        return losses @ weights.to(losses.dtype)

    def train_sums(self, outputs: Tensor, targets: Tensor, loss_sum: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return [Σ loss, Σ weight, correct, samples]; of a mixed sample, the share of the predicted class."""
        predicted = (outputs.softmax(-1).mean(1) if outputs.ndim == NDIM else outputs).argmax(1)
        mixed = targets.ndim == 2
        correct = (targets.gather(1, predicted[:, None]) if mixed else predicted == targets).double().sum()
        each = self._weights(targets, weights)
        weight = targets.size(0) if each is None else each.double().sum()
        return sum_vector(loss_sum, weight, correct, targets.size(0))

    def train_scores(self, sums: list[float]) -> dict[str, float]:
        """Return mean loss and accuracy."""
        loss, weight, correct, samples = sums
        return {"loss": loss / (weight or TINY), "accuracy": correct / samples}

    def evaluation(self, device: torch.device) -> Evaluation:
        """Return empty sums."""
        return ClassificationEvaluation(self, device)

    def direction(self, score: str) -> str:
        """Return the way that the metric says; see `Task.direction`."""
        return metric_direction(self.metrics, score)


class ClassificationEvaluation:
    """The loss and the metrics of a pass, many of them from a confusion matrix that stays on the device."""

    def __init__(self, task: ClassificationTask, device: torch.device) -> None:
        self.task, self.metrics = task, MetricSums(task.metrics)
        self.matrix = torch.zeros(task.classes * task.classes, dtype=torch.int64, device=device)
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)  # Σ loss, Σ weight

    def update(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> None:
        """Add a batch; rows of weight 0 do not count."""
        task, outputs = self.task, outputs.float()
        counts = torch.ones(len(targets), device=outputs.device) if weights is None else weights
        # The loss that is trained, also where a subclass has its own.
        self.sums += sum_vector(task.loss_sum(outputs, targets, weights), task.weight(targets, weights))
        cell = targets * task.classes + outputs.argmax(1)
        self.matrix.index_add_(0, cell, counts.to(torch.int64))
        self.metrics.update(outputs, targets, counts)

    def scores(self) -> dict[str, float]:
        """Return `loss` and the score of each metric."""
        loss, weight = self.sums.tolist()
        return {"loss": loss / weight} | self.metrics.scores(self.confusion().double())

    def confusion(self) -> Tensor:
        """Return int64 (classes, classes) on the CPU, rows are true classes."""
        return self.matrix.view(self.task.classes, self.task.classes).cpu()


def _class_weights(given: str | list[float] | None, spec: DataSpec) -> Tensor | None:
    assert spec.labels is not None
    if given is None:
        return None
    if given == "balanced":
        counts = torch.tensor(spec.class_counts, dtype=torch.float32)
        if (counts == 0).any():
            absent = spec.labels[int(counts.argmin())]
            raise ConfigError(f"task.class_weights=balanced: class '{absent}' has no training sample.")
        return counts.sum() / (len(counts) * counts)
    if len(given) != len(spec.labels):
        raise ConfigError(
            f"task.class_weights has {len(given)} numbers, but the data has {len(spec.labels)} classes: "
            f"{', '.join(spec.labels)}."
        )
    return torch.tensor([float(weight) for weight in given])
