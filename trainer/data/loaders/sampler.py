"""Which samples make up the batch of a step, as a pure function of the seed and the step."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.errors import ConfigError
from trainer.system import seeds


class Sampler:
    """Draws a fresh permutation of the samples for each epoch and cuts it into batches.

    Args:
        samples: size of the training split.
        batch_size: samples per optimizer step.
        drop_last: whether to leave out the last, smaller batch of an epoch.
        seed: of the run.
        classes: int64 (samples,), to draw each class equally often, with replacement; None: each sample once.

    Raises:
        ConfigError: where an epoch would have no batch.
    """

    def __init__(
        self, samples: int, batch_size: int, drop_last: bool, seed: int, classes: Tensor | None = None
    ) -> None:
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self._balanced = None if classes is None else _BalancedDraw(classes)
        self.steps_per_epoch = samples // batch_size if drop_last else -(-samples // batch_size)
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"data.batch_size={batch_size} is more than the {samples} training sample{'s' * (samples != 1)}, and "
                "data.drop_last=true leaves nothing; use a smaller batch."
            )

    def permutation(self, epoch: int) -> Tensor:
        """Return the indices of the samples in the order of an epoch, int64 (samples,), drawn on the CPU."""
        generator = seeds.generator(self.seed, seeds.ORDER, epoch)
        if self._balanced is not None:
            return self._balanced.draw(self.samples, generator)
        return torch.randperm(self.samples, generator=generator)

    def blocks(self, start_step: int, batches: int = 1) -> Iterator[Tensor]:
        """Yield the indices of up to `batches` batches at a time, from the batch of `start_step` on, without end."""
        first, offset = divmod(start_step, self.steps_per_epoch)
        for epoch in itertools.count(first):
            used = self.permutation(epoch)[offset * self.batch_size : self.steps_per_epoch * self.batch_size]
            yield from used.split(batches * self.batch_size)
            offset = 0


class _BalancedDraw:
    """Draws samples with replacement: each class that occurs equally often, and within a class each sample.

    Args:
        classes: of each sample, int64 (N,).
    """

    def __init__(self, classes: Tensor) -> None:
        self._by_class = classes.argsort(stable=True)
        counts = torch.bincount(classes)
        self._counts = counts[counts > 0]
        self._starts = self._counts.cumsum(0) - self._counts

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Return the indices of `samples` samples, int64 (samples,)."""
        drawn = torch.randint(len(self._counts), (samples,), generator=generator)
        counts = self._counts[drawn]
        within = (torch.rand(samples, dtype=torch.float64, generator=generator) * counts).long()
        return self._by_class[self._starts[drawn] + within]


class ShuffledWindow(NamedTuple):
    """The samples of a window, and the order in which they are used.

    Attributes:
        members: int64 (n,), the indices of the samples in the split, ascending.
        order: int64 (n,) or shorter, positions in `members`.
    """

    members: Tensor
    order: Tensor


class BlockSampler:
    """Shuffles an epoch window by window, as a function of (seed, epoch), so that a disk is read in long pieces.

    The split is cut into blocks of consecutive samples. Each epoch draws an order of the blocks, takes as many at a
    time as make up a window, and shuffles the samples of each window.

    Args:
        samples: size of the split.
        seed: of the run.
        block: samples in a block.
        blocks: blocks in a window.
    """

    def __init__(self, samples: int, seed: int, block: int, blocks: int) -> None:
        self.samples, self.seed, self.block, self.blocks = samples, seed, block, blocks

    def windows(self, epoch: int, start: int = 0) -> Iterator[ShuffledWindow]:
        """Yield the windows of an epoch, beginning with sample `start` of its order."""
        blocks = torch.randperm(
            -(-self.samples // self.block), generator=seeds.generator(self.seed, seeds.ORDER, epoch)
        )
        done = 0
        for number, chosen in enumerate(blocks.split(self.blocks)):
            members = (chosen.sort().values.unsqueeze(1) * self.block + torch.arange(self.block)).flatten()
            members = members[members < self.samples]  # the last block may be smaller
            if done + len(members) > start:
                generator = seeds.generator(self.seed, seeds.ORDER, epoch, number)
                order = torch.randperm(len(members), generator=generator)
                yield ShuffledWindow(members, order[max(0, start - done) :])
            done += len(members)
