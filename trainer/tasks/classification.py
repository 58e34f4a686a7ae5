"""One class out of several."""

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.tasks.base import Evaluation
from trainer.tasks.sums import TINY, sum_vector

TOP5_FROM = 11  # classes from which top-5 accuracy says something


class ClassificationTask:
    """Cross-entropy on logits (B, classes) against class indices (B,), or shares (B, classes) where samples are mixed.

    Args:
        spec: names and counts of the classes.
        label_smoothing: share of each target spread evenly over all classes (Szegedy et al. 2016, section 7).
        class_weights: None, "balanced" (n / (classes × count), over the training split), or one number per class.

    Raises:
        ConfigError: when the data has no classes, or the weights do not fit them.
    """

    kind, monitor, mode = "classification", "val/accuracy", "max"

    def __init__(self, spec: DataSpec, label_smoothing: float = 0.0, class_weights: str | list[float] | None = None):
        if spec.labels is None:
            raise ConfigError(
                "task=classification: the target is a number; use task=regression, or data.target_type=class "
                "where each of its values is a class."
            )
        self.classes, self.label_smoothing = len(spec.labels), label_smoothing
        self.class_weights = _class_weights(class_weights, spec)
        self.score_names = ("loss", "accuracy", "macro_f1", *(["top5"] if self.classes >= TOP5_FROM else []))

    def to(self, device: torch.device) -> None:
        """Move the class weights to the device."""
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(device)

    def weight(self, targets: Tensor, weights: Tensor | None = None) -> Tensor | float:
        """Number of targets, or the sum of their weights: those of the samples times those of their classes."""
        each = self._weights(targets, weights)
        return float(targets.size(0)) if each is None else each.sum().clamp(min=TINY)

    def _weights(self, targets: Tensor, weights: Tensor | None) -> Tensor | None:
        if self.class_weights is None:
            return weights
        each = _of_classes(self.class_weights, targets)
        return each if weights is None else each * weights

    def loss_sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Sum over the batch of the (weighted, smoothed) cross-entropies."""
        reduction = "sum" if weights is None else "none"
        losses = F.cross_entropy(
            outputs, targets, self.class_weights, reduction=reduction, label_smoothing=self.label_smoothing
        )
        return losses if weights is None else losses @ weights.to(losses.dtype)

    def train_sums(self, outputs: Tensor, targets: Tensor, loss_sum: Tensor, weights: Tensor | None = None) -> Tensor:
        """[Σ loss, Σ weight, correct, samples]; a mixed sample is correct by the share of the predicted class."""
        predicted = outputs.argmax(1)
        mixed = targets.ndim == 2
        correct = (targets.gather(1, predicted[:, None]) if mixed else predicted == targets).double().sum()
        each = self._weights(targets, weights)
        weight = targets.size(0) if each is None else each.double().sum()
        return sum_vector(loss_sum, weight, correct, targets.size(0))

    def train_scores(self, sums: list[float]) -> dict[str, float]:
        """Mean loss and accuracy."""
        loss, weight, correct, samples = sums
        return {"loss": loss / (weight or TINY), "accuracy": correct / samples}

    def evaluation(self, device: torch.device) -> Evaluation:
        """Empty sums."""
        return ClassificationEvaluation(self, device)


class ClassificationEvaluation:
    """Loss, accuracy, macro F1 and top-5 of a pass, from a confusion matrix that stays on the device."""

    def __init__(self, task: ClassificationTask, device: torch.device) -> None:
        self.task = task
        self.matrix = torch.zeros(task.classes * task.classes, dtype=torch.int64, device=device)
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)  # Σ loss, Σ weight, in the top 5

    def update(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> None:
        """Add a batch; rows of weight 0 do not count."""
        task = self.task
        losses = F.cross_entropy(
            outputs.float(), targets, task.class_weights, reduction="none", label_smoothing=task.label_smoothing
        )
        counts = torch.ones_like(losses) if weights is None else weights
        class_weights = counts if task.class_weights is None else counts * task.class_weights[targets]
        top5 = outputs.topk(min(5, task.classes), dim=1).indices.eq(targets[:, None]).any(1)
        self.sums += torch.stack([(losses * counts).sum(), class_weights.sum(), (top5 * counts).sum()]).double()
        cell = targets * task.classes + outputs.argmax(1)
        self.matrix.index_add_(0, cell, counts.to(torch.int64))

    def scores(self) -> dict[str, float]:
        """`loss`, `accuracy`, `macro_f1`, and `top5` from 11 classes on."""
        loss, weight, top5 = self.sums.tolist()
        matrix = self.confusion().double()
        samples, hits = matrix.sum().item(), matrix.diagonal()
        # F1 = 2 TP / (true + predicted); classes that are neither present nor predicted do not count.
        total = matrix.sum(0) + matrix.sum(1)
        f1 = (2 * hits / total)[total > 0]
        scores = {"loss": loss / weight, "accuracy": hits.sum().item() / samples, "macro_f1": f1.mean().item()}
        if self.task.classes >= TOP5_FROM:
            scores["top5"] = top5 / samples
        return scores

    def confusion(self) -> Tensor:
        """int64 (classes, classes), rows are true classes."""
        return self.matrix.view(self.task.classes, self.task.classes).cpu()


def _of_classes(class_weights: Tensor, targets: Tensor) -> Tensor:
    """The weight of each target, (B,)."""
    return class_weights[targets] if targets.ndim == 1 else targets @ class_weights


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
