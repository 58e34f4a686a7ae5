"""Splitting data for training and validation, as a function of the seed."""

import torch
from torch import Tensor

from trainer import seeds
from trainer.errors import ConfigError, DataError
from trainer.interfaces import Augment, Data, DataSpec, Prepare, Split, as_float


def split_index(targets: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """The indices of the training and of the validation samples, each sorted.

    Classes (int64 targets) are stratified: each gives the same share, and those of one sample all stay in
    training. The validation split has `round(fraction × N)` samples, at least 1 unless `fraction` is 0.

    Raises:
        DataError: where either split would be empty.
    """
    samples = len(targets)
    order = torch.randperm(samples, generator=seeds.generator(seed, seeds.SPLIT))
    wanted = max(1, round(samples * fraction)) if fraction else 0
    if wanted >= samples:
        raise DataError(f"data.val_fraction={fraction} of {samples} samples leaves none to train on.")
    if targets.dtype == torch.int64 and targets.ndim == 1:
        order = _stratified(order, targets, wanted)
    return order[wanted:].sort().values, order[:wanted].sort().values


def _stratified(order: Tensor, targets: Tensor, wanted: int) -> Tensor:
    """Reorder so that the first `wanted` hold each class in proportion: its share rounded down or up.

    What rounding down leaves goes to the largest remainders (Hamilton's method).
    """
    classes = targets[order]
    counts = torch.bincount(classes)
    able = torch.where(counts > 1, counts, 0)  # a class's only sample stays in training
    share = able.double() * (wanted / max(1, int(able.sum())))
    take = share.floor().long()
    take[(share - take).argsort(descending=True, stable=True)[: wanted - int(take.sum())]] += 1
    by_class = classes.argsort(stable=True)
    rank = torch.empty_like(by_class)
    rank[by_class] = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return order[(rank >= take[classes]).long().argsort(stable=True)]


def from_tensors(
    inputs: Tensor,
    targets: Tensor,
    labels: tuple[str, ...] | None = None,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    prepare: Prepare = as_float,
    augment: Augment | None = None,
) -> Data:
    """Data from tensors in memory: the shortest way to write a dataset.

    Args:
        inputs: (N, ...) float32 features or uint8 pixels.
        targets: int64 class indices (N,), or numbers (N,) or (N, outputs).
        labels: the names of the classes; None for regression.
        val_fraction, seed: see `split_index`.
        prepare, augment: see `trainer.interfaces.Data`.

    Raises:
        ConfigError: where val_fraction is 0, since there is nothing else to validate on.
    """
    if not val_fraction:
        raise ConfigError("data.val_fraction=0: this dataset has no validation samples of its own; hold out a share.")
    if labels is None:
        targets = targets.float().view(len(targets), -1)
    train, val = split_index(targets, val_fraction, seed)
    whole = Split(inputs, targets)
    return from_splits(whole.subset(train), whole.subset(val), labels, prepare=prepare, augment=augment)


def from_splits(
    train: Split,
    val: Split,
    labels: tuple[str, ...] | None,
    *,
    input_shape: tuple[int, ...] | None = None,
    prepare: Prepare = as_float,
    augment: Augment | None = None,
    workers: int = 0,
    description: str = "",
) -> Data:
    """Data from two splits; the shape of a sample is the tensor's unless it is given."""
    if input_shape is None:
        assert isinstance(train.inputs, Tensor)
        input_shape = tuple(train.inputs.shape[1:])
    spec = DataSpec.of(input_shape, train.targets, labels)
    return Data(spec, train, val, prepare, augment, workers, description)


def limit(split: Split, samples: int, seed: int) -> Split:
    """A random part of a split, in the split's own order."""
    if samples >= len(split):
        return split
    index = torch.randperm(len(split), generator=seeds.generator(seed, seeds.SUBSET))[:samples]
    return split.subset(index.sort().values)
