"""The training loader for samples on disk: read in blocks, and shuffled in memory many blocks at a time."""

import itertools
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.loaders.collate import Collate
from trainer.data.loaders.sampler import BlockSampler, ShuffledWindow
from trainer.data.on_disk import OnDisk
from trainer.data.types import Batch, Split

BLOCK_BYTES = 1 << 18  # samples that are read together: enough for a disk to read at full speed
WINDOW_BYTES = 1 << 25  # samples that are shuffled together; up to four windows are in memory


Window = Batch  # as many samples as are shuffled together, in the order in which they are used


class DiskLoader:
    """Training batches from samples on disk; a `TrainLoader`. The next window is read while the model trains on one.

    Args:
        split: the training samples; `split.inputs` must be `OnDisk`.
        collate: turns the samples of a step into a batch. Of its sampler only the sizes and the seed are used: a full
            permutation would read the disk in random order.
        device: where the batches are made.
        block_bytes: samples that are read together.
        window_bytes: samples that are shuffled together.
    """

    def __init__(
        self,
        split: Split,
        collate: Collate,
        device: torch.device,
        block_bytes: int = BLOCK_BYTES,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        assert isinstance(split.inputs, OnDisk)
        sampler = collate.sampler
        self.inputs, self.split, self.workers = split.inputs, split, 0
        self.device, self.steps_per_epoch = device, sampler.steps_per_epoch
        self._size, self._used = sampler.batch_size, min(sampler.samples, sampler.steps_per_epoch * sampler.batch_size)
        sample_bytes = max(1, split.inputs[0].nbytes)
        block = max(1, block_bytes // sample_bytes)
        window = max(sampler.batch_size, window_bytes // sample_bytes)
        self._blocks = BlockSampler(sampler.samples, sampler.seed, block, -(-window // block))
        self._collate = collate

    def stream(self, start_step: int) -> Generator[Batch, None, None]:
        """Yield the batches of the steps `start_step`, `start_step + 1`, ... without end."""
        epoch, offset = divmod(start_step, self.steps_per_epoch)
        left, rest, step = self._used - offset * self._size, None, start_step
        with ThreadPoolExecutor(1) as reader:
            for window in self._read_ahead(reader, epoch, offset * self._size):
                available = window if rest is None else _concatenate(rest, window)
                samples = min(len(available.inputs), left)
                last = samples == left  # of this epoch
                whole = samples if last else samples - samples % self._size
                *batches, rest = _cut(available, [*_batch_sizes(whole, self._size), len(available.inputs) - whole])
                for inputs, targets, weights, positions in batches:
                    assert positions is not None
                    yield self._collate(inputs, targets, weights, positions, step)
                    step += 1
                left, rest = (self._used, None) if last else (left - whole, rest)

    def _read_ahead(self, reader: ThreadPoolExecutor, epoch: int, start: int) -> Iterator[Window]:
        """Yield the windows from sample `start` of an epoch on, without end; of each epoch those that are used."""
        pending: Future[Window] | None = None
        for number in itertools.count(epoch):
            done = start
            for shuffled in self._blocks.windows(number, start):
                if done < self._used:
                    following = reader.submit(self._read, shuffled)
                    if pending is not None:
                        yield pending.result()
                    pending = following
                done += len(shuffled.order)
            start = 0

    def _read(self, shuffled: ShuffledWindow) -> Window:
        """Read the samples of a window. The copies are numpy's: they take one core, and no thread from the maths."""
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


def _concatenate(first: Window, second: Window) -> Window:
    """Put two windows together."""

    def both(part: Tensor | None, other: Tensor | None) -> Tensor | None:
        return None if part is None or other is None else torch.cat([part, other])

    inputs, targets = torch.cat([first.inputs, second.inputs]), torch.cat([first.targets, second.targets])
    return Window(inputs, targets, both(first.weights, second.weights), both(first.positions, second.positions))


def _cut(window: Window, sizes: list[int]) -> Iterator[Batch]:
    """Cut a window into consecutive parts of the given sizes."""
    return map(Batch, *(itertools.repeat(None) if part is None else part.split(sizes) for part in window))


def _batch_sizes(samples: int, size: int) -> list[int]:
    """Return the sizes of the batches that some samples make: all `size`, but for the last, which may be smaller."""
    return [min(size, samples - start) for start in range(0, samples, size)]
