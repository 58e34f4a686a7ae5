"""What a metric is, and how the metrics of a task are computed over one validation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.tasks.base import MAX, MIN, PREFIX

Number = Tensor | float


@dataclass(frozen=True)
class Metric:
    """A score of a validation.

    Attributes:
        name: of the score, without the prefix `val/`.
        larger_is_better: which way is better.
    """

    name: str
    larger_is_better: bool


@dataclass(frozen=True)
class DerivedMetric(Metric):
    """A function of the sums that every evaluation of its kind of task keeps anyway: a confusion matrix, or moments.

    Attributes:
        score: of these sums, float64 on the CPU.
    """

    score: Callable[[Tensor], Number]


@dataclass(frozen=True)
class SummedMetric(Metric):
    """A function of sums of its own.

    Attributes:
        sums: of outputs, targets and weights, see `MetricConfig`: a vector that adds up over batches.
        score: of the added-up vector, float64 on the CPU.
    """

    sums: Callable[[Tensor, Tensor, Tensor], Tensor]
    score: Callable[[Tensor], Number]


@dataclass(frozen=True)
class SampleMetric(Metric):
    """A function of all samples at once, which are kept on the device until the end of the validation.

    Attributes:
        score: of outputs, float32 (N, outputs), and targets.
    """

    score: Callable[[Tensor, Tensor], Number]


class MetricSums:
    """What the metrics of a task add up over one pass, beside the sums that its evaluation keeps anyway."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = metrics
        self._sums: dict[str, Tensor] = {}
        self._samples: list[tuple[Tensor, Tensor, Tensor]] = []

    def update(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> None:
        """Add a batch, see `Evaluation.update`; outputs are float32."""
        for metric in self.metrics:
            if isinstance(metric, SummedMetric):
                sums = metric.sums(outputs, targets, weights).double()
                self._sums[metric.name] = self._sums[metric.name] + sums if metric.name in self._sums else sums
        if any(isinstance(metric, SampleMetric) for metric in self.metrics):
            self._samples.append((outputs, targets, weights))

    def scores(self, totals: Tensor) -> dict[str, float]:
        """Return the score of each metric, in their order.

        Args:
            totals: the sums of the evaluation, for `DerivedMetric`.
        """
        if self._samples:
            outputs, targets, weights = (torch.cat(parts) for parts in zip(*self._samples, strict=True))
            counts = weights > 0
            outputs, targets = outputs[counts], targets[counts]
        scores = {}
        for metric in self.metrics:
            match metric:
                case DerivedMetric():
                    score = metric.score(totals)
                case SummedMetric():
                    score = metric.score(self._sums[metric.name].cpu())
                case SampleMetric():
                    score = metric.score(outputs, targets)
                case _:
                    raise TypeError(f"{metric} is no metric that can be computed")
            scores[metric.name] = float(score)
        return scores


def metric_direction(metrics: Sequence[Metric], score: str) -> str:
    """Return "max" where a larger value of a score is better, "min" where a smaller one is, as of the loss."""
    name = score.removeprefix(PREFIX)
    return next((MAX if metric.larger_is_better else MIN for metric in metrics if metric.name == name), MIN)


def share(sums: Tensor) -> Number:
    """Return the first sum as a share of the second."""
    return sums[0] / sums[1]
