"""The training loader for samples that stay on disk: read by blocks, and shuffled in memory many blocks at a time."""

import itertools
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.loaders.collate import Collate
from trainer.data.loaders.sampler import BlockSampler, Shuffled
from trainer.data.types import Batch, OnDisk, Split

BLOCK_BYTES = 1 << 18  # samples that are read together: enough for a disk to read at full speed
WINDOW_BYTES = 1 << 25  # samples that are shuffled together; up to four windows are in memory


Window = Batch  # as many samples as are shuffled together, in the order in which they are used


class DiskLoader:
    """Training batches from samples on disk. The next window is read while the model learns from one.

    Args:
        split: whose inputs are `OnDisk`.
        finish: makes a batch; of its order the sizes and the seed count, not the permutation.
        device: where the batches are made.
        block_bytes, window_bytes: of samples that are read, and shuffled, together.
    """

    def __init__(
        self,
        split: Split,
        finish: Collate,
        device: torch.device,
        block_bytes: int = BLOCK_BYTES,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        assert isinstance(split.inputs, OnDisk)
        order = finish.order
        self.inputs, self.split, self.workers = split.inputs, split, 0
        self.device, self.steps_per_epoch = device, order.steps_per_epoch
        self._size, self._used = order.batch_size, min(order.samples, order.steps_per_epoch * order.batch_size)
        sample_bytes = max(1, split.inputs[0].nbytes)
        block = max(1, block_bytes // sample_bytes)
        window = max(order.batch_size, window_bytes // sample_bytes)
        self._blocks = BlockSampler(order.samples, order.seed, block, -(-window // block))
        self._finish = finish

    def stream(self, start_step: int) -> Generator[Batch, None, None]:
        """See `trainer.data.types.TrainLoader`."""
        epoch, offset = divmod(start_step, self.steps_per_epoch)
        left, rest, step = self._used - offset * self._size, None, start_step
        with ThreadPoolExecutor(1) as reader:
            for window in self._read_ahead(reader, epoch, offset * self._size):
                known = window if rest is None else _joined(rest, window)
                samples = min(len(known.inputs), left)
                last = samples == left  # of this epoch
                whole = samples if last else samples - samples % self._size
                *batches, rest = _split(known, [*_sizes(whole, self._size), len(known.inputs) - whole])
                for inputs, targets, weights, positions in batches:
                    assert positions is not None
                    yield self._finish(inputs, targets, weights, positions, step)
                    step += 1
                left, rest = (self._used, None) if last else (left - whole, rest)

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


def _joined(first: Window, second: Window) -> Window:
    """Both as one."""

    def one(part: Tensor | None, other: Tensor | None) -> Tensor | None:
        return None if part is None or other is None else torch.cat([part, other])

    inputs, targets = torch.cat([first.inputs, second.inputs]), torch.cat([first.targets, second.targets])
    return Window(inputs, targets, one(first.weights, second.weights), one(first.positions, second.positions))


def _split(window: Window, sizes: list[int]) -> Iterator[Batch]:
    """Cut into as many parts of these sizes."""
    return map(Batch, *(itertools.repeat(None) if part is None else part.split(sizes) for part in window))


def _sizes(samples: int, size: int) -> list[int]:
    """Of the batches that some samples make: the last one may be smaller."""
    return [min(size, samples - start) for start in range(0, samples, size)]
