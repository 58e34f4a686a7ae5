"""Batches cut into parts that fit the device, and what is done where they do not."""

import functools
import logging
from collections.abc import Callable, Iterator
from types import TracebackType

import torch
from torch import Tensor

from trainer.data.types import Batch
from trainer.system import memory
from trainer.training.context import RunContext

log = logging.getLogger("trainer")

MicroBatch = tuple[Tensor, Tensor, Tensor | None]  # inputs, targets, weights


class MicroBatching:
    """Cuts batches into micro-batches, smaller ones after the device has run out of memory, where that is wanted."""

    def __init__(self, context: RunContext) -> None:
        settings, self.state, self.compute = context.config.trainer, context.state, context.compute
        self.most, self.halves = settings.micro_batch or context.config.data.batch_size, settings.auto_micro_batch

    def size(self, batch: Batch) -> int:
        """Return the samples at a time: as configured, and what lack of memory has left of it."""
        left = self.state.micro_batch if self.halves and self.state.micro_batch else self.most
        return min(batch.targets.size(0), self.most, left)

    def split(self, batch: Batch) -> Iterator[MicroBatch]:
        """Yield the parts of a batch, in the memory format of the run."""
        samples, size = batch.targets.size(0), self.size(batch)
        if size == samples:
            yield self.compute.formatted(batch.inputs), batch.targets, batch.weights
            return
        for start in range(0, samples, size):
            part = slice(start, start + size)
            weights = None if batch.weights is None else batch.weights[part]
            yield self.compute.formatted(batch.inputs[part]), batch.targets[part], weights

    def attempts(self, batch: Batch, undo: Callable[[], None]) -> "Iterator[Attempt]":
        """Yield contexts to work on a batch in, until one has ended without the device running out of memory.

        Args:
            undo: called after a failed attempt: puts back what it has changed.
        """
        before, attempt = self.state.micro_batch, Attempt(self, batch)
        yield attempt
        while attempt.failed:
            memory.release(self.compute.device)  # now that no exception holds on to the tensors
            undo()
            yield attempt
        if self.state.micro_batch != before:
            device, size = self.compute.device, self.state.micro_batch
            log.warning(f"{device} is out of memory; from here on {size} samples at a time.")

    def shrink(self, batch: Batch, error: BaseException) -> None:
        """Halve the micro-batch after the device has run out of memory, where that is wanted and possible.

        Raises:
            TrainerError: where it is not.
        """
        size, device = self.size(batch), self.compute.device
        shape = "×".join(map(str, batch.inputs.shape[1:]))
        doing = f"in step {self.state.step + 1}, with {size} samples of {shape} at a time"
        if not self.halves:
            remedy = f"set trainer.micro_batch={max(1, size // 2)}, or trainer.auto_micro_batch=true to have it found"
            raise memory.exhausted(device, doing, f"{remedy}; the batch and the result stay the same") from error
        if size == 1:
            raise memory.exhausted(device, doing, "even one sample is too much; use a smaller model") from error
        self.state.micro_batch = -(-size // 2)


class Attempt:
    """Work on a batch that may be done again with smaller micro-batches.

    Attributes:
        failed: whether it was, for lack of memory.
    """

    def __init__(self, micro_batching: MicroBatching, batch: Batch) -> None:
        self._micro_batching, self._batch, self.failed = micro_batching, batch, False

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        """End; lack of memory is answered with smaller micro-batches."""
        self.failed = isinstance(error, (RuntimeError, MemoryError)) and memory.is_out_of_memory(error)
        if self.failed and error is not None:
            self._micro_batching.shrink(self._batch, error)
        return self.failed


@functools.lru_cache(maxsize=256)
def _scalar(value: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, device=device, dtype=dtype)


def inverse(weight: Tensor | float, like: Tensor) -> Tensor:
    """Return 1 / weight as a scalar of the same device and dtype; the few weights that are plain numbers are kept."""
    return (1 / weight).to(like.dtype) if isinstance(weight, Tensor) else _scalar(1 / weight, like.device, like.dtype)
