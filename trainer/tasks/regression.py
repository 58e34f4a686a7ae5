"""Numbers to predict."""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.data.target_steps import apply_steps
from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.tasks.base import PREFIX, Evaluation, Task
from trainer.tasks.losses import Losses
from trainer.tasks.members import NDIM, member_losses
from trainer.tasks.metrics import Metric, MetricSums, metric_direction
from trainer.tasks.sums import TINY, sum_vector


class RegressionTask(Task):
    """A loss between outputs and float targets, both (B, outputs), averaged over all numbers; the lowest is best.

    Where the target is transformed, the loss is that of the transformed, and the metrics are those in its own unit.

    Args:
        spec: data without classes.
        losses: of each number, float (B, outputs), from outputs and targets; None: the squared error.
        metrics: scores of a validation beside the loss.

    Raises:
        ConfigError: when the data has classes.
    """

    kind, monitor, mode = "regression", f"{PREFIX}loss", "min"

    def __init__(self, spec: DataSpec, losses: Losses | None = None, metrics: Sequence[Metric] = ()) -> None:
        if spec.labels is not None:
            raise ConfigError("task=regression: the data has classes; use task=classification.")
        self.losses: Losses = losses or partial(F.mse_loss, reduction="none")
        self.outputs, self.metrics, self.steps = spec.outputs, metrics, spec.target_steps
        self.score_names = ("loss", *(metric.name for metric in metrics))

    def weight(self, targets: Tensor, weights: Tensor | None = None) -> Tensor | float:
        """Return how many numbers are predicted, each counted by the weight of its sample."""
        if weights is None:
            return float(targets.numel())
        return (weights.sum() * targets.size(1)).clamp(min=TINY)

    def loss_sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the sum over the batch, weighted."""
        if outputs.ndim == NDIM:
            return member_losses(self.loss_sum, outputs, targets, weights)
        losses = self.losses(apply_steps(outputs, self.steps), apply_steps(targets, self.steps))
        return losses.sum() if weights is None else (losses * weights[:, None]).sum()

    def train_sums(self, outputs: Tensor, targets: Tensor, loss_sum: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return [Σ loss, Σ weight, numbers, Σ squared error]."""
        outputs = outputs.mean(1) if outputs.ndim == NDIM else outputs
        squares = (outputs.float() - targets).square().double().sum()
        weight = targets.numel() if weights is None else weights.double().sum() * targets.size(1)
        return sum_vector(loss_sum, weight, targets.numel(), squares)

    def train_scores(self, sums: list[float]) -> dict[str, float]:
        """Return mean loss and root mean squared error."""
        loss, weight, numbers, squares = sums
        return {"loss": loss / (weight or TINY), "rmse": math.sqrt(squares / numbers) if squares >= 0 else math.nan}

    def evaluation(self, device: torch.device) -> Evaluation:
        """Return empty sums."""
        return RegressionEvaluation(self, device)

    def direction(self, score: str) -> str:
        """Return the way that the metric says; see `Task.direction`."""
        return metric_direction(self.metrics, score)


class RegressionEvaluation:
    """The loss and the metrics of a pass, some of them from moments that stay on the device."""

    def __init__(self, task: RegressionTask, device: torch.device) -> None:
        self.task, self.metrics = task, MetricSums(task.metrics)
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)  # Σ loss, Σ weight
        # Rows, Σ squared error, Σ (target - shift), Σ (target - shift)², each per output
        self.moments = torch.zeros(4, task.outputs, dtype=torch.float64, device=device)
        self.shift: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> None:
        """Add a batch; rows of weight 0 do not count."""
        counts = torch.ones(len(targets), device=targets.device) if weights is None else weights
        if self.shift is None:
            # Moments around a value of the data: a large mean does not eat the digits of the variance.
            self.shift = targets[0].double()
        centred = targets.double() - self.shift
        outputs, column = outputs.float(), counts[:, None]
        # The loss that is trained, also where a subclass has its own.
        self.sums += sum_vector(self.task.loss_sum(outputs, targets, weights), self.task.weight(targets, weights))
        rows = (
            column.expand_as(targets),
            (outputs - targets).double().square() * column,
            centred * column,
            centred.square() * column,
        )
        self.moments += torch.stack([row.double().sum(0) for row in rows])
        self.metrics.update(outputs, targets, counts)

    def scores(self) -> dict[str, float]:
        """Return `loss` and the score of each metric."""
        loss, weight = self.sums.tolist()
        return {"loss": loss / weight} | self.metrics.scores(self.moments.cpu())

    def confusion(self) -> None:
        """Return None: there are no classes."""
        return
