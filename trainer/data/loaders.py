"""The two training loaders and the two evaluation loaders, behind one protocol (see `trainer.interfaces`)."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer import seeds
from trainer.errors import ConfigError, DataError
from trainer.interfaces import Augment, Batch, Data, EvalLoader, Prepare, Split, TrainLoader

BLOCK_BYTES = 1 << 18  # stays in the cache of a core between the gather and the step


class Order:
    """Which samples make up the batch of a step: a fresh permutation each epoch, as a function of (seed, step).

    Args:
        samples: size of the training split.
        batch_size: samples per optimizer step.
        drop_last: leave out the last, smaller batch of an epoch.
        seed: of the run.
    """

    def __init__(self, samples: int, batch_size: int, drop_last: bool, seed: int) -> None:
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.steps_per_epoch = samples // batch_size if drop_last else -(-samples // batch_size)
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"data.batch_size={batch_size} is more than the {samples} training samples, and data.drop_last=true "
                "leaves nothing; use a smaller batch."
            )

    def permutation(self, epoch: int) -> Tensor:
        """The order of the samples in an epoch, int64 (samples,), drawn on the CPU."""
        return torch.randperm(self.samples, generator=seeds.generator(self.seed, seeds.ORDER, epoch))

    def blocks(self, start_step: int, batches: int = 1) -> Iterator[Tensor]:
        """The indices of up to `batches` batches at a time, from the batch of `start_step` on, without end."""
        first, offset = divmod(start_step, self.steps_per_epoch)
        for epoch in itertools.count(first):
            used = self.permutation(epoch)[offset * self.batch_size : self.steps_per_epoch * self.batch_size]
            yield from used.split(batches * self.batch_size)
            offset = 0


class ResidentLoader:
    """Training batches from tensors that stay on the device.

    Args:
        split: whose inputs are a tensor.
        order: see `Order`.
        prepare, augment: see `trainer.interfaces.Data`.
        device: where the tensors are kept and the batches made.
    """

    def __init__(
        self, split: Split, order: Order, prepare: Prepare, augment: Augment | None, device: torch.device
    ) -> None:
        assert isinstance(split.inputs, Tensor)
        self.inputs, self.targets = split.inputs.to(device), split.targets.to(device)
        self.order, self.prepare, self.augment, self.device = order, prepare, augment, device
        self.steps_per_epoch = order.steps_per_epoch

    def stream(self, start_step: int) -> Iterator[Batch]:
        """See `trainer.interfaces.TrainLoader`."""
        size, step = self.order.batch_size, start_step
        # One gather serves as many batches as fit into a block: of small rows, the call costs more than the copy.
        sample_bytes = self.inputs[0].nbytes + self.targets[0].nbytes
        for index in self.order.blocks(start_step, max(1, BLOCK_BYTES // (size * sample_bytes))):
            index = index.to(self.device, non_blocking=True)
            block = self.inputs.index_select(0, index).split(size), self.targets.index_select(0, index).split(size)
            for inputs, targets in zip(*block, strict=True):
                yield Batch(_ready(inputs, step, self.order.seed, self.prepare, self.augment), targets)
                step += 1


class StreamingLoader:
    """Training batches from a map-style dataset, loaded ahead by worker processes.

    The sampler is told where to start; nothing of the workers' state belongs to the position of the run.
    """

    def __init__(
        self,
        split: Split,
        order: Order,
        prepare: Prepare,
        augment: Augment | None,
        device: torch.device,
        workers: int,
    ) -> None:
        self.split, self.order, self.prepare, self.augment = split, order, prepare, augment
        self.device, self.workers = device, workers
        self.steps_per_epoch = order.steps_per_epoch

    def stream(self, start_step: int) -> Iterator[Batch]:
        """See `trainer.interfaces.TrainLoader`."""
        batches = (index.tolist() for index in self.order.blocks(start_step))
        loader = _data_loader(self.split, batches, self.workers, self.device)
        for step, (inputs, index) in enumerate(loader, start_step):
            inputs = inputs.to(self.device, non_blocking=True)
            targets = self.split.targets[index].to(self.device, non_blocking=True)
            yield Batch(_ready(inputs, step, self.order.seed, self.prepare, self.augment), targets)


class ResidentEvaluation:
    """One pass over tensors on the device."""

    def __init__(self, split: Split, batch_size: int, prepare: Prepare, device: torch.device) -> None:
        assert isinstance(split.inputs, Tensor)
        self.inputs, self.targets = split.inputs.to(device), split.targets.to(device)
        self.prepare, self.samples = prepare, len(split)
        self.batch_size = min(batch_size, self.samples)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.samples, self.batch_size):
            stop = start + self.batch_size
            yield _padded(self.inputs[start:stop], self.targets[start:stop], self.batch_size, self.prepare)


class StreamingEvaluation:
    """One pass over a map-style dataset, loaded by worker processes that live from pass to pass."""

    def __init__(self, split: Split, batch_size: int, prepare: Prepare, device: torch.device, workers: int) -> None:
        self.samples, self.batch_size = len(split), min(batch_size, len(split))
        self.split, self.prepare, self.device = split, prepare, device
        starts = range(0, self.samples, self.batch_size)
        batches = [list(range(start, min(start + self.batch_size, self.samples))) for start in starts]
        self.loader = _data_loader(split, batches, workers, device, persistent=True)

    def __iter__(self) -> Iterator[Batch]:
        for inputs, index in self.loader:
            targets = self.split.targets[index].to(self.device, non_blocking=True)
            yield _padded(inputs.to(self.device, non_blocking=True), targets, self.batch_size, self.prepare)


def make_loaders(
    data: Data, *, batch_size: int, eval_batch_size: int, drop_last: bool, seed: int, device: torch.device
) -> tuple[TrainLoader, EvalLoader]:
    """The loaders of both splits: resident where the split is a tensor, streaming where it is a dataset.

    Raises:
        DataError: when a split is empty.
    """
    for name, split in (("training", data.train), ("validation", data.val)):
        if not len(split):
            raise DataError(f"There are no {name} samples; check data.val_fraction and the files.")
    order = Order(len(data.train), batch_size, drop_last, seed)
    train: TrainLoader
    val: EvalLoader
    if isinstance(data.train.inputs, Tensor):
        train = ResidentLoader(data.train, order, data.prepare, data.augment, device)
    else:
        train = StreamingLoader(data.train, order, data.prepare, data.augment, device, data.workers)
    if isinstance(data.val.inputs, Tensor):
        val = ResidentEvaluation(data.val, eval_batch_size, data.prepare, device)
    else:
        val = StreamingEvaluation(data.val, eval_batch_size, data.prepare, device, data.workers)
    return train, val


class _Indexed(Dataset[tuple[Tensor, int]]):
    """Samples with their index, so that targets need not pass through the workers."""

    def __init__(self, dataset: Dataset[Tensor]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.dataset[index], index


def _data_loader(
    split: Split,
    batches: "Iterator[list[int]] | list[list[int]]",
    workers: int,
    device: torch.device,
    persistent: bool = False,
) -> "DataLoader[tuple[Tensor, int]]":
    assert not isinstance(split.inputs, Tensor)
    return DataLoader(
        _Indexed(split.inputs),
        batch_sampler=batches,  # any iterable of index lists serves
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=persistent and workers > 0,
        # Its own generator: starting workers must not draw from the one that dropout uses.
        generator=torch.Generator(),
    )


def _ready(inputs: Tensor, step: int, seed: int, prepare: Prepare, augment: Augment | None) -> Tensor:
    """Augmented with the draws of this step, and prepared for the model."""
    if augment is not None:
        inputs = augment(inputs, seeds.generator(seed, seeds.AUGMENT, step))
    return prepare(inputs)


def _padded(inputs: Tensor, targets: Tensor, size: int, prepare: Prepare) -> Batch:
    """The batch filled up to `size` with copies of its first row, of weight 0."""
    weights = torch.ones(len(targets), device=targets.device)
    missing = size - len(targets)
    if missing:
        inputs = torch.cat([inputs, inputs[:1].expand(missing, *inputs.shape[1:])])
        targets = torch.cat([targets, targets[:1].expand(missing, *targets.shape[1:])])
        weights = torch.cat([weights, weights.new_zeros(missing)])
    return Batch(prepare(inputs), targets, weights)
