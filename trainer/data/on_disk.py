"""Samples that stay in a file: too many for memory, read a few at a time."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import Dataset

NEAR = 1024  # samples: a gap in a file that is shorter is read along, which is faster than a second read


class OnDisk(Dataset[Tensor]):
    """A tensor of samples in a file, of which only what is asked for is read.

    Args:
        read: returns the samples (stop - start, ...) from index `start` to index `stop` of the file.
        shape: of all samples in the file, (N, ...).
        index: int64 (n,), which samples of the file belong to the dataset, in this order; None: all.
    """

    def __init__(self, read: Callable[[int, int], Tensor], shape: tuple[int, ...], index: Tensor | None = None) -> None:
        self.read, self.index = read, index
        self.shape = shape if index is None else (len(index), *shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, position: int | slice) -> Tensor:
        """Return one sample (...), or those of a slice (n, ...), whose step must be 1."""
        if isinstance(position, int):
            position = range(len(self))[position]
            return self[position : position + 1][0]
        start, stop, step = position.indices(len(self))
        assert step == 1
        if self.index is None or start >= stop:
            return self.read(start, max(start, stop))
        rows, order = self.index[start:stop].sort()
        runs = ((rows.diff() > NEAR).nonzero().flatten() + 1).tolist()
        parts = [self.read(int(run[0]), int(run[-1]) + 1)[run - run[0]] for run in rows.tensor_split(runs)]
        samples = torch.cat(parts)
        return torch.empty_like(samples).index_copy_(0, order, samples)

    def subset(self, index: Tensor) -> "OnDisk":
        """Return the samples at `index`, int64 (n,), in that order, without reading them."""
        return OnDisk(self.read, self.shape, index if self.index is None else self.index[index])
