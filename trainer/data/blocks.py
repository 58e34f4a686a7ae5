"""The training loader for samples that stay on disk: read by blocks, and shuffled in memory many blocks at a time."""

import itertools
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.batches import Finish
from trainer.data.order import BlockOrder, Order, Shuffled
from trainer.interfaces import Augment, Batch, Mix, OnDisk, Prepare, Split

BLOCK_BYTES = 1 << 18  # samples that are read together: enough for a disk to read at full speed
WINDOW_BYTES = 1 << 25  # samples that are shuffled together; up to four windows are in memory


class Window(NamedTuple):
    """Samples in the order in which they are used, as `Batch` has them."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None
    positions: Tensor

    def cut(self, start: int, stop: int) -> "Window":
        """The samples of a slice."""
        return Window(*(None if part is None else part[start:stop] for part in self))  # type: ignore[arg-type]

    def batches(self, size: int) -> "Iterator[Window]":
        """As many samples at a time; the last ones may be fewer."""
        return map(Window, *(itertools.repeat(None) if part is None else part.split(size) for part in self))

    def followed_by(self, other: "Window") -> "Window":
        """Both as one."""
        return Window(*(None if a is None else torch.cat([a, b]) for a, b in zip(self, other, strict=True)))  # type: ignore[arg-type, list-item]


class BlockLoader:
    """Training batches from samples on disk. The next window is read while the model learns from one.

    Args:
        split: whose inputs are `OnDisk`.
        order: for the sizes and the seed; its permutation is not used.
        prepare, augment, mix: see `trainer.interfaces.Data`.
        device: where the batches are made.
        block_bytes, window_bytes: of samples that are read, and shuffled, together.
    """

    def __init__(
        self,
        split: Split,
        order: Order,
        prepare: Prepare,
        augment: Augment | None,
        device: torch.device,
        mix: Mix | None = None,
        block_bytes: int = BLOCK_BYTES,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        assert isinstance(split.inputs, OnDisk)
        self.inputs, self.split, self.workers = split.inputs, split, 0
        self.device, self.steps_per_epoch = device, order.steps_per_epoch
        self._size, self._used = order.batch_size, min(order.samples, order.steps_per_epoch * order.batch_size)
        sample_bytes = max(1, split.inputs[0].nbytes)
        block = max(1, block_bytes // sample_bytes)
        window = max(order.batch_size, window_bytes // sample_bytes)
        self._blocks = BlockOrder(order.samples, order.seed, block, -(-window // block))
        self._finish = Finish(order, prepare, augment, mix)

    def stream(self, start_step: int) -> Generator[Batch, None, None]:
        """See `trainer.interfaces.TrainLoader`."""
        epoch, offset = divmod(start_step, self.steps_per_epoch)
        left, rest, step = self._used - offset * self._size, None, start_step
        with ThreadPoolExecutor(1) as reader:
            for window in self._read_ahead(reader, epoch, offset * self._size):
                known = window if rest is None else rest.followed_by(window)
                end = min(len(known.positions), left)
                last = end == left  # of this epoch
                whole = end if last else end - end % self._size
                for batch in known.cut(0, whole).batches(self._size) if whole else ():
                    yield self._finish(*batch, step)
                    step += 1
                left, rest = (self._used, None) if last else (left - whole, known.cut(whole, end))

    def _read_ahead(self, reader: ThreadPoolExecutor, epoch: int, start: int) -> Iterator[Window]:
        """The windows from sample `start` of an epoch on, without end; of each epoch those that are used."""
        coming: Future[Window] | None = None
        for number in itertools.count(epoch):
            done = start
            for shuffled in self._blocks.windows(number, start):
                if done < self._used:
                    following = reader.submit(self._read, shuffled)
                    if coming is not None:
                        yield coming.result()
                    coming = following
                done += len(shuffled.order)
            start = 0

    def _read(self, shuffled: Shuffled) -> Window:
        """The samples of a window. numpy's copies take one core, and no thread from the maths."""
        rows = shuffled.members.split(self._blocks.block)
        together = np.concatenate([self.inputs[int(block[0]) : int(block[-1]) + 1].numpy() for block in rows])
        order = shuffled.order.numpy()
        positions = np.take(shuffled.members.numpy(), order)

        def gathered(values: NDArray[Any], at: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(np.take(values, at, axis=0, mode="clip")).to(self.device, non_blocking=True)

        weights = None if self.split.weights is None else gathered(self.split.weights.numpy(), positions)
        return Window(
            gathered(together, order),
            gathered(self.split.targets.numpy(), positions),
            weights,
            torch.from_numpy(positions).to(self.device, non_blocking=True),
        )
