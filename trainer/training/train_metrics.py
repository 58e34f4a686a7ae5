"""The sums of the training scores, since the last record and since the beginning of the epoch."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.tasks.base import Task
from trainer.training.state import TrainState


class MicroBatchOutput(NamedTuple):
    """What came of a micro-batch, detached: outputs, targets, weights, and the sum of the losses."""

    outputs: Tensor
    targets: Tensor
    weights: Tensor | None
    loss_sum: Tensor


class TrainMetrics:
    """Adds up training scores, a few steps at a time: one small kernel for many batches instead of many for each.

    The sums are float64 over float32 numbers, which is exact as long as these are within 2^29 of one another: they
    come out the same however the steps are grouped, in particular when a save in mid-interval closes a group early.

    Attributes:
        skipped_steps: steps that were found not finite when their numbers were read; they are not in the sums.
    """

    STEPS, NUMBERS = 64, 1 << 20  # a group is closed after so many micro-batches, or outputs

    def __init__(self, state: TrainState, task: Task, steps_per_epoch: int) -> None:
        self.state, self.task, self.steps_per_epoch = state, task, steps_per_epoch
        self.skipped_steps: list[int] = []
        self._steps: list[int] = []
        self._parts: list[MicroBatchOutput] = []
        self._found_inf: list[Tensor] = []
        self._numbers, self._epoch = 0, -1

    def add(self, step: int, parts: Sequence[MicroBatchOutput], found_inf: Tensor | None = None) -> None:
        """Take a step; `found_inf`, on the device, is 1 where it was not finite; None: it was."""
        epoch = (step - 1) // self.steps_per_epoch
        if epoch != self._epoch:  # a group is of one epoch
            self.close()
            self._epoch = epoch
        for part in parts:
            self._steps.append(step)
            self._parts.append(part)
            if found_inf is not None:
                self._found_inf.append(found_inf)
            self._numbers += part.outputs.numel()
        if len(self._parts) >= self.STEPS or self._numbers >= self.NUMBERS:
            self.close()

    def close(self) -> None:
        """Bring the state's sums up to the last step."""
        if self._found_inf:
            self._leave_out(torch.stack(self._found_inf).tolist())
        if self._parts:
            outputs, targets, weights, losses = zip(*self._parts, strict=True)
            sums = self.task.train_sums(
                torch.cat(outputs),
                torch.cat(targets),
                torch.stack(losses).double().sum(),
                None if weights[0] is None else torch.cat(weights),
            )
            state = self.state
            state.train_sums = sums if state.train_sums is None else state.train_sums + sums
            before = self.epoch_sums(self._epoch)
            state.epoch_sums, state.sums_epoch = sums if before is None else before + sums, self._epoch
        self._clear()

    def epoch_sums(self, epoch: int) -> Tensor | None:
        """Return the sums of an epoch, counted from 0, up to the last step; None where no step of it counts."""
        return self.state.epoch_sums if self.state.sums_epoch == epoch else None

    def forget(self) -> None:
        """Drop all that belongs to a future that the run was set back from."""
        self.skipped_steps, self._epoch = [], -1
        self._clear()

    def _leave_out(self, found_inf: list[float]) -> None:
        flagged = list(zip(self._steps, self._parts, found_inf, strict=True))
        self.skipped_steps += sorted({step for step, _, found in flagged if found})
        self._parts = [part for _, part, found in flagged if not found]

    def _clear(self) -> None:
        self._steps, self._parts, self._found_inf, self._numbers = [], [], [], 0
