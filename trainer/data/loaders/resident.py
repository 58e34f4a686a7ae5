"""From a split to its loader: the one that suits where the samples are (see `trainer.data.types.TrainLoader`)."""

from collections.abc import Generator, Iterator

import torch
from torch import Tensor

from trainer.data.loaders.collate import Collate, padded
from trainer.data.loaders.disk import DiskLoader
from trainer.data.loaders.sampler import Sampler
from trainer.data.loaders.workers import TIMEOUT, WorkerEvalLoader, WorkerLoader
from trainer.data.types import Batch, Data, EvalLoader, OnDisk, Prepare, Split, TrainLoader
from trainer.errors import ConfigError, DataError

BLOCK_BYTES = 1 << 18  # stays in the cache of a core between the gather and the step


class ResidentLoader:
    """Training batches from tensors that stay on the device.

    Args:
        split: whose inputs are a tensor.
        finish: says in which order the samples are gathered, and makes a batch of them.
        device: where the tensors are kept and the batches made.
    """

    def __init__(self, split: Split, finish: Collate, device: torch.device) -> None:
        assert isinstance(split.inputs, Tensor)
        self.inputs, self.targets = split.inputs.to(device), split.targets.to(device)
        self.weights = None if split.weights is None else split.weights.to(device)
        self.split, self.workers = split, 0
        self.order, self.device, self.steps_per_epoch = finish.order, device, finish.order.steps_per_epoch
        self._finish = finish

    def stream(self, start_step: int) -> Generator[Batch, None, None]:
        """See `trainer.data.types.TrainLoader`."""
        size, step = self.order.batch_size, start_step
        # One gather serves as many batches as fit into a block: of small rows, the call costs more than the copy.
        sample_bytes = self.inputs[0].nbytes + self.targets[0].nbytes
        for index in self.order.blocks(start_step, max(1, BLOCK_BYTES // (size * sample_bytes))):
            index = index.to(self.device, non_blocking=True)
            block = self.inputs.index_select(0, index), self.targets.index_select(0, index), index
            weights = None if self.weights is None else self.weights.index_select(0, index).split(size)
            for i, (inputs, targets, rows) in enumerate(zip(*(part.split(size) for part in block), strict=True)):
                yield self._finish(inputs, targets, None if weights is None else weights[i], rows, step)
                step += 1


class ResidentEvalLoader:
    """One pass over tensors on the device, or over a file of which each batch is brought there."""

    def __init__(self, split: Split, batch_size: int, prepare: Prepare, device: torch.device) -> None:
        assert isinstance(split.inputs, (Tensor, OnDisk))
        self.inputs = split.inputs.to(device) if isinstance(split.inputs, Tensor) else split.inputs
        self.targets, self.device = split.targets.to(device), device
        self.prepare, self.samples, self.workers = prepare, len(split), 0
        self.batch_size = min(batch_size, self.samples)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.samples, self.batch_size):
            stop = start + self.batch_size
            inputs = self.inputs[start:stop].to(self.device)
            yield padded(inputs, self.targets[start:stop], self.batch_size, self.prepare)

    def close(self) -> None:
        """There are no workers."""


def make_loaders(
    data: Data,
    *,
    batch_size: int,
    eval_batch_size: int,
    drop_last: bool,
    seed: int,
    device: torch.device,
    timeout: float = TIMEOUT,
    balanced: bool = False,
) -> tuple[TrainLoader, EvalLoader]:
    """The loaders of both splits: resident where the split is a tensor, by blocks where that is on disk,
    streaming where it is another dataset.

    Raises:
        DataError: when a split is empty.
        ConfigError: when classes are to be balanced and there are none.
    """
    for name, split in (("training", data.train), ("validation", data.val)):
        if not len(split):
            raise DataError(f"There are no {name} samples; check data.val_fraction and the files.")
    if balanced and data.spec.labels is None:
        raise ConfigError("data.sampling=balanced: the target is a number; only classes can be drawn equally often.")
    order = Sampler(len(data.train), batch_size, drop_last, seed, data.train.targets if balanced else None)
    finish = Collate(order, data.prepare, data.augment, data.mix)
    train: TrainLoader
    if isinstance(data.train.inputs, Tensor):
        train = ResidentLoader(data.train, finish, device)
    elif isinstance(data.train.inputs, OnDisk):
        train = DiskLoader(data.train, finish, device)
    else:
        train = WorkerLoader(data.train, finish, device, data.workers, timeout)
    val = evaluation_loader(data.val, eval_batch_size, data.prepare, device, data.workers, timeout)
    return train, val


def evaluation_loader(
    split: Split, batch_size: int, prepare: Prepare, device: torch.device, workers: int = 0, timeout: float = TIMEOUT
) -> EvalLoader:
    """One pass over a split: by slices where it is a tensor or a file of one, streaming where it is another dataset."""
    if isinstance(split.inputs, (Tensor, OnDisk)):
        return ResidentEvalLoader(split, batch_size, prepare, device)
    return WorkerEvalLoader(split, batch_size, prepare, device, workers, timeout)
