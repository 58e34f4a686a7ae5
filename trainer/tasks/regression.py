"""Numbers to predict."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.data.types import DataSpec
from trainer.errors import ConfigError
from trainer.tasks.base import Evaluation
from trainer.tasks.sums import TINY, sum_vector


class RegressionTask:
    """A loss between outputs and float targets, both (B, outputs).

    Args:
        spec: data without classes.
        loss: "mse" (squared), "mae" (absolute) or "huber" (Huber 1964), averaged over all numbers.
        delta: where the Huber loss turns from square to straight, in units of the target.
    """

    kind, monitor, mode = "regression", "val/loss", "min"
    score_names: tuple[str, ...] = ("loss", "rmse", "r2")

    def __init__(self, spec: DataSpec, loss: str = "mse", delta: float = 1.0) -> None:
        if spec.labels is not None:
            raise ConfigError("task=regression: the data has classes; use task=classification.")
        self.loss, self.delta, self.outputs = loss, delta, spec.outputs

    def to(self, device: torch.device) -> None:
        """Nothing to move."""

    def weight(self, targets: Tensor, weights: Tensor | None = None) -> Tensor | float:
        """How many numbers are predicted, each counted by the weight of its sample."""
        if weights is None:
            return float(targets.numel())
        return (weights.sum() * targets.size(1)).clamp(min=TINY)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Elementwise, (B, outputs)."""
        match self.loss:
            case "mae":
                return F.l1_loss(outputs, targets, reduction="none")
            case "huber":
                return F.huber_loss(outputs, targets, reduction="none", delta=self.delta)
            case _:
                return F.mse_loss(outputs, targets, reduction="none")

    def loss_sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Sum over the batch, weighted."""
        losses = self.losses(outputs, targets)
        return losses.sum() if weights is None else (losses * weights[:, None]).sum()

    def train_sums(self, outputs: Tensor, targets: Tensor, loss_sum: Tensor, weights: Tensor | None = None) -> Tensor:
        """[Σ loss, Σ weight, numbers, Σ squared error]."""
        squares = (outputs.float() - targets).square().double().sum()
        weight = targets.numel() if weights is None else weights.double().sum() * targets.size(1)
        return sum_vector(loss_sum, weight, targets.numel(), squares)

    def train_scores(self, sums: list[float]) -> dict[str, float]:
        """Mean loss and root mean squared error."""
        loss, weight, numbers, squares = sums
        return {"loss": loss / (weight or TINY), "rmse": math.sqrt(squares / numbers) if squares >= 0 else math.nan}

    def evaluation(self, device: torch.device) -> Evaluation:
        """Empty sums."""
        return RegressionEvaluation(self, device)


class RegressionEvaluation:
    """Loss, RMSE and R² of a pass."""

    def __init__(self, task: RegressionTask, device: torch.device) -> None:
        self.task = task
        # Σ loss, rows, Σ squared error, Σ (target - shift), Σ (target - shift)², the last two per output
        self.sums = torch.zeros(5, task.outputs, dtype=torch.float64, device=device)
        self.shift: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> None:
        """Add a batch; rows of weight 0 do not count."""
        counts = torch.ones(len(targets), 1, device=targets.device) if weights is None else weights[:, None]
        if self.shift is None:
            # Moments around a value of the data: a large mean does not eat the digits of the variance.
            self.shift = targets[0].double()
        centred = targets.double() - self.shift
        outputs = outputs.float()
        rows = (
            self.task.losses(outputs, targets) * counts,
            counts.expand_as(targets),
            (outputs - targets).double().square() * counts,
            centred * counts,
            centred.square() * counts,
        )
        self.sums += torch.stack([row.double().sum(0) for row in rows])

    def scores(self) -> dict[str, float]:
        """`loss`, `rmse`, `r2` (averaged over the outputs; nan where the targets do not vary)."""
        losses, rows, squares, first, second = self.sums.cpu()
        variation = second - first.square() / rows
        r2 = torch.where(variation > 0, 1 - squares / variation, torch.nan)
        return {
            "loss": (losses.sum() / rows.sum()).item(),
            "rmse": (squares.sum() / rows.sum()).sqrt().item(),
            "r2": r2.mean().item(),
        }

    def confusion(self) -> None:
        """There are no classes."""
        return
