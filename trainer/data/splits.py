"""Splitting data for training and validation, as a function of the seed."""

import numpy as np
import torch
from torch import Tensor

from trainer.config.data import DataConfig
from trainer.data.types import Augment, Data, DataSpec, Mix, Prepare, Split, as_float
from trainer.errors import ConfigError, DataError
from trainer.system import seeds


def split_samples(
    config: DataConfig, targets: Tensor, seed: int, groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The indices of the training and of the validation samples, as a config asks: a fold, or a share.

    Args:
        config: says `folds` and `fold`, or `val_fraction`.
        targets: int64 class indices (N,), which are stratified, or numbers.
        seed: of the run.
        groups: int64 (N,); samples of one group all go to the same side, and nothing is stratified.

    Raises:
        DataError: where either side would be empty.
    """
    if config.folds is not None:
        return fold_index(targets, config.folds, config.fold, seed, groups)
    return split_index(targets, config.val_fraction, seed, groups)


def split_index(targets: Tensor, fraction: float, seed: int, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The indices of the training and of the validation samples, each sorted.

    Classes (int64 targets) are stratified: each gives the same share, and those of one sample all stay in
    training. The validation split has `round(fraction × N)` samples, at least 1 unless `fraction` is 0; with groups,
    those in a random order that come nearest to it.

    Raises:
        DataError: where either split would be empty.
    """
    samples = len(targets)
    order = torch.randperm(samples, generator=seeds.generator(seed, seeds.SPLIT))
    wanted = max(1, round(samples * fraction)) if fraction else 0
    if wanted >= samples:
        raise DataError(f"data.val_fraction={fraction} of {samples} samples leaves none to train on.")
    if groups is not None and wanted:
        return _sides(_some_groups(groups, wanted, seed)[groups])
    held_out = torch.zeros(samples, dtype=torch.bool)
    held_out[_stratified(order, targets, wanted) if _classes(targets) else order[:wanted]] = True
    return _sides(held_out)


def fold_index(
    targets: Tensor, folds: int, fold: int, seed: int, groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The indices of the training and of the validation samples of part `fold` of `folds`, each sorted.

    The parts are disjoint, together they are everything, and their sizes (and those of each class in them) differ by
    one at most; with groups they are as even as dealing the largest group first to the smallest part makes them.

    Raises:
        DataError: where there are fewer samples, or groups, than parts.
    """
    if groups is not None:
        return _sides(_dealt_groups(groups, folds, seed)[groups] == fold)
    samples = len(targets)
    if samples < folds:
        raise DataError(f"data.folds={folds}: there are only {samples} samples.")
    order = torch.randperm(samples, generator=seeds.generator(seed, seeds.SPLIT))
    if _classes(targets):
        order = order[targets[order].argsort(stable=True)]  # dealt out class by class
    held_out = torch.zeros(samples, dtype=torch.bool)
    held_out[order[fold::folds]] = True
    return _sides(held_out)


def _classes(targets: Tensor) -> bool:
    return targets.dtype == torch.int64 and targets.ndim == 1


def _sides(held_out: Tensor) -> tuple[Tensor, Tensor]:
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def _some_groups(groups: Tensor, wanted: int, seed: int) -> Tensor:
    """Whether each group is held out: those first in a random order whose sizes come nearest to `wanted` samples."""
    sizes = torch.bincount(groups)
    if len(sizes) < 2:
        raise DataError("data.group: all samples are of one group, so there is none to hold out.")
    order = torch.randperm(len(sizes), generator=seeds.generator(seed, seeds.SPLIT))
    taken = sizes[order].cumsum(0)
    count = int((taken - wanted).abs()[:-1].argmin()) + 1  # at least one group, and not all
    held_out = torch.zeros(len(sizes), dtype=torch.bool)
    held_out[order[:count]] = True
    return held_out


def _dealt_groups(groups: Tensor, folds: int, seed: int) -> Tensor:
    """The part of each group, int64."""
    sizes = torch.bincount(groups)
    if len(sizes) < folds:
        raise DataError(f"data.folds={folds}: there are only {len(sizes)} groups in data.group.")
    order = torch.randperm(len(sizes), generator=seeds.generator(seed, seeds.SPLIT))
    order = order[sizes[order].argsort(descending=True, stable=True)]
    held = [0] * folds
    parts = torch.empty_like(sizes)
    for group in order.tolist():
        part = held.index(min(held))
        parts[group] = part
        held[part] += int(sizes[group])
    return parts


def _stratified(order: Tensor, targets: Tensor, wanted: int) -> Tensor:
    """The first samples in `order` of each class, in proportion: its share rounded down or up.

    What rounding down leaves goes to the largest remainders (Hamilton's method).
    """
    counts = torch.bincount(targets)
    able = torch.where(counts > 1, counts, 0)  # a class's only sample stays in training
    share = able.double() * (wanted / max(1, int(able.sum())))
    take = share.floor().long()
    take[(share - take).argsort(descending=True, stable=True)[: wanted - int(take.sum())]] += 1
    # numpy sorts 16 bits by counting: of a million samples in a tenth of the time.
    small = targets.numpy().astype(np.uint16 if len(counts) <= 1 << 16 else np.int64)
    by_class = torch.from_numpy(np.argsort(small[order.numpy()], kind="stable"))
    first = (counts.cumsum(0) - counts).tolist()
    return order[torch.cat([by_class[at : at + n] for at, n in zip(first, take.tolist(), strict=True)])]


def from_tensors(
    inputs: Tensor,
    targets: Tensor,
    labels: tuple[str, ...] | None = None,
    *,
    config: DataConfig | None = None,
    seed: int = 0,
    prepare: Prepare = as_float,
    augment: Augment | None = None,
) -> Data:
    """Data from tensors in memory: the shortest way to write a dataset.

    Args:
        inputs: (N, ...) float32 features or uint8 pixels.
        targets: int64 class indices (N,), or numbers (N,) or (N, outputs).
        labels: the names of the classes; None for regression.
        config: says what share or fold to hold out; None: a fifth.
        seed: of the run.
        prepare, augment: see `trainer.data.types.Data`.

    Raises:
        ConfigError: where val_fraction is 0, since there is nothing else to validate on.
    """
    config = config or DataConfig()
    if not config.holds_out:
        raise ConfigError("data.val_fraction=0: this dataset has no validation samples of its own; hold out a share.")
    if labels is None:
        targets = targets.float().view(len(targets), -1)
    train, val = split_samples(config, targets, seed)
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
    mix: Mix | None = None,
    workers: int = 0,
    description: str = "",
    preprocessing: str | None = None,
) -> Data:
    """Data from two splits; the shape of a sample is the tensor's unless it is given."""
    if input_shape is None:
        assert isinstance(train.inputs, Tensor)
        input_shape = tuple(train.inputs.shape[1:])
    spec = DataSpec.of(input_shape, train.targets, labels)
    return Data(spec, train, val, prepare, augment, workers, description, mix=mix, preprocessing=preprocessing)


def limit(split: Split, samples: int, seed: int) -> Split:
    """A random part of a split, in the split's own order."""
    if samples >= len(split):
        return split
    index = torch.randperm(len(split), generator=seeds.generator(seed, seeds.SUBSET))[:samples]
    return split.subset(index.sort().values)
