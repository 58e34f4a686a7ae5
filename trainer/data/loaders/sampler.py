"""Which samples make up the batch of a step, as a pure function of the seed and the step."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.errors import ConfigError
from trainer.system import seeds


class Sampler:
    """Which samples make up the batch of a step: a fresh permutation each epoch, as a function of (seed, step).

    Args:
        samples: size of the training split.
        batch_size: samples per optimizer step.
        drop_last: leave out the last, smaller batch of an epoch.
        seed: of the run.
        classes: int64 (samples,), to draw each class equally often, with replacement; None: each sample once.
    """

    def __init__(
        self, samples: int, batch_size: int, drop_last: bool, seed: int, classes: Tensor | None = None
    ) -> None:
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self._balance = None if classes is None else _Balance(classes)
        self.steps_per_epoch = samples // batch_size if drop_last else -(-samples // batch_size)
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"data.batch_size={batch_size} is more than the {samples} training samples, and data.drop_last=true "
                "leaves nothing; use a smaller batch."
            )

    def permutation(self, epoch: int) -> Tensor:
        """The order of the samples in an epoch, int64 (samples,), drawn on the CPU."""
        generator = seeds.generator(self.seed, seeds.ORDER, epoch)
        if self._balance is not None:
            return self._balance.draw(self.samples, generator)
        return torch.randperm(self.samples, generator=generator)

    def blocks(self, start_step: int, batches: int = 1) -> Iterator[Tensor]:
        """The indices of up to `batches` batches at a time, from the batch of `start_step` on, without end."""
        first, offset = divmod(start_step, self.steps_per_epoch)
        for epoch in itertools.count(first):
            used = self.permutation(epoch)[offset * self.batch_size : self.steps_per_epoch * self.batch_size]
            yield from used.split(batches * self.batch_size)
            offset = 0


class _Balance:
    """Draws samples so that each class that there is comes equally often, and each sample of a class."""

    def __init__(self, classes: Tensor) -> None:
        self._by_class = classes.argsort(stable=True)
        counts = torch.bincount(classes)
        self._counts = counts[counts > 0]
        self._starts = self._counts.cumsum(0) - self._counts

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Indices of samples, int64 (samples,)."""
        drawn = torch.randint(len(self._counts), (samples,), generator=generator)
        counts = self._counts[drawn]
        within = (torch.rand(samples, dtype=torch.float64, generator=generator) * counts).long()
        return self._by_class[self._starts[drawn] + within]


class Shuffled(NamedTuple):
    """The samples of a window: where they stand in the split, int64 (n,), forward; and in which order they are used."""

    members: Tensor
    order: Tensor


class BlockSampler:
    """The windows of an epoch, as a function of (seed, epoch): an order that a disk can follow.

    The split is cut into blocks of samples that stand beside one another. Each epoch draws an order of the blocks,
    takes as many at a time as make up a window, and shuffles the samples of each window.

    Args:
        samples: of the split.
        seed: of the run.
        block: samples in a block.
        blocks: in a window.
    """

    def __init__(self, samples: int, seed: int, block: int, blocks: int) -> None:
        self.samples, self.seed, self.block, self.blocks = samples, seed, block, blocks

    def windows(self, epoch: int, start: int = 0) -> Iterator[Shuffled]:
        """The windows from the one on that holds sample `start` of the epoch's order; that one begins with it."""
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
                yield Shuffled(members, order[max(0, start - done) :])
            done += len(members)
