"""The sums of the training scores since the last record."""

import torch
from torch import Tensor

from trainer.interfaces import Task
from trainer.state import TrainState


class Tally:
    """Adds up training scores, a few steps at a time: one small kernel for many batches instead of many for each.

    The sums are float64 over float32 numbers, which is exact as long as these are within 2^29 of one another: they
    come out the same however the steps are grouped, in particular when a save in mid-interval closes a group early.
    """

    STEPS, NUMBERS = 64, 1 << 20  # a group is closed after so many batches, or outputs

    def __init__(self, state: TrainState, task: Task) -> None:
        self.state, self.task = state, task
        self.outputs: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.losses: list[Tensor] = []
        self.numbers = 0

    def add(self, outputs: Tensor, targets: Tensor, loss_sum: Tensor) -> None:
        """Take a (micro-)batch, detached."""
        self.outputs.append(outputs)
        self.targets.append(targets)
        self.losses.append(loss_sum)
        self.numbers += outputs.numel()
        if len(self.losses) >= self.STEPS or self.numbers >= self.NUMBERS:
            self.close()

    def close(self) -> None:
        """Bring the state's tally up to the last step."""
        if not self.losses:
            return
        outputs, targets = torch.cat(self.outputs), torch.cat(self.targets)
        sums = self.task.tally(outputs, targets, torch.stack(self.losses).double().sum())
        self.state.tally = sums if self.state.tally is None else self.state.tally.add_(sums)
        self.outputs, self.targets, self.losses, self.numbers = [], [], [], 0
