"""The loaders of tensors: a batch is gathered from all samples at once, on the device."""

from collections.abc import Generator, Iterator

import torch
from torch import Tensor

from trainer.data.loaders.collate import Collate, padded
from trainer.data.on_disk import OnDisk
from trainer.data.types import Batch, Prepare, Split

BLOCK_BYTES = 1 << 18  # stays in the cache of a core between the gather and the step


class ResidentLoader:
    """Training batches from tensors that stay on the device; a `TrainLoader`.

    Args:
        split: the training samples; `split.inputs` must be a tensor.
        collate: turns the samples of a step into a batch; its sampler says which samples those are.
        device: where the tensors are kept and the batches made.
    """

    def __init__(self, split: Split, collate: Collate, device: torch.device) -> None:
        assert isinstance(split.inputs, Tensor)
        self.inputs, self.targets = split.inputs.to(device), split.targets.to(device)
        self.weights = None if split.weights is None else split.weights.to(device)
        self.split, self.workers = split, 0
        self.sampler, self.device, self.steps_per_epoch = collate.sampler, device, collate.sampler.steps_per_epoch
        self._collate = collate

    def stream(self, start_step: int) -> Generator[Batch, None, None]:
        """Yield the batches of the steps `start_step`, `start_step + 1`, ... without end."""
        size, step = self.sampler.batch_size, start_step
        # One gather serves as many batches as fit into a block: of small rows, the call costs more than the copy.
        sample_bytes = self.inputs[0].nbytes + self.targets[0].nbytes
        for index in self.sampler.blocks(start_step, max(1, BLOCK_BYTES // (size * sample_bytes))):
            index = index.to(self.device, non_blocking=True)
            block = self.inputs.index_select(0, index), self.targets.index_select(0, index), index
            weights = None if self.weights is None else self.weights.index_select(0, index).split(size)
            for i, (inputs, targets, rows) in enumerate(zip(*(part.split(size) for part in block), strict=True)):
                yield self._collate(inputs, targets, None if weights is None else weights[i], rows, step)
                step += 1


class ResidentEvalLoader:
    """One pass over a tensor on the device, or over samples `OnDisk` of which each batch is read; an `EvalLoader`.

    Args:
        split: the samples.
        batch_size: samples per batch.
        prepare: turns a stored batch into the model's input.
        device: where the batches are made; a tensor is kept there.
    """

    def __init__(self, split: Split, batch_size: int, prepare: Prepare, device: torch.device) -> None:
        assert isinstance(split.inputs, (Tensor, OnDisk))
        self.inputs = split.inputs.to(device) if isinstance(split.inputs, Tensor) else split.inputs
        self.targets, self.device = split.targets.to(device), device
        self.prepare, self.samples, self.workers = prepare, len(split), 0
        self.batch_size = min(batch_size, self.samples)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.samples, self.batch_size):
            stop = start + self.batch_size
            inputs = self.inputs[start:stop].to(self.device, non_blocking=True)
            yield padded(inputs, self.targets[start:stop], self.batch_size, self.prepare)

    def close(self) -> None:
        """Do nothing: there are no loader processes."""
