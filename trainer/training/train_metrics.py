"""The sums of the training scores since the last record."""

import torch
from torch import Tensor

from trainer.tasks.base import Task
from trainer.training.state import TrainState


class TrainMetrics:
    """Adds up training scores, a few steps at a time: one small kernel for many batches instead of many for each.

    The sums are float64 over float32 numbers, which is exact as long as these are within 2^29 of one another: they
    come out the same however the steps are grouped, in particular when a save in mid-interval closes a group early.

    Attributes:
        bad: steps that were found not finite when their numbers were read; they are not in the sums.
    """

    STEPS, NUMBERS = 64, 1 << 20  # a group is closed after so many batches, or outputs

    def __init__(self, state: TrainState, task: Task) -> None:
        self.state, self.task = state, task
        self.bad: list[int] = []
        self._clear()

    def add(
        self,
        step: int,
        outputs: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        loss_sum: Tensor,
        found: Tensor | None = None,
    ) -> None:
        """Take a (micro-)batch, detached; `found` on the device is 1 where the step was not finite, None: it was."""
        self.steps.append(step)
        self.outputs.append(outputs)
        self.targets.append(targets)
        self.losses.append(loss_sum)
        if weights is not None:
            self.weights.append(weights)
        if found is not None:
            self.found.append(found)
        self.numbers += outputs.numel()
        if len(self.losses) >= self.STEPS or self.numbers >= self.NUMBERS:
            self.close()

    def close(self) -> None:
        """Bring the state's tally up to the last step."""
        if self.found:
            self._leave_out(torch.stack(self.found).tolist())
        if self.losses:
            outputs, targets = torch.cat(self.outputs), torch.cat(self.targets)
            weights = torch.cat(self.weights) if self.weights else None
            sums = self.task.train_sums(outputs, targets, torch.stack(self.losses).double().sum(), weights)
            self.state.tally = sums if self.state.tally is None else self.state.tally.add_(sums)
        self._clear()

    def forget(self) -> None:
        """Drop all that belongs to a future that the run was set back from."""
        self.state.tally = None
        self.bad = []
        self._clear()

    def _leave_out(self, found: list[float]) -> None:
        good = [i for i, bad in enumerate(found) if not bad]
        self.bad += sorted({step for step, bad in zip(self.steps, found, strict=True) if bad})
        for parts in (self.outputs, self.targets, self.weights, self.losses):
            parts[:] = [parts[i] for i in good if parts]

    def _clear(self) -> None:
        self.steps: list[int] = []
        self.outputs: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.weights: list[Tensor] = []  # of every batch, or of none
        self.losses: list[Tensor] = []
        self.found: list[Tensor] = []
        self.numbers = 0
