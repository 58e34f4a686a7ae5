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


class HostCopy:
    """The numbers of a small tensor, on their way from the device; a copy that was begun early makes nobody wait."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._done = tensor, None
        if tensor.is_cuda:  # to pinned memory, behind the work that is queued
            self._tensor, self._done = tensor.to("cpu", non_blocking=True), torch.cuda.Event()
            self._done.record()

    def tolist(self) -> list[float]:
        """Return the numbers, as soon as they are there."""
        if self._done is not None:
            self._done.synchronize()
        numbers: list[float] = self._tensor.tolist()
        return numbers


class _Group:
    """Steps of one epoch whose outputs are not yet in the sums."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.numbers = epoch, 0
        self.steps: list[int] = []
        self.parts: list[MicroBatchOutput] = []
        self.found_inf: list[Tensor] = []

    def full(self) -> None:
        """Begin to read which steps were not finite."""
        self.flags = HostCopy(torch.stack(self.found_inf)) if self.found_inf else None


class TrainMetrics:
    """Adds up training scores, a few steps at a time: one small kernel for many batches instead of many for each.

    The sums are float64 over float32 numbers, which is exact as long as these are within 2^29 of one another: they
    come out the same however the steps are grouped, in particular when a save in mid-interval closes a group early.

    On a GPU, whether a step was finite is known there alone. A full group waits while that is copied, and is summed
    when the next one is full: no step between two records waits for the device.

    Attributes:
        skipped_steps: steps that were found not finite when their numbers were read; they are not in the sums.
    """

    STEPS, NUMBERS = 64, 1 << 20  # a group is closed after so many micro-batches, or outputs

    def __init__(self, state: TrainState, task: Task, steps_per_epoch: int) -> None:
        self.state, self.task, self.steps_per_epoch = state, task, steps_per_epoch
        self.forget()

    def add(self, step: int, parts: Sequence[MicroBatchOutput], found_inf: Tensor | None = None) -> None:
        """Take a step; `found_inf`, on the device, is 1 where it was not finite; None: it was."""
        epoch, group = (step - 1) // self.steps_per_epoch, self._group
        if epoch != group.epoch or len(group.parts) >= self.STEPS or group.numbers >= self.NUMBERS:
            group = self._next_group(epoch)
        for part in parts:
            group.steps.append(step)
            group.parts.append(part)
            if found_inf is not None:
                group.found_inf.append(found_inf)
            group.numbers += part.outputs.numel()

    def close(self) -> None:
        """Bring the state's sums up to the last step; waits for the device."""
        self._next_group(self._group.epoch)
        self._sum_waiting()

    def epoch_sums(self, epoch: int) -> Tensor | None:
        """Return the sums of an epoch, counted from 0, up to the last step; None where no step of it counts."""
        return self.state.epoch_sums if self.state.sums_epoch == epoch else None

    def forget(self) -> None:
        """Drop all that belongs to a future that the run was set back from."""
        self.skipped_steps: list[int] = []
        self._group = _Group(-1)
        self._waiting: _Group | None = None

    def _next_group(self, epoch: int) -> _Group:
        """Begin a group; the one before the last is summed now, the last one unless it waits for its flags, too."""
        self._sum_waiting()
        self._group.full()
        self._waiting, self._group = self._group, _Group(epoch)
        if self._waiting.flags is None:
            self._sum_waiting()
        return self._group

    def _sum_waiting(self) -> None:
        group, self._waiting = self._waiting, None
        if group is None or not group.parts:
            return
        parts = group.parts
        if group.flags is not None:
            flagged = list(zip(group.steps, parts, group.flags.tolist(), strict=True))
            self.skipped_steps += sorted({step for step, _, found in flagged if found})
            parts = [part for _, part, found in flagged if not found]
        if parts:
            self._sum(parts, group.epoch)

    def _sum(self, parts: Sequence[MicroBatchOutput], epoch: int) -> None:
        outputs, targets, weights, losses = zip(*parts, strict=True)
        sums = self.task.train_sums(
            torch.cat(outputs),
            torch.cat(targets),
            torch.stack(losses).double().sum(),
            None if weights[0] is None else torch.cat(weights),
        )
        state = self.state
        state.train_sums = sums if state.train_sums is None else state.train_sums + sums
        before = self.epoch_sums(epoch)
        state.epoch_sums, state.sums_epoch = sums if before is None else before + sums, epoch
